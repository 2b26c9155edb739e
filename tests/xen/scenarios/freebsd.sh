# FreeBSD: sets its callback, unplugs, and ignores a device that is not at state 1.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "callback unplug=3 late" picky 1

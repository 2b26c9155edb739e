# NetBSD: as FreeBSD, but sets its callback last.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "unplug=3 callback late" picky 1

# GPLPV in Windows, the free build: follows the protocol without a log.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "product=2 build=1 unplug=3 late"

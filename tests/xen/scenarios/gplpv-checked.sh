# GPLPV in Windows, the checked build: logs first, then follows the protocol.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "log product=2 build=1 unplug=3 late"

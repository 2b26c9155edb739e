# GPLPV in Windows, the checked build: logs first, then follows the protocol.  The firmware's
# grants are in the second page of the grant table.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start gref 600 order "log product=2 build=1 unplug=3 late"

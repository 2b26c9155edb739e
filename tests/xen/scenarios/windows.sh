# The Windows PV drivers: log first, then unplug disks and NICs one after the other.  The
# firmware leaves twelve disks and two NICs connected.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # of guest
DISKS=12 NICS=2
guest
naive start order "log product=65535 build=1 unplug=1 unplug=2 late"

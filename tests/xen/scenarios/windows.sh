# The Windows PV drivers: log first, then unplug disks and NICs one after the other.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "log product=65535 build=1 unplug=1 unplug=2 late"

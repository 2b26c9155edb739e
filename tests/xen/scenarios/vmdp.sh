# SUSE's VMDP in Windows, before version 1.7: BAR 0 as well, disks and NICs apart.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "bar8=1 bar8=2 late"

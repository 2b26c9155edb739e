# Two disks that are PV only, and without the device only the one that the BIOS boots from is
# its own.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS="4 5"
int13_disk 4 ga
guest
int13 firmware announced

# A loader that reads by INT 13h after the OS has announced itself, and asks to boot again: both
# have to fail, and at once.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
int13_disk 4 galli
guest
int13_through firmware announced
boots_nothing

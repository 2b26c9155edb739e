# The BIOS under test boots from an emulated disk: its PV twin, and the one of another, are left
# as the toolstack has made them.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
int13_disk 0 ga
guest
int13 firmware announced

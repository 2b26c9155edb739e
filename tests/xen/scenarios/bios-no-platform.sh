# A guest without xen-platform, which is where the grant table would be: the BIOS under test boots
# from the emulated disk and leaves the one alone that is PV only.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS="0 4" KIND=kernel PLATFORM=0
int13_disk 0 g
guest
int13 firmware

# The BIOS under test boots an OS from a disk that is PV only.  The OS announces itself, resets
# nothing, and wants that very disk.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
naive_disk 4
guest
naive start firmware none

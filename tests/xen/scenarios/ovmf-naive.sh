# OVMF boots an OS from a disk that is PV only.  The OS never calls ExitBootServices, so OVMF does not
# close the disk; it announces itself, resets nothing, and wants that very disk.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
boot_disk 4
efi_loader /guest/labfw.efi
ovmf
xl unpause "$SCENARIO"
checkpoint begin 220
naive options firmware none

# OVMF boots GRUB, and that Linux, from a disk that is PV only; another one is QEMU's.  OVMF closes
# both itself.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it
NUMBERS="4 5"
linux_disk 4 efi "DISKS=xvde,xvdf"
ovmf
loads
first_line
ready

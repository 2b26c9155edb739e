# The BIOS under test boots from an emulated disk, and there is one that is PV only.  That is the
# firmware's only where the device is there to take it back.  VARIANT: the emulated one is sda, of
# a driver that the BIOS has for SCSI, and the other one must not come before it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
{
NUMBERS="0 4" KIND=kernel
[ "$VARIANT" != sda ] || SCSI=0
}
int13_disk 0 ga
guest
int13 firmware announced

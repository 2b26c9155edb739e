# Beside the disk to boot from there is one whose backend never answers: the BIOS says so and
# boots, the OS announces itself.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=8000"'
bios
# shellcheck disable=SC2034
NUMBERS=4 KIND=kernel
int13_disk 4 ga
guest
dead_backend vbd/51792
present
int13 firmware announced

# As many devices as a guest may ever have: the firmware leaves 64 disks and 8 NICs connected.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
{
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=60000"'  # dom0 has one processor
DISKS=64 NICS=8 KIND=kernel LONG=300
}
guest
naive start

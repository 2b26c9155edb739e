# Linux with xen_emul_unplug=never writes to no port and uses the emulated devices only.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest "xen_emul_unplug=never DISKS=sda,sdb $EMULATION" "$EMULATED_NIC" "$NO_NIC_ROM"
connected
ready
reported os
emulated 'os'

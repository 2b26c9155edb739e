# Linux with xen_emul_unplug=never writes to no port and uses the emulated devices only.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest "xen_emul_unplug=never DISKS=sda,sdb $EMULATION" "$EMULATED_NIC" "$NO_NIC_ROM"
start firmware "$ALL" os 0 gates firmware
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
wait_console 'GUEST.*ready' 180
snapshot 'os'
properties os announcement connections
emulated 'os'

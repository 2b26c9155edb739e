# Linux with xen_emul_unplug=unnecessary tells that it has PV drivers, and unplugs nothing.  It
# has less memory than it may have, and gives the rest back when it starts.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest "xen_emul_unplug=unnecessary" 'maxmem = 320'
start firmware "$ALL" os 0 gates firmware
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
wait_console 'GUEST.*ready' 180
snapshot 'os'
properties os announcement connections
emulated 'os'

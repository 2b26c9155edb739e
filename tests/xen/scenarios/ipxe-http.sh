# A guest that has no emulated NIC boots Linux from the network, by HTTP: iPXE closes its NIC by itself
# when it starts Linux.  The last answer it waits for comes when dom0 has looked.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

cat >/guest/boot.ipxe <<S
#!ipxe
kernel vmlinuz $LINUX
initrd initrd
chain cgi-bin/look
boot vmlinuz
S
network http://192.0.2.1/boot.ipxe
ipxe
look
xl unpause "$SCENARIO"
through firmware
first_line
ready

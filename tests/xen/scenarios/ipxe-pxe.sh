# A guest that has no emulated NIC boots from the network, by PXE: iPXE never closes its NIC, as it
# does not know that our firmware, which it has loaded, needs it no more.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
network san.img
serve in.tftpd -L -4 -a 192.0.2.1:69 -u root -s /guest
# again: once, on a busy machine, nothing that it sent on its first connection reached dom0
ipxe 'cmdline = "autoboot || autoboot || autoboot"' "$(at_hand)"
connected firmware none boot "$LINUX"
first_line
ready

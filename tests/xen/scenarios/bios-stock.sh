# The stock BIOS has nothing to boot from where the only disk is PV.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

gives_up() { xl dmesg -c >>"$OUT/xen.log"; grep -q "(d$DOMID) No bootable device" "$OUT/xen.log"; }

# shellcheck disable=SC2034  # guest() reads them
BIOS=$STOCK NUMBERS=4 KIND=kernel
linux_disk 4 syslinux ''
guest
event started
xl unpause "$SCENARIO"
await 60 "the BIOS to give up" gives_up
snapshot 'firmware'

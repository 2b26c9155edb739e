# A loader that reads by INT 13h after the OS has announced itself, and asks to boot again: both
# have to fail, and at once.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

gives_up() { xl dmesg -c >>"$OUT/xen.log"; grep -q "(d$DOMID) No bootable device" "$OUT/xen.log"; }

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
int13_disk 4 galli
guest
event started
xl unpause "$SCENARIO"
for point in firmware announced; do
    checkpoint_scratch $point 120
    snapshot $point
    resume_scratch $point
done
await 90 "the BIOS to give up" gives_up

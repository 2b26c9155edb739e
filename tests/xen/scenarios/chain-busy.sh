# Two firmwares, one after the other.  The first has left its "ring-ref", the second has a ring
# of four pages, and reads are under way in that on a disk that takes very long.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

closes() { grep -c "/$DOMID/device/vbd/51712/state = 6" "$OUT/xswatch.log"; }
waits() { [ "$(closes)" -gt $((before + 1)) ]; }    # and asks blkback again
waits_or_is_done() { waits || is_at announced; }

# shellcheck disable=SC2034  # guest() reads them
DISKS=1
guest
start firmware vbd/51712 chain vbd/51712 chain-ring-order 2 os 1 \
    order "load=0 product=3 build=1 unplug=7 late" late "$ALL" \
    gates "firmware chained announced done"
checkpoint 'firmware' 60
resume 'firmware'
checkpoint 'chained' 60
snapshot 'firmware'
limit_kernel 1
before=$(closes)
resume 'chained'
await 30 "blkback to close" closed
await 30 "the handoff to wait for the disk" waits_or_is_done
snapshot 'waiting'
limit_kernel 0
take_over

# The firmware's boot loader is still reading when the OS announces itself: eight sectors of
# each disk are under way and take very long.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# as limit_kernel(), of QEMU's disk
limit_qemu() {
    query limit throttle '{"execute":"block_set_io_throttle","arguments":{"id":"'"$qdisk"'",
        "bps":0,"bps_rd":'"$1"',"bps_wr":0,"iops":0,"iops_rd":0,"iops_wr":0}}'
}

guest
start firmware "$ALL" os 1 order "load=0 product=3 build=1 unplug=7 late" late "$ALL" \
    gates "firmware announced done"
checkpoint 'firmware' 60
snapshot 'firmware'
qdisk=$(monitor 'info qom-tree /machine/unattached' |
    sed -n 's,.*/\(device\[[0-9]*\]\) (xen-disk).*,/machine/unattached/\1,p')
limit_kernel 1
limit_qemu 1
resume 'firmware'
await 30 "blkback to close" closed
limit_kernel 0
announced
limit_qemu 0
resume 'announced'
used

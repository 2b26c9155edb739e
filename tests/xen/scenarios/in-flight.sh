# The firmware's boot loader is still reading when the OS announces itself: eight sectors of
# each disk are under way and take very long.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# bytes a second that the kernel's disk reads, 0 for no limit; everybody is in the root of cgroups
limit_kernel() {
    read -r dev <"/sys/block/${LOOPS##*/}/dev"
    echo "$dev $1" >/run/blkio/blkio.throttle.read_bps_device
}

# and QEMU's
limit_qemu() {
    query limit throttle '{"execute":"block_set_io_throttle","arguments":{"id":"'"$qdisk"'",
        "bps":0,"bps_rd":'"$1"',"bps_wr":0,"iops":0,"iops_rd":0,"iops_wr":0}}'
}

# blkback has seen that the frontend is Closed
closed() {
    case $(xenstore-read "/local/domain/0/backend/vbd/$DOMID/51712/state") in
    6 | 2) ;;
    *) false ;;
    esac
}

guest
start firmware "$ALL" os 1 order "load=0 product=3 build=1 unplug=7 late" late "$ALL" \
    gates "firmware announced done"
gate 'firmware' 60
snapshot 'firmware'
query limit tree '{"execute":"human-monitor-command","arguments":{
    "command-line":"info qom-tree /machine/unattached"}}'
qdisk=$(sed -n 's,.*/\(device\[[0-9]*\]\) (xen-disk).*,/machine/unattached/\1,p' "$OUT/qmp-limit.txt")
mkdir -p /run/blkio
mount -t cgroup -o blkio blkio /run/blkio
limit_kernel 1
limit_qemu 1
pass 'firmware'
await 30 "blkback to close" closed
limit_kernel 0
gate 'announced' 60
snapshot 'announced'
[ -z "$DM_ARGS" ] || properties announced state announcement connections handed-off
limit_qemu 0
pass 'announced'
gate 'done' 60
snapshot 'done'
written

# Storage is ill when the OS announces itself, with eight reads of each disk under way (VARIANT): that
# of a disk of blkback's takes longer than the handoff may ("slow"), or that of blkback's and of
# QEMU's qdisk hangs and then fails all reads ("fails").  It is well again when the OS attaches its
# disks.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# becomes STATE DISK...: what becomes of reads and writes from here on
becomes() {
    state=$1
    shift
    for n in "$@"; do
        linear="/dev/disk$n 0"
        dmsetup suspend --noflush --nolockfs "disk$n"   # all of them wait
        case $state in
        hanging) continue ;;
        slow) target="delay $linear 20000" ;;
        failing) target=error ;;
        well) target="linear $linear" ;;
        esac
        dmsetup load "disk$n" --table "0 32768 $target"
        dmsetup resume --noudevsync "disk$n"
    done
}
idle() { ! grep -qv '^ *0  *0$' /sys/block/dm-0/inflight; }

removed() {
    for n in 0 1; do
        dmsetup remove --noudevsync disk$n
        losetup -d "$(readlink /dev/disk$n)"
    done
}

# shellcheck disable=SC2034  # finish() has it
AFTER=removed
modprobe dm-mod
modprobe dm-delay
for n in 0 1; do
    disk $n
    loop=$(losetup -f)
    losetup "$loop" "/tmp/$SCENARIO-disk$n.img"
    ln -sf "$loop" /dev/disk$n
    dmsetup create --noudevsync disk$n --table "0 32768 linear $loop 0"
done
# shellcheck disable=SC2034  # guest() reads it
[ "$VARIANT" != slow ] || DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=8000"'
guest 'disk = [ "phy:/dev/dm-0,xvda,w",
    "format=raw,vdev=xvdb,access=rw,backendtype=qdisk,target=/dev/dm-1" ]'
start firmware "$ALL" os 1 order "load=0 product=3 build=1 unplug=7 late" late "$ALL" \
    gates "firmware announced done"
checkpoint firmware 60
snapshot firmware
case $VARIANT in
slow) becomes slow 0 ;;
fails) becomes hanging 0 1 ;;
esac
resume firmware
await 30 "blkback to close" closed
[ "$VARIANT" != fails ] || becomes failing 0 1
announced
becomes well 0 1
await 60 "the last read" idle
resume announced
used

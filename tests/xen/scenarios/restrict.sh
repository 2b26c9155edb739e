# dm_restrict=1: QEMU runs as a user of its own and without xenstore.  What the firmware has
# left stays, and the guest boots.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

echo 'xen-qemuuser-range-base:x:65536:65536::/:/bin/false' >/etc/passwd
cat >/lab/qemu-restricted <<'E'
#!/bin/busybox sh
# QEMU 9.0 and later have -run-with instead of two options of libxl 4.17, and keep the display
# in a file of memory that is larger than libxl permits
ulimit -f unlimited
for arg in "$@"; do
    shift
    case $was in
    -chroot) arg=chroot=$arg ;;
    -runas) arg=user=$arg ;;
    esac
    was=$arg
    case $arg in
    -chroot | -runas) arg=-run-with ;;
    esac
    set -- "$@" "$arg"
done
exec /lab/qemu-dm "$@"
E
chmod +x /lab/qemu-restricted
# QEMU's own backends need xenstore: no disk of it, and with vkbd it would exit
guest 'dm_restrict = 1' 'device_model_override = "/lab/qemu-restricted"' 'vkb_device = 0' \
    "disk = [ \"phy:$(losetup -f),xvda,w\" ]"
# early-gref: the firmware's grants are still in use, theirs would be mapped instead
start firmware vbd/51712 os 1 early vif/0 early-gref 200 gates "firmware done"
through firmware 'done'
say "the device model runs as user $(stat -c %u "/proc/$(pidof qemu-dm)")"

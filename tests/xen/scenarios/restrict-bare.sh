# dm_restrict=1 and no xenstore-filter: QEMU is without xenstore.  What the firmware has left
# stays, and the guest boots.  It takes the package's wrapper for QEMU to start at all.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

echo 'xen-qemuuser-range-base:x:65536:65536::/:/bin/false' >/etc/passwd
mkdir -p /usr/libexec/xen-fw-handoff
rm -f /usr/libexec/xen-fw-handoff/xenstore-filter
ln -sf /lab/qemu-dm /usr/libexec/xen-fw-handoff/qemu-system-i386
# QEMU's own backends need xenstore: no disk of it, and with vkbd it would exit
guest 'dm_restrict = 1' 'device_model_override = "/lab/device-model"' 'vkb_device = 0' \
    "disk = [ \"phy:$(losetup -f),xvda,w\" ]"
# early-gref: the firmware's grants are still in use, theirs would be mapped instead
start firmware vbd/51712 os 1 early vif/0 early-gref 200 gates "firmware done"
through firmware 'done'
say "the device model runs as user $(stat -c %u "/proc/$(model_pid)")"

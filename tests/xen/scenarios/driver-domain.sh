# A driver domain, itself a PV guest, has the backends of a disk and of the NIC; QEMU in dom0
# has that of the other disk, a qcow2 image.  The firmware leaves all connected; an OS
# announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# its root is that of dom0
driver_initrd() (
    cd /
    {
        printf '%s\n' usr usr/lib usr/lib/xen-4.17 guest proc sys dev run tmp
        find bin etc lib lib64 sbin usr/bin usr/lib/xen-4.17/bin guest/driver
        find var -type d -o -type l
    } | cpio -o -H newc >"/tmp/$SCENARIO-initrd" 2>/dev/null
)

driver_is_ready() { [ "$(xenstore-read "/local/domain/$DRIVER/data/driver" 2>/dev/null)" = ready ]; }

driver_ends() {
    timeout 60 xl destroy driver
    mv /run/guest-driver.log "$OUT/driver.log"
}

# shellcheck disable=SC2034  # lib.sh's
AFTER=driver_ends
disk 0
LOOPS=$(losetup -f)
# shellcheck disable=SC2154  # set by disk
losetup "$LOOPS" "$image"
qcow2 1
driver_initrd
cat >"$OUT/driver.cfg" <<C
name = "driver"
type = "pv"
driver_domain = 1
memory = 256
vcpus = 1
kernel = "/guest/vmlinux.gz"
ramdisk = "/tmp/$SCENARIO-initrd"
cmdline = "console=hvc0 rdinit=/guest/driver mitigations=off nokaslr ipv6.disable=1 audit=0 apparmor=0 cryptomgr.notests"
disk = [ "phy:$LOOPS,xvda,w" ]
vif = [ "mac=00:16:3e:22:22:22,bridge=xenbr0,type=vif" ]
C
say "waiting for xl create of the driver domain (120 s at most)"
timeout 120 xl create "$OUT/driver.cfg" >"$OUT/xl-create-driver.log" 2>&1
DRIVER=$(xl domid driver)
echo "$DRIVER" >"$OUT/driver"
await 120 "the driver domain" driver_is_ready
guest "disk = [ \"vdev=xvda,access=rw,backend=driver,backendtype=phy,target=/dev/xvda\",
    \"format=qcow2,vdev=xvdb,access=rw,backendtype=qdisk,target=/tmp/$SCENARIO-disk1.img\" ]" \
    'vif = [ "mac=00:16:3e:11:11:11,bridge=xenbr0,type=vif,backend=driver" ]'
naive start

# The BIOS under test boots Linux from a disk that is PV only, by a loader that knows nothing of
# Xen.  VARIANT: the loader, or where the disk is.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
{
NUMBERS=4 KIND=kernel loader=syslinux
case $VARIANT in
grub) KIND=qemu loader=grub ;;
driver-domain) NUMBERS=0 ;;
esac
}
case $VARIANT in
driver-domain)
    linux_disk 0 $loader "DISKS=xvda"
    driver_domain 0
    guest 'disk = [ "vdev=xvda,access=rw,backend=driver,backendtype=phy,target=/dev/xvda" ]'
    ;;
cd)
    # xl would have its device model emulate one that the guest is created with
    linux_cd 4 ''
    # shellcheck disable=SC2034  # guest() reads it
    NUMBERS=' '
    guest
    # shellcheck disable=SC2154  # linux_cd() has set it
    xl block-attach "$SCENARIO" \
        "vdev=xvde,devtype=cdrom,access=ro,format=raw,backendtype=qdisk,target=$image"
    present
    ;;
large)
    # RAM ends below 1 GiB and goes on beyond 4 GiB
    linux_disk 4 $loader "DISKS=xvde"
    guest 'memory = 1280' 'mmio_hole = 3072'
    ;;
*)
    linux_disk 4 $loader "DISKS=xvde"
    guest
    ;;
esac
loads
first_line
[ "$VARIANT" = cd ] || ready    # its blkfront takes no CD in an HVM guest

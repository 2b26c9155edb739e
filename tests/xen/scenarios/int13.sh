# A battery for INT 13h, on disks of several kinds (VARIANT) of the BIOS under test, and on
# emulated ones of the stock BIOS as the yardstick.  Before it the BIOS boots a second time, by
# INT 19h; after it an OS announces itself.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
{
NUMBERS=4
case $VARIANT in
blkback) KIND=kernel ;;
qdisk) KIND=qemu ;;
three) NUMBERS="4 5 6" READ_ONLY=6 ;;
driver-domain) NUMBERS=0 ;;
ide) NUMBERS="0 1" BIOS=$STOCK ;;
esac
}
[ -n "$BIOS" ] || bios
for n in $NUMBERS; do
    int13_disk "$n" ibga
done
case $VARIANT in
driver-domain)
    driver_domain 0
    guest 'disk = [ "vdev=xvda,access=rw,backend=driver,backendtype=phy,target=/dev/xvda" ]'
    ;;
*) guest ;;
esac
int13 firmware announced

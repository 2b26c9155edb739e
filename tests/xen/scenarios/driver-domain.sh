# A driver domain, itself a PV guest, has the backends of a disk and of the NIC; QEMU in dom0
# has that of the other disk, a qcow2 image.  The firmware leaves all connected; an OS
# announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

qcow2 1
driver_domain 0
guest "disk = [ \"vdev=xvda,access=rw,backend=driver,backendtype=phy,target=/dev/xvda\",
    \"format=qcow2,vdev=xvdb,access=rw,backendtype=qdisk,target=/tmp/$SCENARIO-disk1.img\" ]" \
    'vif = [ "mac=00:16:3e:11:11:11,bridge=xenbr0,type=vif,backend=driver" ]'
naive start

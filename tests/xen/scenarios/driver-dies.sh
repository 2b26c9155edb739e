# A driver domain has the backends of a disk and of the NIC, and is lost to the handoff (VARIANT): it
# is paused, it has crashed, or it is destroyed in the middle.  What dom0 has is handed off all the
# same, and the administrator heals the rest before the OS wants it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

driver_gone() { ! xl domid driver >/dev/null 2>&1; }

# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=20000"'
disk='vdev=xvda,access=rw,backend=driver,backendtype=phy,target=/dev/xvda'
nic='mac=00:16:3e:11:11:11,bridge=xenbr0,type=vif,backend=driver'
driver_domain 0
disk 1
guest "disk = [ \"$disk\",
    \"format=raw,vdev=xvdb,access=rw,backendtype=qdisk,target=/tmp/$SCENARIO-disk1.img\" ]" \
    "vif = [ \"$nic\" ]"
start firmware "$ALL" os 1 late "$ALL" gates "firmware announced done"
checkpoint firmware 60
snapshot firmware
case $VARIANT in
crashes)
    xl sysrq driver c
    await 60 "the driver domain's end" driver_gone
    ;;
*) xl pause driver ;;
esac
resume firmware
if [ "$VARIANT" = destroyed ]; then
    # shellcheck disable=SC2034  # frontend_is() reads it
    FRONTEND=/local/domain/$DOMID/device/vbd/51712
    await 30 "the handoff" frontend_is 6
    xl destroy driver
fi
announced
case $VARIANT in
paused) xl unpause driver ;;
*) driver_domain 0 ;;
esac
say "waiting for xl to detach and attach what the driver domain had (60 s at most each)"
timeout 60 xl block-detach --force "$SCENARIO" xvda
timeout 60 xl network-detach "$SCENARIO" 0
timeout 60 xl block-attach "$SCENARIO" "$disk"
# shellcheck disable=SC2046  # one word each
timeout 60 xl network-attach "$SCENARIO" $(echo "$nic" | tr , ' ')
snapshot healed
resume announced
used

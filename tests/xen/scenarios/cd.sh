# The firmware has connected a CD, which is a PV device and an emulated one, too.  It is ejected and
# another one is inserted, before the announcement and after it, by an OS that wants none of them.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# change TAG [IMAGE]: eject the CD, or insert that, and see what is in the drive
change() {
    say "waiting for xl to change the CD (60 s at most)"
    if [ -n "$2" ]; then
        timeout 60 xl cd-insert "$SCENARIO" xvdc "$2" || fail "xl cd-insert"
    else
        timeout 60 xl cd-eject "$SCENARIO" xvdc || fail "xl cd-eject"
    fi
    query "$1" block '{"execute":"query-block"}'
    snapshot "$1"
}

disk 2
disk 3
guest "disk += [ \"format=raw,vdev=xvdc,devtype=cdrom,access=ro,target=/tmp/$SCENARIO-disk2.img\" ]"
start firmware "$ALL vbd/51744" os 1 late "$ALL" gates "firmware announced done"
checkpoint firmware 60
snapshot firmware
change ejected
change inserted "/tmp/$SCENARIO-disk3.img"
resume firmware
announced
change ejected-again
change inserted-again "/tmp/$SCENARIO-disk2.img"
resume announced
used

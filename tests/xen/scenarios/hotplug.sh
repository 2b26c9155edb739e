# A disk and a NIC are attached while the firmware runs, which does not touch them, and wait
# for the OS.  A second vCPU is there and does nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest 'vcpus = 2'
start firmware "$ALL" os 1 late "$ALL vbd/51744 vif/1" gates "firmware announced done"
checkpoint 'firmware' 60
disk 2
say "waiting for xl block-attach and network-attach (60 s at most each)"
timeout 60 xl block-attach "$SCENARIO" \
    "format=raw,vdev=xvdc,access=rw,backendtype=qdisk,target=/tmp/$SCENARIO-disk2.img"
timeout 60 xl network-attach "$SCENARIO" 'mac=00:16:3e:11:11:12' 'bridge=xenbr0'
through firmware announced 'done'
written

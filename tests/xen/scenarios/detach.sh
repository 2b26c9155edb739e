# What the firmware has connected is detached by force, as an administrator does who will not wait
# for a guest that does not answer: a disk while the firmware runs; a disk whose backend hangs, and
# one that has been handed off, in the middle of the handoff.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=60000"' DISKS=4

detach() {
    say "waiting for xl block-detach (60 s at most)"
    timeout 60 xl block-detach --force "$SCENARIO" "$1" || fail "xl block-detach $1"
}

guest
dead_backend vbd/51776
present
start firmware "$ALL vbd/51776" os 1 late "vbd/51712 vbd/51728 vif/0" \
    gates "firmware announced done"
plays_dead
checkpoint firmware 120
snapshot firmware
detach xvdc
snapshot detached
resume firmware
await 30 "the handoff" frontend_is 6
detach xvdd
# this one is not libxl's: what libxl would do
xenstore-rm "$BACKEND"
xenstore-rm "$FRONTEND"
take_over

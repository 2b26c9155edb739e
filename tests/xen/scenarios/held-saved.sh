# The guest is saved in the middle of a handoff, while a backend is waited for: Xen lets the vCPU
# finish its write first.  The OS goes on in the restored guest.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it; libxl waits 60 s for the guest
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=20000"'

guest
dead_backend vbd/51744
present
start firmware "$ALL vbd/51744" os 1 gates firmware
plays_dead
through firmware
await 30 "the handoff" frontend_is 6
save
restore -p
start restored 1 late "$ALL" gates "announced done"
take_over

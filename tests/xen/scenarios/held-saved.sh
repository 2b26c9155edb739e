# The guest is saved in the middle of a handoff, while a backend is waited for: Xen lets the vCPU
# finish its write first.  The OS goes on in the restored guest.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it; libxl waits 60 s for the guest
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=20000"'
saved=/tmp/$SCENARIO-saved

guest
dead_backend vbd/51744
present
start firmware "$ALL vbd/51744" os 1 gates firmware
plays_dead
through firmware
await 30 "the handoff" frontend_is 5
say "waiting for xl save ($((60 * PATIENCE)) s at most)"
timeout $((60 * PATIENCE)) xl save "$SCENARIO" "$saved"
event saved
archive_evidence
say "waiting for xl restore (60 s at most)"
timeout 60 xl restore -p "$saved" >"$OUT/xl-restore.log" 2>&1
present
start restored 1 late "$ALL" gates "announced done"
take_over

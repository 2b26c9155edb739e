# The guest is saved while its firmware has all connected, and restored before any OS: another
# firmware connects all anew, and an OS follows that resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

saved=/tmp/$SCENARIO-saved

guest
start firmware "$ALL" quiet 1 gates firmware
through firmware
checkpoint_scratch 'quiet' 60
say "waiting for xl save (60 s at most)"
timeout 60 xl save "$SCENARIO" "$saved"
archive_evidence
say "waiting for xl restore (60 s at most)"
timeout 60 xl restore "$saved" >"$OUT/xl-restore.log" 2>&1
present
[ -z "$DM_ARGS" ] || reported restored
options chain "$ALL" os 1 late "$ALL" gates "chained announced done"
resume_scratch 'quiet'
checkpoint 'chained' 60
snapshot 'firmware'
resume 'chained'
take_over

# The guest is saved while its firmware has all connected, and restored before any OS: another
# firmware connects all anew, and an OS follows that resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

saved=/tmp/$SCENARIO-saved

guest
start firmware "$ALL" quiet 1 gates firmware
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
scratch 'quiet' 60
say "waiting for xl save (60 s at most)"
timeout 60 xl save "$SCENARIO" "$saved"
past
say "waiting for xl restore (60 s at most)"
timeout 60 xl restore "$saved" >"$OUT/xl-restore.log" 2>&1
present
[ -z "$DM_ARGS" ] || properties restored state
options chain "$ALL" os 1 late "$ALL" gates "chained announced done"
pass_scratch 'quiet'
gate 'chained' 60
snapshot 'firmware'
pass 'chained'
gate 'announced' 60
snapshot 'announced'
[ -z "$DM_ARGS" ] || properties announced state announcement connections handed-off
pass 'announced'
gate 'done' 60
snapshot 'done'
written

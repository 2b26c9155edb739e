# The guest is destroyed in the middle of a handoff, while a backend is waited for.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# libxl waits 10 s for a backend, and all of its work is to be done before the handoff's end
# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=30000"'

guest
dead_backend vbd/51744
xenstore-write "/libxl/$DOMID/device/vbd/51744/backend" "$BACKEND" \
    "/libxl/$DOMID/device/vbd/51744/frontend" "$FRONTEND"
present
start firmware "$ALL vbd/51744" os 1 gates firmware
plays_dead
through firmware
await 30 "the handoff" frontend_is 6
healthy_done() { [ "$(xenstore-read "/local/domain/$DOMID/device/vif/0/state")" = 1 ]; }
await 30 "the end of the healthy backends" healthy_done
traces 'before'
say "waiting for xl destroy (60 s at most)"
timeout 60 xl destroy "$SCENARIO"
event destroyed
traces 'destroyed'
await 60 "the device model's end" model_gone
event "device model gone"
traces 'after'

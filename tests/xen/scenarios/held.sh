# A backend hangs for as long as it may, and meanwhile all but the vCPU that has announced the OS
# goes on: QEMU's monitor, the ports that QEMU has for the other vCPU, until that announces
# itself, too, and the toolstack, which pauses the guest.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=60000"'

# meanwhile [QMP'S OPTION...]: what COM1's scratch register has, as QEMU's monitor says before the
# handoff ends
meanwhile() {
    reply=$(monitor 'i /b 0x3ff' "$@")
    frontend_is 6 || fail "the handoff is over"
    echo "$reply" >>"$OUT/held.txt"
}
goes_on() { meanwhile; [ "${reply%= 0x02*}" != "$reply" ]; }    # the other vCPU has seen the 1
let_go() { monitor 'i /b 0x3ff' | grep -q '= 0x03'; }

guest 'vcpus = 2'
dead_backend vbd/51744
present
start firmware "$ALL vbd/51744" os 1 order "second product=3 build=1 unplug=7 late" late "$ALL" \
    gates "firmware announced done"
plays_dead
through firmware
await 30 "the handoff" frontend_is 6
meanwhile
monitor 'o /b 0x3ff 1'
await 30 "the other vCPU" goes_on
meanwhile -n 50
reported held
meanwhile
xl pause "$SCENARIO"
await 90 "the handoff's end" frontend_is 1
snapshot 'paused'
xl unpause "$SCENARIO"
announced
await 30 "the other vCPU's end" let_go
echo 'let go' >>"$OUT/held.txt"
resume 'announced'
used

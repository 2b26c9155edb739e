# In the middle of a handoff, while a backend is waited for, the administrator presses all buttons, and
# then the OS's other vCPU resets the machine: the guest's next life begins at once.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=60000"'
guest 'vcpus = 2' 'on_reboot = "restart"'
dead_backend vbd/51744
present
start firmware "$ALL vbd/51744" os 1 order "second product=3 build=1 unplug=7 late" \
    gates firmware
plays_dead
through firmware
await 30 "the handoff" frontend_is 6
for button in power sleep s3resume; do
    xl trigger "$SCENARIO" $button || say "xl trigger $button: refused"
done
xl reboot "$SCENARIO" || say "xl reboot: refused"
frontend_is 6 || fail "the handoff is over"
reported held
archive_evidence
monitor 'o /b 0x3ff 2'
await 60 "the guest's next life" restarted
present
naive options

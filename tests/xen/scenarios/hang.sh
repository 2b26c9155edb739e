# Disks whose backends never answer, beside healthy devices and then, after a reboot, alone.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# as long as healthy backends may take here
# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=', "-device", "xen-fw-handoff,id=fw-handoff,timeout-ms=20000"'

hand_off() { through firmware; announced; resume 'announced'; }

guest 'on_reboot = "restart"'
# one that is never more than in InitWait, and one that has connected
dead_backend vbd/51760
dead_backend vbd/51744
present
start firmware "$ALL vbd/51744 vbd/51760" os 1 late "$ALL" gates "firmware announced done" \
    shutdown 1
plays_dead
hand_off
used
archive_evidence
xenstore-write "/local/domain/$DOMID/lab/go" 'done'
await 60 "the guest's next life" restarted
dead_backend vbd/51744
present
options firmware vbd/51744 os 1 gates "firmware announced"
plays_dead
hand_off

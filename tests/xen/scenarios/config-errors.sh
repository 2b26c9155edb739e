# What an administrator may get wrong: two devices, and no xen-platform for the device.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

one=$DM_ARGS
DM_ARGS="$one, \"-device\", \"xen-fw-handoff\""
if (trap - EXIT; guest) >"$OUT/refused.log" 2>&1; then
    fail "a guest with two devices was made"
fi
grep -a 'at most one' "$OUT/refused.log" || fail "xl create failed for another reason, see refused.log"
DM_ARGS=$one
# shellcheck disable=SC2034  # guest() reads it
PLATFORM=0
guest
start firmware none os 0
runs() { grep -aq 'PVFW: no grant table' "$OUT/firmware.log"; }
await 60 "the firmware without xen-platform" runs

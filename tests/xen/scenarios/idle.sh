# For scripts/bench.py: what QEMU does while its guest stands still, with the device and, at the
# same time, without (the other guest): before the firmware has connected anything, while it is
# connected and after the handoff.  idle.txt gets "PHASE GUEST SECONDS WAKE-UPS READS WRITES CPU";
# the messages of xenstore are among the reads and writes, CPU is in ns.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

counts() {
    pid=$(model_pid)
    cat "/proc/$pid/task/"*/status "/proc/$pid/io" "/proc/$pid/task/"*/schedstat | awk '
        /^voluntary_ctxt_switches:/ { wakeups += $2 }
        /^syscr:/ { reads = $2 }
        /^syscw:/ { writes = $2 }
        /^[0-9]/ { cpu += $1 }
        END { printf "%d %d %d %.0f\n", wakeups, reads, writes, cpu }'
}

stand_still() { # stand_still PHASE: both guests are paused
    for guest in '' other; do
        select_guest $guest
        counts >"$OUT/counts"
    done
    sleep "${IDLE:=60}"
    for guest in '' other; do
        select_guest $guest
        counts | cat "$OUT/counts" - | awk -v line="$1 ${guest:-device} $IDLE" '
            NR == 1 { split($0, before) }
            NR == 2 {
                printf "%s %d %d %d %.0f\n", line, $1 - before[1], $2 - before[2], $3 - before[3],
                    $4 - before[4]
            }
            ' >>"/out/$NAME/idle.txt"
    done
}

reach() {   # reach POINT: both of them, and pause there
    for guest in '' other; do
        select_guest $guest
        xl unpause "$SCENARIO"
        checkpoint "$1" 60
        xl pause "$SCENARIO"
    done
}

guest
select_guest other
# shellcheck disable=SC2034  # guest() reads it
DM_ARGS=
guest 'vif = [ "mac=00:16:3e:11:11:21,bridge=xenbr0,type=vif" ]'
stand_still 'before'
for guest in '' other; do
    select_guest $guest
    options firmware "$ALL" os 1 gates "firmware announced"
done
reach 'firmware'
stand_still 'connected'
for guest in '' other; do
    select_guest $guest
    resume 'firmware'
done
reach 'announced'
stand_still 'after'
select_guest

# ROUNDS guests, one after the other, each from its firmware to the OS's devices and destroyed
# then: nothing may add up in dom0 or in Xen.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# tally ROUND: what Xen and dom0 have, into soak.txt; the kernel's workers come and go
# xl watches a guest, and busybox's timeout sees only each second that its command has ended
none_left() { ! cat /proc/[0-9]*/comm 2>/dev/null | grep -qxe xl -e timeout; }
tally() {
    await 60 "QEMU's end" model_gone
    await 60 "the end of xl and timeout" none_left
    rm -f /tmp/soak-xen
    dump /tmp/soak-xen
    echo 3 >/proc/sys/vm/drop_caches
    round=$1
    set -- /proc/[0-9]*/fd/*
    # no pipe: its other end may be there, or not yet
    names=$(cat /proc/[0-9]*/comm 2>/dev/null) || :      # one has ended meanwhile
    echo "round $round" \
        "grants $(grep -c '^(XEN) \[0x' /tmp/soak-xen)" \
        "ports $(grep -c '^(XEN) .*: s=[1-6]' /tmp/soak-xen)" \
        "domains $(xl list | grep -c .)" \
        "processes $(echo "$names" | grep -vc '^kworker')" \
        "files $#" \
        "xenstore $(xenstore-ls | grep -c .)" \
        "logs_kb $(du -sk /var/log | cut -f 1)" \
        "dom0_kb $(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)" \
        "xen_mb $(xl info free_memory)" >>"$OUT/soak.txt"
}

kill "$WATCH"   # its log would be what adds up
round=0
while [ "$round" -lt "${ROUNDS:=3}" ]; do
    round=$((round + 1))
    say "round $round of $ROUNDS"
    guest
    start firmware "$ALL" os 1 late "$ALL" gates 'done'
    checkpoint 'done' 60
    [ "$(grep -c '^PVFW: v.* works' "$OUT/firmware.log")" = 3 ] || fail "firmware of round $round"
    [ "$(grep -c '^PVOS: v.* works' "$OUT/firmware.log")" = 3 ] || fail "OS of round $round"
    grep -q ': 3 handed off, 0 timed out' "/var/log/xen/qemu-dm-$SCENARIO.log" ||
        fail "handoff of round $round"
    destroy
    tally "$round"
done

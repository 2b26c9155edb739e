# For scripts/bench.py: how fast a BIOS reads by INT 13h, and how long a guest takes to Linux's first
# line: Debian's SeaBIOS from emulated disks, by turns with the BIOS under test from PV disks.
# "NAME what" goes into speed.txt.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

kill "$WATCH"   # it would read along
: "${ROUNDS:=1}"

# turn NAME DISK KIND BIOS LINE...: one guest that reads, and one that boots Linux
turn() {
    # shellcheck disable=SC2034  # guest() reads them
    name=$1 NUMBERS=$2 KIND=$3 BIOS=$4
    shift 4
    int13_disk "$NUMBERS" t
    guest "$@"
    xl unpause "$SCENARIO"
    await 600 "the test of INT 13h to end" said_done
    tr -d '\r' <"$OUT/firmware.log" | sed -n "s/^INT13: [0-9]* reads/$name &/p" >>"$OUT/speed.txt"
    destroy
    linux_disk "$NUMBERS" syslinux ''
    : >"$CONSOLE"
    guest "$@"
    read -r from _ </proc/uptime
    xl unpause "$SCENARIO"
    wait_console 'Linux version' 900
    read -r to _ </proc/uptime
    echo "$name first line from $from to $to s" >>"$OUT/speed.txt"
    destroy
}

for n in $(seq "$ROUNDS"); do
    say "round $n of $ROUNDS"
    [ "$n" -gt 1 ] || turn ide-pio 0 qemu "$STOCK"   # takes minutes
    turn ide-dma 0 qemu /lab/bios-ata-dma.bin
    turn ahci 0 qemu "$STOCK" 'hdtype = "ahci"'
    bios
    turn blkback 4 kernel "$BIOS"
    turn qdisk 4 qemu "$BIOS"
done

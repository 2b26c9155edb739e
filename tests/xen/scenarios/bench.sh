# For scripts/bench.py: how long closing the firmware's connections takes, by the device under
# test, by the floor (the same conversation with xenstore and nothing else) and by hand, in
# turns within one guest.  "NAME METHOD what it said" goes into bench.txt.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

kill "$WATCH"   # it would read along

# close_by METHOD
close_by() {
    case $1 in
    device)
        grep -a 'xen-fw-handoff: done in' "/var/log/xen/qemu-dm-$SCENARIO.log" | tail -n 1
        ;;
    floor)
        # shellcheck disable=SC2086  # all of them
        floor "$DOMID" $ALL
        ;;
    hand)
        read -r from _ </proc/uptime
        # shellcheck disable=SC2086
        by-hand.sh "$DOMID" $ALL
        read -r to _ </proc/uptime
        echo "from $from to $to s"
        ;;
    esac
}

# measure NAME DISKS NICS KIND METHOD...
measure() {
    # shellcheck disable=SC2034  # guest() reads them
    name=$1 DISKS=$2 NICS=$3 KIND=$4
    shift 4
    guest
    start firmware "$ALL" rounds $((ROUNDS * $#)) gates "firmware asked"
    round=0
    while [ "$round" -lt "${ROUNDS:=3}" ]; do
        round=$((round + 1))
        say "$name: round $round of $ROUNDS"
        for method in "$@"; do
            gate 'firmware' 200
            request=0
            [ "$method" != device ] || request=1
            xenstore-write "/local/domain/$DOMID/lab/request" $request
            [ "$method" = device ] || result=$(close_by "$method")
            pass 'firmware'
            gate 'asked' 100
            [ "$method" != device ] || result=$(close_by device)
            echo "$name $method $result" >>"$OUT/bench.txt"
            pass 'asked'
        done
    done
    destroy
}

measure pair 1 1 kernel device floor hand
measure qdisk 1 0 qemu device floor
for n in ${SIZES:=1 4}; do
    measure "disks-$n" "$n" 0 kernel device floor hand
done

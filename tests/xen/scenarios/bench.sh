# For scripts/bench.py: how long closing the firmware's connections takes, by the device under
# test, by the baseline (the same conversation with xenstore and nothing else) and by hand, in
# turns within one guest.  "NAME METHOD what it said" goes into bench.txt.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

kill "$WATCH"   # it would read along
: "${ROUNDS:=2}"

# close_by METHOD
close_by() {
    case $1 in
    device)
        grep -a 'xen-fw-handoff: done in' "/var/log/xen/qemu-dm-$SCENARIO.log" | tail -n 1
        ;;
    baseline)
        # shellcheck disable=SC2086  # all of them
        baseline "$DOMID" $ALL
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

# a round: the firmware connects all of them, METHOD closes them
round() {
    checkpoint 'firmware' 300
    request=0 result=''
    [ "$1" != device ] || request=1
    xenstore-write "/local/domain/$DOMID/lab/request" $request
    [ "$1" = device ] || result=$(close_by "$1")
    resume 'firmware'
    checkpoint 'asked' 100
    [ "$1" != device ] || result=$(close_by device)
    echo "$name $1 $result" >>"$OUT/bench.txt"
    resume 'asked'
}

# measure NAME ROUNDS BY-HAND DISKS NICS KIND: so many rounds each, and so many by hand
measure() {
    # shellcheck disable=SC2034  # guest() reads them
    name=$1 rounds=$2 by_hand=$3 DISKS=$4 NICS=$5 KIND=$6
    guest
    start firmware "$ALL" rounds $((rounds * 2 + by_hand)) gates "firmware asked"
    for n in $(seq "$rounds"); do
        say "$name: round $n of $rounds"
        round device
        round baseline
        [ "$n" -gt "$by_hand" ] || round hand
    done
    destroy
}

measure pair "$ROUNDS" "$ROUNDS" 1 1 kernel
measure qdisk "$ROUNDS" 0 1 0 qemu
for size in ${SIZES:=1 4}; do
    # many take long to connect, and longer to be closed by hand, one after the other
    if [ "$size" -gt 4 ]; then
        measure "disks-$size" $((1 + 64 / size)) 0 "$size" 0 kernel
    else
        measure "disks-$size" "$ROUNDS" $(((ROUNDS + size - 1) / size)) "$size" 0 kernel
    fi
done

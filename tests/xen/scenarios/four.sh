# Four guests at once: what their firmwares leave is handed off at the same time.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

wait_at() { # wait_at POINT: without taking dom0's processor
    checkpoint "$1" 120
    xl pause "$SCENARIO"
}
look_at() { snapshot "$1"; resume "$1"; }
reach() { wait_at "$1"; look_at "$1"; }

OTHERS='other1 other2 other3'
for one in '' $OTHERS; do
    select_guest "$one"
    guest "vif = [ \"mac=00:16:3e:11:11:2${one#other},bridge=xenbr0,type=vif\" ]"
    start firmware "$ALL" os 1 late "$ALL" gates "firmware announced done"
    reach firmware
done
commands=''
for one in $OTHERS; do
    xl unpause "four-$one" &
    commands="$commands $!"
done
xl unpause four
# shellcheck disable=SC2086  # all of them
wait $commands
# all of them before the first look: those that wait for theirs would take dom0's processor
for one in '' $OTHERS; do
    select_guest "$one"
    wait_at announced
done
for one in '' $OTHERS; do
    select_guest "$one"
    look_at announced
done
for one in '' $OTHERS; do
    select_guest "$one"
    xl unpause "$SCENARIO"
    reach 'done'
    written
done

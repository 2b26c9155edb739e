# Two guests at once: what both firmwares leave is handed off at the same time.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

reach() {   # reach POINT: and wait there without taking dom0's processor
    checkpoint "$1" 60
    xl pause "$SCENARIO"
    snapshot "$1"
    resume "$1"
}

guest
select_guest other
guest 'vif = [ "mac=00:16:3e:11:11:21,bridge=xenbr0,type=vif" ]'
for one in '' other; do
    select_guest $one
    start firmware "$ALL" os 1 late "$ALL" gates "firmware announced done"
    reach firmware
done
xl unpause two &
xl unpause two-other
wait $!
for one in '' other; do
    select_guest $one
    reach announced
done
for one in '' other; do
    select_guest $one
    xl unpause "$SCENARIO"
    reach 'done'
    written
done

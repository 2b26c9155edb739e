# The firmware leaves all connected; Linux boots and, if there is need, heals itself.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

vif=
packets() { cat "/sys/class/net/$vif/statistics/tx_packets"; }

linux_guest ''
start firmware "$ALL" os 0 gates firmware
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
wait_console 'Linux version' 220
event first-line
xl pause "$SCENARIO"
snapshot 'first-line'
# Whatever dom0 broadcasts now lands in the firmware's receive buffers, i.e. in memory that
# Linux believes is its own, while they are still granted.
vif=vif$DOMID.0
before=$(packets)
senders=
for _ in 1 2 3 4 5; do
    arping -q -c 1 -w 1 -I xenbr0 192.0.2.99 &
    senders="$senders $!"
done
# shellcheck disable=SC2086  # all of them
wait $senders || :
say "packets put into the firmware's buffers: $(($(packets) - before))"
xl unpause "$SCENARIO"
event unpaused
wait_console 'GUEST.*ready' 220
event ready
snapshot 'os'

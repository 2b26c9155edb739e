# The guest writes to its own frontend as fast as it can, and never announces itself.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

rss() { awk '/^VmRSS/ { print "rss", $2 }' "/proc/$(model_pid)/status" >>"$OUT/flood.txt"; }
answers() {
    timeout $((30 * PATIENCE)) qmp "/run/xen/qmp-libxl-$DOMID" '{"execute":"query-status"}' >>"$OUT/flood.txt"
}

guest
start firmware "$ALL" os 1 late "$ALL" flood device/vbd/51712 \
    gates "firmware announced done"
gate 'firmware' 60
snapshot 'firmware'
rss
pass 'firmware'
scratch 'flooding' 60
n=0
while [ $n -lt 30 ] && answers; do
    n=$((n + 1))
done
rss
pass_scratch 'flooding'
gate 'announced' 120
snapshot 'announced'
pass 'announced'
gate 'done' 60
written

# Linux has taken over from the firmware and is suspended twice.  It goes on in the same
# domain, with the rings that it has and another announcement, and then in a restored one.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest ''
start firmware "$ALL" os 0
wait_console 'GUEST.*ready' 220
snapshot 'ready'
# that the announcement comes a second time is nowhere else to be seen
query checkpoint trace '{"execute":"trace-event-set-state","arguments":{
    "name":"memory_region_ops_write","enable":true}}'
say "waiting for xl save -c (60 s at most)"
timeout 60 xl save -c "$SCENARIO" /dev/null
alive
snapshot 'checkpoint'
query checkpoint status '{"execute":"query-status"}'
save
restore
alive
snapshot 'restored'

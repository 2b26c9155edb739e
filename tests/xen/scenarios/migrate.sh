# Linux is migrated to the host that it is on, with disks and a NIC that have emulated twins.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest '' "$EMULATED_NIC" "$NO_NIC_ROM"
start firmware "$ALL" os 0
wait_console 'GUEST.*ready' 220
snapshot 'ready'
migrate
alive
snapshot 'restored'

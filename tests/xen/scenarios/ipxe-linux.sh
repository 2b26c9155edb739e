# iPXE boots Linux and leaves the NIC connected; Linux's own boot code asks iPXE for its SAN's
# disk (EDD), the last that iPXE is used.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

ipxe_guest
start firmware none os 0 boot "$LINUX" gates firmware
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
wait_console 'Linux version' 220
event first-line
xl pause "$SCENARIO"
snapshot 'first-line'
xl unpause "$SCENARIO"
wait_console 'GUEST.*ready' 220
event ready
snapshot 'os'

# The firmware leaves all connected; an OS that announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
start firmware "vbd/51712 vbd/51728 vif/0" os 1 late "vbd/51712 vbd/51728 vif/0" \
    gates "firmware announced done"
gate 'firmware' 60
snapshot 'firmware'
pass 'firmware'
gate 'announced' 60
snapshot 'announced'
pass 'announced'
gate 'done' 60
snapshot 'done'
written

# The firmware leaves a disk and the NIC connected; the OS attaches the other disk, then
# announces itself, then attaches what the firmware had.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
# early-gref: the firmware's grants are still in use then, theirs would be mapped instead
start firmware "vbd/51728 vif/0" os 1 early vbd/51712 early-gref 200 late "vbd/51728 vif/0" \
    gates "firmware early announced done"
through firmware early announced 'done'
written

# OpenBSD, after a firmware that has left a disk and the NIC connected: it sets its callback,
# attaches the other disk and, from the firmware, the NIC, and only then unplugs.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
# early-gref: the firmware's grants are still in use then, theirs would be mapped instead
start firmware "vbd/51728 vif/0" os 1 order "$OPENBSD" early "vbd/51712 vif/0" early-gref 200 \
    late vbd/51728 gates "firmware early announced done"
through firmware early announced 'done'
written

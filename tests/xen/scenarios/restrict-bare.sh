# dm_restrict=1 and no xenstore-filter: QEMU is without xenstore.  What the firmware has left
# stays, and the guest boots.  It takes the package's wrapper for QEMU to start at all.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

as_installed
rm /usr/libexec/xen-fw-handoff/xenstore-filter
restricted "disk = [ \"phy:$(losetup -f),xvda,w\" ]"
# early-gref: the firmware's grants are still in use, theirs would be mapped instead
start firmware vbd/51712 os 1 early vif/0 early-gref 200 gates "firmware done"
through firmware 'done'
says_its_user

# An OS that attaches its devices first and announces itself later, as OpenBSD does: they
# must survive that.  The firmware has connected nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
start firmware none os 1 early "vbd/51712 vbd/51728 vif/0" gates "early done"
gate 'early' 60
snapshot 'early'
pass 'early'
gate 'done' 60
snapshot 'done'
written

# An OS that attaches its devices first and announces itself later, as OpenBSD does: they
# must survive that.  The firmware has connected nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
late_announce start

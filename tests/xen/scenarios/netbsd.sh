# NetBSD: as FreeBSD, but sets its callback last.  The firmware has used rings of four pages
# and persistent grants, and its boot loader reads until NetBSD takes over.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start ring-order 2 persistent 1 order "load=400 unplug=3 callback late" picky 1

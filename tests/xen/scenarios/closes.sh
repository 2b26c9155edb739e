# The firmware closes its devices by itself, as OVMF does: nothing changes for the OS.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
start firmware "$ALL" close 1 os 1 late "$ALL" gates "firmware closed announced done"
through firmware closed announced 'done'
written

# The firmware knows when it is done and asks for its teardown; then comes an OS.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
start firmware "$ALL" request 1 os 1 late "$ALL" gates "firmware asked done"
through firmware asked 'done'
written

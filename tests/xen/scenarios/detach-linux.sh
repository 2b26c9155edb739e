# Linux, after the handoff, is asked to give a disk and its NIC back.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest ""
connected
first_line
ready
say "waiting for xl block-detach and network-detach (60 s at most each)"
timeout 60 xl block-detach "$SCENARIO" xvdb
timeout 60 xl network-detach "$SCENARIO" 0
alive
snapshot detached

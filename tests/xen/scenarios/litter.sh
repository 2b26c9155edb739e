# The firmware leaves all connected and, last of all, something in its connection to xenstore:
# VARIANT.  Linux boots and has to find that as if nobody had used it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads it: enough devices for a ring full of watch events
DISKS=4
linux_guest ''
# as long as a value may be, and longer than the ring
long=$(head -c 2000 /dev/zero | tr '\0' x)
start firmware "$ALL" os 0 long "$long" litter "$VARIANT" gates firmware
through firmware
checkpoint_scratch 'littered' 60
snapshot 'littered'
resume_scratch 'littered'
first_line
wait_console 'GUEST.*ready' 90  # it hangs where it does not understand xenstored
ready

# An OS that writes to no port, as kernels before the protocol: it sets its callback and goes
# on, so that the device has to notice, and has to be done before the OS attaches a device.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

handed_off() { grep -aq 'xen-fw-handoff: done' "/var/log/xen/qemu-dm-$SCENARIO.log"; }

guest
start firmware "$ALL" os 1 order "callback late" picky 1 late "$ALL" \
    gates "firmware announced done"
through firmware
await 30 "the handoff" handed_off
take_over

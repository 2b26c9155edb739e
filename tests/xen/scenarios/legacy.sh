# The backends of QEMU that are not on its Xen bus, as the keyboard that xl gives to every HVM
# guest: the firmware leaves it connected, too, and the OS wants it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

key_arrives() { # key_arrives WHO
    monitor 'sendkey a' >/dev/null
    grep -aq "^$1: vkbd/0 works" "$OUT/firmware.log"
}

guest
start firmware "$ALL vkbd/0" os 1 order "load=0 product=3 build=1 unplug=7 late" \
    late "$ALL vkbd/0" gates "firmware announced done"
await 60 "a key for the firmware" key_arrives PVFW
through firmware
announced
monitor 'sendkey a'     # for nobody
resume 'announced'
await 60 "a key for the OS" key_arrives PVOS
used

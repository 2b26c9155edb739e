# The Debian package for all guests of a host, as xen-fw-handoff(7) has it, and its removal.
# Nothing in the guest's xl.cfg is about the device model, and it has what needs most of
# Debian's data: VGA, a keymap, a NIC with its ROM.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

debian=/usr/libexec/xen-qemu-system-i386
echo "Debian's" >$debian
dpkg-divert --local --rename --add /usr/libexec/xen-qemu-system-i386
ln -s xen-fw-handoff/device-model /usr/libexec/xen-qemu-system-i386

model() { echo 'device_model_args = [ ]'; }
linux_guest "" "$EMULATED_NIC" 'vga = "stdvga"' 'nographic = 0' 'vnc = 1' 'keymap = "de"'
# a disk of QEMU's own is in no time limit
connected firmware vbd/51728
echo "runs $(readlink "/proc/$(model_pid)/exe")" >"$OUT/package.txt"
ready
as_administrator
destroy

PATH="/usr/bin:$PATH" /usr/bin/dpkg --force-bad-path --remove qemu-system-xen-fw-handoff
{
    echo "default $(cat $debian)"
    echo "diverted $(dpkg-divert --list "$debian*")"
    echo "left $(find /usr /etc -name '*xen-fw-handoff*' | tr '\n' ' ')"
} >>"$OUT/package.txt"

# The Debian package for all guests of a host, as xen-fw-handoff(7) has it, its upgrade and its
# removal.  Nothing in the guest's xl.cfg is about the device model, and it has what needs most of
# Debian's data: VGA, a keymap, a NIC with its ROM.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# an upgrade leaves it as it is
[ -d /lab/debs/old ] || for_all_guests

model() { echo 'device_model_args = [ ]'; }
linux_guest "" "$EMULATED_NIC" 'vga = "stdvga"' 'nographic = 0' 'vnc = 1' 'keymap = "de"'
# a disk of QEMU's own is in no time limit
connected firmware vbd/51728
echo "runs $(readlink "/proc/$(model_pid)/exe")" >"$OUT/package.txt"
ready
as_administrator
destroy

dpkg() { PATH="/usr/bin:$PATH" /usr/bin/dpkg --force-bad-path "$@" qemu-system-xen-fw-handoff; }
state=$(dpkg-query -W -f '${Status}' qemu-system-xen-fw-handoff)
[ "$state" = 'install ok installed' ] || fail "dpkg says of the package: $state"
dpkg --remove
dpkg --purge
{
    echo "default $(cat "$DEBIANS_QEMU")"
    echo "diverted $(dpkg-divert --list "$DEBIANS_QEMU*")"
    echo "left $(find /usr /etc /var/lib/dpkg -name '*xen-fw-handoff*' | tr '\n' ' ')"
    # from an older one, whose version is lower
    [ ! -d /lab/debs/old ] || echo "upgraded $(grep -c '^Unpacking.*xen-fw-handoff.* over (' /out/dpkg.log)," \
        "downgraded $(grep -c '^dpkg: .* downgrading' /out/dpkg.log)"
} >>"$OUT/package.txt"

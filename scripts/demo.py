#!/usr/bin/env python3
"""The same guests on a real Xen without and with the device: make demo.

Prints one table of measured values; docs/specs/xen-fw-handoff.txt explains
what happens.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from pathlib import Path
import sys
import time

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / 'tests' / 'xen'))

import evidence     # noqa: E402
import lab          # noqa: E402

SCENARIOS = ['bios-stock', 'bios-naive', 'bios-linux.syslinux',
             'naive', 'late-announce', 'linux']
RUNS = ['without', 'with']
ONLY_DISK = 'vbd/51776'
DEVICES = {'vbd/51712': 'disk xvda (blkback)', 'vbd/51728': 'disk xvdb (qdisk)',
           'vif/0': 'NIC (netback)'}


def works(device, key='works', yes='works'):
    """How a device fared, in two or three words."""
    if device is None:
        return 'not tried'
    if device[key]:
        return yes
    return f'LOST: {device["reason"] or "no answer"}'


def listed(values):
    return ', '.join(str(v) for v in values) or 'none'


def rows(facts):
    """(label, value) of one column; a label alone is a heading."""
    stock, bios, loader, naive, late, linux = (facts[s] for s in SCENARIOS)
    yield '1. A guest whose only disk is PV, with no emulated twin', ''
    yield ("it boots with Debian's SeaBIOS",
           'no' if any('No bootable device' in line
                       for line in stock['bios_says']) else 'YES')
    yield ('it boots with SeaBIOS that has our driver',
           'yes' if bios['firmware'][ONLY_DISK]['works'] else 'NO')
    yield ('then that disk, in an OS that does not heal itself',
           works(bios['devices'].get(ONLY_DISK)))
    yield ("seconds from the guest's start to Linux's first line",
           f'{loader["first_line_seconds"]:.1f}')
    yield '2. Firmware that leaves more open, and such an OS', ''
    for device, name in DEVICES.items():
        yield name, works(naive['devices'].get(device))
    yield ('its grant refs that still lead to a page of the firmware',
           listed(naive['snapshots']['done']['pinned_to_old_frame']))
    yield '3. An OS that attaches first and announces itself last', ''
    for device, name in DEVICES.items():
        yield f'{name} after the announcement', works(
            late['devices'].get(device), 'still_works', 'still works')
    yield '4. Linux', ''
    seen = linux['linux']
    yield ("firmware's rings mapped in dom0 at Linux's first line",
           len(linux['snapshots']['first-line']['firmware_mapped']))
    yield ('grant entries of the firmware left when Linux is up',
           len(linux['snapshots']['os']['firmware_granted']))
    yield ("of 5 broadcasts then, put into the firmware's buffers",
           seen['packets_to_firmware'])
    yield ('frontends that Linux has to reset, and how long it takes',
           f'{len(seen["resets"])}, {seen["reset_seconds"]:.2f} s'
           if seen['resets'] else 'none')
    ok = len(seen['disks']) == 2 and all(seen['disks'].values())
    yield ('both disks read and dom0 pinged in the end',
           'yes' if ok and seen['ping'] else 'NO')


def main():
    lab.need_built()
    start = time.monotonic()
    status = lab.run_side_by_side({(lab.HOST, run): SCENARIOS for run in RUNS})
    columns = []
    facts = {}
    try:
        for run in RUNS:
            facts[run] = {s: evidence.evidence(TOP / 'build/xen' / run / s)
                          for s in SCENARIOS}
            columns.append(dict(rows(facts[run])))
    except (KeyError, IndexError, TypeError, ValueError) as e:
        sys.exit(f'demo: the evidence is not complete ({e!r}): '
                 f'see build/xen/{run}/*/scenario.log')
    label = max(map(len, columns[0])) + 5
    width = max(len(str(v)) for c in columns for v in c.values()) + 2
    print('\nFirmware has connected PV devices and left them open: a BIOS its '
          'only disk (1),\nan option ROM two disks and a NIC (2 to 4). Then an '
          f"OS starts. Measured on\n{lab.HOST}, from dom0 and from Xen's own dump:\n")
    print(' ' * label + 'without'.ljust(width) + 'with xen-fw-handoff')
    for name, left in columns[0].items():
        if left == '':
            print(f'\n{name}')
        else:
            print(('   ' + name).ljust(label) + str(left).ljust(width)
                  + str(columns[1][name]))
    print('\nWhat the device model said about Linux (qemu-dm log):')
    for line in facts['with']['linux']['dm_log']:
        print('   ' + line[line.index('xen-fw-handoff:'):])
    print('\nFull logs: build/xen/without/ and build/xen/with/; this took '
          f'{time.monotonic() - start:.0f} s')
    return status


if __name__ == '__main__':
    sys.exit(main())

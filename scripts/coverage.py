#!/usr/bin/env python3
"""Which lines of the device do the tests without Xen reach: make coverage.

Per file how much of it, and the numbers of the lines that were never run.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from collections import defaultdict
import json
from pathlib import Path
import subprocess
import sys

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / 'build' / 'qemu' / 'build-coverage'
FILES = sorted(str(p.relative_to(TOP)) for p in TOP.glob('hw/xen/xen_fw_handoff*.c'))


def data():
    return list(BUILD.rglob('*.gcda'))


def counts():
    """{file: {line: how often}}, over all programs that contain the file."""
    lines = defaultdict(lambda: defaultdict(int))
    for gcda in data():
        out = subprocess.run(['gcov', '--json-format', '--stdout', gcda],
                             cwd=BUILD, check=True, text=True,
                             stdout=subprocess.PIPE).stdout
        for document in map(json.loads, out.splitlines()):
            for f in document['files']:
                path = (BUILD / f['file']).resolve()
                for line in f['lines']:
                    lines[path][line['line_number']] += line['count']
    return lines


def ranges(numbers):
    """[1, 2, 3, 7] as '1-3, 7'."""
    runs = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ', '.join(str(a) if a == b else f'{a}-{b}' for a, b in runs)


def tell(name, seen):
    """How much of a file was run, and what was not: @seen is {line: count}."""
    if not seen:
        sys.exit(f'coverage: nothing was counted in {name}')
    never = [n for n, count in seen.items() if not count]
    print(f'{name}: {100 - 100 * len(never) / len(seen):.1f} % of '
          f'{len(seen)} lines'
          + (f', never run: {ranges(never)}' if never else ''))


def report():
    lines = counts()
    for name in FILES:
        tell(name, lines[(BUILD.parent / name).resolve()])
    print('hw/xen/xen-guest-ops.c: only reached on a real Xen (make test), '
          'not counted')
    print('hw/i386/kvm/xen_guest_ops.c: only reached on a KVM with Xen support, '
          'not counted')


def main():
    for gcda in data():     # of the run before
        gcda.unlink()
    status = subprocess.run(
        [sys.executable, TOP / 'scripts' / 'test.py', '--variant', 'coverage',
         '--rounds', '15']).returncode
    report()
    return status


if __name__ == '__main__':
    sys.exit(main())

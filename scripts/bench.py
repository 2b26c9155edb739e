#!/usr/bin/env python3
"""Measure the handoff: make bench.

Every part measures, prints its tables, and returns its figures and the goals
with what was reached.  All of it goes to build/bench/report.json and, as plots,
to build/bench/*.svg; of all parts together tables and plots go to
docs/performance.md, too.  A goal that is missed is said and no failure: figures
of a busy machine prove nothing.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
import json
import os
from pathlib import Path
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / 'tests' / 'xen'))

import evidence     # noqa: E402
import lab          # noqa: E402

BUILD = TOP / 'build' / 'qemu' / 'build'
OUT = TOP / 'build' / 'bench'
XEN = TOP / 'build' / 'xen'
PAGE = TOP / 'docs' / 'performance.md'
BEGIN, END = '<!-- by make bench -->\n', '<!-- end -->\n'

tables = []     # as the page has them


def spread(figures):
    """What of so many runs is told: the median, the best and the worst."""
    return {'median': statistics.median(figures), 'min': min(figures),
            'max': max(figures), 'runs': len(figures)}


def goal(text, got, limit, unit='x'):
    """One line of the verdict: at most the limit."""
    return {'goal': text, 'got': round(got, 2), 'limit': limit, 'unit': unit,
            'met': got <= limit}


def table(title, head, rows):
    """Columns as wide as they have to be, text to the left, numbers right."""
    cells = [head] + [[c if isinstance(c, str) else
                       f'{c:,.0f}' if c >= 1000 else f'{c:.3g}' for c in row]
                      for row in rows]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    print(f'\n{title}')
    for row in cells:
        print('  ' + '  '.join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, width))))
    cells.insert(1, ['---'] + ['--:'] * (len(head) - 1))
    tables.append(f'**{title}**\n\n'
                  + ''.join(f'| {" | ".join(row)} |\n' for row in cells))


# --- without Xen -------------------------------------------------------------

def measurements(args):
    """The raw figures of the program, as it prints them."""
    command = ['tests/qtest/xen-handoff-bench', '--runs', str(args.runs),
               '--devices', str(args.devices)]
    raw = []
    with subprocess.Popen(command, cwd=BUILD, text=True,
                          stdout=subprocess.PIPE,
                          env={**os.environ, 'QTEST_QEMU_BINARY':
                               './qemu-system-x86_64'}) as bench:
        for line in bench.stdout:
            if line.startswith('{'):
                raw.append(json.loads(line))
                if sys.stderr.isatty():
                    print(f'\r{len(raw)} measurements', end='',
                          file=sys.stderr)
    if sys.stderr.isatty():
        print('\r', end='', file=sys.stderr)
    if bench.returncode:
        sys.exit(f'bench: {command[0]} ended with status {bench.returncode}')
    return raw


def of(raw, what, **kind):
    return [m for m in raw if m['what'] == what
            and all(m[k] == v for k, v in kind.items())]


def handoffs(raw):
    """{(backend, devices): what its runs have in common}, in their order."""
    cells = {}
    for m in of(raw, 'handoff'):
        cells.setdefault((m['backend'], m['devices']), []).append(m)
    return {(backend, n): {
        'us': spread([m['ns'] / 1000 for m in runs]),
        'us_per_device': spread([m['ns'] / 1000 / n for m in runs]),
        'tail_us_per_device': spread([m['tail_us'] / n for m in runs]),
        'ops_per_device': statistics.median(sum(m['ops'].values())
                                            for m in runs) / n,
        'ops': {op: statistics.median(m['ops'][op] for m in runs)
                for op in runs[0]['ops']},
        'tail_ops_per_device': statistics.median(sum(m['tail_ops'].values())
                                                 for m in runs) / n,
    } for (backend, n), runs in cells.items()}


def writes(raw, device):
    runs = of(raw, 'write', device=device)
    return {k: spread([m[k] for m in runs])
            for k in ('first_ns', 'again_ns', 'second_ns', 'plain_ns',
                      'log_byte_ns', 'socket_ns', 'first_ops')}


def memory_per_frontend(raw):
    """How much more QEMU grows with the device when they are connected."""
    grown = {device: [(m['connected_kib'] - m['rest_kib']) * 1024 / m['devices']
                      for m in of(raw, 'memory', device=device)]
             for device in (False, True)}
    return {'bytes': statistics.median(grown[True])
            - statistics.median(grown[False]),
            'with': spread(grown[True]), 'without': spread(grown[False])}


def without_xen(args):
    """QEMU's own backends and scripted ones under qtest."""
    raw = measurements(args)
    cells = handoffs(raw)
    plain, with_device = writes(raw, False), writes(raw, True)
    memory = memory_per_frontend(raw)
    operations = {m['backend']: (m['list'][:m['during']],
                                 m['list'][m['during']:])
                  for m in of(raw, 'operations')}

    def ms(us):
        return f'{us / 1000:.3f}'

    table('Without Xen: the port write that announces, and what QEMU does '
          'afterwards',
          ['backend', 'devices', 'runs', 'ms', 'min', 'max', 'us/device',
           'xenstore/device', 'tail us/device', 'tail xenstore/device'],
          [[backend, str(n), str(c['us']['runs']), ms(c['us']['median']),
            ms(c['us']['min']), ms(c['us']['max']),
            c['us_per_device']['median'], c['ops_per_device'],
            c['tail_us_per_device']['median'], c['tail_ops_per_device']]
           for (backend, n), c in cells.items()])
    table('One write in nanoseconds, without and with the device',
          ['', 'without', 'min', 'max', 'with', 'min', 'max', 'ratio'],
          [[text] + [w[key][k] for w in (plain, with_device)
                     for k in ('median', 'min', 'max')]
           + [f'{with_device[key]["median"] / plain[key]["median"]:.2f}']
           for key, text in (
               ('first_ns', 'the first word at 0x12, nothing connected'),
               ('again_ns', 'that after another reset, the best of 10'),
               ('second_ns', 'the next word'),
               ('plain_ns', 'one of 10 000 words'),
               ('log_byte_ns', 'one of 10 000 log bytes'),
               ('socket_ns', "a word through the test's socket"))])
    print(f'\nMemory per frontend that the firmware has connected: '
          f'{memory["bytes"]:.0f} bytes')
    for backend, (during, after) in operations.items():
        print(f'\nxenstore operations of a handoff of one frontend, {backend}: '
              f'{len(during)}, and {len(after)} afterwards')
        for op in during:
            print(f'  {op}')

    goals = []
    for few, many in ((16, 1024), (16, 256)):
        if ('in-process', many) in cells:
            few_cell, many_cell = (cells['in-process', n] for n in (few, many))
            goals += [
                goal(f'in-process: time per disk of {many}, of {few}',
                     many_cell['us_per_device']['median']
                     / few_cell['us_per_device']['median'], 1.5),
                goal(f'in-process: xenstore operations per disk afterwards, '
                     f'of {many}, of {few}',
                     many_cell['tail_ops_per_device']
                     / max(few_cell['tail_ops_per_device'], 1), 1.5)]
            break
    goals += [
        goal('a plain write with the device, without',
             with_device['plain_ns']['median'] / plain['plain_ns']['median'],
             1.02),
        goal('a write through the socket with the device, without',
             with_device['socket_ns']['median'] / plain['socket_ns']['median'],
             1.02),
        goal('xenstore operations of an announcement with nothing to do, '
             'where the guest has one disk',
             with_device['first_ops']['median'], 3, '')]
    return {'raw': raw, 'goals': goals, 'writes': {'without': plain,
                                                   'with': with_device},
            'memory': memory, 'operations': operations,
            'handoffs': [{'backend': backend, 'devices': n, **c}
                         for (backend, n), c in cells.items()]}


# --- on a real Xen ------------------------------------------------------------

METHODS = {'device': 'xen-fw-handoff', 'baseline': 'the bare conversation',
           'hand': 'a script in dom0'}
SIZES = [1, 4, 16, 64]
PV = 'blkback', 'qdisk'
SAID = re.compile(r'^(\S+) (\w+) .*?(?:done in ([\d.]+) ms: (\d+) handed off, '
                  r'0 timed out, 0 failed|(\d+) us, (\d+) operations|'
                  r'from ([\d.]+) to ([\d.]+) s)')


def closings(text):
    """{name: {method: [ms...]}} of the lines of bench.txt."""
    cells = {}
    for line in text.splitlines():
        m = SAID.match(line)
        if not m:
            sys.exit(f'bench: this is no complete handoff: {line}')
        ms = (float(m[3]) if m[3] else int(m[5]) / 1000 if m[5]
              else (float(m[8]) - float(m[7])) * 1000)
        cells.setdefault(m[1], {}).setdefault(m[2], []).append(ms)
    return cells


def idles(text):
    """{phase: {guest: {what: how many}}} of the lines of idle.txt."""
    phases = {}
    for line in text.splitlines():
        phase, guest, seconds, wakeups, reads, writes, cpu = line.split()
        phases.setdefault(phase, {})[guest] = {
            'seconds': int(seconds), 'wakeups': int(wakeups),
            'reads': int(reads), 'writes': int(writes), 'cpu_ns': int(cpu)}
    return phases


READS = re.compile(r'(\S+) INT13: (\d+) reads of (\d+) sectors: (\d+) million '
                   r'cycles, 0 failed|(\S+) first line from ([\d.]+) to ([\d.]+) s')


def booting(text, mhz):
    """Of the lines of speed.txt, {kind of disk: {sectors: [MiB/s...]}} and
    {kind of disk: [seconds to Linux's first line...]}."""
    speeds, seconds = {}, {}
    for line in text.splitlines():
        m = READS.fullmatch(line)
        if not m:
            sys.exit(f'bench: this BIOS has not read well: {line}')
        if m[1]:
            # "million" is 1 << 20 there, as "M" is in MiB
            speeds.setdefault(m[1], {}).setdefault(int(m[3]), []).append(
                int(m[2]) * int(m[3]) * 512 * mhz * 1e6
                / (max(int(m[4]), 1) << 40))
        else:
            seconds.setdefault(m[5], []).append(float(m[7]) - float(m[6]))
    return speeds, seconds


def run_lab(name, scenarios, dm_args, settings={}):
    """Their directories, once all of them have ended well."""
    status = lab.run(name, scenarios, dm_args, 2400,
                     lambda text: print(f'{name}: {text}', flush=True),
                     settings=settings)
    if status != lab.OK:
        sys.exit(f'bench: the lab has failed, see build/xen/{name}')
    return [XEN / name / scenario for scenario in scenarios]


def on_xen(args):
    """In dom0 of a Xen in QEMU's TCG."""
    # firmware may ask for 16 teardowns; dom0's one CPU may need long for many
    bench, idle, healed, held = run_lab(
        'bench', ['bench', 'idle', 'linux', 'held'],
        lab.WITH_DEVICE.replace('=30000', '=60000'),
        {'ROUNDS': min(args.runs, 16),
         'SIZES': ' '.join(str(n) for n in SIZES if n <= args.disks)})
    [unhealed] = run_lab('bench-without', ['linux'], '')

    cells = closings((bench / 'bench.txt').read_text())
    ratio = {name: spread([d / f for d, f in zip(c['device'], c['baseline'])])
             for name, c in cells.items()}
    table('On Xen, in dom0: closing what the firmware has connected, in ms',
          ['', 'by', 'runs', 'median', 'min', 'max', 'x baseline'],
          [[name, METHODS[method], str(len(ms)), *map(
              '{:.0f}'.format, (statistics.median(ms), min(ms), max(ms))),
            f'{ratio[name]["median"]:.2f}' if method == 'device' else '']
           for name, c in cells.items() for method, ms in c.items()])
    phases = idles((idle / 'idle.txt').read_text())
    table('QEMU while its guest stands still',
          ['', 'seconds', 'wake-ups', 'without the device',
           'reads and writes', 'without', 'ms of processor time', 'without'],
          [[phase, str(both['device']['seconds']),
            str(both['device']['wakeups']), str(both['other']['wakeups']),
            str(both['device']['reads'] + both['device']['writes']),
            str(both['other']['reads'] + both['other']['writes']),
            both['device']['cpu_ns'] / 1e6, both['other']['cpu_ns'] / 1e6]
           for phase, both in phases.items()])
    linux = {}
    for column, directory in ('with', healed), ('without', unhealed):
        facts = evidence.evidence(directory)
        resets = facts['linux']['resets']
        linux[column] = {
            'rings_at_first_line':
                len(facts['snapshots']['first-line']['firmware_mapped']),
            'resets': len(resets)}
        for key in 'reset_seconds', 'exposed_seconds':
            seconds = facts['linux'][key] if resets else 0
            if seconds is None:
                sys.exit('bench: Linux has not ended its resets, see '
                         f'{directory.relative_to(TOP)}')
            linux[column][key] = seconds
    table('Linux, whose firmware has connected two disks and a NIC',
          ['', 'with the device', 'without'],
          [[text, linux['with'][key], linux['without'][key]] for key, text in (
              ('rings_at_first_line', "firmware's rings mapped at its first "
               'line'),
              ('resets', 'frontends that it resets itself'),
              ('reset_seconds', 'seconds that this takes'),
              ('exposed_seconds', 'seconds from its first line until the last '
               'ring is unmapped'))])

    goals = [goal(f'{name}: the device, the baseline', r['median'], 1)
             for name, r in ratio.items()]
    goals.append(goal("QMP's longest wait while a backend hangs",
                      evidence.evidence(held)['held']['slowest_ms'], 50, 'ms'))
    goals += [goal(f'wake-ups per second that come with the device, {phase}',
                   (both['device']['wakeups'] - both['other']['wakeups'])
                   / both['device']['seconds'], 0.1, '1/s')
              for phase, both in phases.items()]
    goals += [goal(f'messages per second that come with it, {phase}',
                   (both['device']['reads'] + both['device']['writes']
                    - both['other']['reads'] - both['other']['writes'])
                   / both['device']['seconds'], 0.1, '1/s')
              for phase, both in phases.items()]
    goals.append(goal("firmware's rings mapped at Linux's first line",
                      linux['with']['rings_at_first_line'], 0, ''))
    return {'ms': cells, 'x_baseline': ratio, 'idle': phases,
            'linux': linux, 'goals': goals}


def of_the_bios(args):
    """A BIOS with PV disks, and one with emulated disks."""
    [directory] = run_lab('bench-bios', ['bios-speed'], lab.WITH_DEVICE,
                          {'ROUNDS': min(args.runs, 3)})
    mhz = float(re.search(r'Detected ([\d.]+) MHz processor',
                          (directory.parent / 'serial.log').read_text(
                              errors='replace'))[1])
    speeds, seconds = booting((directory / 'speed.txt').read_text(), mhz)
    sizes = list(next(iter(speeds.values())))
    median = {name: {n: statistics.median(of[n]) for n in sizes}
              for name, of in speeds.items()}
    table('INT 13h: MiB/s in reads of so many sectors, and the seconds from '
          "a guest's start to Linux's first line",
          ['disk', 'runs', *map(str, sizes), 'first line', 'min', 'max'],
          [[name, str(len(seconds[name])),
            *(f'{median[name][n]:.2g}' for n in sizes),
            *(f'{of(seconds[name]):.2f}'
              for of in (statistics.median, min, max))] for name in median])
    goals = []
    pv = [name for name in median if name in PV]
    for n in sizes:
        worst = min(median[name][n] for name in pv)
        goals.append(goal(f'reads of {n} sectors: the fastest emulated disk, '
                          'the slower PV disk',
                          max(of[n] for name, of in median.items()
                              if name not in pv) / worst, 1))
        if n >= 64:
            goals.append(goal(f'reads of {n} sectors: IDE with DMA, the slower '
                              'PV disk', median['ide-dma'][n] / worst, 1 / 5))
    return {'MiB/s': speeds, 'first_line_seconds': seconds, 'goals': goals}


# --- many guests at once -------------------------------------------------------

HERDS = [1, 10, 100, 500]   # the last: not with oxenstored, see the page


def of_a_herd(args):
    """A host's guests all announce their OS at once, on a real xenstored."""
    done = subprocess.run([TOP / 'tests' / 'xenstored' / 'herd.py',
                           *(str(n) for n in HERDS if n <= args.guests)],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f'bench: herd.py ended with status {done.returncode}')
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    table('Guests that announce their OS at once, with two disks and a NIC each: '
          "xenstored's processor time, and when all are through",
          ['', 'guests', 'ms per handoff', 'us per write of anybody',
           'without the device', 'seconds until all are through'],
          [[row['xenstored'], str(row['guests']), row['handoff_ms'],
            row['write_us_with'], row['write_us_without'],
            row['all_seconds']] for row in rows])
    return {'herds': rows, 'goals': []}


# --- plots -------------------------------------------------------------------

def plot(name, caption, ylabel, lines, xlabel='devices'):
    """@lines: {label: [(x, value)...]}, into name.svg by gnuplot."""
    data = ''.join(f'$d{i} << EOD\n'
                   + ''.join(f'{x} {y}\n' for x, y in points) + 'EOD\n'
                   for i, points in enumerate(lines.values()))
    xtics = {x for points in lines.values() for x, _ in points}
    curves = ', '.join(f"$d{i} with linespoints linewidth 2 pointtype 7 pointsize 0.6 title \"{label}\""
                       for i, label in enumerate(lines))
    script = f"""
set terminal svg noenhanced size 800,500 background 'white'
set output '{OUT / name}.svg'
set title "{caption}" font ',11'
set logscale xy
set xtics ({', '.join(str(x) for x in sorted(xtics))})
set xlabel '{xlabel}'
set ylabel '{ylabel}'
set key outside below
set grid
{data}
plot {curves}
"""
    subprocess.run(['gnuplot'], input=script, text=True, check=True)


def plots(report):
    machine = report['machine']
    where = (f'{machine["cpu"]}, Linux {machine["kernel"]}, QEMU '
             f'{re.search("version ([0-9.]+)", machine["qemu"])[1]}')
    xen, qtest, herd = (report['parts'].get(part)
                        for part in ('xen', 'qtest', 'herd'))
    if xen:
        lines = {label: [(int(name[len('disks-'):]),
                          statistics.median(c[method]))
                         for name, c in xen['ms'].items()
                         if name.startswith('disks-') and method in c]
                 for method, label in METHODS.items()}
        linux = xen['linux']['without']
        lines['Linux itself (disks and a NIC)'] = [
            (linux['resets'], linux['reset_seconds'] * 1000)]
        plot('stall', 'How long it takes to close what the firmware has '
             f'connected\\n{where}; {lab.HOST} in TCG', 'ms', lines)
        both = xen['idle']['connected']
        looks, ns = (both['device'][key] - both['other'][key]
                     for key in ('wakeups', 'cpu_ns'))
        seconds = both['device']['seconds']
        measured = seconds * 1000 / looks
        lines = {label: [(late, share * measured / late)
                         for late in (1, 2, 5, round(measured, 1), 20, 50, 100)]
                 for label, share in (
                     ('wake-ups per second', looks / seconds),
                     ("per mille of a processor of the lab's dom0",
                      ns / seconds / 1e6))}
        plot('polling', 'What it costs, while the firmware is connected, to see an '
             f'OS\\nthat writes to no port: measured at {measured:.1f} ms, and '
             f'in proportion\\n{where}; {lab.HOST} in TCG', '', lines,
             'ms from one look at the callback parameter to the next')
    if qtest:
        lines = {}
        for cell in qtest['handoffs']:
            for key, when in (('ops_per_device', 'during'),
                              ('tail_ops_per_device', 'after')):
                if cell[key]:
                    lines.setdefault(f'{cell["backend"]}, {when}', []).append(
                        (cell['devices'], cell[key] * cell['devices']))
        plot('operations', f'xenstore operations of a handoff\\n{where}; '
             'without Xen', 'operations', lines)
    if herd:
        lines = {}
        for row in herd['herds']:
            for key, label in (('handoff_ms', 'a handoff'),
                               ('write_us_with', 'a thousand writes of anybody'),
                               ('write_us_without', 'without the device')):
                lines.setdefault(f'{row["xenstored"]}: {label}', []).append(
                    (row['guests'], row[key]))
        plot('herd', "Guests that announce their OS at once: xenstored's "
             f'processor time\\n{where}; without Xen', 'ms', lines, 'guests')


def write_page(report):
    """Tables and plots of all parts, in the page that says what they mean."""
    where = report['machine']
    pictures = sorted(OUT.glob('*.svg'))
    for picture in pictures:
        shutil.copy(picture, PAGE.parent / f'performance-{picture.name}')
    head, rest = PAGE.read_text().split(BEGIN)
    tail = rest.split(END)[1]
    day = time.strftime('%Y-%m-%d')
    PAGE.write_text('\n'.join([
        head + BEGIN,
        f'{day}, {where["cpu"]}, Linux {where["kernel"]}, {where["qemu"]}, '
        f'{lab.HOST} in its TCG; load {where["load"]:.1f} at the start.\n',
        *tables,
        *(f'![{p.stem}](performance-{p.name})\n' for p in pictures),
        END + tail]))


# --- all parts ---------------------------------------------------------------

PARTS = {'qtest': without_xen, 'xen': on_xen, 'bios': of_the_bios,
         'herd': of_a_herd}


def machine():
    """Where it was measured."""
    cpu = [line.split(':')[1].strip()
           for line in Path('/proc/cpuinfo').read_text().splitlines()
           if line.startswith('model name')]
    qemu = subprocess.run([BUILD / 'qemu-system-x86_64', '--version'],
                          check=True, capture_output=True, text=True).stdout
    return {'cpu': f'{len(cpu)} x {cpu[0]}' if cpu else platform.machine(),
            'kernel': '.'.join(platform.release().split('.')[:2]),
            'qemu': qemu.splitlines()[0],
            'load': os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description='Measure the handoff.')
    parser.add_argument('--runs', type=int, default=10, metavar='N',
                        help='of each measurement')
    parser.add_argument('--devices', type=int, default=1024, metavar='N',
                        help='without Xen: handoffs of 1, 4, 16, ... up to N')
    parser.add_argument('--disks', type=int, default=64, metavar='N',
                        help='the same on Xen')
    parser.add_argument('--guests', type=int, default=100, metavar='N',
                        help='that announce their OS at once: 1, 10, 100, '
                        '500 up to N')
    parser.add_argument('part', nargs='*', help=f'among {" ".join(PARTS)}')
    args = parser.parse_args()
    unknown = [name for name in args.part if name not in PARTS]
    if unknown:
        sys.exit(f'bench: no part {unknown[0]}; there are: {" ".join(PARTS)}')
    lab.need_built()
    if not shutil.which('gnuplot'):
        sys.exit('bench: gnuplot is missing: apt install gnuplot-nox')
    start = time.monotonic()
    where = machine()
    print(f'{where["cpu"]}, Linux {where["kernel"]}, {where["qemu"]}, '
          f'load {where["load"]:.1f} at the start')
    report = {'machine': where, 'parts': {}}
    OUT.mkdir(parents=True, exist_ok=True)
    for name in args.part or PARTS:
        report['parts'][name] = PARTS[name](args)
        # each time: a part that fails must not take those before it with it
        (OUT / 'report.json').write_text(json.dumps(report, indent=1) + '\n')
    plots(report)
    table('Goals', ['', 'measured', 'at most', 'unit', ''],
          [[g['goal'], g['got'], g['limit'], g['unit'],
            'met' if g['met'] else 'MISSED']
           for part in report['parts'].values() for g in part['goals']])
    if not args.part:
        write_page(report)
    print(f'\nmeasured in {time.monotonic() - start:.0f} s, all figures are in '
          f'{OUT.relative_to(TOP)}/report.json')


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""Run all tests: make test.

Unit tests, qtests and some rounds of fuzz first, then a guest that floods a
real xenstored and a QEMU that is broken into, then guests on QEMU's own Xen
and on a real one: most on the first --host, a single handoff on each other.
One line per check, the last line is "N passed, N failed".  With names of
scenarios as arguments only those guests: scripts/test.py naive mixed.  With
--quick no Xen; with --variant no Xen either, on another build of QEMU.  With
--matrix all guests on a real Xen and nothing else: make test-xen; with --soak
only so many of one, on each xenstored: make test-soak; with --package those of the Debian
package, installed in dom0: make test-deb; with --kvm those of QEMU's own Xen:
make test-kvm.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
import contextlib
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOP = Path(__file__).resolve().parent.parent
BUILDS = {'plain': 'build', 'asan': 'build-asan', 'coverage': 'build-coverage'}
UNIT = ('test-xs-node', 'test-xen-operations', 'test-xen-guest-ring',
        'test-xen-handoff-ledger', 'test-xen-handoff-model')
QTESTS = ('xen-disk-test', 'xen-handoff-test')
REPORTS = TOP / 'build' / 'asan'    # what the sanitizers have to say
FUZZ = 'tests/qtest/xen-handoff-fuzz'
# the same on every machine; to find something new there is make fuzz
ROUNDS = 25
CORPUS = TOP / 'tests' / 'corpus'   # of make fuzz-deep: a directory each
HANGS = 1200        # seconds; an act that hangs, the fuzzer itself ends sooner
sys.path.insert(0, str(TOP / 'tests' / 'xen'))

import evidence     # noqa: E402
import kvm          # noqa: E402
import lab          # noqa: E402
import matrix       # noqa: E402

passed, failures = 0, []
green = {}      # {(host, scenario): whether all of its checks passed}


def result(ok, text, detail=''):
    global passed
    line = f'{"ok" if ok else "NOT OK"}: {text}{detail}'
    if ok:
        passed += 1
    else:
        failures.append(line)
    print(line, flush=True)


def environment(variant):
    env = {**os.environ, 'QTEST_QEMU_BINARY': './qemu-system-x86_64'}
    if variant == 'asan':
        # QEMU's stderr goes to files of the tests, which they delete
        log = f'log_path={REPORTS}/report'
        # glib has no frame pointers: a leak's stack would end in g_malloc
        env['ASAN_OPTIONS'] = (f'{log}:detect_leaks=1:fast_unwind_on_malloc=0'
                               ':malloc_context_size=8')
        env['UBSAN_OPTIONS'] = f'{log}:print_stacktrace=1'
        env['LSAN_OPTIONS'] = (f'suppressions={TOP}/scripts/lsan.supp'
                               ':print_suppressions=0')
    return env


def program(build, env, name, *args):
    """A test that prints TAP; one that prints none has failed."""
    try:
        done = subprocess.run([name, *args], cwd=build, env=env, text=True,
                              errors='replace', stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=HANGS)
    except subprocess.TimeoutExpired as e:
        result(False, f'{name} hangs', '\n' +
               (e.stdout or b'')[-2000:].decode(errors='replace'))
        return
    lines = re.findall(r'^(ok|not ok) \d+ (.*)$', done.stdout, re.M)
    for verdict, test in lines:
        result(verdict == 'ok', test)
    if not lines or done.returncode:
        result(False, f'{name} ended with status {done.returncode}',
               '\n' + done.stdout[-2000:])


@contextlib.contextmanager
def fuzz(build, env, *args):
    """Fuzz on one core while the caller uses the other."""
    with tempfile.TemporaryFile('w+', errors='replace') as out, \
            subprocess.Popen([FUZZ, *args], cwd=build, env=env, stdout=out,
                             stderr=out) as process:
        try:
            yield
            status = process.wait(timeout=HANGS)
        except subprocess.TimeoutExpired:
            status = 'none: it hangs'
        finally:
            process.kill()
        out.seek(0)
        text = out.read()
    last = (text.splitlines() or [''])[-1]
    if status == 0 and re.match(r'fuzz: .* no failure$', last):
        result(True, last)
    else:
        result(False, f'{FUZZ} ended with status {status}',
               '\n' + text[-4000:])


def sanitizers():
    """QEMU tells ASan about its coroutines' stacks; ASan warns all the same."""
    harmless = "==WARNING: ASan doesn't fully support makecontext"
    found = []
    for report in sorted(REPORTS.glob('report.*')):
        text = ''.join(line for line in report.open(errors='replace')
                       if harmless not in line)
        if text.strip():
            found.append((report, text))
        else:
            report.unlink()
    result(not found, 'no report of ASan, UBSan or LSan',
           ''.join(f'\n    see {report}' for report, _ in found[:10])
           + '\n' + found[0][1][:4000] if found else '')


def quick(variant, rounds):
    """Everything without Xen."""
    build = TOP / 'build' / 'qemu' / BUILDS[variant]
    env = environment(variant)
    if variant == 'asan':
        shutil.rmtree(REPORTS, ignore_errors=True)
        REPORTS.mkdir(parents=True)
    with fuzz(build, env, '--seed', '1', '--rounds', str(rounds)):
        for test in UNIT:
            program(build, env, f'tests/unit/{test}')
        for test in QTESTS:
            program(build, env, f'tests/qtest/{test}')
        with fuzz(build, env, '--replay', CORPUS):
            pass
        # SeaBIOS's; it never frees what a backend may have
        leaky = {**os.environ, 'ASAN_OPTIONS': 'detect_leaks=0'}
        for args in ([], ['--fuzz', '--seed', '1', '--rounds', str(8 * rounds)],
                     ['--replay', *sorted((CORPUS / 'xen-blk').iterdir())]):
            program(build, leaky, TOP / 'build' / 'run-32',
                    TOP / 'build' / 'xen-blk-test', *args)
        unittests('evidence_test')
        unittests('log_test')
    if variant == 'asan':
        sanitizers()


def unittests(module):
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    outcome = unittest.TestResult()
    suite.run(outcome)
    bad = dict(outcome.failures + outcome.errors)
    result(outcome.testsRun > 0, f'{module}: has tests')
    for _ in range(outcome.testsRun - len(bad)):
        result(True, f'{module}: a test')
    for test, trace in bad.items():
        result(False, str(test), '\n' + trace)


def scenarios(host, name, expected):
    for scenario, check in expected.items():
        directory = host.build / 'xen' / name / scenario.partition('@')[0]
        failed = len(failures)
        where = f'{host.suite}/{name}/{scenario}'
        try:
            facts = evidence.evidence(directory)
            result(facts['status'] == 0, f'{where}: the scenario ran',
                   '' if facts['status'] == 0 else
                   f': status {facts["status"]}, see {directory}')
            for text, got, want in check(facts):
                result(got == want, f'{where}: {text}',
                       '' if got == want else
                       f'\n    got    {got}\n    wanted {want}\n'
                       f'    see    {directory}')
        except (LookupError, TypeError, ValueError, AttributeError) as e:
            result(False, f'{where}: the evidence is not complete',
                   f': {e!r}, see {directory}')
        green[host, scenario] = len(failures) == failed


def labs(todo):
    """Run guests, @todo is {host: [scenario...]}; those of WITHOUT run without
    the device, too, on the first host."""
    runs = {}
    for host, only in todo.items():
        runs.update({(host, name): {} for name in
                     ('with', 'oxenstored', 'without')})
        for s in only:
            name, _, xenstored = s.partition('@')
            runs[host, xenstored or 'with'][name] = matrix.WITH[s]
            if s in matrix.WITHOUT and host == next(iter(todo)):
                runs[host, 'without'][s] = matrix.WITHOUT[s]
    runs = {of: expected for of, expected in runs.items() if expected}
    lab.run_side_by_side({of: list(expected) for of, expected in runs.items()})
    for of, expected in runs.items():
        scenarios(*of, expected)


def whole_matrix(hosts):
    """All guests, then one line per cell, with a column for each host."""
    where = lab.run_matrix(hosts, list(matrix.WITH))
    for host in hosts:
        for scenario, check in matrix.WITH.items():
            scenarios(host, where.get((host, scenario), 'none'),
                      {scenario: check})

    def row(columns, text):
        print('   ', *(f'{column:8}' for column in columns), text)

    print()
    for host in hosts:
        print(f'{host.suite} is {host}')
    for group in matrix.GROUPS:
        print(f'\n{group}')
        row([host.suite for host in hosts], '')
        for of, text, scenario in matrix.CELLS:
            if of == group:
                row(['green' if green[host, scenario] else 'RED'
                     for host in hosts], f'{text}  [{scenario}]')
        for of, text, why in matrix.ABSENT:
            if of == group:
                row(['absent'] * len(hosts), f'{text}: {why}')
    print()


def soak(rounds):
    """Guests without end, and what Xen and dom0 had then."""
    lab.run_soak(rounds)
    for xenstored in lab.XENSTOREDS:
        name = f'soak-{xenstored}'
        scenarios(lab.HOST, name, {'soak': matrix.WITH['soak']})
        tally = evidence.parse_soak(evidence.read(
            TOP / 'build' / 'xen' / name / 'soak' / 'soak.txt'))
        for of, counts in ('first', tally[:1]), ('last', tally[-1:]):
            print(f'{name}, {of}:', *(f'{what} {n}' for c in counts
                                      for what, n in c.items()))


def package():
    """The Debian package, installed, used for guests and removed in dom0."""
    debs = TOP / 'build' / 'deb'
    lab.run_package(list(matrix.PACKAGE), debs)
    scenarios(lab.HOST, 'package', matrix.PACKAGE)
    ours, = debs.glob('qemu-system-xen-fw-handoff_*.deb')
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(['dpkg-deb', '-x', ours, work], check=True)
        log = Path(work) / 'qemu-dm-readme.log'
        with contextlib.suppress(FileNotFoundError):    # the lab has failed
            shutil.copy(TOP / 'build/xen/package/readme/qemu-dm.log', log)
        done = subprocess.run([f'{work}/usr/bin/xen-fw-handoff-log', '--json',
                               log], text=True, capture_output=True)
    seen = [[life[key] for key in ('guest', 'state', 'handed off', 'timed out',
                                   'failed', 'skipped')]
            for life in json.loads(done.stdout or '[]')]
    wanted = [['readme', 'done', 1, 0, 0, 0]]
    result(seen == wanted, "the package's xen-fw-handoff-log shows the guest",
           '' if seen == wanted else f': {seen}\n{done.stderr}')


def main():
    parser = argparse.ArgumentParser(description='Run all tests.')
    parser.add_argument('--quick', action='store_true', help='without Xen')
    parser.add_argument('--variant', choices=BUILDS, default='plain',
                        help='which build of QEMU; implies --quick')
    parser.add_argument('--matrix', action='store_true',
                        help='all guests on a real Xen')
    parser.add_argument('--soak', type=int, metavar='ROUNDS',
                        help='guests one after the other in one dom0')
    parser.add_argument('--package', action='store_true',
                        help='the Debian package, installed in dom0')
    parser.add_argument('--kvm', action='store_true',
                        help="the guests on QEMU's own Xen, which needs KVM")
    parser.add_argument('--rounds', type=int, default=ROUNDS, metavar='N',
                        help='so many of fuzz')
    parser.add_argument('--host', action='append', metavar='SUITE',
                        help='release of Debian whose Xen guests run on; the '
                        'first has most of them')
    parser.add_argument('scenario', nargs='*',
                        help=f'among {" ".join(matrix.WITH)}')
    args = parser.parse_args()
    # not without the labs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = kvm.STORIES if args.kvm else matrix.WITH
    unknown = [name for name in args.scenario if name not in known]
    if unknown:
        sys.exit(f'test: no scenario {unknown[0]}; there are: '
                 f'{" ".join(known)}')
    if args.soak is not None and args.soak < 3:
        sys.exit('test: a soak has 3 rounds or more')
    hosts = [lab.Host(suite) for suite in args.host or [lab.SUITE]]
    if args.variant == 'plain':
        lab.need_built()
    start = time.monotonic()
    if args.matrix:
        whole_matrix(hosts)
    elif args.soak:
        soak(args.soak)
    elif args.package:
        package()
    elif args.kvm:
        kvm.run(args.scenario or kvm.STORIES, result)
    else:
        if not args.scenario:
            quick(args.variant, args.rounds)
        if not args.quick and args.variant == 'plain':
            if not args.scenario:
                for name in 'flood', 'filter':
                    program(TOP, dict(os.environ),
                            f'tests/xenstored/{name}.py')
                kvm.run(kvm.SHORT, result)
            short = {host: matrix.SHORT[:1] for host in hosts}
            short[hosts[0]] = matrix.SHORT
            labs({host: args.scenario or short[host] for host in hosts})
    print(f'tests took {time.monotonic() - start:.0f} s')
    if failures:
        print('What failed, once more:', *failures, sep='\n')
    print(f'{passed} passed, {len(failures)} failed')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())

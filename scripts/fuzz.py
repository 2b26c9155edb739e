#!/usr/bin/env python3
"""Fuzz the device in QEMU's own process and SeaBIOS's driver, guided by coverage:
make fuzz-deep.

One libFuzzer for each directory of tests/corpus, whose inputs it begins with.
What it finds beside them stays in build/fuzz, for the next time.  With
--keep what is needed of all that becomes the new corpus.  Ends with how many
executions there were, and which lines no input has reached.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
from collections import defaultdict
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from coverage import FILES, TOP, tell

BUILD = TOP / 'build' / 'qemu' / 'build-fuzz'
QEMU = BUILD / 'qemu-fuzz-x86_64'
BIOS = TOP / 'build' / 'xen-blk-fuzz'
RUN_32 = TOP / 'build' / 'run-32'
BIOS_CORPUS = 'xen-blk'
BIOS_FILES = [f'roms/seabios/src/hw/{name}.c' for name in ('xen-blk', 'xenbus')]
CORPUS = TOP / 'tests' / 'corpus'
OUT = TOP / 'build' / 'fuzz'
# Most inputs are a handful of acts.  A leak is for make test-asan to find: QEMU
# keeps much of what an input has made it allocate, and at its end frees nothing
LIMITS = ['-max_len=128', '-timeout=60', '-rss_limit_mb=4096', '-detect_leaks=0',
          '-print_final_stats=1']
ENVIRONMENT = {
    **os.environ,
    'ASAN_OPTIONS': 'malloc_context_size=4:quarantine_size_mb=16',
    'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1',
}


class Run:
    """One libFuzzer, with its target's name."""

    def __init__(self, name, executions):
        self.name, self.dir = name, OUT / name
        self.program = BIOS if name == BIOS_CORPUS else QEMU
        self.command = ([RUN_32, BIOS] if self.program == BIOS
                        else [QEMU, f'--fuzz-target={name}'])
        # only the device's targets tell what they do
        self.tell = '' if self.program == BIOS else 'V=1 '
        self.log, self.profile = self.dir / 'log', self.dir / 'profile'
        (self.dir / 'found').mkdir(parents=True, exist_ok=True)
        with self.log.open('w') as log:
            self.process = self.start(
                log, f'-runs={executions}', *LIMITS,
                f'-artifact_prefix={self.dir}/', self.dir / 'found',
                CORPUS / name)

    def start(self, log, *args):
        return subprocess.Popen(
            [*self.command, *args], cwd=self.dir,
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env={**ENVIRONMENT, 'LLVM_PROFILE_FILE': str(self.profile)})

    def stat(self, what):
        return int(re.search(rf'^stat::{what}: +(\d+)', self.text, re.M)[1])

    def wait(self):
        status = self.process.wait()
        self.text = self.log.read_text(errors='replace')
        if status:
            print(self.text[-6000:])
            sys.exit(f'fuzz: {self.name} found something, see {self.log}; the '
                     f'input is named above, to run it again:\n'
                     f'{self.tell}{" ".join(map(str, self.command))} INPUT')
        print(f'{self.name}: {self.stat("number_of_executed_units")} '
              f'executions, {self.stat("average_exec_per_sec")} per second',
              flush=True)

    def keep(self):
        """The smallest inputs that run all that any of them does."""
        new, old = self.dir / 'new', CORPUS / self.name
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        with (self.dir / 'merge.log').open('w') as log:
            if self.start(log, '-merge=1', '-use_counters=0', *LIMITS, new,
                          old, self.dir / 'found').wait():
                sys.exit(f'fuzz: the merge failed, see {log.name}')
        shutil.rmtree(old)
        shutil.copytree(new, old)
        shutil.rmtree(self.dir / 'found')
        print(f'{self.name}: {len(list(old.iterdir()))} inputs are kept')


def coverage(program, runs):
    """{file's name: {line: how often}}"""
    profile = OUT / 'profile'
    subprocess.run(['llvm-profdata', 'merge', '-o', profile,
                    *(run.profile for run in runs)], check=True)
    lcov = subprocess.run(
        ['llvm-cov', 'export', '-format=lcov', f'-instr-profile={profile}',
         program], check=True, text=True, capture_output=True).stdout
    lines = defaultdict(dict)
    for line in lcov.splitlines():
        kind, _, rest = line.partition(':')
        if kind == 'SF':
            seen = lines[Path(rest).name]
        elif kind == 'DA':
            number, count = map(int, rest.split(',')[:2])
            seen[number] = count
    return lines


def report(runs):
    for program, files in (QEMU, FILES), (BIOS, BIOS_FILES):
        of_program = [run for run in runs if run.program == program]
        if not of_program:
            continue
        lines = coverage(program, of_program)
        for name in files:
            tell(name, lines[Path(name).name])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('executions', type=int, help='of each target')
    parser.add_argument('--keep', action='store_true',
                        help='what is found, in tests/corpus')
    names = sorted(path.name for path in CORPUS.iterdir())
    parser.add_argument('target', nargs='*', default=names,
                        help=f'among {" ".join(names)}; else all of them')
    args = parser.parse_args()
    unknown = set(args.target) - set(names)
    if unknown:
        parser.error(f'no target {unknown.pop()}; there are: '
                     f'{" ".join(names)}')
    runs = [Run(name, args.executions) for name in args.target]
    try:
        for run in runs:
            run.wait()
    finally:
        for run in runs:
            run.process.kill()
    report(runs)
    if args.keep:
        for run in runs:
            run.keep()
    total = sum(run.stat('number_of_executed_units') for run in runs)
    print(f'fuzz: {total} executions, no failure')


if __name__ == '__main__':
    main()

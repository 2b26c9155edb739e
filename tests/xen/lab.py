#!/usr/bin/env python3
"""Boot Xen and a dom0 inside QEMU and run scenarios in it, one after the other.

A scenario (scenarios/NAME.sh or a row of orders.py) makes an HVM guest whose
device model is our QEMU.  What it saw comes back to build/xen/RUN/NAME/;
serial.log (the outer machine's console) and live.log (the guests' consoles and
device models') are written while it runs.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
import contextlib
import fcntl
import os
from pathlib import Path
import platform
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import orders

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CACHE = Path(os.environ.get('XDG_CACHE_HOME')
             or Path.home() / '.cache') / 'xen-fw-handoff'
LAB = CACHE / 'lab'
OUT_SIZE = 256 << 20

OK, SCENARIO_FAILED, LAB_FAILED = 0, 1, 2

# Set when the user has ended it all, which only the main thread hears of
over = threading.Event()

# xsave=0: with XSAVE, dom0's processes crash at random under TCG's SVM
XEN_ARGS = ('console=com1 com1=115200 dom0_mem=1024M loglvl=all '
            'guest_loglvl=all conring_size=1m xsave=0')
DOM0_ARGS = ('console=hvc0 earlyprintk=xen mitigations=off nokaslr '
             'ipv6.disable=1')      # nobody but the scenarios sends packets


def scripts():
    """What dom0 runs, {scenario: text}; NAME.VARIANT share one."""
    return {**{row.name: row.script() for row in orders.ORDERS},
            **{path.stem: path.read_text()
               for path in sorted((HERE / 'scenarios').glob('*.sh'))}}


def script_of(name):
    return name.partition('.')[0]


def others(names):
    """What guests of scenarios NAMES have of other releases, in LAB."""
    return {'ovmf' if name.startswith('ovmf') else
            f'kernels/{name.partition(".")[2]}' for name in names
            if re.match(r'ovmf|linux\.', name)}


def default_timeout(names):
    return (300 + 240 * len(names)) * PATIENCE


# time runs slower here than on real hardware, and never the same
WITH_DEVICE = ('-device xen-fw-handoff,id=fw-handoff,timeout-ms=30000 '
               '-global xen-platform.guest-log=on')

# C's, and OCaml's, which Debian's dom0 has by default
XENSTOREDS = 'xenstored', 'oxenstored'

# No scenario is silent for longer, but for a wait of which it has said how long it
# is at most; the rest is for a busy machine
SILENCE = 330

# How many times longer everybody waits, on a machine that is busier than that
try:
    PATIENCE = int(os.environ.get('LAB_PATIENCE', 1))
except ValueError:
    sys.exit('LAB_PATIENCE is a whole number: how many times longer to wait')


class Host:
    """A release of Debian that labs are made of: the machine's own, or that of
    a root in the cache, where scripts/in-root.sh has built all it takes."""

    def __init__(self, suite):
        own = suite == SUITE
        self.suite = suite
        self.root = Path('/') if own else CACHE / f'root-{suite}'
        self.enter = [] if own else [TOP / 'scripts' / 'in-root.sh', suite]
        self.build = TOP / 'build' / ('' if own else suite)
        self.image = (CACHE if own else CACHE / suite / CACHE.name) \
            / 'lab' / 'image'
        self.qemu = self.build / 'qemu-system-x86_64'

    def __str__(self):
        return (self.image / 'host').read_text().strip()

    def libraries(self, binaries):
        """Their shared libraries that dom0's base image has not."""
        there = (self.image / 'libraries').read_text().split()
        ldd = subprocess.run([*self.enter, 'ldd', *binaries], check=True,
                             capture_output=True, text=True)
        return {self.root / lib[1:]
                for lib in re.findall(r'=> (/\S+)', ldd.stdout)
                if Path(lib).name not in there}


SUITE = platform.freedesktop_os_release()['VERSION_CODENAME']
HOST = Host(SUITE)


def add_tools(root, *names):
    """Programs of this machine for dom0.  Returns their paths."""
    (root / 'usr' / 'bin').mkdir(parents=True, exist_ok=True)
    tools = [shutil.which(name) for name in names]
    for tool in tools:
        shutil.copy(tool, root / 'usr' / 'bin')
    return tools


def add_packages(root, debs):
    """Debian packages for dom0 to install, and dpkg to do it.  Returns what
    needs libraries."""
    shutil.copytree(debs, root / 'lab' / 'debs')
    for directory in 'info', 'updates':
        (root / 'var' / 'lib' / 'dpkg' / directory).mkdir(parents=True)
    (root / 'var' / 'lib' / 'dpkg' / 'status').touch()
    return [*add_tools(root, 'dpkg', 'dpkg-deb', 'dpkg-divert', 'dpkg-query',
                       'dpkg-split', 'tar'),
            TOP / 'build' / 'qemu' / 'build-deb' / 'qemu-system-i386']


def make_overlay(host, work, names, dm_args, settings, debs, gdb):
    """What belongs to this run, unpacked over dom0's base image."""
    root = work / 'overlay'
    lab = root / 'lab'
    libs = root / 'lib' / 'x86_64-linux-gnu'
    (lab / 'scenarios').mkdir(parents=True)
    libs.mkdir(parents=True)
    shutil.copy(HERE / 'dom0' / 'init', root / 'init')
    os.chmod(root / 'init', 0o755)
    shutil.copy(HERE / 'dom0' / 'lib.sh', lab)
    shutil.copy(TOP / 'packaging' / 'device-model', lab)
    for bios in (TOP / 'build').glob('bios-*.bin'):
        # who needs one says that it is missing
        shutil.copy(bios, lab)
    texts = scripts()
    for name in map(script_of, names):
        if (host.image / 'only' / name).exists():
            # large, and for nobody else
            shutil.copytree(host.image / 'only' / name, root,
                            dirs_exist_ok=True)
        (lab / 'scenarios' / f'{name}.sh').write_text(texts[name])
    for other in others(names):
        shutil.copytree(LAB / other, lab / other)
    settings = {'PATIENCE': PATIENCE, 'XENSTORED': XENSTOREDS[0], **settings}
    if debs:
        binaries = add_packages(root, debs)
    else:
        qemu = host.qemu.resolve()
        subprocess.run(['strip', '-o', lab / 'qemu-dm', qemu], check=True)
        binaries = [qemu]
    if gdb:
        settings = {**settings, 'GDB': 1, 'PATIENCE': 1000}
        binaries += add_tools(root, 'gdbserver')
    # libxl's config wants a list of strings
    listed = ''.join(f', "{arg}"' for arg in shlex.split(dm_args))
    (lab / 'run').write_text(f'TODO={shlex.quote(" ".join(names))}\n'
                             f'DM_ARGS={shlex.quote(listed)}\n'
                             + ''.join(f'{key}={shlex.quote(str(value))}\n'
                                       for key, value in settings.items()))
    for lib in host.libraries(binaries):
        shutil.copy(lib, libs)

    def owned_by_root(info):
        info.uid = info.gid = 0
        return info

    with tarfile.open(work / 'overlay.tar', 'w') as t:
        t.add(root, '.', filter=owned_by_root)
    shutil.rmtree(root)


def command(image, work, out, monitor, gdb):
    """QEMU with the files in WORK, its output in OUT, its MONITOR a chardev."""
    def disk(name, path, options=''):
        return ['-drive', f'file={path},if=none,id={name},format=raw{options}',
                '-device', f'virtio-blk-pci,drive={name}']

    def port(name, kind, options):
        return ['-chardev', f'{kind},id={name},{options}',
                '-device', f'virtserialport,chardev={name},name={name}']

    return [
        f'{work}/qemu-system-x86_64', '-accel', 'tcg,thread=multi',
        '-cpu', 'max,-rdtscp',
        '-M', 'q35', '-m', '3G', '-smp', '1', '-nodefaults',
        '-display', 'none', '-no-reboot', '-L', f'{image}/bios',
        '-serial', f'file:{out}/serial.log', '-monitor', monitor,
        '-device', 'virtio-serial-pci',
        *port('live', 'file', f'path={out}/live.log'),
        *(port('gdb', 'socket', f'path={work}/gdb,server=on,wait=off')
          if gdb else []),
        *disk('base', f'{image}/dom0.tar', ',snapshot=on'),
        *disk('overlay', f'{work}/overlay.tar', ',readonly=on'),
        *disk('out', f'{work}/out.img'),
        '-kernel', f'{image}/xen', '-append', XEN_ARGS,
        '-initrd', f'{image}/vmlinux {DOM0_ARGS},{image}/stage1.cpio',
    ]


class Console:
    """Follows serial.log: what dom0 does, and what it waits for."""

    def __init__(self, path, say):
        self.path = path
        self.say = say
        self.offset = 0
        self.rest = ''
        self.start = time.monotonic()
        self.began = None
        self.heard = self.start
        self.last = 'dom0 to boot'      # what we are waiting for
        self.boot_seconds = None

    def poll(self):
        try:
            with open(self.path, 'rb') as f:
                f.seek(self.offset)
                data = f.read()
        except FileNotFoundError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest
                             + data.decode(errors='replace')).split('\n')
        for line in lines:
            m = re.search(r'LAB\[([\d.]+)\]: (.*?)\s*$', line)
            if m:
                self.line(m[2])

    def line(self, text):
        now = time.monotonic()
        m = re.search(r'\((\d+) s at most\)$', text)
        self.heard = now + (int(m[1]) if m else 0)
        self.last = text
        if text == 'dom0 is up':
            self.boot_seconds = now - self.start
            self.say(f'dom0 is up after {self.boot_seconds:.0f} s')
        elif text.endswith(': begins'):
            self.began = now
            self.say(text)
        elif ': ends with status' in text:
            self.say(f'{text} after {now - self.began:.0f} s')
        elif 'FAIL' in text or 'waits for gdb' in text:
            self.say(text)


def fetch(work, out):
    """Unpack what dom0 wrote to its output disk, if it did."""
    with contextlib.suppress(tarfile.ReadError):
        # ':': zeros look like a very long series of empty .lzma files
        with tarfile.open(work / 'out.img', 'r:') as t:
            # extractall(filter='fully_trusted'), which Debian 12 does not have
            t.extraction_filter = lambda member, path: member
            t.extractall(out)


def keep_state(monitor, hang):
    """Of a lab that hangs: what can be looked at, and what can be run on."""
    hang.mkdir()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(300)
        s.connect(str(monitor))
        # the prompt returns when the migration is done
        s.sendall(b'stop\ninfo registers -a\ninfo lapic\ninfo irq\n'
                  b'migrate "exec:gzip -1 >' + bytes(hang / 'state.gz')
                  + b'"\ninfo migrate\nquit\n')
        with open(hang / 'registers.txt', 'wb') as f:
            while data := s.recv(65536):
                f.write(data)


def keep_files(image, work, hang, gdb):
    """What the machine in HANG runs on with, and the script that has it."""
    for name in 'qemu-system-x86_64', 'overlay.tar', 'out.img':
        shutil.move(work / name, hang)
    line = shlex.join([*command(image, '.', '.', 'stdio', gdb),
                       '-incoming', 'exec:gunzip -c state.gz'])
    run = hang / 'run'
    run.write_text(f'#!/bin/sh\ncd "$(dirname "$0")" || exit\n'
                   f'exec {line} "$@"\n')
    run.chmod(0o755)


def need_built():
    """One sentence for who runs a program and not make."""
    if not HOST.qemu.exists():
        sys.exit(f'{HOST.qemu.relative_to(TOP)} is missing: make build')


def stop(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(name, names, dm_args='', timeout=None, say=print, keep=False,
        settings={}, debs=None, gdb=False, host=HOST):
    """Run scenarios NAMES in one lab, which is made of @host.

    @settings are variables for the scenarios, @say gets progress lines.  With
    a directory of Debian packages, @debs, dom0 installs these, and the device
    model is that of our package.  With @gdb, each guest's device model waits
    for gdb, and nobody is in a hurry.  Returns OK, SCENARIO_FAILED (its
    directory tells) or LAB_FAILED (nothing can be said about all scenarios).
    """
    out = host.build / 'xen' / name
    # whatever happens, nothing in it is of an earlier run
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    unknown = [n for n in names if script_of(n) not in scripts()]
    if unknown:
        say(f'no scenario {unknown[0]}; there are: {" ".join(scripts())}')
        return LAB_FAILED
    if not (host.image / 'dom0.tar').exists():
        say(f'{host.image}/dom0.tar is missing: run tests/xen/setup.sh')
        return LAB_FAILED
    if not all((LAB / other).exists() for other in others(names)):
        say(f'{LAB} has not all of them: run tests/xen/setup.sh others')
        return LAB_FAILED
    if gdb and not shutil.which('gdbserver'):
        say('gdbserver is missing: apt install gdb gdbserver')
        return LAB_FAILED
    timeout = timeout or (86400 if gdb else default_timeout(names))
    image = host.image.resolve()
    with contextlib.ExitStack() as stack:
        # setup.sh removes only images that nobody uses
        in_use = stack.enter_context(open(image / 'in-use'))
        fcntl.flock(in_use, fcntl.LOCK_SH)
        # a socket's path must be short
        work = Path(tempfile.mkdtemp(prefix='xenlab.', dir='/tmp'))
        cleanup = stack.enter_context(contextlib.ExitStack())
        cleanup.callback(shutil.rmtree, work, ignore_errors=True)
        # of our own: the link's target may be rebuilt meanwhile
        shutil.copy(HOST.qemu, work / 'qemu-system-x86_64')
        make_overlay(host, work, names, dm_args, settings, debs, gdb)
        with open(work / 'out.img', 'wb') as f:
            f.truncate(OUT_SIZE)
        monitor, hang = work / 'monitor', out / 'hang'
        args = command(image, work, out,
                       f'unix:{monitor},server=on,wait=off', gdb)
        (out / 'command').write_text(shlex.join(args) + '\n')
        with open(out / 'qemu.log', 'wb') as log:
            process = subprocess.Popen(args, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        cleanup.callback(stop, process)
        say(f'booting Xen and dom0 for {" ".join(names)} '
            f'({timeout:.0f} s at most)')
        if gdb:
            say('when a device model waits: gdb build/qemu-system-x86_64 '
                '-ex "set sysroot /" -ex "set remotetimeout 60" '
                f'-ex "target remote {work}/gdb"')
        console = Console(out / 'serial.log', say)
        end = time.monotonic() + timeout
        while (process.poll() is None and not over.wait(0.2)
               and time.monotonic() < end
               and (gdb or time.monotonic() < console.heard
                    + SILENCE * PATIENCE)):
            console.poll()
        console.poll()
        timed_out = process.poll() is None and not over.is_set()
        if timed_out:
            say(f'TIME-OUT after {time.monotonic() - console.start:.0f} s; '
                f'the last sign of life: {console.last}')
            if not keep:
                keep_state(monitor, hang)
        fetch(work, out)
        if timed_out and keep:
            cleanup.pop_all()
            say(f'QEMU goes on as process {process.pid}, '
                f'its monitor is {monitor}; remove {work} when it has ended')
        elif timed_out:
            keep_files(image, work, hang, gdb)
            say(f'its registers are in {os.path.relpath(hang)}/registers.txt;'
                f' {os.path.relpath(hang)}/run has it again')
    seconds = time.monotonic() - console.start
    statuses = {n: (out / n / 'status').read_text().strip()
                if (out / n / 'status').exists() else None for n in names}
    lost = [n for n in names if statuses[n] is None]
    failed = [n for n in names if statuses[n] not in (None, '0')]
    result = ([f'failed: {" ".join(failed)}'] if failed else []) + (
        [f'not finished: {" ".join(lost)}'] if lost else [])
    say(f'{seconds:.0f} s in all, {", ".join(result) or "all scenarios ran"}; '
        f'logs are in {os.path.relpath(out)}')
    if process.poll() and not timed_out:
        say(f'QEMU ended with status {process.returncode}: '
            f'{(out / "qemu.log").read_text(errors="replace").strip()[-500:]}')
    if lost or timed_out:
        return LAB_FAILED
    return SCENARIO_FAILED if failed else OK


def sayer(host, name):
    """Who prints what a lab says."""
    return lambda text: print(f'{host.suite}/{name}: {text}', flush=True)


def in_threads(count, one, todo):
    """What ONE returns for each of TODO, so many at a time."""
    with ThreadPoolExecutor(count) as pool:
        try:
            return list(pool.map(one, todo))
        except (KeyboardInterrupt, SystemExit):
            over.set()
            raise


def run_side_by_side(runs):
    """Run labs whose guests have the device and that have it not.

    @runs is {(host, 'with'): [scenario...], (host, 'without'): [...],
    (host, 'oxenstored'): [...]}, the last with the device and that in dom0;
    they run side by side where the machine has the cores.  Returns the worst
    of their results.
    """
    def one(of):
        host, name = of
        return run(name, runs[of], '' if name == 'without' else WITH_DEVICE,
                   say=sayer(host, name), host=host,
                   settings={'XENSTORED': name} if name == 'oxenstored' else {})

    return max(in_threads(min(len(runs), os.cpu_count() or 1), one, runs))


def run_soak(rounds):
    """So many guests, one after the other, with each xenstored: in the
    directories soak-XENSTORED/soak."""
    def one(xenstored):
        name = f'soak-{xenstored}'
        return run(name, ['soak'], WITH_DEVICE, 120 + 60 * rounds,
                   say=sayer(HOST, name),
                   settings={'ROUNDS': rounds, 'XENSTORED': xenstored})

    return max(in_threads(min(2, os.cpu_count() or 1), one, XENSTOREDS))


def run_package(names, debs):
    """The package and the packages with its data, as an administrator has
    them, in the directory package."""
    return run('package', names, debs=debs, say=sayer(HOST, 'package'))


def run_matrix(hosts, names):
    """Run scenarios NAMES with the device on each of @hosts, in as many labs
    as it takes.

    Those of NAME@XENSTORED have labs of their own.  Where the machine has the
    cores, two labs share them.  A lab that hangs takes one scenario with it,
    the rest go on in another.  Returns the directory in build/xen of each
    scenario, {(host, scenario): directory}.
    """
    labs = min(2, os.cpu_count() or 1)
    where = {}

    def in_turn(n, host, xenstored, todo):
        attempt = 0
        while todo and not over.is_set():
            name = f'matrix-{n}-{xenstored}-{attempt}'
            plain = [s.partition('@')[0] for s in todo]
            run(name, plain, WITH_DEVICE, settings={'XENSTORED': xenstored},
                say=sayer(host, name), host=host)
            done = sum((host.build / 'xen' / name / s / 'status').exists()
                       for s in plain)
            where.update({(host, s): name for s in todo[:done + 1]})
            todo, attempt = todo[done + 1:], attempt + 1

    def share(n):
        for host in hosts:
            for xenstored in XENSTOREDS:
                of_it = [s for s in names
                         if (s.partition('@')[2] or XENSTOREDS[0]) == xenstored]
                in_turn(n, host, xenstored, of_it[n::labs])

    in_threads(labs, share, range(labs))
    return where


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--name', default='run', help='build/xen/NAME')
    parser.add_argument('--dm-args', default='', metavar='ARGS',
                        help='extra arguments of the guests\' device models')
    parser.add_argument('--timeout', type=float, metavar='S')
    parser.add_argument('--keep', action='store_true',
                        help='leave QEMU running after a time-out')
    parser.add_argument('--xenstored', default='xenstored',
                        choices=XENSTOREDS)
    parser.add_argument('--gdb', action='store_true',
                        help='stop each guest\'s device model for gdb')
    parser.add_argument('scenario', nargs='+',
                        help=f'any of: {" ".join(scripts())}')
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    need_built()
    if subprocess.run([HERE / 'setup.sh'], check=False).returncode:
        return LAB_FAILED       # it has said why
    return run(args.name, args.scenario, args.dm_args, args.timeout,
               sayer(HOST, args.name), args.keep,
               {'XENSTORED': args.xenstored}, gdb=args.gdb)


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""A guest that writes to xenstore without end does not hold QEMU: flood.py.

Debian's own xenstored and oxenstored, without Xen (shim.c); QEMU under qtest
with the real libxenstore and the loopback for all else.  The guest is an
unprivileged domain: it keeps its ring to xenstored full of writes to its
frontend, and does nothing else.  Meanwhile QEMU has to answer to QMP and must
not grow, and when the guest announces an OS at last, its firmware's connection
is handed off.

Nothing is timed: the guest's writes are the clock.  With --seconds N the flood
lasts so long, for the longest that QMP waited, which is printed.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import mmap
import multiprocessing
import os
from pathlib import Path
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
QEMU = TOP / 'build' / 'qemu'
PACKAGES = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache',
                'xen-fw-handoff', 'lab', 'packages', 'root')
if not PACKAGES.exists() or not QEMU.exists():
    sys.exit(f'{Path(sys.argv[0]).stem}: no xenstored to run, make lab first; '
             'if you have, set XDG_CACHE_HOME as you did then')
sys.path.insert(0, str(QEMU / 'python'))

from qemu.qmp import QMPClient      # noqa: E402

ASKED = 200         # so often
WRITES = 250        # of the guest, from one question to the next
PATIENCE = 20000    # writes of the guest, for one answer
HANGS = 120 * int(os.environ.get('LAB_PATIENCE', 1))    # seconds; as in lab.py
GROWTH = 4096       # KiB, from the 1000th write on
XENSTOREDS = 'xenstored', 'oxenstored'

DOM0, GUEST = 0, 7
# xen/io/xs_wire.h
READ, WATCH, INTRODUCE, WRITE, SET_PERMS = 2, 4, 8, 11, 14
WATCH_EVENT, ERROR = 15, 16
HEADER = struct.Struct('=4I')
REQ, RSP, RING = 0, 1024, 1024                  # in bytes
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = range(512, 516)    # in words

FRONTEND = f'/local/domain/{GUEST}/device/vbd/51712'
BACKEND = f'/local/domain/{DOM0}/backend/vbd/{GUEST}/51712'
CLASS = os.path.dirname(FRONTEND)

# what the guest writes in turn, and whether the device is there
CASES = {
    'without': ([(FRONTEND, 'x')], False),
    'key': ([(f'{FRONTEND}/foo', 'x')], True),
    'node': ([(FRONTEND, 'x')], True),
    'class': ([(CLASS, 'x')], True),
    'state-keys': ([(f'{FRONTEND}/state', '3'), (f'{FRONTEND}/state', '4')],
                   True),
    'names': ([(FRONTEND, 'x')], True),
}


def message(kind, *strings):
    """A request; all but a written value end with a NUL."""
    body = '\0'.join(strings).encode() + (b'' if kind == WRITE else b'\0')
    return HEADER.pack(kind, 0, 0, len(body)) + body


class Held(Exception):
    """QEMU does not get to its main loop any more."""


class Ring:
    """The guest's ring to xenstored, in a file: see shim.c."""

    ANSWER = message(WRITE, 'OK\0')

    def __init__(self, rundir):
        self.rundir = rundir
        path = rundir / f'ring-{GUEST}'
        path.write_bytes(bytes(mmap.PAGESIZE))
        with open(path, 'r+b') as f:
            self.bytes = memoryview(mmap.mmap(f.fileno(), mmap.PAGESIZE))
        self.words = self.bytes.cast('I')   # an index is written in one go

    def writes(self):
        """How many the guest has got through."""
        return self.words[RSP_CONS] // len(self.ANSWER)

    def flood(self, requests):
        """The guest: never returns."""
        data = b''.join(message(WRITE, *r) for r in requests)
        period = len(data)
        data *= RING // period + 2
        answers = self.ANSWER * (RING // len(self.ANSWER) + 2)
        event = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        event.bind(str(self.rundir / 'event-guest'))
        event.settimeout(0.01)
        w = self.words
        while True:
            prod, cons = w[REQ_PROD], w[RSP_CONS]
            at, free = prod % RING, RING - (prod - w[REQ_CONS]) % 2 ** 32
            free = min(free, RING - at)     # the rest in the next turn
            if free:
                start = prod % period
                self.bytes[REQ + at:REQ + at + free] = data[start:start + free]
                w[REQ_PROD] = (prod + free) % 2 ** 32
            at, got = cons % RING, (w[RSP_PROD] - cons) % 2 ** 32
            got = min(got, RING - at)
            if got:
                start = cons % len(self.ANSWER)
                answer = bytes(self.bytes[RSP + at:RSP + at + got])
                assert answer == answers[start:start + got], answer
                w[RSP_CONS] = (cons + got) % 2 ** 32
            with contextlib.suppress(OSError):  # none, or enough are pending
                if free or got:
                    event.sendto(b'x', socket.MSG_DONTWAIT,
                                 str(self.rundir / 'event-xenstored'))
                else:
                    event.recv(1)


class Xenstore:
    """dom0's connection to xenstored."""

    async def connect(self, path, daemon):
        while True:     # the daemons do not say when they listen
            assert daemon.poll() is None, f'{daemon.args[0]} has ended'
            with contextlib.suppress(FileNotFoundError,
                                     ConnectionRefusedError):
                self.reader, self.writer = \
                    await asyncio.open_unix_connection(path)
                break
            await asyncio.sleep(0.01)
        self.events = asyncio.Queue()
        self.asked = collections.deque()    # of futures, in their order
        self.task = asyncio.create_task(self.receive())

    async def receive(self):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                kind, _, _, n = HEADER.unpack(await self.reader.readexactly(
                    HEADER.size))
                body = (await self.reader.readexactly(n)).decode()
                if kind == WATCH_EVENT:
                    self.events.put_nowait((kind, body))
                else:
                    self.asked.popleft().set_result((kind, body))
        for answer in self.asked:
            answer.set_exception(ConnectionError('xenstored has hung up'))

    async def do(self, kind, *strings):
        assert not self.task.done(), 'xenstored has hung up'
        answer = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        self.writer.write(message(kind, *strings))
        kind, body = await answer
        assert kind != ERROR, f'{strings}: {body}'
        return body

    async def give(self, path, value, owner, guest=GUEST):
        """A node as libxl makes it."""
        other = guest if owner == DOM0 else DOM0
        await self.do(WRITE, path, value)
        await self.do(SET_PERMS, path, f'n{owner}', f'r{other}')


async def toolstack(xs, case):
    """As libxl does, and the firmware has connected its disk."""
    await xs.give(f'/local/domain/{GUEST}', '', DOM0)
    await xs.give(f'/local/domain/{GUEST}/device', '', DOM0)
    # not from libxl, but QEMU's own Xen lets the guest have it
    await xs.give(CLASS, '', GUEST if case == 'class' else DOM0)
    await xs.give(FRONTEND, '', GUEST)
    await xs.give(BACKEND, '', DOM0)
    await xs.give(f'{FRONTEND}/backend', BACKEND, GUEST)
    await xs.give(f'{BACKEND}/frontend', FRONTEND, DOM0)
    await xs.give(f'/libxl/{GUEST}/device/vbd/51712/backend', BACKEND, DOM0)
    for i in range(120 if case == 'state-keys' else 1):
        await xs.give(f'{FRONTEND}/key{i}', '', GUEST)  # or a directory each
    await xs.give(f'{FRONTEND}/state', '4', GUEST)
    await xs.give(f'{BACKEND}/state', '4', DOM0)
    await xs.do(INTRODUCE, str(GUEST), '1', '1')


async def kernel(xs):
    """dom0's: its backend follows the frontend until it is back."""
    await xs.do(WATCH, f'{FRONTEND}/state', 'token')
    state = '4'
    while state != '2':
        await xs.events.get()
        frontend = await xs.do(READ, f'{FRONTEND}/state')
        follow = {'5': '5', '6': '6', '1': '2' if state == '6' else ''}
        if follow.get(frontend):
            state = follow[frontend]
            await xs.do(WRITE, f'{BACKEND}/state', state)


class Rig:
    """xenstored and a QEMU, in a directory of their own."""

    def __init__(self, stack, xenstored):
        self.stack = stack
        self.rundir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.xenstored = xenstored
        self.env = {**os.environ, 'XENSTORED_RUNDIR': str(self.rundir)}
        stack.callback(self.show)
        (self.rundir / 'bios').write_bytes(bytes(65536))
        self.ring = Ring(self.rundir)
        self.xs, self.qmp = Xenstore(), QMPClient()

    def start(self, command, name, **env):
        with open(self.rundir / f'{name}.log', 'w') as log:
            process = subprocess.Popen(command, env={**self.env, **env},
                                       stdout=log, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    async def start_xenstored(self, shim):
        d = self.rundir
        (d / 'ring-0').write_bytes(bytes(mmap.PAGESIZE))
        (d / 'xsd_kva').write_bytes(bytes(mmap.PAGESIZE))
        (d / 'xsd_port').write_text('1')
        # quotas and all are Debian's
        (d / 'conf').write_text(
            (PACKAGES / 'etc/xen/oxenstored.conf').read_text() +
            f'pid-file = {d}/pid\nxenstored-log-file = {d}/log\n'
            f'access-log-file = {d}/access\n')
        options = {'xenstored': ['--no-fork', '--pid-file', d / 'pid'],
                   'oxenstored': ['--no-fork', '--config-file', d / 'conf']}
        program, = PACKAGES.glob(f'usr/lib/xen-*/bin/{self.xenstored}')
        daemon = self.start(
            [program, *options[self.xenstored]], 'xenstored', LD_PRELOAD=shim,
            PACKAGES=str(PACKAGES),
            LD_LIBRARY_PATH=f'{PACKAGES}/usr/lib/x86_64-linux-gnu:'
                            f'{PACKAGES}/lib/x86_64-linux-gnu')
        await self.xs.connect(d / 'socket', daemon)
        return daemon

    def start_model(self, domid, options):
        """A guest's QEMU, with OPTIONS."""
        d = self.rundir
        args = ('-accel qtest -machine pc,memory-backend=ram -m 64 -nodefaults'
                ' -object memory-backend-memfd,id=ram,size=64M,share=on'
                f' -display none -bios {d}/bios'
                f' -qtest unix:{d}/qtest-{domid},server=on,wait=off'
                ' -qtest-log /dev/null'
                f' -device xen-loopback,real-xenstore=on,domid={domid}'
                f' -device xen-platform,addr=4 {options}')
        return self.start([QEMU / 'build/qemu-system-x86_64', *args.split()],
                          f'qemu-{domid}')

    async def start_qemu(self, device):
        qmp = self.rundir / 'qmp'
        await self.qmp.start_server(str(qmp))
        self.qemu = self.start_model(GUEST, f'-qmp unix:{qmp}' + (
            ' -device xen-fw-handoff,id=handoff' if device else ''))
        await self.qmp.accept()

    def rss(self):
        status = Path(f'/proc/{self.qemu.pid}/status').read_text()
        return int(status.split('VmRSS:')[1].split()[0])

    async def ask(self, command, **arguments):
        """QEMU's answer in QMP, if there is one."""
        before = self.ring.writes()
        task = asyncio.create_task(self.qmp.execute(command, arguments))
        while not (await asyncio.wait({task}, timeout=0.1))[0]:
            if self.ring.writes() - before > PATIENCE:
                task.cancel()
                raise Held
        return await task

    async def get(self, name):
        return (await self.ask('query-xen-fw-handoff'))[name]

    async def announce(self, domid=GUEST):
        reader, writer = await asyncio.open_unix_connection(
            self.rundir / f'qtest-{domid}')
        writer.write(b'outw 0x12 0x3\n')    # as Linux
        assert (await reader.readline()).strip() == b'OK'
        writer.close()

    def show(self):
        for log in self.rundir.glob('*.log'):
            for line in log.read_text().splitlines():
                # what the device says without the error report's own prefix
                print('#', line[max(line.find('xen-fw-handoff: '), 0):])


async def flood(rig, requests, seconds, report):
    """Returns whether QEMU has answered all the time."""
    guest = multiprocessing.Process(target=rig.ring.flood, args=(requests,),
                                    daemon=True)
    asked, longest, held = 0, 0, False

    async def written(count):
        while rig.ring.writes() < count:
            assert guest.is_alive(), 'the guest is refused its writes'
            await asyncio.sleep(0.001)

    guest.start()
    try:
        await written(1000)
        rss = rig.rss()
        end = time.monotonic() + seconds
        while asked < ASKED or time.monotonic() < end:
            start = time.monotonic()
            await rig.ask('query-status')
            longest = max(longest, time.monotonic() - start)
            asked += 1
            await written(1000 + WRITES * asked)
    except Held:
        longest, held = time.monotonic() - start, True
    finally:
        guest.kill()
        guest.join()
    report(not held, 'QMP is answered while the guest writes',
           f': {asked} answers, {rig.ring.writes()} writes, the longest wait '
           f'was {longest * 1000:.1f} ms')
    grown = rig.rss() - rss
    report(grown <= GROWTH, 'QEMU does not grow', f': by {grown} KiB')
    return not held


async def sees(rig):
    """The device sees a new connection, or says that it cannot: in the end,
    or run() does not end."""
    await rig.xs.give(f'{CLASS}/51728', '', GUEST)
    await rig.xs.give(f'{CLASS}/51728/state', '4', GUEST)
    while True:
        if await rig.get('state') == 'inert' or any(
                connection['frontend'] == 'vbd/51728'
                for connection in await rig.get('connections')):
            return True


async def run(xenstored, case, shim, seconds, report):
    requests, device = CASES[case]
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, xenstored)
        await rig.start_xenstored(shim)
        await toolstack(rig.xs, case)
        await rig.start_qemu(device)
        if case == 'names':
            # the list of them is longer than libxenstore takes: it hangs up
            for i in range(60):
                await rig.xs.give(f'{FRONTEND}/{i:0200}', '', GUEST)
        if not await flood(rig, requests, seconds, report) or not device:
            pass
        elif case == 'names':
            report(await sees(rig), 'the device still sees what is connected, '
                   'or is inert')
        else:
            backend = asyncio.create_task(kernel(rig.xs))
            await rig.announce()
            while await rig.get('state') == 'handing-off':
                pass
            report([await rig.get('state'), await rig.get('handed-off')] ==
                   ['done', 1], 'the connection is handed off')
            await backend
        with contextlib.suppress(Exception):
            rig.qemu.kill()
            await rig.qmp.disconnect()


def each_xenstored(wanted):
    """The one that is @wanted, or both, each with the shim to be preloaded."""
    with tempfile.TemporaryDirectory() as work:
        shim = f'{work}/shim.so'
        subprocess.run(['gcc', '-O2', '-Wall', '-shared', '-fPIC', '-o', shim,
                        HERE / 'shim.c', '-ldl'], check=True)
        for xenstored in [wanted] if wanted else XENSTOREDS:
            yield xenstored, shim


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=int, default=0)
    parser.add_argument('--xenstored', choices=XENSTOREDS)
    parser.add_argument('case', nargs='*', help=f'among {" ".join(CASES)}')
    args = parser.parse_args()
    count, failed = itertools.count(1), 0

    for xenstored, shim in each_xenstored(args.xenstored):
        for case in args.case or CASES:
            if (xenstored, case) == ('xenstored', 'names'):
                continue    # 2 KB are all that it has for a node's names
            def report(ok, text, detail=''):
                nonlocal failed
                failed += not ok
                print(f'{"ok" if ok else "not ok"} {next(count)} '
                      f'{xenstored}, {case}: {text}{detail}', flush=True)
            try:
                asyncio.run(asyncio.wait_for(
                    run(xenstored, case, shim, args.seconds, report),
                    HANGS + args.seconds))
            except TimeoutError:
                report(False, 'it ends')
    print(f'1..{next(count) - 1}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())

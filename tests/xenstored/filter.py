#!/usr/bin/env python3
"""A QEMU that is broken into has no more of xenstore than its guest: filter.py

packaging/xenstore-filter.c before Debian's own xenstored and oxenstored,
without Xen (shim.c).  QEMU is this process, which sends what libxenstore never
would.  All that it is refused xenstored would do: the filter's connection is
dom0's, and where the path is what counts, the nodes are everybody's.

Nothing is timed: what hangs is ended after a minute, LAB_PATIENCE of them.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flood import (BACKEND, CLASS, ERROR, FRONTEND, GUEST,      # noqa: E402
                   HEADER, READ, Rig, SET_PERMS, TOP, WATCH, WATCH_EVENT,
                   WRITE, each_xenstored, message, toolstack)

SECONDS = 60 * int(os.environ.get('LAB_PATIENCE', 1))
# packaging/xenstore-filter.c
CONNECTIONS, MAX_WATCHES, MAX_IN_TRANSACTION, MAX_REPORT = 2, 64, 2048, 128
# xen/io/xs_wire.h
DIRECTORY, GET_PERMS, UNWATCH, START, END = 1, 3, 5, 6, 7
GET_DOMAIN_PATH, RM, DIRECTORY_PART = 10, 13, 22
SERVED = {READ, DIRECTORY, DIRECTORY_PART, WATCH, UNWATCH, START, END,
          GET_DOMAIN_PATH, WRITE, RM}
PAYLOAD_MAX = 4096

OWN, OTHER = '/local/domain/7', '/local/domain/8'
assert OWN == f'/local/domain/{GUEST}'
STATE = f'{FRONTEND}/state'
REPORT = 'device-model/7/fw-handoff'
FEATURE = f'{OWN}/control/platform-feature-fw-handoff'


class Hangs(Exception):
    """No answer, and no end either."""


class Connection:
    """QEMU's to the filter, or dom0's to xenstored."""

    strange = []        # answers with the numbers of another request

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.file = self.socket.makefile('rb')
        self.events = []
        self.numbers = itertools.count(1)
        with contextlib.suppress(OSError):
            self.socket.connect(str(path))

    def send(self, data):
        with contextlib.suppress(OSError):      # then nothing is answered
            self.socket.sendall(data)

    def receive(self):
        """The next message, or Nones when the other end has hung up."""
        with contextlib.suppress(OSError):
            header = self.file.read(HEADER.size)
            if len(header) == HEADER.size:
                kind, number, tx, size = HEADER.unpack(header)
                body = self.file.read(size).decode().removesuffix('\0')
                return kind, (number, tx), body
        return None, None, None

    def event(self):
        return self.events.pop(0) if self.events else self.receive()[2]

    def ask(self, kind, *strings, tx=0):
        """What is answered: a value or an error, None if nothing is."""
        body = message(kind, *strings)[HEADER.size:]
        sent = next(self.numbers), tx
        self.send(HEADER.pack(kind, *sent, len(body)) + body)
        answered, numbers, body = self.receive()
        while answered == WATCH_EVENT:
            self.events.append(body)
            answered, numbers, body = self.receive()
        if answered is not None and numbers != sent:
            self.strange.append((kind, sent, numbers))
        return body if answered in (kind, ERROR) else None


class Filtered(Rig):
    """xenstored, and filters before it that think this process is QEMU."""

    left = 0    # connections that the last filter takes

    async def prepare(self, binary, shim):
        await self.start_xenstored(shim)
        await toolstack(self.xs, None)
        self.binary, self.shim = binary, shim
        self.dom0 = Connection(self.rundir / 'socket')

    def start_filter(self):
        chroot = tempfile.mkdtemp(dir=self.rundir)
        subprocess.run([self.binary, '7', chroot], check=True,
                       env={**self.env, 'LD_PRELOAD': self.shim})
        self.socket = f'{chroot}{self.rundir}/socket'
        self.left = CONNECTIONS

    def connect(self):
        if not self.left:
            self.start_filter()
        self.left -= 1
        return Connection(self.socket)

    def give(self, path, *permissions, value='1'):
        assert [self.dom0.ask(WRITE, path, value),
                self.dom0.ask(SET_PERMS, path, *permissions)] == ['OK', 'OK']

    def tree(self, path='/'):
        names = self.dom0.ask(DIRECTORY, path).split('\0')
        yield path, self.dom0.ask(READ, path), self.dom0.ask(GET_PERMS, path)
        for name in filter(None, names):
            yield from self.tree(os.path.join(path, name))


# --- each yields what is told, what has come of it, and what should ----------


def peers(rig):
    rig.start_filter()
    child = multiprocessing.Process(daemon=True, target=lambda: sys.exit(
        Connection(rig.socket).ask(READ, STATE) is not None))
    child.start()
    child.join()
    yield 'who is not QEMU has no answer', child.exitcode, 0
    both = [rig.connect() for _ in range(CONNECTIONS)]
    yield ('QEMU has, on both connections',
           [qemu.ask(READ, STATE) for qemu in both], ['4', '4'])
    yield 'and on no third', Connection(rig.socket).ask(READ, STATE), None


def reads(rig):
    qemu = rig.connect()
    for kind, path, value in (
            (READ, STATE, '4'), (READ, f'{BACKEND}/state', '4'),
            (READ, f'{FRONTEND}/foo', 'ENOENT'), (DIRECTORY, CLASS, '51712'),
            (GET_DOMAIN_PATH, '7', OWN),
            # from the shim's Xen
            (READ, '@callback-irq', '7000'), (READ, '@store-pfn', '7001'),
            (READ, '@grant-table', '1 7'), (READ, '@foo', 'EACCES')):
        yield path, qemu.ask(kind, path), value


def permissions(rig):
    qemu, path = rig.connect(), f'{CLASS}/51728/state'
    for rights, several in {
            'rw': ('n7', 'b0', 'n0 b7'), 'w': ('w0', 'n0 w7'),
            'r': ('r0', 'n0 r7', 'n0 b8 r7'),
            '': ('n0', 'n8', 'b0 n7', 'n0 b8', 'n0 b70 b17',
                 'n0 n7 b7')}.items():
        may_read = '1' if 'r' in rights else 'EACCES'
        may_write = 'OK' if 'w' in rights else 'EACCES'
        for given in several:
            rig.give(path, *given.split())
            yield (f'{given}: read, written, removed',
                   [qemu.ask(READ, path), qemu.ask(WRITE, path, '2'),
                    qemu.ask(RM, path)], [may_read, may_write, may_write])
    yield ('a state that is not there',
           qemu.ask(WRITE, f'{CLASS}/1/state', '1'), 'ENOENT')


def paths(rig):
    """Permissions let everybody do everything here: only the path counts."""
    outside = [
        OWN, f'{OWN}/name', f'{OWN}/devices', f'{OWN}/control/shutdown',
        f'{OWN}0/device/vbd/51712/state', f'{OTHER}/device/vbd/51712/state',
        '/local/domain/0/backend/vbd', '/local/domain/0/device/x/0',
        *(f'/local/domain/0/backend/vbd/{n}/51712/state' for n in (8, 70))]
    inside = [f'{OWN}/device', CLASS, FRONTEND, BACKEND, f'{BACKEND}/state']
    for path in outside + inside:
        rig.give(path, 'b0', value='')
    before = list(rig.tree())
    outside += ['/', '', 'device/x/0', '@introduceDomain', '@releaseDomain',
                f'{REPORT}/more', 'device-model/8/fw-handoff/state']
    qemu = rig.connect()
    for text, kind, rest, more in (
            ('read', READ, [], []), ('listed', DIRECTORY, [], []),
            ('listed in parts', DIRECTORY_PART, ['0'], []),
            ('watched', WATCH, ['token'], []), ('removed', RM, [], inside),
            ('written', WRITE, ['1'], [*inside, f'{FRONTEND}/key0',
                                       f'{STATE}/x', f'{REPORT}/state/x'])):
        answers = {p: qemu.ask(kind, p, *rest) for p in outside + more}
        yield (f'what may not be {text}',
               {p: a for p, a in answers.items() if a != 'EACCES'}, {})
    yield 'xenstore is as it was', list(rig.tree()) == before, True
    yield ("a frontend's key is removed",
           [qemu.ask(RM, f'{FRONTEND}/key0'),
            rig.dom0.ask(READ, f'{FRONTEND}/key0')], ['OK', 'ENOENT'])


def values(rig):
    qemu = rig.connect()
    text, count = 'x' * MAX_REPORT, '123456789'
    for path, good, bad in (
            (STATE, '4', ('', 'x', '44', '4\0', '-')),
            (FEATURE, '1', ('', '0', '2', '11', '1\0')),
            *((f'{REPORT}/{key}', text, (f'{text}x', 'x' * 3000))
              for key in ('state', 'announcement')),
            *((f'{REPORT}/{key}', count, (f'{count}0', '', 'x', '-1', '1 '))
              for key in ('handed-off', 'timed-out', 'failed', 'skipped'))):
        yield (f'{path}: a value, and all that are none',
               [qemu.ask(WRITE, path, good), rig.dom0.ask(READ, path),
                {qemu.ask(WRITE, path, value) for value in bad}],
               ['OK', good, {'EACCES'}])


def types(rig):
    """As SET_PERMS has it; xenstored would say of the others what is wrong."""
    qemu = rig.connect()
    others = {*range(64), 0xffff, 2 ** 32 - 1} - SERVED
    answers = {kind: qemu.ask(kind, FRONTEND, 'n7') for kind in others}
    yield ('requests of all other types',
           {k: a for k, a in answers.items() if a != 'EACCES'}, {})


def lengths(rig):
    yield ('as much as a request may have',
           rig.connect().ask(READ, 'x' * (PAYLOAD_MAX - 1)), 'EACCES')
    for text, kind, body in (
            ('one byte more', READ, bytes(PAYLOAD_MAX + 1)),
            ('nothing', READ, b''), ('a path without an end', READ, b'x'),
            ('one to write to without an end', WRITE, b'x')):
        qemu = rig.connect()
        qemu.send(HEADER.pack(kind, 1, 0, len(body)) + body)
        yield f'{text}: no answer', qemu.receive()[0], None


def transactions(rig):
    qemu = rig.connect()
    yield 'before there is one', qemu.ask(READ, STATE, tx=1), 'EACCES'
    tx = int(qemu.ask(START, ''))
    yield ('in it, and in another',
           [qemu.ask(READ, STATE, tx=tx), qemu.ask(READ, STATE, tx=tx + 1)],
           ['4', 'EACCES'])
    yield 'Xen is not in it', qemu.ask(READ, '@store-pfn', tx=tx), 'EACCES'
    yield 'a second one', qemu.ask(START, ''), 'EACCES'
    yield 'an end of none', qemu.ask(END, 'T'), 'EACCES'
    yield ('ends that are none',
           {qemu.ask(END, body, tx=tx) for body in ('', 'X', 'TT', 'T\0F')},
           {'EACCES'})
    for how, state in ('F', '4'), ('T', '5'):
        yield (f'a write, and the end {how}',
               [qemu.ask(WRITE, STATE, '5', tx=tx), qemu.ask(END, how, tx=tx),
                rig.dom0.ask(READ, STATE), qemu.ask(READ, STATE, tx=tx)],
               ['OK', 'OK', state, 'EACCES'])
        tx = int(qemu.ask(START, ''))
    yield ('as many requests as it may have',
           {qemu.ask(READ, STATE, tx=tx) for _ in range(MAX_IN_TRANSACTION)},
           {'5'})
    yield 'and one more', qemu.ask(READ, STATE, tx=tx), None


def watches(rig):
    qemu = rig.connect()
    yield ('as many as it may have',
           {qemu.ask(WATCH, STATE, str(i)) for i in range(MAX_WATCHES)},
           {'OK'})
    yield 'one more', qemu.ask(WATCH, STATE, 'more'), 'EACCES'
    yield ('and after an end of none', [qemu.ask(UNWATCH, STATE, 'none'),
                                        qemu.ask(WATCH, STATE, 'more')],
           ['ENOENT', 'EACCES'])
    yield ('and after the end of one', [qemu.ask(UNWATCH, STATE, '0'),
                                        qemu.ask(WATCH, STATE, 'more')],
           ['OK', 'OK'])


def events(rig):
    qemu = rig.connect()
    qemu.ask(WATCH, STATE, 'token')
    yield 'one at once', qemu.event(), f'{STATE}\0token'
    request = message(READ, STATE)
    qemu.send(request + request[:8])
    yield 'a request before a part of one', qemu.receive()[2], '4'
    rig.dom0.ask(WRITE, STATE, '6')
    yield 'one in the midst of a request', qemu.event(), f'{STATE}\0token'
    qemu.send(request[8:])
    yield 'which is answered', qemu.receive()[2], '6'


def unread(rig):
    qemu = rig.connect()
    yield 'who takes its answers', qemu.ask(READ, '@store-pfn'), '7001'
    with contextlib.suppress(ConnectionError):
        while True:
            qemu.socket.sendall(message(READ, '@store-pfn'))
    yield 'who does not is dropped', True, True     # or it has hung above


def numbers(rig):
    yield 'all answers are to their requests', rig.dom0.strange, []


CASES = (peers, reads, permissions, paths, values, types, transactions,
         watches, events, unread, lengths, numbers)


def main():
    count, failed = itertools.count(1), 0

    def hangs(*_):
        raise Hangs

    def report(ok, text):
        nonlocal failed
        failed += not ok
        print(f'{"ok" if ok else "not ok"} {next(count)} {xenstored}, filter, '
              f'{text}', flush=True)

    signal.signal(signal.SIGALRM, hangs)
    for xenstored, shim in each_xenstored(None):
        binary = shim.replace('shim.so', 'xenstore-filter')
        subprocess.run(['gcc', '-O2', '-Wall', '-o', binary,
                        TOP / 'packaging/xenstore-filter.c', '-lxenctrl',
                        '-lxenstore'], check=True)
        with contextlib.ExitStack() as stack:
            rig = Filtered(stack, xenstored)
            signal.alarm(SECONDS)
            asyncio.run(rig.prepare(binary, shim))
            for case in CASES:
                signal.alarm(SECONDS)
                name = case.__name__
                try:
                    rig.dom0.ask(WRITE, STATE, '4')
                    for text, got, wanted in case(rig):
                        report(got == wanted, f'{name}: {text}' +
                               ('' if got == wanted else f': {got}'))
                except Hangs:
                    report(False, f'{name}: it hangs')
            signal.alarm(0)
    print(f'1..{next(count) - 1}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""A host whose guests announce their OS all at once: herd.py [N...]

Debian's own xenstored and oxenstored, without Xen (shim.c), and N QEMUs under
qtest with the real libxenstore and the loopback for all else.  Of each guest
the firmware has connected two disks and a NIC; one connection to xenstored
plays dom0's kernel with all backends, one after the other, as its thread
xenwatch does.

What is told is the processor time of xenstored, which is what the host's
guests share and what does not depend on how fast this script is: what a guest's
handoff takes of it, and what anybody's write takes while so many devices watch,
and while as many QEMUs run without the device.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import argparse
import asyncio
import contextlib
import functools
import json
from pathlib import Path
import resource
import sys
import time

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flood import (DOM0, READ, Rig, WATCH, WRITE, XENSTOREDS,  # noqa: E402
                   each_xenstored)

FIRST = 10          # domain
DEVICES = 'vbd/51712', 'vbd/51728', 'vif/0'
FIRMWARE = {'ring-ref': '8', 'event-channel': '1', 'protocol': 'x86_64-abi'}
WRITES = 2000       # of a bystander
SECONDS = 600       # that N handoffs may take here


def frontend(domid, device):
    return f'/local/domain/{domid}/device/{device}'


def backend(domid, device):
    kind, _, number = device.partition('/')
    return f'/local/domain/{DOM0}/backend/{kind}/{domid}/{number}'


def node(domid):
    return f'/local/domain/{DOM0}/device-model/{domid}/fw-handoff/state'


class Herd(Rig):
    def __init__(self, stack, xenstored, size):
        super().__init__(stack, xenstored)
        self.domids = range(FIRST, FIRST + size)
        self.told = {}              # {path: event}

    def show(self):
        if sys.exc_info()[0]:
            super().show()

    async def make(self, domid):
        """As libxl does."""
        give = functools.partial(self.xs.give, guest=domid)
        for path in '', '/device', '/device/vbd', '/device/vif':
            await give(f'/local/domain/{domid}{path}', '', DOM0)
        for device in DEVICES:
            front, back = frontend(domid, device), backend(domid, device)
            await give(front, '', domid)
            await give(back, '', DOM0)
            await give(f'{front}/backend', back, domid)
            await give(f'{front}/backend-id', '0', domid)
            await give(f'{front}/state', '1', domid)
            await give(f'{back}/frontend', front, DOM0)
            await give(f'{back}/online', '1', DOM0)
            await give(f'{back}/state', '2', DOM0)
            await give(f'/libxl/{domid}/device/{device}/backend', back, DOM0)

    async def become(self, state):
        """All devices say that."""
        await asyncio.gather(*(self.one_becomes(domid, state)
                               for domid in self.domids))

    async def one_becomes(self, domid, state):
        while True:
            event = self.told.setdefault(node(domid), asyncio.Event())
            event.clear()
            with contextlib.suppress(AssertionError):   # there is none yet
                if await self.xs.do(READ, node(domid)) == state:
                    return
            await event.wait()

    async def watch(self):
        """What the devices tell, and dom0's kernel: a backend follows."""
        state = {}
        while True:
            _, body = await self.xs.events.get()
            path, token, _ = body.split('\0')
            if path in self.told:
                self.told[path].set()
            if not token.startswith('/'):
                continue
            now = await self.xs.do(READ, path)
            was = state.get(path, '4')
            follow = {'6': '6', '1': '2' if was == '6' else None}.get(now)
            if follow and follow != was:
                state[path] = follow
                await self.xs.do(WRITE, f'{token}/state', follow)

    async def connect(self):
        """All firmwares have connected all devices."""
        for domid in self.domids:
            for device in DEVICES:
                front, back = frontend(domid, device), backend(domid, device)
                for key, value in {**FIRMWARE, 'state': '4'}.items():
                    await self.xs.give(f'{front}/{key}', value, domid)
                await self.xs.do(WRITE, f'{back}/state', '4')
                await self.xs.do(WATCH, f'{front}/state', back)

    async def announce_all(self):
        await asyncio.gather(*map(self.announce, self.domids))
        await self.become('done')

    def processor_ns(self):
        """Of xenstored, which has one thread."""
        return int(Path(f'/proc/{self.daemon.pid}/schedstat').read_text()
                   .split()[0])

    async def measured(self, what):
        before, start = self.processor_ns(), time.monotonic()
        await what
        return self.processor_ns() - before, time.monotonic() - start


async def bystander(herd):
    """Somebody's writes, which no QEMU waits for."""
    for _ in range(WRITES):
        await herd.xs.do(WRITE, '/tool/herd', 'x')


async def measure(herd, device):
    """The figures of one herd, with the device or without."""
    for domid in herd.domids:
        await herd.make(domid)
        herd.start_model(domid, '-device xen-fw-handoff,timeout-ms=60000'
                         if device else '')
    if device:
        await asyncio.wait_for(herd.become('armed'), SECONDS)
    else:
        for domid in herd.domids:
            while not (herd.rundir / f'qtest-{domid}').exists():
                await asyncio.sleep(0.01)
    ns, _ = await herd.measured(bystander(herd))
    us = ns / WRITES / 1e3
    if not device:
        return {'write_us_without': us}
    await herd.connect()
    ns, seconds = await asyncio.wait_for(herd.measured(herd.announce_all()),
                                         SECONDS)
    for path in map(node, herd.domids):
        count = await herd.xs.do(READ, path.replace('/state', '/handed-off'))
        assert count == str(len(DEVICES)), f'{path}: {count} are handed off'
    return {'write_us_with': us, 'handoff_ms': ns / len(herd.domids) / 1e6,
            'all_seconds': seconds}


async def run(xenstored, size, shim):
    """The figures of one herd with the device, and of one without."""
    figures = {'xenstored': xenstored, 'guests': size}
    for device in False, True:
        with contextlib.ExitStack() as stack:
            herd = Herd(stack, xenstored, size)
            herd.daemon = await herd.start_xenstored(shim)
            await herd.xs.do(WATCH, f'/local/domain/{DOM0}/device-model',
                             'node')
            # an error of the one ends the other
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(herd.watch())
                figures |= await measure(herd, device)
                watcher.cancel()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--xenstored', choices=XENSTOREDS)
    parser.add_argument('n', nargs='*', type=int, default=[1, 10, 100])
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for xenstored, shim in each_xenstored(args.xenstored):
        for n in args.n:
            print(json.dumps(asyncio.run(run(xenstored, n, shim))), flush=True)


if __name__ == '__main__':
    main()

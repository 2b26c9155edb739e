"""Operating systems that attach what a firmware has left connected and reset
nothing themselves, each in its own order: one row, one scenario.

In dom0 a row is "guest; naive start ..." of lib.sh.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from typing import Callable, NamedTuple

import checks as chk


class Order(NamedTuple):
    name: str               # the scenario's
    order: str              # the OS's steps, see step() of labfw.c, or ''
    by: list                # how it announces itself
    cells: list             # of the matrix
    options: str = ''       # others of labfw.c
    devices: list = chk.ALL
    more: Callable = lambda _: []   # checks
    lists: dict = {}        # of matrix.py that it is in

    def script(self):
        nics = sum(d.startswith('vif/') for d in self.devices)
        return (f'DISKS={len(self.devices) - nics} NICS={nics}\nguest\n'
                f'naive start order "{self.order}" {self.options}\n')

    def check(self, facts):
        by = self.by
        # who is quicker then, the OS's write or we?
        if self.order.startswith('callback'):
            by = chk.noticed(facts, *by)
        yield from chk.taken_over(facts, *by, devices=self.devices)
        yield from self.more(facts)


def low_grants(facts):
    at = facts['snapshots']
    yield ('the grants of the firmware began at 2',
           min(at['firmware']['firmware_granted']), 2)
    yield ("the toolstack's two are as they were",
           [len(at['firmware']['toolstack_grants']),
            at['announced']['toolstack_grants']],
           [2, at['firmware']['toolstack_grants']])


def netbsd(facts):
    yield from chk.loaded(facts, 400)
    yield ('the rings of the disks had four pages',
           [len(facts['firmware'][d]['rings']) for d in chk.DISKS], [4, 4])
    rings = [ref for d in facts['firmware'].values()
             for ref in d['rings'].values()]
    yield ('blkback kept a page of data mapped, too',
           bool(set(facts['snapshots']['firmware']['firmware_mapped'])
                - set(rings)), True)


def gplpv(facts):
    yield ('the NIC had two queues',
           [len(facts['firmware'][chk.NIC][of]) for of in ('rings', 'ports')],
           [4, 2])


def gplpv_checked(facts):
    yield from chk.logged(facts)
    yield ('the grants of the firmware began at 600',
           min(facts['snapshots']['firmware']['firmware_granted']), 600)


ORDERS = [
    Order('naive', '', chk.LINUX, [
        ('Firmware', 'leaves disks on blkback and qdisk and a NIC connected'),
        ('OS', 'resets nothing: magic, product, build, unplug, log, devices'),
        ('Backend', 'blkback on loop, qdisk on raw, netback'),
    ], more=chk.logged, lists={'short': 'oxenstored',
                               'oxenstored': 'an OS that resets nothing'}),
    Order('freebsd', 'callback unplug=3 late', [chk.UNPLUG.format('0x3')], [
        ('OS', 'FreeBSD: callback, unplug, devices at state 1 only'),
    ], 'picky 1'),
    Order('netbsd', 'load=400 unplug=3 callback late',
          [chk.UNPLUG.format('0x3')], [
        ('OS', 'NetBSD: unplug, callback, devices at state 1 only'),
        ('Firmware', 'rings of four pages, persistent grants'),
        ('Firmware', 'a boot loader reads through the rings till the end'),
    ], 'ring-order 2 persistent 1 picky 1', more=netbsd),
    Order('gplpv-checked', 'log product=2 build=1 unplug=3 late',
          [chk.LOG, chk.PRODUCT.format('2 (GPLPV Windows)'), chk.BUILD,
           chk.UNPLUG.format('0x3')], [
        ('OS', 'GPLPV, checked: log, product, build, unplug, devices'),
        ('Firmware', 'grants in the second page of the grant table'),
    ], 'gref 600', more=gplpv_checked),
    Order('gplpv', 'product=2 build=1 unplug=3 late',
          [chk.PRODUCT.format('2 (GPLPV Windows)'), chk.BUILD,
           chk.UNPLUG.format('0x3')], [
        ('OS', 'GPLPV, free: product, build, unplug, devices'),
        ('Firmware', 'a NIC with two queues'),
        ('Backend', 'netback, multi-queue'),
    ], 'queues 2', more=gplpv),
    Order('windows', 'log product=65535 build=1 unplug=1 unplug=2 late',
          [chk.LOG, chk.PRODUCT.format('65535 (experimental)'), chk.BUILD,
           chk.UNPLUG.format('0x1')], [
        ('OS', 'Windows PV: log, product, build, unplug twice, devices'),
        ('Firmware', 'leaves 12 disks and 2 NICs connected'),
        ('Backend', '9 times blkback, 3 times qdisk, netback twice'),
    ], devices=chk.disks(12) + ['vif/0', 'vif/1'], more=chk.logged),
    Order('suse', 'bar4=1 late', [chk.BAR.format(4)], [
        ('OS', "SUSE's Linux before the protocol: BAR 0 + 4, devices"),
    ]),
    Order('vmdp', 'bar8=1 bar8=2 late', [chk.BAR.format(8)], [
        ('OS', 'VMDP before 1.7: BAR 0 + 8 twice, devices'),
    ]),
    # it means the first as a product number
    Order('osv', 'unplug=65535 build=0 unplug=3 callback late',
          [chk.UNPLUG.format('0xffff'), 'build number 0 at port 0x10'], [
        ('OS', 'OSv: unplug, build, unplug, callback, devices at state 1 only'),
    ], 'picky 1'),
    # the firmware's as a BIOS had them, the OS's as Linux has them
    Order('low-grants', '', chk.LINUX, [
        ('Firmware', 'grant references 2 and up'),
    ], 'gref 2 os-gref 8', more=low_grants, lists={'short': True}),
]

BY_NAME = {row.name: row for row in ORDERS}

#!/usr/bin/env python3
"""Self-test of evidence.py with excerpts from real runs.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from pathlib import Path
import tempfile
import unittest

import evidence

GRANTS = '''\
(XEN) gnttab_usage_print_all [ key 'g' pressed
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d0 (v1)
(XEN)   1 frames (64 max), 1 maptrack frames (1024 max)
(XEN) no active grant table entries
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d1 (v1)
(XEN)   1 frames (64 max), 0 maptrack frames (1024 max)
(XEN) [0x000]      0 0x1398fd 0x00000002          0 0x0fefff 0x19
(XEN) [0x001]      0 0x139900 0x00000002          0 0x0feffc 0x19
'''

FIRMWARE_XEN = '''\
(XEN) 'e' pressed -> dumping event-channel info
(XEN) Event channel information for domain 0:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        5 [0/0/  -   ]: s=6 n=0 x=0
(XEN)       28 [0/0/  -   ]: s=3 n=0 x=0 d=1 p=5
(XEN) Event channel information for domain 1:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        4 [0/1/1]: s=3 n=0 x=1 d=0 p=27
(XEN)        5 [1/0/1]: s=3 n=0 x=0 d=0 p=28
(XEN)        6 [1/0/1]: s=3 n=0 x=0 d=0 p=29
(XEN)        7 [1/0/1]: s=3 n=0 x=0 d=0 p=30
''' + GRANTS + '''\
(XEN) [0x008]      0 0x12f806 0x00000001          0 0x000c06 0x19
(XEN) [0x00a]      0 0x12f808 0x00000002          0 0x000c08 0x19
(XEN) [0x00c]      0 0x12f80a 0x00000001          0 0x000c0a 0x19
(XEN) [0x00d]      0 0x12f80b 0x00000001          0 0x000c0b 0x19
(XEN) gnttab_usage_print_all ] done
'''

DONE_XEN = FIRMWARE_XEN.split('(XEN)        7 ')[0] + '''\
(XEN)        7 [1/0/1]: s=2 n=0 x=0 d=0
(XEN)        8 [1/0/1]: s=3 n=0 x=0 d=0 p=30
''' + GRANTS + '''\
(XEN) [0x008]      0 0x12f806 0x00000002          0 0x000c4d 0x01
(XEN) [0x009]      0 0x12f84e 0x00000001          0 0x000c4e 0x19
(XEN) [0x00a]      0 0x12f808 0x00000002          0 0x000c4f 0x01
(XEN) [0x00b]      0 0x12f809 0x00000001          0 0x000c09 0x19
(XEN) gnttab_usage_print_all ] done
'''

CREATED_STORE = '''\
/local/domain/0/backend/vif/1/0/state = "2"   (n0,r1)
/local/domain/1/device = ""   (n0,r1)
/local/domain/1/device/suspend/event-channel = ""   (n1)
/local/domain/1/device/vif/0 = ""   (n1,r0)
/local/domain/1/device/vif/0/backend = "/local/domain/0/backend/vif/1/0"   \
(n1,r0)
/local/domain/1/device/vif/0/state = "1"   (n1,r0)
/local/domain/1/device/vif/0/mtu = "1500"   (n0,r1)
'''

FIRMWARE_STORE = CREATED_STORE.replace('state = "1"', 'state = "4"').replace(
    'state = "2"', 'state = "4"').replace(
        '/local/domain/1/device/vif/0/mtu = "1500"   (n0,r1)\n', '') + '''\
/local/domain/1/device/vif/0/tx-ring-ref = "12"   (n1,r0)
/local/domain/1/device/vif/0/queue-0/event-channel-tx = "7"   (n1,r0)
'''

FIRMWARE_LOG = '''\
SeaBIOS (version 1.16.2-debian-1.16.2-1)\r
PVFW: vbd/51712 ring-ref 8 port 5\r
PVFW: vbd/51712 works\r
PVFW: vbd/51728 ring-ref 10 port 6\r
PVFW: vbd/51728 works\r
PVFW: vif/0 queue-0/tx-ring-ref 12 queue-0/rx-ring-ref 13 port 7\r
PVFW: vif/0 queue-1/tx-ring-ref 14 queue-1/rx-ring-ref 15 port 9\r
PVFW: vif/0 broken: backend did not connect\r
PVFW: at firmware\r
PVOS: magic 18898, announcing\r
PVOS: vbd/51712 found in state 4, backend in state 4\r
PVOS: vbd/51712 broken: backend stuck in state 4\r
PVOS: vbd/51728 works\r
PVOS: vbd/51728 lost: read timed out\r
PVOS: vif/0 works\r
PVOS: vif/0 still works\r
PVOS: at done\r
'''

IPXE = '''\
iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware
Registered SAN device 0x80
Booting from SAN device 0x80
'''

WATCHED = '''\
54.079 /local/domain/3/device/vbd/51712/state = 1
61.781 /local/domain/3/device/vbd/51712/state = 5
82.703 /local/domain/3/device/vbd/51712/state = 5
82.729 /local/domain/0/backend/vbd/3/51712/state = 5
82.949 /local/domain/3/device/vbd/51712/state = 1
83.015 /local/domain/0/backend/vbd/3/51712/state = 2
83.122 /local/domain/3/device/vbd/51728/state = 6
83.353 /local/domain/0/backend/qdisk/3/51728/state = 6
83.425 /local/domain/0/backend/qdisk/3/51728/state = 2
99.027 /local/domain/3/device/vif/0/state = 6
99.127 /local/domain/0/backend/vif/3/0/state = 6
'''

CONSOLE = '''\
GUEST[29.27]: xvda says 'LABDISK0 sector 5'\r
GUEST[34.79]: ping 3 packets transmitted, 1 packets received, 66% packet loss\r
GUEST[36.09]: ready\r
GUEST[36.80]: all disks: xvda xvdb \r
GUEST[40.70]: alive 0 1 vCPUs xvda 'LABDISK0 sector 0' xvdb \
'LABDISK1 sector 0' eth0 3 packets transmitted, 3 packets received, 0% packet \
loss\r
[   44.376884] Freezing user space processes\r
[   44.410261] Freezing user space processes completed (elapsed 0.023 seconds)\r
GUEST[56.88]: alive 1 1 vCPUs xvda 'LABDISK0 sector 1' xvdb \
'LABDISK1 sector 1' eth0 3 packets transmitted, 3 packets received, 0% packet \
loss\r
GUEST[60.09]: alive 2 3 vCPUs xvda 'LABDISK0 sector 2' xvdb '' eth0 3 packets \
transmitted, 0 packets received, 100% packet loss eth1 3 packets transmitted, \
1 packets received, 66% packet loss\r
[   60.224631] Freezing user space processes\r
'''


class Parts(unittest.TestCase):
    def test_connection(self):
        ring = 'req_cons 9\nreq_prod 11\nrsp_cons 4294967295\nrsp_prod 17\n'
        both = {'requests': 2, 'replies': 18, 'watches': 1}
        self.assertEqual(evidence.parse_connection(
            ring + 'Domain 1:\nnodes           :       53\n'
            'watches         :        1\n'
            'transactions     :       10 (max       10)\n'),      # Xen 4.20
            {**both, 'transactions': 10})
        for needed, half in ('16', False), ('9', True):
            self.assertEqual(evidence.parse_connection(
                ring + 'watches 1\nxenbus: XenBus state: partial_in: '
                f'{needed} needed, partial_out: 0 bytes\n'),
                {**both, 'half a request': half})
        self.assertFalse(evidence.parse_connection(''))

    def test_grants(self):
        grants = evidence.parse_grants(FIRMWARE_XEN, 1)
        self.assertEqual(sorted(grants), [8, 10, 12, 13])
        self.assertEqual(grants[10], (0x12f808, 2, 0xc08, 0))
        self.assertEqual(evidence.parse_grants(FIRMWARE_XEN, 0), {})
        self.assertEqual(evidence.parse_grants(FIRMWARE_XEN, 11), {})
        served = evidence.parse_grants(FIRMWARE_XEN.replace(
            '[0x00c]      0', '[0x00c]     17'), 1)
        self.assertEqual({ref: by for ref, (_, _, _, by) in served.items()},
                         {8: 0, 10: 0, 12: 17, 13: 0})

    def test_ipxe(self):
        frontends = {
            'vif/0': {'state': 4, 'keys': {
                'tx-ring-ref': '57', 'rx-ring-ref': '40',
                'event-channel': '5'}},
            'vbd/51712': {'state': 1, 'keys': {}}}
        booted = IPXE + 'PVFW: at begin\n'
        nic = {'closed': False, 'ports': [5],
               'rings': {'tx-ring-ref': 57, 'rx-ring-ref': 40}}
        self.assertEqual(evidence.parse_ipxe(booted, frontends),
                         {'vif/0': {'works': True, **nic}})
        loaded = 'iPXE\nhttp://192.0.2.1/initrd... 31%\b\b\b\b    71% ok\n'
        self.assertEqual(evidence.parse_ipxe(loaded, frontends),
                         {'vif/0': {'works': True, **nic}})
        self.assertEqual(evidence.parse_ipxe(loaded[:-5], frontends),
                         {'vif/0': {'works': False, **nic}})
        self.assertEqual(evidence.parse_ipxe(IPXE, frontends),
                         {'vif/0': {'works': False, **nic}})
        self.assertEqual(evidence.parse_ipxe(FIRMWARE_LOG, frontends), {})

    def test_ports(self):
        self.assertEqual(evidence.parse_ports(DONE_XEN, 1),
                         {4: 3, 5: 3, 6: 3, 7: 2, 8: 3})

    def test_resets(self):
        self.assertEqual(evidence.parse_resets(WATCHED, '3', 70, 90),
                         (['vbd/51712', 'vbd/51728'], 82.703, 83.425))
        self.assertEqual(evidence.parse_resets(WATCHED, '3', 84, 90),
                         ([], None, None))
        self.assertEqual(evidence.parse_resets(WATCHED, '3', 70, 100)[1:],
                         (82.703, None))

    def test_walks(self):
        self.assertEqual(evidence.parse_walks(WATCHED, '3', 60, 83), {
            'vbd/51712': [5, 5, 1]})

    def test_traces(self):
        self.assertEqual(evidence.parse_traces('domain x\n', DONE_XEN, '1'), [
            'domain x', '(XEN)       28 [0/0/  -   ]: s=3 n=0 x=0 d=1 p=5',
            '(XEN) Event channel information for domain 1:',
            '(XEN) grant-table for remote d1 (v1)'])
        self.assertEqual(evidence.parse_traces('', DONE_XEN, '11'), [])

    def test_alive(self):
        first, second, third = evidence.parse_alive(CONSOLE.replace('\r', ''))
        self.assertEqual(first['sector'], 0)
        self.assertEqual(second, {
            'sector': 2, 'vcpus': 3,
            'disks': {'xvda': 'LABDISK0 sector 2', 'xvdb': ''},
            'nics': {'eth0': False, 'eth1': True}})
        self.assertIsNone(third)

    def test_replies(self):
        self.assertEqual(evidence.parse_replies(
            'a {"return": {"b": 1}}\nc {"return": 2}\n'
            'd {"error": {"class": "GenericError"}}\ne '),
            {'a': {'b': 1}, 'c': 2, 'd': None})
        self.assertEqual(evidence.parse_replies(
            'a {"return": 2}\n'
            'xen-fw-handoff {"return": {"state": "done", "failed": 0}}\n'),
            {'a': 2, 'state': 'done', 'failed': 0})


    def test_firmware(self):
        self.assertEqual(evidence.parse_firmware(
            'PVFW: vbd/51712 ring-ref0 8 ring-ref1 9 port 5\n'
            'PVFW: vbd/51712 works\nPVFW: vbd/51712 closed\n'),
            {'vbd/51712': {'works': True, 'closed': True, 'ports': [5],
                           'rings': {'ring-ref0': 8, 'ring-ref1': 9}}})

    def test_bios(self):
        frontends = {
            'vbd/51776': {'state': 4, 'keys': {
                'ring-ref': '511', 'event-channel': '5', 'state': '4'}},
            'vbd/51792': {'state': 1, 'keys': {}},
            'vif/0': {'state': 4, 'keys': {'event-channel': '6'}}}
        disk = {'works': True, 'closed': False, 'ports': [5],
                'rings': {'ring-ref': 511}}
        for booted in ('INT13: begins on drive 128 at step 0\n',
                       'PVOS: magic 18898, announcing\n',
                       'Loading vmlinuz... ok\n',
                       '\x1b[1;1Hthe loader reads Linux\n'):
            self.assertEqual(evidence.parse_bios(booted, frontends),
                             {'vbd/51776': disk})
        self.assertEqual(evidence.parse_bios('No bootable device.\n',
                                             frontends),
                         {'vbd/51776': disk | {'works': False}})

    def test_int13(self):
        self.assertEqual(
            evidence.parse_int13(
                'INT13: begins on drive 128 at step 0\n'
                'INT13: drive 128 FAILS: 42: read, 8 sectors, at 64: 4\n'
                'INT13: drive 128 is disk 4, 32768 sectors, read-only 0: '
                '246 checks, 1 failed\n'
                'INT13: begins on drive 128 at step 2\n'
                'INT13: late: status 128 after 3 million cycles\n',
                'disk 4: 510 sectors written rightly, 1 wrongly, 2 not at all; '
                '3 beside\n'),
            {'steps': [0, 2],
             'disks': {4: {'drive': 128, 'sectors': 32768, 'read_only': False,
                           'checks': 246, 'failed': 1}},
             'failures': ['drive 128 FAILS: 42: read, 8 sectors, at 64: 4'],
             'late': [128],
             'images': {4: {'right': 510, 'wrong': 1, 'none': 2,
                            'beside': 3}}})

    def test_first_line_seconds(self):
        events = {'started': 2.0, 'snapshot firmware': 5.0, 'first-line': 11.0}
        self.assertIsNone(evidence.first_line_seconds(events))
        self.assertIsNone(evidence.first_line_seconds({'loads': 7.0}))
        self.assertEqual(evidence.first_line_seconds(events | {'loads': 7.0}),
                         7.0)

    def test_soak(self):
        self.assertEqual(evidence.parse_soak('round 1 ports 20\nround 2 '
                                             'ports 21\n'),
                         [{'round': 1, 'ports': 20}, {'round': 2, 'ports': 21}])

    def test_loader(self):
        self.assertIsNone(evidence.parse_loader(FIRMWARE_LOG))
        self.assertEqual(evidence.parse_loader(
            'PVOS: loader: 8 reads right, 0 wrong, 9 in flight; '
            'then nothing came\n'),
            {'right': 8, 'wrong': 0, 'in_flight': 9, 'then': 'nothing came'})


class Scenario(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.dir = Path(temp.name) / 'naive'
        self.dir.mkdir()
        for name, text in {
                'status': '0\n', 'domid': '1\n',
                'events.log': '1.0 created\n2.5 snapshot firmware\n'
                              '3.0 snapshot done\n',
                'firmware.log': FIRMWARE_LOG,
                'qemu-dm.log': 'x\nqemu-dm: info: xen-fw-handoff: vif/0\n',
                'written.log': "LAB[32.21]: naive: disk 1: sector 7 says "
                                "'written by PVOS'\n",
                'snapshot-created-xenstore.txt': CREATED_STORE,
                'snapshot-firmware-xenstore.txt': FIRMWARE_STORE,
                'snapshot-firmware-xen.txt': FIRMWARE_XEN,
                'snapshot-firmware-grants.txt': '11 0x1 0 0xc09\n',
                'snapshot-done-xenstore.txt': FIRMWARE_STORE,
                'snapshot-done-xen.txt': DONE_XEN}.items():
            (self.dir / name).write_text(text, newline='')

    def test_all(self):
        facts = evidence.evidence(self.dir)
        self.assertEqual(facts['status'], 0)
        self.assertEqual(facts['firmware']['vif/0'], {
            'works': False, 'reason': 'backend did not connect',
            'closed': False, 'ports': [7, 9], 'rings': {
                'queue-0/tx-ring-ref': 12, 'queue-0/rx-ring-ref': 13,
                'queue-1/tx-ring-ref': 14, 'queue-1/rx-ring-ref': 15}})
        self.assertEqual(facts['devices'], {
            'vbd/51712': {'works': False, 'still_works': None,
                          'reason': 'backend stuck in state 4'},
            'vbd/51728': {'works': True, 'still_works': False,
                          'reason': 'read timed out'},
            'vif/0': {'works': True, 'still_works': True, 'reason': None}})
        self.assertEqual(facts['written'], {1: 'written by PVOS'})
        self.assertEqual(facts['dm_log'],
                         ['qemu-dm: info: xen-fw-handoff: vif/0'])
        self.assertEqual(list(facts['snapshots']),
                         ['created', 'firmware', 'done'])
        firmware = facts['snapshots']['firmware']
        self.assertEqual(firmware['frontend_states'], {'vif/0': 4})
        self.assertEqual(firmware['backend_states'], {'vif/0': 4})
        self.assertEqual(firmware['keys']['vif/0'], {
            'extra': ['queue-0/event-channel-tx', 'tx-ring-ref'],
            'missing': ['mtu']})
        self.assertEqual(firmware['firmware_mapped'], [8, 10, 12, 13])
        self.assertEqual(firmware['pinned_to_old_frame'], [])
        self.assertEqual(firmware['firmware_ports_bound'], [5, 6, 7])
        done = facts['snapshots']['done']
        self.assertEqual(done['firmware_mapped'], [8, 10, 11])
        self.assertEqual(done['pinned_to_old_frame'], [8, 10])
        self.assertEqual(done['firmware_ports_bound'], [5, 6])
        self.assertNotIn('linux', facts)
        self.assertNotIn('before', facts)
        self.assertEqual(facts['product_writes'], 0)

    def test_before(self):
        before = self.dir / 'before'
        before.mkdir()
        (before / 'domid').write_text('7\n')
        (before / 'qemu-dm.log').write_text(
            "memory_region_ops_write cpu -1 mr 0x1 addr 0x12 value 0x3 size 2 "
            "name 'xen-fw-handoff'\n"
            "memory_region_ops_write cpu -1 mr 0x2 addr 0x12 value 0x3 size 2 "
            "name 'xen-fixed'\n")
        (self.dir / 'console.log').write_text(CONSOLE, newline='')
        facts = evidence.evidence(self.dir)
        self.assertEqual(facts['domid'], 1)
        self.assertEqual(facts['before']['domid'], 7)
        self.assertEqual(facts['before']['product_writes'], 1)
        self.assertEqual(facts['linux']['disks'],
                         {'xvda': 'LABDISK0 sector 5'})
        self.assertEqual(facts['linux']['all_disks'], ['xvda', 'xvdb'])
        self.assertTrue(facts['linux']['ping'])

    def test_held(self):
        self.assertEqual(evidence.parse_held(
            '{"return": "portb[0x03ff] = 0x00\\r\\n"}\n'
            '{"return": "portb[0x03ff] = 0x02\\r\\n"}\n'
            '200 replies, the slowest after 12.5 ms\n'),
            {'port': [0, 2], 'replies': 200, 'slowest_ms': 12.5,
             'let_go': False})

    def test_nothing_there(self):
        empty = self.dir.parent / 'empty'
        empty.mkdir()
        facts = evidence.evidence(empty)
        self.assertIsNone(facts['status'])
        self.assertEqual(facts['snapshots'], {})


if __name__ == '__main__':
    unittest.main()

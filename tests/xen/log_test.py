"""What scripts/xen-fw-handoff-log makes of a log.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import contextlib
import importlib.machinery
import importlib.util
import io
from pathlib import Path
import re
import tempfile
import unittest

TOP = Path(__file__).resolve().parent.parent.parent
loader = importlib.machinery.SourceFileLoader(
    'handoff_log', str(TOP / 'scripts' / 'xen-fw-handoff-log'))
handoff_log = importlib.util.module_from_spec(
    importlib.util.spec_from_loader('handoff_log', loader))
loader.exec_module(handoff_log)

# two lives; the guest's own line lies
LOG = '''\
char device redirected to /dev/pts/3 (label serial0)
qemu-dm: info: xen-fw-handoff: armed for domain 5
qemu-dm: info: xen-fw-handoff: vbd/51712: connected by the firmware
qemu-dm: info: xen-fw-handoff: announced by product number 3 (Linux) at port 0x12
qemu-dm: info: xen-fw-handoff: vbd/51712: handed off in 0.9 ms: /local/domain/0/backend/vbd/5/51712 is in InitWait
qemu-dm: info: xen-fw-handoff: grants: 5 of the firmware cleared, 0 left because a backend uses them
qemu-dm: info: xen-fw-handoff: done in 1.2 ms: 1 handed off, 0 given up, 0 failed, 0 left alone
qemu-dm: info: xen-fw-handoff: armed for domain 5
qemu-dm: info: xen-fw-handoff: announced by unplug mask 0x3 at port 0x10
qemu-dm: warning: xen-fw-handoff: vbd/51712: given up after 2000.0 ms: /local/domain/7/backend/vbd/5/51712 hangs in Connected, it should be in Closing; look at the backend's domain, the guest may lack this device
qemu-dm: info: xen-fw-handoff: vif/0: left alone in state Connected: the OS connected it
qemu-dm: info: xen-fw-handoff: done in 2000.5 ms: 0 handed off, 1 given up, 0 failed, 1 left alone
qemu-dm: info: xen-fw-handoff: guest: warning: xen-fw-handoff: vbd/1: failed after 1.0 ms: no
'''


class Log(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / 'qemu-dm-web.log'
            path.write_text(text)
            return handoff_log.read_log(path)

    def test_lives(self):
        first, second = self.read(LOG)
        self.assertEqual(
            [first[k] for k in ('guest', 'domain', 'state', 'announcement',
                                'handed off', 'grants cleared', 'ms')],
            ['web', 5, 'done', 'product number 3 (Linux) at port 0x12', 1, 5,
             1.2])
        self.assertEqual(
            [second[k] for k in ('handed off', 'given up', 'failed',
                                 'left alone')], [0, 1, 0, 1])
        self.assertEqual([f['result'] for f in second['frontends']],
                         ['given up', 'left alone'])
        self.assertEqual(len(second['problems']), 1)
        self.assertIn("look at the backend's domain", second['problems'][0])

    def test_table(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            handoff_log.table(self.read(LOG)[1:])
        head, line, left_alone, given_up = out.getvalue().splitlines()
        self.assertEqual(line.split(), [
            'web', '5', 'done', '0', '1', '0', '1', '0', '2000.5',
            *'unplug mask 0x3 at port 0x10'.split()])
        self.assertEqual(
            left_alone.strip(),
            'vif/0: left alone: Connected: the OS connected it')
        self.assertTrue(given_up.startswith('    vbd/51712: given up after '))

    def test_refused(self):
        for options in '', ',timeout-ms=60001':
            life, = self.read(f'qemu-dm: -device xen-fw-handoff{options}: at '
                              'most one xen-fw-handoff device is permitted\n')
            self.assertEqual(life['state'], 'refused')
            self.assertEqual(life['problems'], [
                'at most one xen-fw-handoff device is permitted'])

    def test_forged(self):
        """A guest's own line is nothing else, whatever it says."""
        for forged in ('-device xen-fw-handoff: no', 'qemu-dm: -device '
                       'xen-fw-handoff: no', 'info: xen-fw-handoff: armed '
                       'for domain 7', 'warning: xen-fw-handoff: inert, no',
                       'x\rqemu-dm: warning: xen-fw-handoff: inert, no'):
            life, = self.read('qemu-dm: info: xen-fw-handoff: armed for '
                              'domain 5\nqemu-dm: info: xen-fw-handoff: '
                              f'guest: {forged}\n')
            self.assertEqual((life['state'], life['domain'],
                              life['problems']), ('armed', 5, []))

    def test_timestamp(self):
        life, = self.read('2026-11-21T12:00:00.000000Z qemu-dm: info: '
                          'xen-fw-handoff: armed for domain 5\n')
        self.assertEqual(life['domain'], 5)

    def test_request(self):
        """What a firmware had torn down before counts, and its time."""
        life, = self.read(LOG.split('armed for domain 5\nqemu-dm: info: '
                                    'xen-fw-handoff: announced')[0]
                          .rpartition('\n')[0]
                          + '\nqemu-dm: info: xen-fw-handoff: done: the '
                          'firmware left nothing\n')
        self.assertEqual((life['handed off'], life['ms']), (1, 1.2))

    def test_other_states(self):
        for text, state in (
                ('warning: xen-fw-handoff: inert, no announcement', 'inert'),
                ('info: xen-fw-handoff: not armed: the guest is restored, its '
                 "connections are its OS's", 'restored'),
                ('info: xen-fw-handoff: announced by unplug mask 0x3 at port '
                 '0x10\nqemu-dm: warning: xen-fw-handoff: connections of the '
                 'firmware will stay: no', 'done')):
            life, = self.read(f'qemu-dm: {text}\n')
            self.assertEqual(life['state'], state)

    def test_nothing(self):
        self.assertEqual(self.read('qemu-dm: warning: something else\n'), [])

    def test_every_frontend_line_of_the_spec(self):
        spec = (TOP / 'docs/specs/xen-fw-handoff.txt').read_text()
        lines = re.findall(r'^``(<frontend>: [^`]+ms[^`]+)``$', spec, re.M)
        self.assertGreater(len(lines), 4)
        for line in lines:
            line = line.replace('<frontend>', 'vbd/1').replace('<ms>', '1.0')
            life, = self.read(f'qemu-dm: info: xen-fw-handoff: {line}\n')
            self.assertEqual(len(life['frontends']), 1, line)


if __name__ == '__main__':
    unittest.main()

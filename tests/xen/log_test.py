"""What scripts/xen-fw-handoff-log makes of a log.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
from pathlib import Path
import tempfile
import unittest
import unittest.mock

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
qemu-dm: info: xen-fw-handoff: done in 1.2 ms: 1 handed off, 0 timed out, 0 failed, 0 skipped, 5 grants cleared, 0 in use
qemu-dm: info: xen-fw-handoff: armed for domain 5
qemu-dm: info: xen-fw-handoff: announced by unplug mask 0x3 at port 0x10
qemu-dm: warning: xen-fw-handoff: vbd/51712: timed out after 2000.0 ms: /local/domain/7/backend/vbd/5/51712 is stuck in Connected instead of Closed; check the backend's domain; the guest may lack this device
qemu-dm: info: xen-fw-handoff: vif/0: skipped in state Connected: the OS connected it
qemu-dm: info: xen-fw-handoff: done in 2000.5 ms: 0 handed off, 1 timed out, 0 failed, 1 skipped, 0 grants cleared, 1 in use
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
            [second[k] for k in ('handed off', 'timed out', 'failed',
                                 'skipped', 'grants left')], [0, 1, 0, 1, 1])
        self.assertEqual(second['notes'], [
            'vif/0: skipped in state Connected: the OS connected it'])
        self.assertEqual(len(second['problems']), 1)
        self.assertIn("check the backend's domain", second['problems'][0])

    def test_table(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            handoff_log.table(self.read(LOG)[1:])
        head, line, timed_out, skipped = out.getvalue().splitlines()
        self.assertEqual(line.split(), [
            'web', '5', 'done', '0', '1', '0', '1', '0', '2000.5',
            *'unplug mask 0x3 at port 0x10'.split()])
        self.assertEqual(skipped, '    vif/0: skipped in state Connected: the '
                         'OS connected it')
        self.assertTrue(timed_out.startswith('    vbd/51712: timed out after '))

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

    def test_no_number(self):
        """A QEMU that its guest has broken into does not hide the others."""
        armed = 'qemu-dm: info: xen-fw-handoff: armed for domain 5\n'
        done = LOG.splitlines(keepends=True)[5]
        for was, number in (('1.2', '1.2.3'), ('1.2', '.'), ('1.2', '1' * 400),
                            ('1 handed', '1' * 5000 + ' handed')):
            life, = self.read(armed + done.replace(was, number))
            self.assertEqual((life['ms'], life['handed off']), (None, 0))
        self.read(armed.replace('5', '1' * 5000))

    def printed(self, lives):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            handoff_log.table(lives)
        return out.getvalue().splitlines()

    def test_terminal(self):
        """Nor does it command the administrator's terminal."""
        lives = self.read('qemu-dm: warning: xen-fw-handoff: \x1b[5A\x9b[J\n')
        self.assertEqual(self.printed(lives)[2:], ['    ?[5A?[J'])

    def test_without_end(self):
        """Nor does it bury them, or use up the host's memory."""
        line = 'qemu-dm: warning: xen-fw-handoff: x\n'
        self.assertEqual(self.printed(self.read(line * 60))[2:],
                         ['    x'] * 50 + ['    and 10 more, see its log'])
        armed = 'qemu-dm: info: xen-fw-handoff: armed for domain 5\n'
        n = handoff_log.MAX_LINES // len(armed)
        self.assertEqual(len(self.read(armed * (n + 9))), n)

    def test_follow(self):
        """The end of a log that is rotated, and the new one from its start."""
        say = 'qemu-dm: info: xen-fw-handoff: {}\n'.format
        refused = 'qemu-dm: -device xen-fw-handoff: no\n'
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / 'qemu-dm-web.log'
            log.write_text(say('before'))

            def rotate():
                with log.open('a') as f:
                    f.write(say('last'))
                log.rename(f'{log}.1')
                log.write_text(say('new') + refused)

            turns = [lambda: log.write_text(say('before') + say('more')),
                     rotate, lambda: log.write_text(say('less'))]

            def sleep(_):
                if not turns:
                    raise KeyboardInterrupt
                turns.pop(0)()

            out = io.StringIO()
            with contextlib.redirect_stdout(out), \
                    contextlib.suppress(KeyboardInterrupt), \
                    unittest.mock.patch.object(handoff_log.time, 'sleep',
                                               sleep):
                handoff_log.follow(lambda: [str(log)])
        self.assertEqual(out.getvalue().splitlines(), [
            f'web: {what}' for what in ('more', 'last', 'new', 'no', 'less')])

    def test_renamed(self):
        """A log that has gone since it was listed, and a link to nowhere."""
        with tempfile.TemporaryDirectory() as directory:
            web = Path(directory) / 'qemu-dm-web.log'
            gone = Path(directory) / 'qemu-dm-gone.log'
            web.write_text(LOG)
            (web.parent / 'qemu-dm-link.log').symlink_to('nowhere')
            getmtime = os.path.getmtime

            def renamed(path):
                gone.unlink(missing_ok=True)
                return getmtime(path)

            gone.write_text(LOG)
            out = io.StringIO()
            with contextlib.redirect_stdout(out), \
                    unittest.mock.patch.multiple(
                        handoff_log, LOGS=f'{directory}/qemu-dm-*.log',
                        xenstore=lambda *_: ''), \
                    unittest.mock.patch('sys.argv', ['xen-fw-handoff-log']), \
                    unittest.mock.patch('os.path.getmtime', renamed):
                handoff_log.main()
        self.assertEqual([line.split()[0] for line in
                          out.getvalue().splitlines()],
                         ['GUEST', 'web', 'vbd/51712:', 'vif/0:'])

    def test_timestamp(self):
        life, = self.read('2026-11-21T12:00:00.000000Z qemu-dm: info: '
                          'xen-fw-handoff: armed for domain 5\n')
        self.assertEqual(life['domain'], 5)

    def test_request(self):
        """What a firmware had torn down before counts, and its time."""
        done = LOG.splitlines(keepends=True)[5]
        life, = self.read('qemu-dm: info: xen-fw-handoff: armed for domain 5\n'
                          + done + done)
        self.assertEqual([life[k] for k in ('state', 'handed off', 'ms')],
                         ['armed', 2, 2.4])

    def test_other_states(self):
        for text, state in (
                ('warning: xen-fw-handoff: inert, no announcement', 'inert'),
                ('info: xen-fw-handoff: not armed: the guest is restored, its '
                 "connections are its OS's", 'restored'),
                ('info: xen-fw-handoff: announced by unplug mask 0x3 at port '
                 '0x10', 'handing-off')):
            life, = self.read(f'qemu-dm: {text}\n')
            self.assertEqual(life['state'], state)

    def test_migrated(self):
        """The log that is written to by now has the last word."""
        was, armed = LOG.splitlines(keepends=True)[9], LOG.splitlines()[6]
        for newer in 'qemu-dm-web.log', 'qemu-dm-web--incoming.log':
            with tempfile.TemporaryDirectory() as directory:
                paths = [Path(directory) / 'qemu-dm-web--incoming.log',
                         Path(directory) / 'qemu-dm-web.log',
                         Path(directory) / 'qemu-dm-xylo.log']
                for path in paths:
                    is_newer = path.name == newer
                    path.write_text(armed if is_newer else was)
                    os.utime(path, (is_newer, is_newer))
                web, xylo = handoff_log.read_logs(paths)
            self.assertEqual([(life['guest'], life['state']) for life in web],
                             [('web', 'unknown'), ('web', 'armed')])
            self.assertEqual(xylo[-1]['guest'], 'xylo')

    def test_nothing(self):
        self.assertEqual(self.read('qemu-dm: warning: something else\n'), [])

    def test_running(self):
        """Xenstore has the last word of a guest that runs, and names others."""
        node = '/local/domain/0/device-model'
        stub = '/local/domain/9/device-model'
        answers = {
            ('xenstore-list', '/local/domain'): '0\n5\n7\n9\n10\n',
            ('xenstore-ls', '-f', stub): f"""\
{stub}/10/fw-handoff/state = "armed"
{stub}/5/fw-handoff/state = "armed"
""",
            ('xenstore-read',
             '/local/domain/10/image/device-model-domid'): '9\n',
            ('xenstore-read', '/local/domain/10/name'): 'stubbed\n',
            ('xenstore-ls', '-f', node): f"""\
{node} = ""
{node}/5 = ""
{node}/5/state = "running"
{node}/5/fw-handoff = ""
{node}/5/fw-handoff/handed-off = "2"
{node}/5/fw-handoff/timed-out = "0"
{node}/5/fw-handoff/failed = "0"
{node}/5/fw-handoff/skipped = "1"
{node}/5/fw-handoff/announcement = "unplug mask 0x3 at port 0x10"
{node}/5/fw-handoff/state = "done"
{node}/6/state = "running"
{node}/7/fw-handoff/announcement = ""
{node}/7/fw-handoff/state = "armed"
{node}/8/fw-handoff/state = "armed"
{node}/{'1' * 5000}/fw-handoff/state = "armed"
{node}/11/fw-handoff/handed-off = "lol"
{node}/11/fw-handoff/timed-out = "{'1' * 5000}"
{node}/11/fw-handoff/failed = ""
{node}/11/fw-handoff/skipped = "-1"
{node}/11/fw-handoff/state = "done"
""",
            ('xenstore-read', '/local/domain/5/name'): 'web\n',
            ('xenstore-read', '/local/domain/7/name'): 'mail\n',
            ('xenstore-read', '/local/domain/11/name'): 'taken\n',
        }
        with unittest.mock.patch.object(handoff_log, 'xenstore',
                                        lambda *c: answers.get(c, '')):
            lives = handoff_log.ask_running([self.read(LOG), []])
        web, _, mail, taken, stubbed = [log[-1] if log else None for log in lives]
        self.assertEqual(
            [web[k] for k in ('domain', 'state', 'announcement', 'handed off',
                              'timed out', 'skipped', 'ms')],
            [5, 'done', 'unplug mask 0x3 at port 0x10', 2, 0, 1, 2000.5])
        self.assertEqual(
            [mail[k] for k in ('guest', 'domain', 'state', 'announcement',
                               'handed off', 'problems')],
            ['mail', 7, 'armed', None, 0, []])
        self.assertEqual([taken[k] for k in ('guest', *handoff_log.COUNTS)],
                         ['taken', 0, 0, 0, 0])
        self.assertEqual([stubbed[k] for k in ('guest', 'domain', 'state')],
                         ['stubbed', 10, 'armed'])

    def test_no_xenstore(self):
        self.assertEqual(handoff_log.xenstore('/nowhere/xenstore-ls'), '')


if __name__ == '__main__':
    unittest.main()

"""QEMU's own Xen: guests of KVM in a machine that QEMU's TCG nests.

The machine is a kernel of Debian's with KVM_XEN and busybox.  Its shell, and
the COM1 and QMP of the guest that runs in it, are ports of virtio-serial, so
all that is done there is said here.  A story is a guest's life, from which
come checks: (what, what there is, what there has to be).

SPDX-License-Identifier: GPL-2.0-or-later
"""

import contextlib
import fcntl
import functools
import json
from pathlib import Path
import re
import shutil
import socket
import subprocess
import tempfile
import time

import checks as chk
import evidence
import lab

BIOS = lab.TOP / 'build' / 'bios-256k.bin'
QTEST = lab.TOP / 'build' / 'qemu' / 'build' / 'tests/qtest/xen-handoff-test'
OUT = lab.TOP / 'build' / 'xen' / 'kvm'
PORTS = 'shell', 'qmp', 'com1'
TAP = '-netdev tap,id=n0,ifname=tap0,script=no,downscript=no'
NIC = f'{TAP} -device xen-net-device,netdev=n0,mac=00:16:3e:11:11:11'
ROM = '-fw_cfg name=genroms/labfw.rom,file=/guest/labfw.rom'
LINUX = '-kernel /guest/vmlinuz -initrd /guest/initrd'
WORDS = ('console=ttyS0 mitigations=off nokaslr random.trust_cpu=on audit=0 '
         'apparmor=0 cryptomgr.notests no_timer_check')


def disk(n, kind='if=xen'):
    return f'-drive file=/tmp/disk{n}.img,format=raw,{kind}'


def named_disk(n, options=''):
    """One that the monitor can speak of."""
    return (f'{disk(n, f"if=none,id=b{n}")} '
            f'-device xen-disk,drive=b{n},vdev=xvd{"abc"[n]},id=d{n}{options}')


DEVICES = f'{disk(0)} {disk(1)} {NIC}'


class Lost(Exception):
    """What we wait for does not come."""


class Port:
    """A port of virtio-serial: what has come, and what of it is not read."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.text, self.at = '', 0

    def send(self, text):
        self.socket.settimeout(30)
        self.socket.sendall(text.encode())

    def poll(self, seconds):
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            data = self.socket.recv(65536)
            if not data:
                raise Lost('the machine has ended')
            self.text += data.decode(errors='replace').replace('\r', '')

    def expect(self, pattern, seconds):
        """The next match of @pattern; what is before it is read then."""
        end = time.monotonic() + seconds * lab.PATIENCE
        while not (m := re.compile(pattern, re.M).search(self.text, self.at)):
            if time.monotonic() > end:
                raise Lost(f"no '{pattern}' within {seconds} s, but "
                           f'{self.text[self.at:][-300:]!r}')
            self.poll(0.2)
        self.at = m.end()
        return m

    def begin(self):
        """Forget what has come."""
        self.poll(0.01)
        self.text, self.at = '', 0


class Machine:
    """The one with KVM."""

    def __init__(self, stack):
        image = lab.HOST.image.resolve()
        in_use = stack.enter_context(open(image / 'in-use'))
        fcntl.flock(in_use, fcntl.LOCK_SH)
        work = Path(tempfile.mkdtemp(prefix='xenkvm.', dir='/tmp'))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        shutil.copy(lab.HOST.qemu, work / 'outer')
        with open(work / 'initrd', 'wb') as initrd:
            initrd.write((image / 'kvm.cpio').read_bytes())
            initrd.write(self.files(work / 'root'))
        ports = [arg for name in PORTS for arg in (
            '-chardev', f'socket,id={name},path={work}/{name},server=on,'
            'wait=off', '-device', f'virtserialport,chardev={name}')]
        process = subprocess.Popen([
            work / 'outer', '-accel', 'tcg,thread=multi',
            '-cpu', 'max,-rdtscp', '-M', 'q35', '-m', '3G', '-nodefaults',
            '-display', 'none', '-no-reboot', '-L', image / 'bios',
            '-serial', f'file:{OUT}/serial.log',
            '-device', 'virtio-serial-pci', *ports,
            '-kernel', image / 'kvm-vmlinuz', '-initrd', work / 'initrd',
            '-append', 'console=ttyS0 mitigations=off nokaslr ipv6.disable=1 '
            'panic=-1 quiet'], stdin=subprocess.DEVNULL,
            stderr=stack.enter_context(open(OUT / 'qemu.log', 'w')))
        stack.callback(lab.stop, process)
        while not all((work / name).exists() for name in PORTS):
            if process.poll() is not None:
                raise Lost('QEMU does not start')
            time.sleep(0.05)
        self.shell, self.qmp, self.com1 = (Port(work / name) for name in PORTS)
        self.run('true', 60)

    @staticmethod
    def files(root):
        """What is under test, and its libraries, as an initrd."""
        for part in ('usr/bin', 'usr/share/qemu', 'lib64',
                     'lib/x86_64-linux-gnu'):
            (root / part).mkdir(parents=True)
        programs = [root / 'usr/bin/qemu-system-x86_64',
                    root / 'usr/bin/xen-handoff-test']
        for source, to in zip((lab.HOST.qemu, QTEST), programs):
            subprocess.run(['strip', '-o', to, source], check=True)
        found = subprocess.run(['ldd', *programs, '/bin/true'], check=True,
                               capture_output=True, text=True)
        for lib in set(re.findall(r'(/\S+\.so\S*) \(', found.stdout)):
            part = 'lib64' if 'ld-linux' in lib else 'lib/x86_64-linux-gnu'
            shutil.copy(lib, root / part)
        shutil.copy(BIOS, root / 'usr/share/qemu/xen-bios.bin')
        return subprocess.run(
            'find . | cpio -o -H newc --quiet -R 0:0', shell=True, cwd=root,
            check=True, stdout=subprocess.PIPE).stdout

    def run(self, command, seconds=30):
        """What the machine's shell says of it."""
        self.shell.begin()
        self.shell.send(f'{{ {command}\n}} 2>&1 </dev/null; echo "=== $?"\n')
        m = self.shell.expect(r'^=== \d+$', seconds)
        return self.shell.text[:m.start()]


class Guest:
    """A guest, from its start to QEMU's end."""

    def __init__(self, machine, device, args, options):
        self.machine, self.com1 = machine, machine.com1
        self.device = device
        self.status = None
        lines = [f'{key.replace("_", "-")}={value}'
                 for key, value in {'complete': 1, **options}.items()]
        self.com1.begin()
        machine.qmp.begin()
        for n in range(3):
            self.make_disk(n, '-bios' in args)
        machine.run('cat >/tmp/options <<E\n' + '\n'.join(lines) + '\nE')
        if device:
            args += f' {lab.WITH_DEVICE}'
        self.pid = machine.run(
            'qemu-system-x86_64 -cpu host,+xen-vapic -m 256 -nodefaults '
            '-accel kvm,xen-version=0x40011,kernel-irqchip=split '
            '-display none -L /usr/share/qemu '
            '-fw_cfg name=opt/labfw/options,file=/tmp/options '
            '-chardev pipe,id=qmp,path=/dev/vport0p2 '
            '-mon chardev=qmp,mode=control '
            '-chardev pipe,id=com1,path=/dev/vport0p3 -serial chardev:com1 '
            f'{args} </dev/null >/tmp/qemu.log 2>&1 & echo $!').strip()
        machine.qmp.expect('"QMP"', 30)
        self.qmp('qmp_capabilities')

    def make_disk(self, n, boots):
        """A disk whose sectors say what they are; one that @boots our
        firmware has no such sector 0."""
        san = f'dd if=/guest/san.img of=/tmp/disk{n}.img conv=notrunc bs=512'
        self.machine.run(
            'for s in 0 1 2 3 4 5 6 7 8 9; do '
            f'printf "%-511s\\n" "LABDISK{n} sector $s"; done '
            f'>/tmp/disk{n}.img; truncate -s 16M /tmp/disk{n}.img'
            + (f'; {san} count=1; {san} skip=16 seek=16' if boots else ''))

    def qmp(self, command, **arguments):
        self.machine.qmp.send(json.dumps({
            'execute': command, 'id': 0, 'arguments': {
                key.replace('_', '-'): value
                for key, value in arguments.items()}}) + '\n')
        m = self.machine.qmp.expect(r'^\{.*"id": 0.*\}$', 30)
        reply = json.loads(m[0])
        if 'error' in reply:
            raise Lost(f'QMP: {command}: {reply["error"]["desc"]}')
        return reply['return']

    def hmp(self, line):
        return self.qmp('human-monitor-command', command_line=line)

    def said(self, pattern, seconds):
        try:
            return self.com1.expect(pattern, seconds)
        except Lost as e:
            raise Lost(f'{e}; QEMU says {self.log()[-300:]!r}') from None

    def log(self):
        return self.machine.run('cat /tmp/qemu.log')

    def grants(self):
        """Entries of the first page that permit anything,
        {reference: (domain, frame)}."""
        bar, = (region['address'] for bus in self.qmp('query-pci')
                for dev in bus['devices'] if dev['id']['vendor'] == 0x5853
                for region in dev['regions'] if region['bar'] == 1)
        words = [int(word, 16) for word in re.findall(
            r'0x(\w{8})\b', re.sub('(?m)^.*?:', '',
                                   self.hmp(f'xp /1024wx {bar:#x}')))]
        return {n: (flags >> 16, frame) for n, (flags, frame)
                in enumerate(zip(words[::2], words[1::2]))
                if flags & 3 and n >= evidence.FIRST_GREF}

    def look(self):
        """From the other side: QEMU's view of the guest."""
        return {
            'bound': {port['port'] for port in self.qmp('xen-event-list')
                      if port['type'] == 'interdomain'},
            'grants': self.grants(),
            'info': self.qmp('query-xen-fw-handoff') if self.device else None,
        }

    def reach(self, point, seconds=60):
        """Wait until it is there, and look."""
        self.said(f'^PV(?:FW|OS): at {point}$', seconds)
        return self.look()

    def resume(self, point):
        self.com1.send(f'{point}\n')

    def at(self, point):
        """The same, and let it go on."""
        seen = self.reach(point)
        self.resume(point)
        return seen

    def end(self):
        """Returns QEMU's exit status."""
        self.qmp('quit')
        return int(self.machine.run(f'wait {self.pid}; echo $?', 30))

    def written(self):
        """What the OS has written, of each disk that it has written to."""
        said = self.machine.run(
            'for d in 0 1 2; do echo "$d: $(dd if=/tmp/disk$d.img bs=512 '
            "skip=7 count=1 2>/dev/null | tr -d '\\n')\"; done")
        return {int(n) for n in re.findall('^(\\d): written by PVOS', said,
                                           re.M)}


@contextlib.contextmanager
def guest(machine, device, args=f'{ROM} {DEVICES}', **options):
    with contextlib.ExitStack() as stack:
        g = Guest(machine, device, args, options)
        stack.callback(machine.run, f'kill -9 {g.pid} 2>/dev/null')
        try:
            yield g
        finally:
            name = re.sub(r'\W', '-', machine.story)
            (OUT / f'{name}.com1').write_text(g.com1.text)
            (OUT / f'{name}.log').write_text(g.log())


# --- what has to be so ------------------------------------------------------

def ports(firmware):
    return {port for d in firmware.values() for port in d['ports']}


def connected(firmware, seen, devices):
    """A story begins where it should, and its evidence can be read."""
    yield ('the firmware has connected its devices and used them',
           {d for d in firmware if firmware[d]['works']}, set(devices))
    yield ("QEMU's list shows its event channels bound",
           ports(firmware) - seen['bound'], set())
    yield ('its rings are in the grant table',
           {ref for d in firmware.values() for ref in d['rings'].values()}
           - set(seen['grants']), set())


def left(before, after):
    """References of entries of the grant table that are still there."""
    return {ref for ref, entry in before['grants'].items()
            if after['grants'].get(ref) == entry}


def handed_off(firmware, before, after):
    yield ('no event channel of the firmware is bound',
           ports(firmware) & after['bound'], set())
    yield ('no grant of the firmware is left', left(before, after), set())


def told(seen, by, results):
    if info := seen['info']:
        yield ('QMP says by what, and what became of each',
               [info.get('announcement'),
                {c['frontend']: c.get('result') for c in info['connections']}],
               [by, results])


def os_works(g, devices, text):
    fared = evidence.parse_os(text)
    yield ('every device works for the OS',
           {d: fared.get(d, {}).get('works') for d in devices},
           chk.same(devices, True))
    yield ("what the OS wrote is in the disks' images", g.written(),
           {(int(d[len('vbd/'):]) - 51712) // 16 for d in devices
            if d.startswith('vbd/')})


def linux_works(g):
    m = g.said(r'(?s)GUEST\[[^\n]*: up\n(.*?)GUEST\[[^\n]*: ready', 120)
    yield ('Linux reads both disks',
           dict(re.findall(r"GUEST\[.*?\]: (\w+) says '(.*)'", m[1])),
           {'xvda': 'LABDISK0 sector 5', 'xvdb': 'LABDISK1 sector 5'})
    yield ('Linux pings its host',
           bool(re.search(r'ping .* [1-9]\d* packets received', m[1])), True)
    yield ('Linux found nothing to reset, and nothing strange in xenstore',
           re.findall('triggering reconnect|xenbus: error|is not quiescent',
                      g.com1.text), [])


def ended(g):
    yield ('QEMU ends with status', g.end(), 0)


# --- stories ----------------------------------------------------------------

def one_life(g, devices, late, by, results, points, told_at, all_works):
    """A firmware leaves all connected, an OS takes it over."""
    begun = g.com1.at
    before = g.at(points[0])
    firmware = evidence.parse_firmware(g.com1.text[begun:])
    yield from connected(firmware, before, devices)
    for point in points[1:]:
        after = g.at(point)
        if point == points[1]:
            yield from handed_off(firmware, before, after)
        if point == told_at:
            yield from told(after, by, results)
    yield from os_works(g, all_works or late, g.com1.text[begun:])


def take_over(machine, device, points='firmware announced done',
              devices=chk.ALL, late=chk.ALL, all_works=None, by=chk.LINUX[0],
              results=None, told_at='announced', lives=1, reset=None,
              **options):
    if not device:
        late = chk.DISKS[:1]    # each takes 8 s to fail
    if results is None:
        results = chk.same(devices, 'handed-off')
    with guest(machine, device, firmware=' '.join(devices) or 'none', os=1,
               late=' '.join(late), gates=points, **options) as g:
        for _ in range(lives):
            yield from one_life(g, devices, late, by, results, points.split(),
                                told_at, all_works)
            if reset:
                g.qmp(reset)
        if device:
            yield ('the log has the connections of firmware, and no others',
                   len(re.findall('connected by the firmware', g.log())),
                   lives * len(devices))
        yield from ended(g)


def late_announce(machine, device):
    """OpenBSD's order, with a request and a watch under way in xenstore."""
    with guest(machine, device, firmware='none', os=1,
               order='callback watch early request unplug=3 reply late',
               early=' '.join(chk.ALL), gates='early done') as g:
        before, after = g.at('early'), g.at('done')
        os = evidence.parse_os(g.com1.text)
        yield ('every device works, before and after the announcement',
               {d: [os[d]['works'], os[d]['still_works']] for d in os},
               chk.same(chk.ALL, [True, True]))
        yield ('all that was bound or granted still is',
               [before['bound'] - after['bound'],
                set(before['grants']) - left(before, after)], [set(), set()])
        yield ("the rest of the OS's request is answered, its watch fires",
               'its request was answered, its watch fires' in g.com1.text,
               True)
        yield from told(after, chk.CALLBACK, {})
        yield from ended(g)


def unnamed(machine, device, name, args, **options):
    """A real firmware, which tells nothing, boots an OS."""
    with guest(machine, device, args, firmware='none', os=1, late=name,
               gates='firmware announced done', **options) as g:
        before, after = g.at('firmware'), g.at('announced')
        yield ('the firmware has granted pages', bool(before['grants']), True)
        yield ('announced: its event channel is not bound any more',
               len(before['bound'] - after['bound']), 1)
        yield ('announced: no grant of it is left', left(before, after), set())
        yield from told(after, chk.LINUX[0], {name: 'handed-off'})
        g.at('done')
        yield from os_works(g, [name], g.com1.text)
        yield from ended(g)


# the disk, which is PV only, is what the BIOS boots from
BIOS_DISK = f'-bios xen-bios.bin {disk(0)}'


def ipxe(machine, device):
    """From a SAN, by AoE, through its own netfront."""
    pid = machine.run('cp /guest/san.img /tmp; truncate -s 16M /tmp/san.img; '
                      'vblade 0 0 tap0 /tmp/san.img >/tmp/vblade.log 2>&1 & '
                      'echo $!').strip()
    machine.run('printf "#!ipxe\\nifopen net0\\nsanboot --drive 0x80 '
                'aoe:e0.0\\n" >/tmp/script')
    try:
        yield from unnamed(
            machine, device, chk.NIC, f'-M pc,graphics=off {NIC} '
            '-kernel /guest/ipxe.lkrn -initrd /tmp/script')
    finally:
        machine.run(f'kill {pid}')


def linux(machine, device, args=LINUX, lives=1, litter=None):
    options = {'litter': litter} if litter else {}
    with guest(machine, device, f'{ROM} {DEVICES} {args} -append "{WORDS}"',
               firmware=' '.join(chk.ALL), os=0, gates='firmware',
               **options) as g:
        for life in range(lives):
            begun = g.com1.at
            before = g.at('firmware')
            firmware = evidence.parse_firmware(g.com1.text[begun:])
            yield from connected(firmware, before, chk.ALL)
            if litter:
                g.said('^PVFW: at littered', 60)
                g.hmp('o /b 0x3ff 1')
            g.said('Linux version', 60)
            g.qmp('stop')
            after = g.look()
            g.qmp('cont')
            yield from handed_off(firmware, before, after)
            yield from told(after, chk.LINUX[0],
                            chk.same(chk.ALL, 'handed-off'))
            yield from linux_works(g)
            if life < lives - 1:
                g.qmp('system_reset')
        yield from ended(g)


def bios_linux(machine, device):
    """A boot sector, by INT 13h from a PV disk, and Linux after it."""
    args = (f'-bios xen-bios.bin {DEVICES} '
            '-fw_cfg name=opt/labfw/kernel,file=/guest/vmlinuz '
            '-fw_cfg name=opt/labfw/initrd,file=/guest/initrd')
    with guest(machine, device, args, boot=WORDS, gates='firmware') as g:
        g.said('^PVFW: at firmware$', 60)
        g.com1.send('firmware\n')
        g.said('Linux version', 60)
        yield from told(g.look(), chk.LINUX[0],
                        chk.same(chk.DISKS, 'handed-off'))
        yield from linux_works(g)
        yield from ended(g)


def hotplug(machine, device):
    """A disk comes, and one goes, while the firmware runs."""
    late = [chk.DISKS[0], 'vbd/51744', chk.NIC]
    with guest(machine, device, f'{ROM} {named_disk(0)} {named_disk(1)} {NIC}', firmware=' '.join(chk.ALL), os=1,
               late=' '.join(late), gates='firmware announced done') as g:
        before = g.reach('firmware')
        firmware = evidence.parse_firmware(g.com1.text)
        yield from connected(firmware, before, chk.ALL)
        g.hmp('drive_add 0 file=/tmp/disk2.img,if=none,id=b2,format=raw')
        g.hmp('device_add xen-disk,drive=b2,vdev=xvdc,id=d2')
        g.hmp('device_del d1')
        g.look()            # the device has seen them, too
        g.resume('firmware')
        after = g.at('announced')
        yield from handed_off(firmware, before, after)
        yield from told(after, chk.LINUX[0], chk.same(chk.ALL, 'handed-off'))
        g.at('done')
        yield ('the disk that was to go has gone', bool(re.search(
            '"DEVICE_DELETED".*"d1"', machine.qmp.text)), True)
        yield from os_works(g, late, g.com1.text)
        yield from ended(g)


def in_flight(machine, device):
    """Reads of two slow disks, one of which has a thread of its own."""
    def limit(bps):
        for n in 0, 1:
            g.hmp(f'block_set_io_throttle b{n} 0 {bps} 0 0 0 0')

    with guest(machine, device, f'{ROM} -object iothread,id=t0 '
               f'{named_disk(0, ",iothread=t0")} {named_disk(1)} {NIC}',
               firmware=' '.join(chk.ALL), os=1, late=' '.join(chk.ALL),
               order='load=0 product=3 build=1 unplug=7 late',
               gates='firmware announced done') as g:
        before = g.reach('firmware')
        firmware = evidence.parse_firmware(g.com1.text)
        yield from connected(firmware, before, chk.ALL)
        limit(1)
        g.resume('firmware')
        after = g.at('announced')
        limit(0)
        yield from handed_off(firmware, before, after)
        yield from told(after, chk.LINUX[0], chk.same(chk.ALL, 'handed-off'))
        g.at('done')
        loader = evidence.parse_loader(g.com1.text)
        # each has eight; a limit lets the first one pass
        yield ('reads of both disks were in flight at the announcement',
               loader['in_flight'] > 8, True)
        yield from chk.loaded({'loader': loader}, 0)
        yield from os_works(g, chk.ALL, g.com1.text)
        yield from ended(g)


def no_ram(machine, device):
    """Grants of what nobody can map: the disk does not connect."""
    with guest(machine, device, firmware=chk.DISKS[0], no_ram=1,
               gates='firmware') as g:
        g.reach('firmware')
        firmware = evidence.parse_firmware(g.com1.text)
        yield ('the disk does not work',
               {d: bool(firmware[d]['works']) for d in firmware},
               {chk.DISKS[0]: False})
        yield from ended(g)


def console(machine, device):
    """More resets than there can be mappings of a grant."""
    with guest(machine, device,
               '-chardev null,id=c0 -device xen-console,chardev=c0') as g:
        for n in range(256):
            g.qmp('system_reset')
            while machine.qmp.text.count('"RESET"') <= n:
                g.qmp('query-status')   # the event may come before the reply
        yield ('the primary console connects to the last one',
               re.findall('.*console.*', g.log()), [])
        yield from ended(g)


def qtest(machine, device):
    """The one of xen-handoff-test's that needs KVM."""
    name = '/x86_64/xen-handoff/kvm/armed'
    said = machine.run('cd /tmp; QTEST_QEMU_BINARY=/usr/bin/qemu-system-x86_64 '
                       f'xen-handoff-test -p {name}', 100)
    yield name, re.findall('^(?:not )?ok .*', said, re.M), [f'ok 1 {name}']


story = functools.partial
STORIES = {     # {name: story(machine, device)}
    'qtest': qtest,
    'naive': take_over,
    'silent': story(take_over, by=chk.CALLBACK, order='callback late',
                    picky=1),
    'late-announce': late_announce,
    'mixed': story(take_over, by=chk.CALLBACK, devices=chk.ALL[1:],
                   late=chk.ALL[1:], all_works=chk.ALL, early=chk.DISKS[0],
                   early_gref=200, points='firmware early announced done',
                   told_at='early'),
    'request': story(take_over, by=None, request=1, told_at='asked',
                     points='firmware asked done'),
    'closes': story(take_over, results={}, close=1,
                    points='firmware closed announced done'),
    'linux': linux,
    'bios': story(unnamed, name=chk.DISKS[0], args=BIOS_DISK),
    'bios-linux': bios_linux,
    'reset': story(take_over, lives=3, reset='system_reset'),
    'reboot': story(take_over, lives=3, shutdown=1),
    'reset-os': story(take_over, devices=[], lives=3, reset='system_reset'),
    'soft-reset-os': story(take_over, devices=[], lives=2, shutdown=5),
    'no-ram': no_ram,
    'console': console,
    'hotplug': hotplug,
    'in-flight': in_flight,
    'ipxe': ipxe,
    'litter': story(linux, litter='watch reply half-request'),
    'linux-q35': story(linux, args=f'-M q35 -smp 2 {LINUX}'),
    'linux-reset': story(linux, lives=3),
}
# of "make test", and those that have to be red without the device
SHORT = ['qtest', 'naive', 'silent', 'late-announce', 'mixed', 'request',
         'bios', 'reset', 'ipxe', 'linux']
CONTROLS = ['naive', 'bios', 'ipxe', 'linux']
NO_END = 'the story does not end'


def verdicts(machine, name, device):
    """The story's checks, [(ok, text, detail)]."""
    machine.story = name if device else f'{name}-without'
    found = []
    try:
        for text, got, want in STORIES[name](machine, device):
            found.append((got == want, text,
                          f'\n    got    {got}\n    wanted {want}'))
    except (Lost, OSError, LookupError, TypeError, ValueError) as e:
        found.append((False, NO_END, f': {e!r}'))
    return found


def run(names, result):
    """Tell @result, as test.py has it, of these stories, and of those of them
    that are to be red without the device."""
    with contextlib.ExitStack() as stack:
        try:
            machine = Machine(stack)
        except (Lost, OSError) as e:
            result(False, 'kvm: the machine does not start', f': {e}')
            return
        for name in names:
            for ok, text, detail in verdicts(machine, name, True):
                result(ok, f'kvm/{name}: {text}', '' if ok else
                       f'{detail}\n    see    {OUT}/{name}.*')
        for name in CONTROLS:
            if name in names:
                (ok, text, detail), *rest = verdicts(machine, name, False)
                red = [text for ok, text, _ in rest if not ok]
                result(ok and red and NO_END not in red,
                       f'kvm/{name}: without the device that is red: '
                       + '; '.join(red), '' if ok else f'{text}{detail}')

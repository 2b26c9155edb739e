"""The matrix: every scenario, which cells it fills, what its evidence has to be.

Whether a check can fail at all shows in the run without the device: the very
facts that must be clean there are seen dirty.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from pathlib import Path
import re

import checks as chk
import orders

TOP = Path(__file__).resolve().parent.parent.parent

GROUPS = ['Firmware', 'OS', 'Backend', 'Toolstack']
CELLS = []      # (group, what it is, scenario)
WITH = {}       # of guests with the device: {scenario: check}
SHORT = []      # those of them that "make test" runs
WITHOUT = {}    # of guests without it
OXENSTORED = '@oxenstored'
PACKAGE = {}    # of guests with the device model of the Debian package

# What cannot be had here, (group, what it is, why)
ABSENT = [
    ('OS', 'FreeBSD, NetBSD, OpenBSD, nanos, OSv and Windows themselves',
     'of OSes with PV drivers for HVM Debian has Linux only; the payload does '
     'what they do, in their order'),
    ('OS', 'one that is quicker than the look at HVM_PARAM_CALLBACK_IRQ',
     'who is first would be random; the qtests decide it'),
    ('Toolstack', 'oxenstored: a firmware that leaves half a request',
     'Linux hangs with the device and without: nobody can make it look there'),
    ('Toolstack', 'oxenstored: a firmware that leaves a reply longer than the '
     'ring', 'oxenstored keeps the end of it, unless its look at all rings, '
     'every 20 s, comes in time; Linux then reads that as a message'),
    ('Toolstack', "QEMU's own Xen: migration, snapshots",
     'QEMU refuses them; all else of it is make test-kvm'),
    ('Toolstack', 'XAPI', 'Debian has none; docs/toolstacks.md has what its '
     'sources say'),
    ('Toolstack', 'migration to another host',
     'there is one host; xl save and xl restore take the same way'),
]


def scenario(*cells, short=False, oxenstored='', name=None):
    """Decorate the check of the scenario of the same name, or of @name.

    With @oxenstored, what that fills in the matrix, it is run once more in a
    dom0 with that, as NAME@oxenstored.  @short: 'oxenstored' for both.
    """
    def register(check):
        plain = name or check.__name__.replace('_', '-')
        WITH[plain] = check
        CELLS.extend((group, text, plain) for group, text in cells)
        if short:
            SHORT.append(plain)
        if oxenstored:
            WITH[plain + OXENSTORED] = check
            CELLS.append(('Toolstack', f'oxenstored: {oxenstored}',
                          plain + OXENSTORED))
            if short == 'oxenstored':
                SHORT.append(plain + OXENSTORED)
        return check
    return register


def without(check):
    """Decorate the check of the same scenario without the device."""
    name = check.__name__.removesuffix('_without').replace('_', '-')
    WITHOUT[name] = check
    return check


for row in orders.ORDERS:
    scenario(*row.cells, name=row.name, **row.lists)(row.check)


@scenario(('Firmware', 'requests of both disks in flight at the announcement'),
          ('Backend', 'blkback and qdisk on disks that hang for a while'))
def in_flight(facts):
    yield from chk.taken_over(facts, *chk.LINUX)
    yield from chk.loaded(facts, 0)
    yield ('reads of both disks were in flight at the announcement',
           facts['loader']['in_flight'], 16)


@scenario(('Firmware', 'stops in the middle of its own teardown, ten ways'),
          short=True)
def half(facts):
    devices = chk.disks(8) + ['vif/0', 'vif/1']
    at = facts['snapshots']['halved']
    yield from chk.firmware_connected(facts, devices)
    yield ('it has left each frontend and its backend in other states',
           [[at[states][d] for states in ('frontend_states', 'backend_states')]
            for d in devices],
           [[1, 2], [1, 4], [1, 4], [6, 6], [5, 5], [1, 2], [3, 4], [2, 5],
            [1, 2], [1, 2]])
    yield ('keys are left of those at rest, and pages are still mapped',
           [[bool(at['keys'][d]['extra']) for d in devices],
            bool(at['firmware_mapped'])],
           [[d != 'vbd/51760' for d in devices], True])
    yield from chk.handed_off(facts, 'announced', devices)
    yield from chk.scrubbed(facts, 'announced')
    yield from chk.told(facts, 'announced', devices, chk.LINUX[0])
    yield from chk.os_works(facts, devices)


@scenario(('Firmware', 'two, a "ring-ref" of the first, reads in flight'),
          ('Backend', 'blkback, four pages, on a disk that hangs for a while'))
def chain_busy(facts):
    disk = chk.DISKS[:1]
    at = facts['snapshots']
    ring = [facts['firmware'][chk.DISKS[0]]['rings'][key] for key in
            ('ring-ref0', 'ring-ref1', 'ring-ref2', 'ring-ref3', 'ring-ref')]
    yield ("the second firmware's ring is mapped, the first one's is not",
           [ref in at['firmware']['firmware_mapped'] for ref in ring],
           [True] * 4 + [False])
    yield ("the first one's key is still there",
           at['firmware']['values'][disk[0]].get('ring-ref'), str(ring[4]))
    yield ('while the disk hangs the OS waits, the ring is mapped',
           [[ref in at['waiting']['firmware_mapped'] for ref in ring[:4]],
            at['waiting']['point']], [[True] * 4, 'chained'])
    yield from chk.handed_off(facts, 'announced', disk)
    yield from chk.scrubbed(facts, 'announced', 10)
    yield from chk.told(facts, 'announced', disk, chk.LINUX[0])
    yield from chk.loaded(facts, 0)
    yield from chk.os_works(facts, chk.DISKS[:1] + [chk.NIC])


@scenario(('OS', 'nanos writes to no port: callback, some time, devices'))
def silent(facts):
    yield from chk.taken_over(facts, chk.CALLBACK)


@scenario(('Firmware', 'iPXE has booted from a SAN (AoE) with its netfront'))
def ipxe(facts):
    yield from chk.firmware_connected(facts, [chk.NIC])
    at = facts['snapshots']['firmware']
    yield ("iPXE has left a key that cost the OS's NIC its offloads",
           'feature-no-csum-offload' in at['keys'][chk.NIC]['extra'], True)
    yield from chk.handed_off(facts, 'announced', [chk.NIC])
    yield from chk.scrubbed(facts, 'announced', 18)
    yield from chk.os_works(facts, chk.ALL)
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))


@scenario(('Firmware', 'iPXE twice: the second finds the NIC in use'))
def ipxe_twice(facts):
    first, second = (facts['snapshots'][tag] for tag in ('first', 'firmware'))
    keys = 'tx-ring-ref', 'rx-ring-ref', 'event-channel'
    yield ('both have connected the NIC, each with rings of its own',
           [at['backend_states'][chk.NIC] for at in (first, second)]
           + [first['values'][chk.NIC].get(key)
              == second['values'][chk.NIC].get(key) for key in keys],
           [4, 4, False, False, False])
    yield from ipxe(facts)


@scenario(('Backend', 'a driver domain: blkback on a disk of its own, netback'),
          ('Backend', 'qdisk on qcow2'))
def driver_domain(facts):
    driver = facts['driver']
    served = {'vbd/51712': driver, 'vbd/51728': 0, 'vif/0': driver}
    at = facts['snapshots']['firmware']
    yield ("Xen's dump shows each ring mapped by its backend's domain",
           {d: {at['grants'][ring]['by'] for ring in chk.rings(at, [d])}
            for d in chk.ALL}, {d: {domid} for d, domid in served.items()})
    yield ('the firmware has granted pages to both domains',
           at['granted_to'], [0, driver])
    yield from chk.taken_over(facts, *chk.LINUX)
    yield ('QMP names the backends of both domains',
           {c['frontend']: int(c['backend'].split('/')[3])
            for c in facts['qmp']['announced']['connections']}, served)


# How a driver domain is lost to the handoff, and how that ends for its devices
LOST = {
    'paused': ('is paused', 'timed-out'),
    'crashes': ('has crashed', 'handed-off'),
    'destroyed': ('is destroyed in the handoff', 'handed-off'),
}


def driver_dies(facts):
    """The variant's name is in the scenario's, behind the dot."""
    lost = ['vbd/51712', chk.NIC]
    _, result = LOST[facts['scenario'].partition('.')[2]]
    at = facts['snapshots']
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.at_rest(facts, 'announced', chk.DISKS[1:])
    # a NIC's "mtu" is the driver domain's, and ends with it
    yield ('announced: the other frontends have nothing of the firmware',
           [[at['announced']['frontend_states'][d],
             at['announced']['keys'][d]['extra']] for d in lost],
           [[1, []]] * 2)
    yield ('QMP says what became of them',
           {c['frontend']: c['result']
            for c in facts['qmp']['announced']['connections']},
           {**chk.same(lost, result), chk.DISKS[1]: 'handed-off'})
    yield from chk.at_rest(facts, 'healed', chk.ALL)
    yield ('healed: no page of the firmware is mapped',
           at['healed']['firmware_mapped'], [])
    yield from chk.os_works(facts, chk.ALL)


for lost, (text, _) in LOST.items():
    scenario(('Backend', f'a driver domain that {text}'),
             name=f'driver-dies.{lost}')(driver_dies)


# What becomes of a disk whose storage is ill when the OS announces itself
ILL = {
    'slow': ('blkback on storage that takes longer than a handoff may',
             'timed-out'),
    'fails': ('blkback and qdisk on storage that hangs, then fails all reads',
              'handed-off'),
}


def storage(facts):
    """The variant's name is in the scenario's, behind the dot."""
    _, result = ILL[facts['scenario'].partition('.')[2]]
    yield from chk.firmware_connected(facts, chk.ALL)
    yield ('reads were in flight at the announcement',
           facts['loader']['in_flight'] >= 8, True)
    yield ('QMP says what became of the disks',
           {c['frontend']: c['result']
            for c in facts['qmp']['announced']['connections']},
           {chk.DISKS[0]: result, **chk.same(chk.ALL[1:], 'handed-off')})
    yield from chk.at_rest(facts, 'announced', chk.ALL[1:])
    yield from chk.os_works(facts, chk.ALL)


for kind, (text, _) in ILL.items():
    scenario(('Backend', text), name=f'storage.{kind}')(storage)


@scenario(('Firmware', 'has connected a CD, which no OS wants'),
          ('Toolstack', 'xl cd-eject and cd-insert before the handoff and '
           'after it'))
def cd(facts):
    drive = 'vbd/51744'
    firmware = chk.ALL + [drive]
    yield from chk.firmware_connected(facts, firmware)
    yield ('a CD is in the drive when xl has been told so',
           [chk.has_medium(facts['qmp'][tag]) for tag in
            ('ejected', 'inserted', 'ejected-again', 'inserted-again')],
           [False, True, False, True])
    yield from chk.handed_off(facts, 'announced', firmware)
    yield from chk.scrubbed(facts, 'announced')
    yield from chk.told(facts, 'announced', firmware, chk.LINUX[0])
    yield from chk.at_rest(facts, 'inserted-again', [drive])
    yield from chk.os_works(chk.only(facts, chk.ALL), chk.ALL)


@scenario(('Firmware', 'leaves 64 disks and 8 NICs connected'),
          ('Backend', '64 times blkback, 8 times netback'))
def many(facts):
    devices = chk.disks(64) + [f'vif/{n}' for n in range(8)]
    yield from chk.firmware_connected(facts, devices)
    yield from chk.handed_off(facts, 'announced', devices)
    yield from chk.scrubbed(facts, 'announced', 1000)
    yield from chk.told(facts, 'announced', devices, chk.LINUX[0])
    yield from chk.os_works(facts, devices)


@scenario(('Toolstack', 'a Linux stub domain: blkback and netback in dom0'))
def stub_domain(facts):
    yield ("the node of the device is the stub domain's",
           facts['snapshots']['announced']['node_of'], [facts['stub']])
    yield from chk.taken_over(facts, *chk.LINUX)


@scenario(('Firmware', 'asks for the teardown itself'), short=True)
def request(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.handed_off(facts, 'asked', chk.ALL)
    yield from chk.scrubbed(facts, 'asked')
    yield from chk.os_works(facts, chk.ALL)
    yield ('the firmware knew that it may ask, asked, and nothing was left',
           [any(line in text for text in facts['dm_log']) for line in
            ('the firmware asks for a teardown', chk.HANDED_OFF.format(3, 0),
             chk.HANDED_OFF.format(0, 0))], [True, True, True])


@scenario(('Firmware', 'closes its devices itself'))
def closes(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    yield ('the firmware has closed its devices, and its grants were free',
           [{d: facts['firmware'][d]['closed'] for d in chk.ALL},
            facts['grants_in_use_by_firmware']],
           [chk.same(chk.ALL, True), [0]])
    yield from chk.handed_off(facts, 'closed', chk.ALL)
    yield ('nothing changes from its end to the announcement',
           *(facts['snapshots'][tag]['values'] for tag in
             ('announced', 'closed')))
    yield from chk.os_works(facts, chk.ALL)
    yield from chk.announced(facts, *chk.LINUX)
    yield ('the log says that there was nothing to do',
           [chk.HANDED_OFF.format(0, 0) in line for line in facts['dm_log']
            if ': done' in line], [True])


def attached_early(facts):
    yield from chk.untouched(facts, 'early', 'done', chk.ALL)
    yield from chk.store_untouched(facts, 'early', 'done')
    yield from chk.still_works(facts, chk.ALL)
    yield from chk.os_works(facts, chk.ALL)


@scenario(('OS', 'OpenBSD: callback, attaches its devices, then unplugs'),
          ('OS', 'a request and a watch of it are under way in xenstore'),
          oxenstored='an OS whose requests and watches are under way', short=True)
def late_announce(facts):
    yield from attached_early(facts)
    yield from chk.announced(facts, chk.UNPLUG.format('0x3'))
    yield from chk.said(facts, chk.HANDED_OFF.format(0, 3))


@scenario(('OS', 'OpenBSD attaches a NIC from the firmware, then unplugs'))
def openbsd(facts):
    early = [chk.DISKS[0], chk.NIC]
    yield from chk.firmware_connected(facts, [chk.DISKS[1], chk.NIC])
    yield from chk.untouched(facts, 'early', 'announced', early)
    yield from chk.still_works(facts, early)
    yield from chk.handed_off(facts, 'announced', chk.DISKS[1:])
    yield from chk.os_works(facts, chk.ALL)
    yield from chk.announced(
        facts, *chk.noticed(facts, chk.UNPLUG.format('0x3')))


@scenario(('OS', 'attaches one device, announces itself, attaches the rest'),
          ('Firmware', 'leaves some of the devices connected'), short=True)
def mixed(facts):
    firmware = [chk.DISKS[1], chk.NIC]
    yield from chk.firmware_connected(facts, firmware)
    yield from chk.untouched(facts, 'early', 'announced', chk.DISKS[:1])
    yield from chk.still_works(facts, chk.DISKS[:1])
    yield from chk.handed_off(facts, 'announced', firmware)
    yield from chk.os_works(facts, chk.ALL)
    # whether the disk of the OS was connected yet depends on who was first to
    # notice HVM_PARAM_CALLBACK_IRQ, the OS's own driver or the device
    yield from chk.said(facts, '2 handed off, 0 timed out, 0 failed')


def linux_works(facts):
    linux = facts['linux']
    yield ('Linux reads both disks', linux['disks'],
           {'xvda': 'LABDISK0 sector 5', 'xvdb': 'LABDISK1 sector 5'})
    yield ('Linux pings dom0', linux['ping'], True)


@scenario(('OS', 'Linux, PV devices only'), oxenstored='Linux', short=True)
def linux(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.handed_off(facts, 'first-line', chk.ALL)
    yield from chk.scrubbed(facts, 'os')
    yield ("no packet went to the firmware's buffers",
           facts['linux']['packets_to_firmware'], 0)
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield from linux_works(facts)
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))


# what bookworm and trixie have is that of "linux"
LINUXES = {'bullseye': ('Debian 11', '5'),
           'trixie-backports': ("Debian 13's backports", '7')}


def other_linux(facts):
    _, version = LINUXES[facts['scenario'].partition('.')[2]]
    yield ('it is one of the Linuxes', facts['linux']['version'][0][:2],
           f'{version}.')
    yield from linux(facts)


for suite, (text, version) in LINUXES.items():
    scenario(('OS', f'Linux {version}, of {text}'),
             name=f'linux.{suite}')(other_linux)


def ipxe_boots_linux(facts, handed_off=1):
    yield from chk.firmware_connected(facts, [chk.NIC])
    yield from chk.handed_off(facts, 'first-line', [chk.NIC])
    yield from chk.scrubbed(facts, 'first-line', 18)
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield ("iPXE's key has not outlived it",
           'feature-no-csum-offload' in
           facts['snapshots']['os']['values'][chk.NIC], False)
    yield from linux_works(facts)
    yield from chk.said(facts, chk.HANDED_OFF.format(handed_off, 0))


scenario(('OS', 'Linux, booted by iPXE from a SAN'),
         name='ipxe-linux')(ipxe_boots_linux)
scenario(('Firmware', 'iPXE has loaded a boot program by PXE, and keeps its NIC'),
         name='ipxe-pxe')(ipxe_boots_linux)


@scenario(('Firmware', 'iPXE has loaded Linux by HTTP, and closes its NIC itself'))
def ipxe_http(facts):
    yield from ipxe_boots_linux(facts, 0)


@scenario(('Firmware', "iPXE's netfront where the NIC has an emulated twin"))
def ipxe_twin(facts):
    yield from ipxe_boots_linux(facts)
    yield ('the emulated NIC was there and was unplugged',
           [facts['emulated'][tag]['nics'] for tag in ('firmware', 'os')],
           [TWINS['nics'], []])


# What a firmware leaves in its connection to xenstore, and how it shows there
LITTER = {
    'watch': ('a watch on all its devices', {'watches': 1}),
    'watch-backends': ('watches on its backends', {'watches': 5}),
    'reply': ('a reply that it has not read', {'replies': 17}),
    'long-reply': ('one that is longer than the ring', {'replies': 1024}),
    'half-request': ('half a request', {'half a request': True}),
    'transactions': ('transactions', {'transactions': 11}),
}


def litter(facts):
    """The variant's name is in the scenario's, behind the dot."""
    left = facts['scenario'].partition('.')[2]
    devices = chk.disks(4) + [chk.NIC]
    at = facts['snapshots']
    seen, clean = at['littered']['connection'], at['first-line']['connection']
    yield from chk.firmware_connected(facts, devices)
    yield ('the firmware has left that', list(facts['litter']), [left])
    # which xenstored tells what differs
    for what, value in LITTER[left][1].items():
        if what in seen:
            yield (f'xenstored, or the ring, has its {what}', seen[what], value)
    yield ('first-line: the connection to xenstore is as a new one',
           clean, chk.same(clean, 0))
    yield from chk.handed_off(facts, 'first-line', devices)
    yield ('Linux finds nothing strange in its connection',
           facts['linux']['store_trouble'], [])
    yield from linux_works(facts)
    yield from chk.said(facts, chk.HANDED_OFF.format(len(devices), 0))


# oxenstored does not look there for half a request, with the device and without,
# nor for room for the rest of a reply, and does not tell of transactions, which
# Linux ends by itself
for left, (text, _) in LITTER.items():
    scenario(('Firmware', f'leaves in xenstore {text}'), name=f'litter.{left}',
             oxenstored=f'a firmware that leaves {text}'
             if left not in ('half-request', 'long-reply', 'transactions')
             else '',
             short=left == 'watch' and 'oxenstored')(litter)


TWINS = {'nics': [3], 'disks': ['ide0-hd0', 'ide0-hd1']}


@scenario(('OS', 'Linux, emulated and PV devices, unplugged by it'),
          ('OS', 'Linux, xl vcpu-set to two vCPUs after the handoff'),
          ('Toolstack', 'xl block-attach, network-attach after the handoff'),
          ('Toolstack', 'smbios_firmware=, acpi_firmware= through hvmloader'),
          ('Toolstack', 'firmware="seabios" with its log on the serial port'))
def xl_cfg(facts):
    linux = facts['linux']
    last = linux['alive'][0]
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.scrubbed(facts, 'os')
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))
    yield ('the emulated devices were there and were unplugged',
           [facts['emulated']['firmware'], facts['emulated']['os'],
            [c for c in linux['pci_classes'] if c == '0x020000']],
           [TWINS, {'nics': [], 'disks': []}, []])
    yield from linux_works(facts)
    yield from chk.untouched(facts, 'os', 'hotplugged', chk.ALL)
    yield from chk.connected(facts, 'hotplugged', ['vbd/51744', 'vif/1'])
    yield ('Linux uses all disks and NICs, old and new',
           *alive(last, ['xvda', 'xvdb', 'xvdc'], ['eth0', 'eth1']))
    yield ('Linux has two vCPUs now', last['vcpus'], 2)
    yield ('Linux has the tables that the toolstack gave it',
           linux['tables'], 'LABSMBIOS, ACPI has LAB1 ')
    yield ('SeaBIOS is on the serial port and on the console of Xen',
           facts['bios_logs'], [True, True])


@scenario(('OS', 'Linux with xen_emul_unplug=never: emulated devices only'))
def unplug_never(facts):
    linux = facts['linux']
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.handed_off(facts, 'os', chk.ALL)
    yield from chk.scrubbed(facts, 'os')
    yield ('it was announced by what it cannot avoid',
           facts['qmp']['os']['announcement'], chk.CALLBACK)
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))
    yield ('the emulated devices are still there',
           facts['emulated']['os'], TWINS)
    # Linux looks for both at once: which is sda is not always the same
    yield ('Linux has no other disks and reads both',
           [linux['all_disks'], sorted(linux['disks'].values())],
           [['sda', 'sdb'], ['LABDISK0 sector 5', 'LABDISK1 sector 5']])
    yield ('Linux pings dom0', linux['ping'], True)


@scenario(('OS', 'Linux with xen_emul_unplug=unnecessary'),
          ('Toolstack', 'memory ballooning at start: maxmem > memory'))
def unplug_unnecessary(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.scrubbed(facts, 'os')
    yield ('it was announced by its product number, and unplugged nothing',
           [facts['qmp']['os']['announcement'], facts['emulated']['os'],
            [line for line in facts['dm_log'] if 'unplug' in line]],
           [chk.LINUX[0], {**TWINS, 'nics': []},
            []])
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))
    yield ('Linux has given memory back at start',
           facts['linux']['ballooned'], True)
    yield from linux_works(facts)


def alive(seen, disks=('xvda', 'xvdb'), nics=('eth0',)):
    """All disks read and all NICs ping, as Linux says again and again."""
    return [seen['disks'], seen['nics']], [
        {d: f'LABDISK{"abc".index(d[-1])} sector {seen["sector"]}'
         for d in disks}, {n: True for n in nics}]


def goes_on(facts, suspends):
    yield (f'Linux reads both disks and pings after suspend {suspends}',
           *alive(facts['linux']['alive'][suspends]))


@scenario(('OS', 'Linux after xl save -c, xl save and xl restore'), short=True)
def suspend(facts):
    before = facts['before']
    yield ('the checkpoint makes Linux announce itself again',
           before['product_writes'], 1)
    yield from chk.said(before, chk.HANDED_OFF.format(3, 0))
    yield from chk.untouched(before, 'ready', 'checkpoint', chk.ALL)
    yield from goes_on(facts, 1)
    yield ('QEMU runs after the checkpoint',
           facts['qmp']['checkpoint']['status']['status'], 'running')
    yield from chk.not_armed(facts)
    yield from chk.connected(facts, 'restored', chk.ALL)
    yield from goes_on(facts, 2)


@scenario(('Toolstack', 'the guest reboots'), short=True)
def reboot(facts):
    yield from chk.said(facts['before'], chk.HANDED_OFF.format(3, 0))
    yield ('the guest has become another domain',
           facts['domid'] > facts['before']['domid'], True)
    yield from orders.BY_NAME['naive'].check(facts)


@scenario(('Toolstack', 'soft reset'), short=True)
def soft_reset(facts):
    yield from chk.said(facts['before'], chk.HANDED_OFF.format(3, 0))
    yield ('the guest is still the same domain', facts['domid'],
           facts['before']['domid'])
    yield from chk.not_armed(facts)
    yield from attached_early(facts)


@scenario(('OS', 'Linux by kexec, and by kdump when that crashes'),
          ('Toolstack', 'soft reset twice, by real Linux'))
def kexec(facts):
    yield from chk.handed_off(facts['before'], 'first-line', chk.ALL)
    yield from chk.said(facts['before'], chk.HANDED_OFF.format(3, 0))
    yield ('the same domain has seen three Linuxes, the last by kdump',
           [facts['domid'], len(facts['linux']['version']),
            facts['linux']['kdump']], [facts['before']['domid'], 3, True])
    for tag in 'kexec', 'crashed':
        yield from chk.connected(facts, tag, chk.ALL)
        yield (f'{tag}: the device leaves that alone',
               facts['qmp'][tag]['state'], 'done')
    yield from chk.not_armed(facts)
    yield ('the last Linux uses both disks and pings',
           *alive(facts['linux']['alive'][-1]))


@scenario(('Toolstack', 'xl save and xl restore while the firmware runs'))
def saved_in_firmware(facts, devices=chk.ALL):
    yield from chk.firmware_connected(facts['before'], devices)
    yield from chk.armed_again(facts)
    yield from chk.taken_over(facts, *chk.LINUX, devices=devices)


scenario(('Toolstack', 'xl migrate within the host while the firmware runs'),
         name='saved-in-firmware.migrate')(saved_in_firmware)


@scenario(('Toolstack', 'dm_restrict=1: xl save and xl restore while the '
           'firmware runs'), name='saved-in-firmware.restrict')
def saved_restricted(facts):
    yield from saved_in_firmware(facts, [XVDE, chk.NIC])
    yield ('the restored QEMU runs as a user of its own',
           facts['model_uid'], 65536 + facts['domid'])


@scenario(('Toolstack', 'xl migrate within the host of Linux with twins'))
def migrate(facts):
    yield from chk.said(facts['before'], chk.HANDED_OFF.format(3, 0))
    yield from chk.not_armed(facts)
    yield from chk.connected(facts, 'restored', chk.ALL)
    yield ('Linux reads both disks and pings on the other side',
           *alive(facts['linux']['alive'][-1]))


@scenario(('OS', 'none, but Memtest86+, which announces nothing'))
def memtest(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    qmp = facts['qmp']['firmware']
    yield ('nothing was announced, and the connection is the firmware\'s',
           [qmp['state'], facts['snapshots']['firmware']['node']['state'],
            {c['frontend']: c['owner'] for c in qmp['connections']}],
           ['armed', 'armed', {XVDE: 'firmware'}])
    yield ('the log has a last word when the guest has ended',
           [line.partition('xen-fw-handoff: ')[2] for line in facts['dm_log']
            if ': no OS ' in line],
           ['no OS has announced itself, connections of the firmware that '
            'end with the guest: 1'])


@scenario(('Backend', 'never answers, alone and beside healthy ones'))
def hang(facts):
    before = facts['before']
    bound = 20
    yield from chk.firmware_connected(before, chk.ALL)
    yield from chk.handed_off(before, 'announced', chk.ALL)
    yield from chk.timed_out(before, 'announced',
                             {'vbd/51744': 4, 'vbd/51760': 2}, bound)
    yield from chk.said(before,
                        '3 handed off, 2 timed out, 0 failed, 0 skipped')
    yield from chk.os_works({**before, 'written': facts['written']}, chk.ALL)
    yield from chk.timed_out(facts, 'announced', {'vbd/51744': 4}, bound)
    yield from chk.said(facts,
                        '0 handed off, 1 timed out, 0 failed, 0 skipped')


@scenario(('Toolstack', 'QMP and xl pause in the middle of a handoff'),
          ('OS', "another vCPU's port I/O goes on, its announcement waits"))
def held(facts):
    seen = facts['held']
    yield from chk.firmware_connected(facts, chk.ALL)
    yield (f'QMP replied 50 times before the end ({seen["slowest_ms"]} ms '
           'for the slowest)', seen['replies'], 50)
    yield ('and that the handoff is under way', facts['qmp']['held']['state'],
           'handing-off')
    # 0: nothing yet; 1: ours; 2: its answer; 3: it has announced itself
    yield ("the other vCPU's port I/O went on until its own announcement",
           [seen['port'][0], seen['port'][-3:], 3 in seen['port']],
           [0, [2, 2, 2], False])
    yield ('it was let go in the end', seen['let_go'], True)
    yield ('a paused guest stood still when the handoff was over',
           facts['snapshots']['paused']['point'], 'firmware')
    yield from chk.handed_off(facts, 'announced', chk.ALL)
    yield from chk.timed_out(facts, 'announced', {'vbd/51744': 4}, 60)
    yield from chk.said(facts,
                        '3 handed off, 1 timed out, 0 failed, 0 skipped')
    yield from chk.os_works(facts, chk.ALL)


@scenario(('Toolstack', 'xl trigger and xl reboot in the middle of a handoff'),
          ('OS', 'another vCPU resets the machine in the middle of a handoff'))
def held_reboot(facts):
    before = facts['before']
    yield from chk.firmware_connected(before, chk.ALL)
    yield ('no button ended the handoff',
           facts['qmp']['held']['state'], 'handing-off')
    yield ('the reset did, and no vCPU of that life announced an OS again',
           facts['timed_out'], [0])
    yield ('the guest has become another domain',
           facts['domid'] > before['domid'], True)
    yield from chk.taken_over(facts, *chk.LINUX)


@scenario(('Toolstack', 'xl save in the middle of a handoff, and xl restore'))
def held_saved(facts):
    before = facts['before']
    yield from chk.firmware_connected(before, chk.ALL)
    yield ('the handoff went to its end, with the bound for the dead backend',
           before['walks']['vbd/51744'], [6, 1])
    yield from chk.said(before,
                        '3 handed off, 1 timed out, 0 failed, 0 skipped')
    yield from chk.not_armed(facts)
    yield from chk.os_works(facts, chk.ALL)


@scenario(('Backend', "vkbd of QEMU, which is not on its bus: a keyboard"),
          short=True)
def legacy(facts):
    devices = chk.ALL + ['vkbd/0']
    yield from chk.firmware_connected(facts, devices)
    yield from chk.handed_off(facts, 'announced', devices)
    yield from chk.scrubbed(facts, 'announced')
    yield from chk.told(facts, 'announced', devices, chk.LINUX[0])
    yield from chk.loaded(facts, 0)
    yield from chk.os_works(facts, devices)
    yield from chk.said(facts, chk.HANDED_OFF.format(len(devices), 0))


@scenario(('Toolstack', 'guest destroyed in the middle of a handoff'))
def destroy(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    yield ('the handoff was under way: the frontend is Closed',
           facts['walks']['vbd/51744'][0], 6)
    yield from nothing_left(facts)


def nothing_left(facts):
    traces = facts['traces']
    before = '\n'.join(traces['before'])
    yield ('what is searched for is found while the guest is there',
           [word for word in (f'domain {facts["scenario"]}',
                              'xenstore /local/domain/', 'xenstore /libxl/',
                              'process qemu-dm', 'vbd-', 'qdisk-',
                              'kernel /sys/class/net/vif',
                              'Event channel information', ' d=',
                              'grant-table for remote')
            if word not in before], [])
    yield ('nothing of it is left in dom0', traces['after'], [])


@scenario(('Toolstack', 'xl block-attach, network-attach before the handoff'),
          ('OS', 'two vCPUs'))
def hotplug(facts):
    new = ['vbd/51744', 'vif/1']
    yield from chk.firmware_connected(facts, chk.ALL)
    yield from chk.handed_off(facts, 'announced', chk.ALL)
    at = facts['snapshots']
    yield ('what was attached meanwhile is at rest, and was not touched',
           [[chk.of(new, at[tag][what]) for what in
             ('frontend_states', 'backend_states', 'values')]
            for tag in ('firmware', 'announced')],
           [[chk.same(new, 1), chk.same(new, 2),
             chk.of(new, at['firmware']['values'])]] * 2)
    yield ('the handoff has not written to it',
           chk.of(new, facts['walks']), chk.same(new, None))
    yield from chk.os_works(facts, chk.ALL + new)
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))


@scenario(('Toolstack', 'xl block-detach --force of what the firmware has '
           'connected, before the handoff and in the middle of it'))
def detach(facts):
    left = chk.DISKS + [chk.NIC]
    gone = ['vbd/51744', 'vbd/51760', 'vbd/51776']
    at = facts['snapshots']
    yield from chk.firmware_connected(facts, chk.disks(4) + [chk.NIC])
    yield ('a disk that is detached has no frontend, and no ring mapped',
           [gone[0] in at['detached']['frontend_states'],
            set(facts['firmware'][gone[0]]['rings'].values()) &
            set(at['detached']['firmware_mapped'])], [False, set()])
    yield from chk.handed_off(facts, 'announced', left)
    yield ('nothing brings back what was detached',
           [d in at['announced']['frontend_states'] for d in gone],
           [False] * 3)
    yield ('the handoff was over when the backend that hung was gone',
           [c['frontend'] for c in facts['qmp']['announced']['connections']
            if c['result'] != 'handed-off'], [])
    yield from chk.os_works(chk.only(facts, left), left)


@scenario(('Toolstack', 'xl block-detach, network-detach when Linux runs'))
def detach_linux(facts):
    yield from chk.handed_off(facts, 'first-line', chk.ALL)
    yield from chk.connected(facts, 'os', chk.ALL)
    yield ('Linux has given back what was detached',
           [d in facts['snapshots']['detached']['frontend_states']
            for d in chk.ALL], [True, False, False])
    yield from chk.connected(facts, 'detached', chk.DISKS[:1])
    yield ('no page of the firmware is mapped',
           facts['snapshots']['detached']['firmware_mapped'], [])


@scenario(('Toolstack', 'four such guests at once'))
def four(facts):
    guests = [facts, *facts['others']]
    for guest in guests:
        yield from chk.firmware_connected(guest, chk.ALL)
        yield from chk.handed_off(guest, 'announced', chk.ALL)
        yield from chk.scrubbed(guest, 'announced')
        yield from chk.os_works(guest, chk.ALL)
        yield from chk.said(guest, chk.HANDED_OFF.format(3, 0))
    yield ('they were there at the same time',
           len({guest['domid'] for guest in guests}), 4)


@scenario(('Toolstack', 'the line of README.md and nothing else'))
def readme(facts):
    firmware = chk.DISKS[1:]
    line = re.search(r'^ +device_model_args_hvm = (.*)$',
                     (TOP / 'README.md').read_text(), re.M)
    yield ('the guest has the very line of README.md',
           facts['config']['device_model_args_hvm'], line[1])
    yield from chk.firmware_connected(facts, firmware)
    yield from chk.handed_off(facts, 'announced', firmware)
    yield from chk.os_works(facts, chk.ALL)
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))


@scenario(('Toolstack', "libvirt: Debian's, from XML, by virsh"),
          ('Toolstack', 'libvirt: the guest reboots, and is destroyed'))
def libvirt(facts):
    documents = [
        [line.strip() for line in re.search(
            r"^ *<domain type='xen'.*?^ *</domain>$", (TOP / path).read_text(),
            re.M | re.S)[0].splitlines() if line.strip() != '...']
        for path in ('docs/toolstacks.md', 'packaging/xen-fw-handoff.rst')]
    lines = documents[0]
    yield ('docs/toolstacks.md and xen-fw-handoff(7) have the same lines',
           *documents)
    left = iter(facts['libvirt'])
    yield ('libvirt itself has these lines, in that order',
           [line for line in lines if line in left], lines)
    yield from reboot(facts)
    yield ("xl's monitor tells the state of libvirt's guest, too",
           facts['package']['state'], 'done')
    yield from nothing_left(facts)


@scenario(('Toolstack', 'dm_restrict=1: the same, and QEMU gets no more than the '
           'guest'), oxenstored='dm_restrict=1')
def restrict(facts):
    devices = [chk.DISKS[0], chk.NIC]
    yield ('QEMU runs as a user of its own',
           facts['model_uid'], 65536 + facts['domid'])
    yield from chk.firmware_connected(facts, devices)
    yield from chk.handed_off(facts, 'announced', devices)
    yield from chk.scrubbed(facts, 'announced', 10)
    yield from chk.told(facts, 'announced', devices, chk.LINUX[0])
    yield from chk.os_works(facts, devices)
    yield from chk.announced(facts, *chk.LINUX)
    yield from chk.said(facts, chk.HANDED_OFF.format(2, 0))


@scenario(('Toolstack', 'dm_restrict=1, no xenstore-filter: inert, says so, the '
           'guest boots'))
def restrict_bare(facts):
    firmware = chk.DISKS[:1]
    yield from chk.firmware_connected(facts, firmware)
    yield ('QEMU runs as a user of its own',
           facts['model_uid'], 65536 + facts['domid'])
    yield ('it says once that it is inert',
           [line.partition('xen-fw-handoff: ')[2].partition(': ')[0]
            for line in facts['dm_log'] if ': guest: ' not in line],
           ['inert, connections of the firmware will stay'])
    yield ('what the firmware has left stays',
           chk.of(firmware, facts['snapshots']['done']['backend_states']),
           chk.same(firmware, 4))
    yield ('what it has not touched works for the OS',
           facts['devices'][chk.NIC]['works'], True)


@scenario(('Toolstack', 'two devices, no xen-platform: one clear sentence each'),
          short=True)
def config_errors(facts):
    text = '\n'.join(facts['dm_log'])
    yield ('a second device is refused in one sentence',
           'at most one xen-fw-handoff device is permitted' in text, True)
    yield ('without xen-platform it is inert, says so, and the guest runs',
           ['xen-fw-handoff: inert, no announcement can be seen: the machine '
            'has no xen-platform device' in text, facts['status']], [True, 0])


# --- SeaBIOS that boots from PV disks: its device, vbd/51776, is xvde ---------

XVDE, XVDF = 'vbd/51776', 'vbd/51792'
GRANTS = 17             # of each disk: the pages of its data and its ring


def no_trace(facts, tag, devices):
    """As if no BIOS had looked."""
    yield from chk.at_rest(facts, tag, devices)
    yield (f"{tag}: no grant but the toolstack's",
           facts['snapshots'][tag]['firmware_granted'], [])


def high_grants(facts, n):
    yield (f'the grants of its {n} disks are the last ones of the first page',
           sorted(facts['snapshots']['firmware']['firmware_granted']),
           list(range(512 - GRANTS * n, 512)))


def bios_handed_off(facts, tag, disks):
    """The BIOS has connected them, and none of that is left at @tag."""
    yield from chk.firmware_connected(facts, disks)
    yield from high_grants(facts, len(disks))
    yield from chk.handed_off(facts, tag, disks)
    yield from chk.scrubbed(facts, tag, GRANTS * len(disks))


def boots_nothing(facts):
    yield ('the BIOS finds nothing to boot from',
           any('No bootable device' in line for line in facts['bios_says']),
           True)


def battery(facts, disks, read_only=()):
    """INT 13h has done all that it was asked for, and nothing else."""
    seen = facts['int13']
    yield ('nothing of it failed', seen['failures'], [])
    for n in disks:
        drive, image = (seen[of].get(n, {}) for of in ('disks', 'images'))
        yield (f'disk {n}: it ran to its end',
               [drive.get('checks', 0) > 200, drive.get('failed'),
                drive.get('read_only')], [True, 0, n in read_only])
        yield (f'disk {n}: what it wrote, and nothing else, is in the image',
               [image.get('right', 0) > 500, image.get('none') == 0,
                image.get('wrong'), image.get('beside')],
               [n not in read_only, n not in read_only, 0, 0])


INT13 = {
    'blkback': ('blkback', [4], [XVDE]),
    'qdisk': ("QEMU's qdisk", [4], [XVDE]),
    'three': ('three, of blkback and qdisk, one read-only', [4, 5, 6],
              [XVDE, XVDF, 'vbd/51808']),
    'driver-domain': ('a driver domain', [0], ['vbd/51712']),
    'ide': ('IDE of the stock BIOS, as the yardstick', [0, 1], []),
}


def int13(facts):
    """The variant's name is in the scenario's, behind the dot."""
    kind = facts['scenario'].partition('.')[2]
    _, disks, devices = INT13[kind]
    yield from battery(facts, disks, [6] if kind == 'three' else [])
    yield ('INT 19h has booted it once more',
           len(facts['int13']['steps']) > 1, True)
    if devices:
        yield from bios_handed_off(facts, 'announced', devices)


for kind, (text, _, _) in INT13.items():
    scenario(('Firmware', f'a BIOS with PV disks: INT 13h on {text}'),
             name=f'int13.{kind}', short=kind == 'blkback')(int13)


def bios_linux(facts):
    kind = facts['scenario'].partition('.')[2]
    device = 'vbd/51712' if kind == 'driver-domain' else XVDE
    disk, mark = (('xvda', 'LABDISK0') if kind == 'driver-domain'
                  else ('xvde', 'LABDISK4'))
    yield from bios_handed_off(facts, 'first-line', [device])
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield ('Linux reads the disk that it was booted from',
           facts['linux']['disks'], {disk: f'{mark} sector 5'})
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))


for kind, text in {'syslinux': 'SYSLINUX, on blkback',
                   'grub': 'GRUB 2, on qdisk',
                   'large': 'SYSLINUX, in a guest with RAM above 4 GiB',
                   'driver-domain': 'SYSLINUX, on a driver domain'}.items():
    scenario(('Firmware', f'a BIOS with PV disks: Linux by {text}'),
             name=f'bios-linux.{kind}', short=kind == 'syslinux')(bios_linux)


@scenario(('Firmware', 'the stock BIOS: a disk that is PV only does not boot'))
def bios_stock(facts):
    yield from boots_nothing(facts)
    yield from no_trace(facts, 'firmware', [XVDE])


@scenario(('Firmware', 'a BIOS with PV disks boots an OS that resets nothing'),
          short=True)
def bios_naive(facts):
    yield from bios_handed_off(facts, 'announced', [XVDE])
    yield from chk.told(facts, 'announced', [XVDE], chk.LINUX[0])
    yield from chk.os_works(facts, [XVDE, chk.NIC])


@scenario(('Firmware', 'a BIOS with PV disks, where all are emulated, too'))
def bios_twin(facts):
    yield ('it boots', facts['int13']['steps'], [0])
    yield from no_trace(facts, 'firmware', chk.DISKS)
    yield from chk.said(facts, chk.HANDED_OFF.format(0, 0))


@scenario(('Firmware', 'a BIOS with an emulated disk, and one that is PV only'))
def bios_mixed(facts):
    yield from chk.at_rest(facts, 'firmware', chk.DISKS[:1])
    yield from bios_handed_off(facts, 'announced', [XVDE])


@scenario(('Firmware', 'a BIOS with an emulated SCSI disk, one that is PV only'),
          name='bios-mixed.sda')
def bios_mixed_sda(facts):
    yield ('it boots from the emulated disk: the other one cannot be booted',
           facts['int13']['steps'], [0])
    yield from chk.at_rest(facts, 'firmware', ['vbd/2048'])
    yield from bios_handed_off(facts, 'announced', [XVDE])


@scenario(('Firmware', 'a BIOS with two disks that are PV only'))
def bios_first(facts):
    yield from bios_handed_off(facts, 'announced', [XVDE, XVDF])


@scenario(('Firmware', "a BIOS's PV disks and iPXE's PV NIC in one guest"))
def bios_ipxe(facts):
    devices = [XVDE, XVDF, chk.NIC]
    yield from chk.firmware_connected(facts, devices)
    yield from chk.handed_off(facts, 'announced', devices)
    yield from chk.scrubbed(facts, 'announced', 2 * GRANTS)
    yield from chk.os_works(facts, devices)


@scenario(('Firmware', 'iPXE ends, a BIOS goes on with a disk that is PV only'))
def ipxe_exit(facts):
    yield ('iPXE had connected the NIC',
           any('vif/0: connected by the firmware' in line
               for line in facts['dm_log']), True)
    yield from chk.at_rest(facts, 'firmware', [chk.NIC])
    yield from bios_handed_off(facts, 'announced', [XVDE])
    yield from chk.os_works(facts, [XVDE, chk.NIC])


@scenario(('Firmware', 'a BIOS with PV disks: a backend that never answers'))
def bios_dead(facts):
    at = facts['snapshots']['firmware']
    yield from chk.firmware_connected(facts, [XVDE])
    yield ('the other one it has asked for, in vain, and given up',
           [at[what][XVDF] for what in ('frontend_states', 'backend_states')],
           [6, 2])
    yield ('it names that on the screen, with what to look at',
           [line for line in facts['bios_says'] if 'xvdf' in line],
           ['Xen: PV disk xvdf is left out, its backend does not answer: '
            f'/local/domain/0/backend/vbd/{facts["domid"]}/51792'])
    yield from chk.handed_off(facts, 'announced', [XVDE])
    yield ('announced: nothing of the other one is left, either',
           [facts['snapshots']['announced'][what].get(XVDF) for what in
            ('frontend_states', 'keys')], [1, chk.NO_KEYS])


@scenario(('Firmware', 'a BIOS with a PV CD: Linux by ISOLINUX, on qdisk'),
          name='bios-linux.cd')
def bios_cd(facts):
    yield from bios_handed_off(facts, 'first-line', [XVDE])
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))


@scenario(('Firmware', 'a BIOS with PV disks: saved and restored in the loader'))
def bios_saved(facts):
    yield from chk.firmware_connected(facts['before'], [XVDE])
    yield ('the read after that fails with "time-out"', facts['int13']['late'],
           [0x80])
    yield from chk.at_rest(facts, 'restored', [XVDE])


@scenario(('OS', 'a loader that reads by INT 13h after the announcement'))
def bios_late(facts):
    yield from bios_handed_off(facts, 'announced', [XVDE])
    yield ('both reads fail with "time-out"', facts['int13']['late'],
           [0x80, 0x80])
    yield from boots_nothing(facts)


@scenario(('Firmware', 'a BIOS with PV disks: the guest reboots'))
def bios_reboot(facts):
    yield from chk.said(facts['before'], chk.HANDED_OFF.format(1, 0))
    yield ('the guest has become another domain',
           facts['domid'] > facts['before']['domid'], True)
    # the BIOS has connected it before anybody could look at the toolstack's keys
    at = facts['snapshots']['announced']
    yield ('nothing of the second firmware is mapped, bound or granted',
           [at[what] for what in ('firmware_mapped', 'firmware_ports_bound',
                                  'firmware_granted')], [[], [], []])
    yield from chk.told(facts, 'announced', [XVDE], chk.LINUX[0])
    yield from chk.os_works(facts, [XVDE, chk.NIC])


@scenario(('Firmware', 'a BIOS with PV disks: Linux sleeps (S3) and wakes up'))
def bios_s3(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    yield from chk.connected(facts, 'awake', [XVDE])
    last = facts['linux']['alive'][-1]
    yield ('Linux goes on with its disk', last['disks'],
           {'xvde': f'LABDISK4 sector {last["sector"]}'})
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))


@scenario(('Firmware', 'a BIOS with PV disks, xen_platform_pci=0'))
def bios_no_platform(facts):
    yield ('it boots from the emulated disk', facts['int13']['steps'], [0])
    yield from no_trace(facts, 'firmware', chk.DISKS[:1] + [XVDE])


# --- OVMF, which has drivers of PV disks, and closes them at ExitBootServices ---

def ovmf_closes(facts, disks):
    """It has used its disks, and closed them before Linux's first line."""
    yield from chk.firmware_connected(facts, disks)
    yield ('OVMF closes its disks, and nobody writes to their frontends then',
           {d: chk.walk(facts['loader_walks'].get(d, []), [5, 6, 1])
            for d in disks},
           chk.same(disks, [5, 6, 1]))
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield ('Linux reads the disks', facts['linux']['disks'],
           {'xvde': 'LABDISK4 sector 5', 'xvdf': 'LABDISK5 sector 5'})


@scenario(('Firmware', 'OVMF with PV disks: Linux by GRUB, nothing to do'),
          ('Backend', 'blkback and qdisk, closed by OVMF'))
def ovmf(facts):
    disks = [XVDE, XVDF]
    yield from ovmf_closes(facts, disks)
    yield from chk.handed_off(facts, 'first-line', disks)
    yield from chk.scrubbed(facts, 'first-line', len(disks))
    yield from chk.said(facts, chk.HANDED_OFF.format(0, 0)
                        + ', 0 grants cleared, 0 in use')


@scenario(('Firmware', 'OVMF with PV disks: an OS without ExitBootServices'))
def ovmf_naive(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    yield from chk.handed_off(facts, 'announced', [XVDE])
    yield from chk.scrubbed(facts, 'announced', 1)
    yield from chk.told(facts, 'announced', [XVDE], chk.LINUX[0])
    yield from chk.os_works(facts, [XVDE, chk.NIC])


@scenario(('Firmware', 'OVMF with PV disks gives up closing them, three ways'),
          ('Backend', 'a driver domain that stands still, and goes on later'))
def ovmf_half(facts):
    half = ['vbd/51792', 'vbd/51808', 'vbd/51824']
    waits = 'vbd/51840'
    disks = [XVDE, *half, waits]
    at = facts['snapshots']['halved']
    yield from chk.firmware_connected(facts, disks)
    yield ('it has left each frontend and its backend in other states',
           [[at[states][d] for states in ('frontend_states', 'backend_states')]
            for d in disks], [[1, 2], [5, 5], [6, 6], [1, 4], [5, 5]])
    rings = [facts['firmware'][d]['rings']['ring-ref'] for d in disks]
    yield ('two rings are still mapped of which xenstore knows nothing',
           [[ref in at['firmware_mapped'] for ref in rings],
            chk.of(half, at['keys'])],
           [[False, True, False, True, True], chk.same(half, chk.NO_KEYS)])
    yield from chk.handed_off(facts, 'first-line', disks)
    yield from chk.scrubbed(facts, 'first-line', len(disks))
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield ('Linux reads all disks', facts['linux']['disks'],
           {f'xvd{"efghi"[n]}': f'LABDISK{4 + n} sector 5' for n in range(5)})
    yield from chk.said(facts, chk.HANDED_OFF.format(3, 0))


@scenario(('Toolstack', 'guests one after the other in one dom0'))
def soak(facts):
    rounds = facts['soak']
    first = rounds[0]
    yield ('there is something to compare',
           [len(rounds) > 2, first['processes'] > 10], [True, True])
    for what in ('grants', 'ports', 'domains', 'processes', 'files',
                 'xenstore'):
        # of what comes and goes, there may be more for a moment
        yield (f'{what} that have added up from round 1 to {len(rounds)}',
               max(0, min(r[what] for r in rounds[-2:]) - first[what]), 0)
    # a guest has 256 MiB, QEMU some 50; logs are in dom0's memory, too, and
    # oxenstored's has 100 KiB of each guest
    for of, less, free in (
            ('dom0', 8 << 10, [r['dom0_kb'] + r['logs_kb'] for r in rounds]),
            ('Xen', 2, [r['xen_mb'] for r in rounds])):
        yield (f'{of} has as much memory in the end as after round 1',
               free[-1] > free[0] - less, True)


def readme_packaged(facts):
    """The same with the package's device model, and its example."""
    lines = [dict(re.findall(r'^ *(device_model_\w+) = (.*)$',
                             (TOP / path).read_text(), re.M))
             for path in ('README.md', 'packaging/guest.cfg')]
    yield ("README.md and the package's example have the same lines",
           lines[0], lines[1])
    yield ("the guest has README.md's device model",
           facts['config']['device_model_override'],
           lines[0]['device_model_override'])
    yield from readme(facts)


def package(facts):
    yield ("the guest's device model, by default, is the package's",
           [facts['config'].get('device_model_override'),
            facts['package']['runs']],
           [None, '/usr/libexec/xen-fw-handoff/qemu-system-i386'])
    yield from chk.firmware_connected(facts, chk.DISKS[1:])
    yield from chk.scrubbed(facts, 'os', 1)
    yield from chk.said(facts, chk.HANDED_OFF.format(1, 0))
    yield from linux_works(facts)
    yield ("the monitor tells the device's state", facts['package']['state'],
           'done')
    yield ("a package that is removed leaves nothing, Debian's is the default",
           [facts['package'][key] for key in ('default', 'diverted', 'left')],
           ["Debian's", '', ''])
    if 'upgraded' in facts['package']:
        yield ('it was an upgrade of the older package',
               facts['package']['upgraded'], '1, downgraded 0')


PACKAGE.update({'readme': readme_packaged, 'package': package})


@without
def naive_without(facts):
    """The failure that we cure: the other checks can tell."""
    yield from chk.firmware_connected(facts, chk.ALL)
    yield ('without the device both disks are lost to the OS',
           {d: facts['devices'].get(d, {}).get('works') for d in chk.DISKS},
           chk.same(chk.DISKS, False))
    at = facts['snapshots']['done']
    yield ('without the device pages of the firmware stay mapped',
           bool(at['firmware_mapped']), True)
    yield ('without the device a grant of the OS leads to an old page',
           bool(at['pinned_to_old_frame']), True)


@without
def linux_without(facts):
    yield from chk.firmware_connected(facts, chk.ALL)
    at = facts['snapshots']['first-line']
    yield ("without the device rings are mapped at Linux's first line",
           bool(at['firmware_mapped']), True)
    yield ('without the device grant entries of the firmware stay for ever',
           bool(facts['snapshots']['os']['firmware_granted']), True)
    yield ('without the device dom0 writes into the memory of Linux',
           facts['linux']['packets_to_firmware'], 5)
    yield ('without the device Linux resets every frontend',
           facts['linux']['resets'], chk.ALL)
    yield from linux_works(facts)


@without
def bios_naive_without(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    yield ('without the device the OS loses the disk it was booted from',
           facts['devices'].get(XVDE, {}).get('works'), False)


@without
def bios_mixed_without(facts):
    yield ('it boots from the emulated disk', facts['int13']['steps'], [0])
    yield from no_trace(facts, 'firmware', chk.DISKS[:1] + [XVDE])


@without
def bios_first_without(facts):
    """No key in xenstore: only what boots."""
    yield from chk.firmware_connected(facts, [XVDE])
    yield from high_grants(facts, 1)
    yield from chk.at_rest(facts, 'firmware', [XVDF])
    yield ('it says so on the screen',
           [line for line in facts['bios_says'] if line.startswith('Xen: ')],
           ['Xen: booting from xvde, for its other PV disks the guest needs '
            'xen-fw-handoff'])


@without
def bios_linux_without(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    yield ('without the device Linux resets the disk that it came from',
           facts['linux']['resets'], [XVDE])
    yield ('and reads it', facts['linux']['disks'],
           {'xvde': 'LABDISK4 sector 5'})


WITHOUT['bios-linux.syslinux'] = WITHOUT.pop('bios-linux')


@without
def ovmf_without(facts):
    """With the device nothing else happens."""
    yield from ovmf_closes(facts, [XVDE, XVDF])


@without
def ovmf_naive_without(facts):
    yield from chk.firmware_connected(facts, [XVDE])
    yield ('without the device the OS loses the disk it was booted from',
           facts['devices'].get(XVDE, {}).get('works'), False)

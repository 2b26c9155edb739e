"""What the evidence of each scenario has to be, with the device and without.

Every check is a sentence, what was seen and what should have been.  Whether a
check can fail at all shows in the run without the device: the very facts that
must be clean there are seen dirty.

SPDX-License-Identifier: GPL-2.0-or-later
"""

DISKS = ['vbd/51712', 'vbd/51728']      # xvda: blkback, xvdb: QEMU's qdisk
NIC = 'vif/0'                           # netback
ALL = DISKS + [NIC]
NO_KEYS = {'extra': [], 'missing': []}
WRITTEN = {0: 'written by PVOS', 1: 'written by PVOS'}
NOT_ARMED = "not armed: the guest is restored, its connections are its OS's"
HANDED_OFF = '{} handed off, 0 given up, 0 failed, {} left alone'


def of(devices, facts):
    return {d: facts.get(d) for d in devices}


def same(devices, value):
    return {d: value for d in devices}


def firmware_connected(facts, devices):
    """The test begins where it should, and the evidence can be read."""
    at = facts['snapshots']['firmware']
    yield ('the firmware has connected its devices and used them',
           [of(devices, at['backend_states']),
            {d: facts['firmware'][d]['works'] for d in devices}],
           [same(devices, 4), same(devices, True)])
    rings = sorted(ref for d in devices
                   for key, ref in facts['firmware'][d].items()
                   if key.endswith('ring-ref'))
    yield ("Xen's dump shows its rings mapped by dom0",
           sorted(set(at['firmware_mapped']) & set(rings)), rings)
    yield ("Xen's dump shows its event channels bound",
           sorted(at['firmware_ports_bound']),
           sorted(facts['firmware'][d]['port'] for d in devices))


def handed_off(facts, tag, devices):
    """Nothing of the firmware's is left at snapshot @tag."""
    at = facts['snapshots'][tag]
    yield (f'{tag}: no page of the firmware is mapped by dom0',
           at['firmware_mapped'], [])
    yield (f'{tag}: no event channel of the firmware is bound',
           at['firmware_ports_bound'], [])
    yield (f'{tag}: frontends are Initialising, backends in InitWait',
           [of(devices, at['frontend_states']),
            of(devices, at['backend_states'])],
           [same(devices, 1), same(devices, 2)])
    yield (f"{tag}: exactly the toolstack's keys are left",
           of(devices, at['keys']), same(devices, NO_KEYS))


def scrubbed(facts, tag):
    """Nothing that the firmware permitted is permitted any more at @tag."""
    yield ('the firmware has granted pages, as its own table shows',
           len(facts['snapshots']['firmware']['firmware_granted']) > 60, True)
    yield (f'{tag}: no grant entry of the firmware is left',
           facts['snapshots'][tag]['firmware_granted'], [])


def told(facts, tag, devices):
    """What QMP says of the handoff, through libxl's own socket."""
    qmp = facts['qmp'][tag]
    yield (f'{tag}: QMP says that it is done, and by what',
           [qmp['state'], qmp['announcement'], qmp['handed-off']],
           ['done', 'product number 3 (Linux) at port 0x12', len(devices)])
    yield (f'{tag}: QMP says what became of each connection',
           {c['frontend']: [c['owner'], c['action']]
            for c in qmp['connections']},
           same(devices, ['firmware', 'handed-off']))


def os_works(facts, devices):
    yield ('every device works for the OS',
           {d: facts['devices'].get(d, {}).get('works') for d in devices},
           same(devices, True))
    yield ("what the OS wrote is in the disks' images",
           facts['written'], WRITTEN)
    yield ('no grant leads to an old page of the firmware',
           facts['snapshots']['done']['pinned_to_old_frame'], [])


def rings(at, devices):
    return [int(v) for d in devices for k, v in at['values'][d].items()
            if k.endswith('ring-ref')]


def connected(facts, tag, devices):
    at = facts['snapshots'][tag]
    yield (f'{tag}: frontends and backends are Connected',
           [of(devices, at['frontend_states']),
            of(devices, at['backend_states'])],
           [same(devices, 4), same(devices, 4)])
    yield (f"{tag}: Xen's dump shows their rings mapped",
           [r for r in rings(at, devices) if r not in at['grants']], [])


def untouched(facts, before, after, devices):
    """What the OS had connected at @before is the same at @after."""
    b, a = facts['snapshots'][before], facts['snapshots'][after]
    for what in ('frontend_states', 'backend_states', 'values'):
        yield (f'{before} to {after}: same {what.replace("_", " ")}',
               of(devices, a[what]), of(devices, b[what]))
    yield (f'{before} to {after}: the same rings stay mapped',
           of(rings(b, devices), a['grants']),
           of(rings(b, devices), b['grants']))
    yield from connected(facts, before, devices)


def still_works(facts, devices):
    yield ('each goes on working after the announcement',
           {d: facts['devices'].get(d, {}).get('still_works')
            for d in devices}, same(devices, True))


def not_armed(facts):
    yield ('the log says that the guest is restored, and no more',
           [line.partition('xen-fw-handoff: ')[2] for line in facts['dm_log']
            if ': guest: ' not in line], [NOT_ARMED])


def said(facts, line):
    yield ('the log has one announcement',
           sum(': announced by ' in line for line in facts['dm_log']), 1)
    yield ('the log names each backend as being in InitWait',
           [line for line in facts['dm_log'] if ': handed off in ' in line
            and not line.endswith(' is in InitWait')], [])
    yield (f'the log says "{line}"',
           [line in text for text in facts['dm_log'] if ': done' in text],
           [True])


# --- the scenarios ----------------------------------------------------------

def naive(facts):
    yield from firmware_connected(facts, ALL)
    yield from handed_off(facts, 'announced', ALL)
    yield from scrubbed(facts, 'announced')
    yield from told(facts, 'announced', ALL)
    yield ("the guest's own log is in QEMU's",
           [text for text in facts['dm_log'] if ': guest: ' in text],
           ['qemu-dm: info: xen-fw-handoff: guest: PVOS says hello'])
    yield from os_works(facts, ALL)
    yield from said(facts, HANDED_OFF.format(3, 0))


def request(facts):
    yield from firmware_connected(facts, ALL)
    yield from handed_off(facts, 'asked', ALL)
    yield from scrubbed(facts, 'asked')
    yield from os_works(facts, ALL)
    yield ('the firmware knew that it may ask, asked, and nothing was left',
           [any(text.endswith(end) for text in facts['dm_log']) for end in
            ('the firmware asks for a teardown', HANDED_OFF.format(3, 0),
             'done: the firmware left nothing')], [True, True, True])


def attached_early(facts):
    yield from untouched(facts, 'early', 'done', ALL)
    yield from still_works(facts, ALL)
    yield from os_works(facts, ALL)


def late_announce(facts):
    yield from attached_early(facts)
    yield from said(facts, HANDED_OFF.format(0, 3))


def mixed(facts):
    firmware = [DISKS[1], NIC]
    yield from firmware_connected(facts, firmware)
    yield from untouched(facts, 'early', 'announced', DISKS[:1])
    yield from still_works(facts, DISKS[:1])
    yield from handed_off(facts, 'announced', firmware)
    yield from os_works(facts, ALL)
    # whether the disk of the OS was connected yet depends on who was first to
    # notice HVM_PARAM_CALLBACK_IRQ, the OS's own driver or the device
    yield from said(facts, '2 handed off, 0 given up, 0 failed')


def linux_works(facts):
    linux = facts['linux']
    yield ('Linux reads both disks', linux['disks'],
           {'xvda': 'LABDISK0 sector 5', 'xvdb': 'LABDISK1 sector 5'})
    yield ('Linux pings dom0', linux['ping'], True)


def linux(facts):
    yield from firmware_connected(facts, ALL)
    yield from handed_off(facts, 'first-line', ALL)
    yield from scrubbed(facts, 'os')
    yield ("no packet went to the firmware's buffers",
           facts['linux']['packets_to_firmware'], 0)
    yield ('Linux found nothing to reset', facts['linux']['resets'], [])
    yield from linux_works(facts)
    yield from said(facts, HANDED_OFF.format(3, 0))


def goes_on(facts, suspends):
    seen = facts['linux']['alive'][suspends]
    yield (f'Linux reads both disks and pings after suspend {suspends}',
           [seen['xvda'], seen['xvdb'], seen['ping']],
           [f'LABDISK0 sector {seen["sector"]}',
            f'LABDISK1 sector {seen["sector"]}', True])


def suspend(facts):
    before = facts['before']
    yield ('the checkpoint makes Linux announce itself again',
           before['product_writes'], 1)
    yield from said(before, HANDED_OFF.format(3, 0))
    yield from untouched(before, 'ready', 'checkpoint', ALL)
    yield from goes_on(facts, 1)
    yield ('QEMU runs after the checkpoint',
           facts['qmp']['checkpoint']['status']['status'], 'running')
    yield from not_armed(facts)
    yield from connected(facts, 'restored', ALL)
    yield from goes_on(facts, 2)


def reboot(facts):
    yield from said(facts['before'], HANDED_OFF.format(3, 0))
    yield ('the guest has become another domain',
           facts['domid'] > facts['before']['domid'], True)
    yield from naive(facts)


def soft_reset(facts):
    yield from said(facts['before'], HANDED_OFF.format(3, 0))
    yield ('the guest is still the same domain', facts['domid'],
           facts['before']['domid'])
    yield from attached_early(facts)
    yield from not_armed(facts)


def config_errors(facts):
    text = '\n'.join(facts['dm_log'])
    yield ('a second device is refused in one sentence',
           'at most one xen-fw-handoff device is permitted' in text, True)
    yield ('without xen-platform it is inert, says so, and the guest runs',
           ['xen-fw-handoff: inert, no announcement can be seen: the machine '
            'has no xen-platform device' in text, facts['status']], [True, 0])


def naive_without(facts):
    """The failure that we cure: the other checks can tell."""
    yield from firmware_connected(facts, ALL)
    yield ('without the device both disks are lost to the OS',
           {d: facts['devices'].get(d, {}).get('works') for d in DISKS},
           same(DISKS, False))
    at = facts['snapshots']['done']
    yield ('without the device pages of the firmware stay mapped',
           bool(at['firmware_mapped']), True)
    yield ('without the device a grant of the OS leads to an old page',
           bool(at['pinned_to_old_frame']), True)


def linux_without(facts):
    yield from firmware_connected(facts, ALL)
    at = facts['snapshots']['first-line']
    yield ("without the device rings are mapped at Linux's first line",
           bool(at['firmware_mapped']), True)
    yield ('without the device grant entries of the firmware stay for ever',
           bool(facts['snapshots']['os']['firmware_granted']), True)
    yield ('without the device dom0 writes into the memory of Linux',
           facts['linux']['packets_to_firmware'], 5)
    yield ('without the device Linux resets every frontend',
           facts['linux']['resets'], ALL)
    yield from linux_works(facts)


WITH = {'naive': naive, 'late-announce': late_announce, 'mixed': mixed,
        'linux': linux, 'suspend': suspend, 'reboot': reboot,
        'soft-reset': soft_reset, 'request': request, 'config-errors': config_errors}
WITHOUT = {'naive': naive_without, 'linux': linux_without}

"""What evidence has to be, for matrix.py to choose from.

Every check is a sentence, what was seen and what should have been.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import re


def disks(n):
    """xvda: blkback, xvdb: QEMU's qdisk, then every fourth QEMU's."""
    return [f'vbd/{51712 + 16 * i if i < 16 else (1 << 28) + 256 * i}'
            for i in range(n)]


def numbers(devices):
    """Of those of them that are disks."""
    there = disks(64)
    return [there.index(d) for d in devices if d.startswith('vbd/')]


DISKS = disks(2)
NIC = 'vif/0'                           # netback
ALL = DISKS + [NIC]
NO_KEYS = {'extra': [], 'missing': []}
NOT_ARMED = "not armed: the guest is restored, its connections are its OS's"
HANDED_OFF = '{} handed off, 0 timed out, 0 failed, {} skipped'

# how an OS announces itself
PRODUCT = 'product number {} at port 0x12'
BUILD = 'build number 1 at port 0x10'
UNPLUG = 'unplug mask {} at port 0x10'
LOG = "a driver's log line at port 0x12"
BAR = 'unplug request 1 at BAR 0 + {}'
CALLBACK = 'HVM_PARAM_CALLBACK_IRQ'
LINUX = [PRODUCT.format('3 (Linux)'), BUILD, UNPLUG.format('0x7')]


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
                   for ref in facts['firmware'][d]['rings'].values())
    yield ("Xen's dump shows its rings mapped",
           sorted(set(at['firmware_mapped']) & set(rings)), rings)
    yield ("Xen's dump shows its event channels bound",
           sorted(at['firmware_ports_bound']),
           sorted(port for d in devices
                  for port in facts['firmware'][d]['ports']))


def handed_off(facts, tag, devices):
    """Nothing of the firmware's is left at snapshot @tag."""
    at = facts['snapshots'][tag]
    yield (f'{tag}: no page of the firmware is mapped',
           at['firmware_mapped'], [])
    yield (f'{tag}: no event channel of the firmware is bound',
           at['firmware_ports_bound'], [])
    if tag == 'first-line':     # the OS has not used xenstore yet
        yield (f'{tag}: xenstored has no half of a request, if it tells that',
               (at['connection'] or {}).get('half a request', False), False)
    yield from at_rest(facts, tag, devices)


def at_rest(facts, tag, devices):
    """As the toolstack has made them."""
    at = facts['snapshots'][tag]
    yield (f'{tag}: frontends are Initialising, backends in InitWait',
           [of(devices, at['frontend_states']),
            of(devices, at['backend_states'])],
           [same(devices, 1), same(devices, 2)])
    yield (f"{tag}: exactly the toolstack's keys are left",
           of(devices, at['keys']), same(devices, NO_KEYS))


def scrubbed(facts, tag, least=60):
    """Nothing that the firmware permitted is permitted any more at @tag."""
    yield ('the firmware has granted pages, as its own table shows',
           len(facts['snapshots']['firmware']['firmware_granted']) >= least,
           True)
    yield (f'{tag}: no grant entry of the firmware is left',
           facts['snapshots'][tag]['firmware_granted'], [])


def loaded(facts, reads):
    """A boot loader has read through the firmware's rings till the end."""
    loader = facts['loader']
    yield (f'the loader read {reads} sectors or more, all rightly',
           [loader['right'] >= reads, loader['wrong']], [True, 0])
    yield ('nothing changed in its pages and rings after the announcement',
           loader['then'], 'nothing came')


def walk(seen, states):
    """@states if @seen can be the same: xswatch shows a state that is soon
    followed by another as that next one (see there)."""
    same_walk = len(seen) == len(states) and all(
        state in states[i:i + 2] for i, state in enumerate(seen))
    return states if same_walk else seen


def timed_out(facts, tag, backend_states, bound):
    """Backends that never answer were waited for once, and no longer than
    @bound seconds; what comes with the OS's announcement is not delayed."""
    devices = list(backend_states)
    before, at = facts['snapshots']['firmware'], facts['snapshots'][tag]
    yield ('the firmware has connected the dead backends, or has tried to',
           [of(devices, before['frontend_states']),
            of(devices, before['backend_states']),
            [ref for d in devices
             for ref in facts['firmware'][d]['rings'].values()
             if ref not in before['firmware_granted']]],
           [{d: 4 if state == 4 else 3 for d, state in backend_states.items()},
            backend_states, []])
    yield (f'{tag}: their frontends went to Closed and to Initialising, once',
           of(devices, facts['walks']), same(devices, [6, 1]))
    yield (f'{tag}: their backends are as they were',
           of(devices, at['backend_states']), backend_states)
    yield (f"{tag}: exactly the toolstack's keys are left, no grant",
           [of(devices, at['frontend_states']), of(devices, at['keys']),
            at['firmware_granted']],
           [same(devices, 1), same(devices, NO_KEYS), []])
    seconds = facts['handoff_seconds']
    yield (f'{tag}: the OS has waited for the bound once',
           bound / 2 <= seconds < 2 * bound or seconds, True)
    yield (f'{tag}: the log names each once',
           sorted(re.findall(r'(vbd/\d+): timed out after .* is stuck in (\w+) ',
                             '\n'.join(facts['dm_log']))),
           sorted((d, 'Connected' if state == 4 else 'InitWait')
                  for d, state in backend_states.items()))


def told(facts, tag, devices, announcement):
    """What QMP says of the handoff, through libxl's own socket, and xenstore."""
    qmp = facts['qmp'][tag]
    yield (f'{tag}: QMP says that it is done, and by what',
           [qmp['state'], qmp['announcement'], qmp['handed-off']],
           ['done', announcement, len(devices)])
    yield (f'{tag}: QMP says what became of each connection',
           {c['frontend']: [c['owner'], c['result']]
            for c in qmp['connections']},
           same(devices, ['firmware', 'handed-off']))
    yield (f'{tag}: a toolstack finds the same in xenstore',
           facts['snapshots'][tag]['node'],
           {'state': 'done', 'announcement': announcement,
            'handed-off': str(len(devices)), 'timed-out': '0', 'failed': '0',
            'skipped': '0'})


def os_works(facts, devices):
    yield ('every device works for the OS',
           {d: facts['devices'].get(d, {}).get('works') for d in devices},
           same(devices, True))
    yield ("what the OS wrote is in the disks' images", facts['written'],
           same(numbers(devices), 'written by PVOS'))
    yield ('no grant leads to an old page of the firmware',
           facts['snapshots']['done']['pinned_to_old_frame'], [])


def only(facts, devices):
    """The same, without the images of other disks."""
    return {**facts, 'written': of(numbers(devices), facts['written'])}


def has_medium(replies):
    """Whether anything is in the emulated CD drive, as QEMU has it."""
    return ['inserted' in block for block in replies['block']
            if block['removable']] == [True]


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


def store_untouched(facts, before, after):
    """An OS's watch, transaction and half of a request at its announcement."""
    b, a = (facts['snapshots'][tag]['connection'] for tag in (before, after))
    yield ("the rest of the OS's request is answered, its watch fires",
           facts['xenstore_lives'], True)
    yield (f'{before} to {after}: xenstored has them still',
           [b['watches'], of(('watches', 'transactions'), a)],
           [1, of(('watches', 'transactions'), b)])


def still_works(facts, devices):
    yield ('each goes on working after the announcement',
           {d: facts['devices'].get(d, {}).get('still_works')
            for d in devices}, same(devices, True))


def armed_again(facts):
    """No OS was there when the device model was restored."""
    yield ('the device is armed after the restore',
           facts['qmp']['restored']['state'], 'armed')


def not_armed(facts):
    yield ('the log says that the guest is restored, and no more',
           [line.partition('xen-fw-handoff: ')[2] for line in facts['dm_log']
            if ': guest: ' not in line], [NOT_ARMED])


def announced(facts, *by):
    """The OS announced itself by the first of @by, which the others follow."""
    yield ('the log names how the OS announced itself',
           [how for line in facts['dm_log'] for verb in ('announced', 'followed')
            for how in line.partition(f': {verb} by ')[2:] if how], list(by))


def said(facts, line):
    yield ('the log has one announcement',
           sum(': announced by ' in line for line in facts['dm_log']), 1)
    yield ('the log names each backend as being in InitWait',
           [line for line in facts['dm_log'] if ': handed off in ' in line
            and not line.endswith(' is in InitWait')], [])
    yield (f'the log says "{line}"',
           [line in text for text in facts['dm_log'] if ': done' in text],
           [True])


def logged(facts):
    yield ("the guest's own log is in QEMU's",
           [text.partition(': ')[2] for text in facts['dm_log']
            if ': guest: ' in text],
           ['info: xen-platform: guest: PVOS says hello'])


def noticed(facts, *by):
    """An OS that has set its callback: who is quicker, its write or we?"""
    if any(f'announced by {CALLBACK}' in line for line in facts['dm_log']):
        return [CALLBACK, *by]
    return by


def taken_over(facts, *by, devices=ALL):
    """All of a firmware's devices by an OS that resets nothing itself."""
    yield from firmware_connected(facts, devices)
    yield from handed_off(facts, 'announced', devices)
    yield from scrubbed(facts, 'announced')
    yield from told(facts, 'announced', devices, by[0])
    yield from os_works(facts, devices)
    yield from announced(facts, *by)
    yield from said(facts, HANDED_OFF.format(len(devices), 0))

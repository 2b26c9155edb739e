#!/usr/bin/env python3
"""What the files of one scenario prove: evidence.py build/xen/RUN/SCENARIO.

Reads what tests/xen/dom0/lib.sh and the firmware left in that directory and
returns facts; what they should be is for others to say.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import json
from pathlib import Path
import re
import sys

# lower grant references are the toolstack's (console, xenstore)
FIRST_GREF = 2
BOUND = 3       # an event channel's state in Xen's dump: interdomain


def read(path):
    try:
        return path.read_text(errors='replace').replace('\r', '')
    except FileNotFoundError:
        return ''


# --- the parts --------------------------------------------------------------

def parse_grants(dump, domid):
    """Active entries of the guest's grant table,
    {ref: (mfn, pin, gmfn, domain that uses it)}."""
    table = re.search(rf'grant-table for remote d{domid} .*?'
                      r'(?=grant-table for|gnttab_usage_print_all \])',
                      dump, re.S)
    entries = {}
    for m in re.finditer(r'\[(0x\w+)\] +(\d+) (0x\w+) +(0x\w+) +\d+ (0x\w+) '
                         r'+0x\w+', table[0] if table else ''):
        ref, mfn, pin, gmfn = (int(m[n], 16) for n in (1, 3, 4, 5))
        if ref >= FIRST_GREF:
            entries[ref] = (mfn, pin, gmfn, int(m[2]))
    return entries


def parse_table(text):
    """The guest's own table, in use or not, {ref: (domid, frame)}."""
    return {int(m[1]): (int(m[2]), int(m[3], 16)) for m in re.finditer(
        r'^(\d+) 0x\w+ (\d+) (0x\w+|0)$', text, re.M)
        if int(m[1]) >= FIRST_GREF}


def parse_toolstack_grants(text):
    """The lines of the same about the toolstack's references."""
    return re.findall(r'^[01] .*$', text, re.M)


def parse_connection(text):
    """The guest's to xenstore: bytes in its rings that nobody has read, and
    what xenstored tells, as it can."""
    at = {m[1]: int(m[2]) for m in re.finditer(
        r'^(\w+) *:? +(\d+)(?: +\(max .*\))?$', text, re.M)}
    needed = re.search(r'partial_in: (\d+) needed', text)
    return at and {
        'requests': (at['req_prod'] - at['req_cons']) % 2 ** 32,
        'replies': (at['rsp_prod'] - at['rsp_cons']) % 2 ** 32,
        **{what: at[what] for what in ('watches', 'transactions')
           if what in at},
        # a request begins with a header of 16 bytes
        **({'half a request': needed[1] != '16'} if needed else {}),
    }


def parse_ports(dump, domid):
    """States of the guest's event channels, {port: state}."""
    part = re.search(rf'Event channel information for domain {domid}:'
                     r'.*?(?=Event channel information|gnttab_usage|\Z)',
                     dump, re.S)
    return {int(m[1]): int(m[2])
            for m in re.finditer(r'^\(XEN\) +(\d+) \[.*?\]: s=(\d)',
                                 part[0] if part else '', re.M)}


def parse_xenstore(text):
    """The lines of xenstore-ls -fp, {path: value}."""
    return dict(re.findall(r'^(/\S+) = "(.*)"   \(\S+\)$', text, re.M))


def parse_frontends(store, domid):
    """Per frontend its keys and both states, as xenstore has them."""
    top = f'/local/domain/{domid}/device/'
    frontends = {}
    for path, backend in store.items():
        m = re.fullmatch(re.escape(top) + r'([^/]+/\d+)/backend', path)
        if m:
            dirname = top + m[1] + '/'
            frontends[m[1]] = {
                'keys': {p[len(dirname):]: v for p, v in store.items()
                         if p.startswith(dirname)},
                'state': int(store.get(dirname + 'state') or 0),
                'backend_state': int(store.get(backend + '/state') or 0),
            }
    return frontends


def parse_firmware(log):
    """Rings and ports that the firmware said it uses, and what it proved."""
    devices = {}
    for m in re.finditer(r'^PVFW: (v\w+/\d+) (.*)$', log, re.M):
        device = devices.setdefault(m[1], {
            'works': False, 'closed': False, 'rings': {}, 'ports': []})
        if m[2] in ('works', 'closed'):
            device[m[2]] = True
        elif m[2].startswith('broken: '):
            device['reason'] = m[2][len('broken: '):]
        else:
            device['rings'].update((k, int(v)) for k, v in re.findall(
                r'(\S*ring-ref\d*) (\d+)', m[2]))
            device['ports'] += [int(v) for v in re.findall(r'port (\d+)',
                                                           m[2])]
    return devices


def parse_loader(log):
    """What the firmware's boot loader read, None if it did not."""
    m = re.search(r'^PVOS: loader: (\d+) reads right, (\d+) wrong, '
                  r'(\d+) in flight; then (.*)$', log, re.M)
    return m and {'right': int(m[1]), 'wrong': int(m[2]),
                  'in_flight': int(m[3]), 'then': m[4]}


def as_in_xenstore(frontends, kind, works):
    """The same of a firmware that says nothing of its devices."""
    return {name: {'works': works, 'closed': False,
                   'rings': {k: int(v) for k, v in frontend['keys'].items()
                             if k.endswith('ring-ref')},
                   'ports': [int(frontend['keys']['event-channel'])]}
            for name, frontend in frontends.items()
            if name.startswith(f'{kind}/') and frontend['state'] == 4}


def parse_ipxe(log, frontends):
    """What proves the NIC is what iPXE booted from a SAN, our firmware, or
    what it has loaded."""
    booted = re.search(r'^Booting from SAN device.*^PVFW: at begin$|'
                       r'^(ht|tf)tp://\S+\.\.\.[^\n]* ok$', log,
                       re.M | re.S)
    return as_in_xenstore(frontends, 'vif', bool(booted)) \
        if 'iPXE' in log else {}


def parse_bios(log, frontends):
    """What proves a BIOS's PV disks is what was booted."""
    booted = re.search(r'^(INT13|PVFW|PVOS): |the loader reads Linux|'
                       '^Loading (vmlinuz|memtest)', log, re.M)
    return as_in_xenstore(frontends, 'vbd', bool(booted))


def parse_int13(log, images):
    """What the test of INT 13h said, and what became of its disks."""
    return {
        'steps': [int(n) for n in re.findall(
            r'^INT13: begins on drive \d+ at step (\d+)$', log, re.M)],
        'disks': {int(m[2]): {'drive': int(m[1]), 'sectors': int(m[3]),
                              'read_only': m[4] == '1', 'checks': int(m[5]),
                              'failed': int(m[6])}
                  for m in re.finditer(
                      r'^INT13: drive (\d+) is disk (\d+), (\d+) sectors, '
                      r'read-only (\d): (\d+) checks, (\d+) failed$', log,
                      re.M)},
        'failures': re.findall(r'^INT13: (drive \d+ FAILS: .*)$', log, re.M),
        'late': [int(status) for status in re.findall(
            r'^INT13: late: status (\d+) after \d+ million cycles$', log,
            re.M)],
        'images': {int(m[1]): {'right': int(m[2]), 'wrong': int(m[3]),
                               'none': int(m[4]), 'beside': int(m[5])}
                   for m in re.finditer(
                       r'^disk (\d+): (\d+) sectors written rightly, (\d+) '
                       r'wrongly, (\d+) not at all; (\d+) beside', images,
                       re.M)},
    }


def parse_os(log):
    """How the devices fared that the OS attached."""
    devices = {}
    for m in re.finditer(r'^PVOS: (v\w+/\d+) (works|broken|still works|lost)'
                         r'(?:: (.*))?$', log, re.M):
        device = devices.setdefault(m[1], {'works': None, 'reason': None,
                                           'still_works': None})
        if m[2] in ('works', 'broken'):
            device['works'] = m[2] == 'works'
        else:
            device['still_works'] = m[2] == 'still works'
        if m[3]:
            device['reason'] = m[3]
    return devices


def parse_events(log):
    """{event: seconds}; of an event that repeats, the first."""
    events = {}
    for line in log.splitlines():
        seconds, _, name = line.partition(' ')
        events.setdefault(name, float(seconds))
    return events


def first_line_seconds(events):
    """How long the guest ran until Linux's first line, None if that is not
    known: it stood still while dom0 looked at what the loader had."""
    return None if not {'loads', 'first-line'} <= events.keys() else (
        events['snapshot firmware'] - events['started']
        + events['first-line'] - events['loads'])


def parse_walks(watched, domid, begin, end):
    """The states that each frontend went through, {frontend: [state...]}."""
    walks = {}
    for m in re.finditer(rf'^([\d.]+) /local/domain/{domid}/device/(v\w+/\d+)'
                         r'/state = (\d)$', watched, re.M):
        if begin <= float(m[1]) <= end:
            walks.setdefault(m[2], []).append(int(m[3]))
    return walks


def parse_traces(text, dump, domid):
    """Every line that tells of the domain, from dom0 and from Xen."""
    return text.splitlines() + [
        line for line in dump.splitlines() if re.search(
            rf'remote d{domid} |for domain {domid}:| d={domid}\b', line)]


def parse_resets(watched, domid, begin, end):
    """Frontends that went to 5 or 6 between begin and end, when the first of
    them did so, and when the last backend returned to InitWait."""
    first = {}
    back = {}
    for m in re.finditer(r'^([\d.]+) /local/domain/(\S+)/state = (\d)$',
                         watched, re.M):
        seconds, path, state = float(m[1]), m[2], int(m[3])
        if not begin <= seconds <= end:
            continue
        m = re.fullmatch(rf'{domid}/device/(v(?:bd|if)/\d+)', path)
        if m and state in (5, 6):
            first.setdefault(m[1], seconds)
        m = re.fullmatch(rf'0/backend/(\w+)/{domid}/(\d+)', path)
        if m and state == 2:
            kind = 'vif' if m[1] == 'vif' else 'vbd'
            back.setdefault(f'{kind}/{m[2]}', seconds)
    ended = [back.get(d) for d in first]
    return (sorted(first), min(first.values(), default=None),
            None if None in ended else max(ended, default=None))


def parse_alive(console):
    """How the devices fared last before each suspend and after the last."""
    last = []
    for part in console.split('Freezing user space processes\n'):
        seen = re.findall(r'^GUEST\[.*?\]: alive (\d) (\d+) vCPUs (.*)$', part,
                          re.M)
        last.append(None if not seen else {
            'sector': int(seen[-1][0]),
            'vcpus': int(seen[-1][1]),
            'disks': dict(re.findall(r"(\w+) '(.*?)'", seen[-1][2])),
            'nics': {nic: int(n) > 0 for nic, n in re.findall(
                r'(eth\d) .*? (\d+) packets received', seen[-1][2])}})
    return last


def parse_emulated(replies):
    """Which emulated NICs and disks QEMU has, by what it replied."""
    return {
        'nics': [device['slot'] for bus in replies['pci']
                 for device in bus['devices']
                 if device['class_info']['class'] == 0x200],
        'disks': [block['device'] for block in replies['block']
                  if block['device']],     # a PV disk has no name there
    }


def parse_replies(text):
    """What QEMU replied to QMP commands, {name: what it returned}; what the
    device reports, member by member."""
    replies = {m[1]: json.loads(m[2]).get('return')
               for m in re.finditer(r'^(\S+) (\{.*\})$', text, re.M)}
    return replies | (replies.pop('xen-fw-handoff', None) or {})


def parse_soak(text):
    """What Xen and dom0 had after each round, [{what: how many}]."""
    return [dict(zip(words[::2], map(int, words[1::2])))
            for words in map(str.split, text.splitlines())]


def parse_held(text):
    """What happened before the end of a handoff that waits for a backend."""
    replies = re.search(r'(\d+) replies, the slowest after ([\d.]+) ms', text)
    return {
        'port': [int(v, 16) for v in re.findall(r' = 0x(\w\w)', text)],
        'replies': int(replies[1]) if replies else 0,
        'slowest_ms': float(replies[2]) if replies else None,
        'let_go': 'let go' in text,
    }


# --- all of it --------------------------------------------------------------

def snapshot_facts(store, dump, table, connection, domid, created, firmware,
                   firmware_grants, firmware_table):
    """One snapshot, compared with what the toolstack made and with what the
    firmware left."""
    entries = parse_table(table)
    frontends = parse_frontends(store, domid)
    grants = parse_grants(dump, domid)
    ports = parse_ports(dump, domid)
    firmware_frames = {mfn: gmfn
                       for mfn, _, gmfn, _ in firmware_grants.values()}
    # and those that were granted, but not mapped just then
    firmware_pages = {frame for _, frame in firmware_table.values()}
    # of dom0 or a stub domain
    node = rf'/local/domain/(\d+)/device-model/{domid}/fw-handoff/(.*)'
    told = {m[0]: m for m in (re.fullmatch(node, path) for path in store) if m}
    keys = {}
    for name, frontend in frontends.items():
        had = set(created.get(name, {'keys': {}})['keys'])
        keys[name] = {'extra': sorted(set(frontend['keys']) - had),
                      'missing': sorted(had - set(frontend['keys']))}
    return {
        'frontend_states': {n: f['state'] for n, f in frontends.items()},
        'backend_states': {n: f['backend_state']
                           for n, f in frontends.items()},
        'keys': keys,
        'values': {n: f['keys'] for n, f in frontends.items()},
        'grants': {ref: {'mfn': f'{mfn:#x}', 'pin': pin, 'gmfn': f'{gmfn:#x}',
                         'by': by}
                   for ref, (mfn, pin, gmfn, by) in grants.items()},
        'firmware_mapped': [
            ref for ref, (mfn, _, gmfn, _) in grants.items()
            if mfn in firmware_frames or gmfn in firmware_pages],
        # Xen keeps an entry's frame as long as the entry is pinned, so a
        # reference granted anew still leads to the firmware's page
        'pinned_to_old_frame': [
            ref for ref, (mfn, _, gmfn, _) in grants.items()
            if firmware_frames.get(mfn, gmfn) != gmfn],
        # what the device tells toolstacks
        'node': {m[2]: store[path] for path, m in told.items()},
        'node_of': sorted({int(m[1]) for m in told.values()}),
        'point': store.get(f'/local/domain/{domid}/data/lab-at'),
        'table_entries': len(entries),
        'toolstack_grants': parse_toolstack_grants(table),
        'connection': parse_connection(connection),
        'granted_to': sorted({domid for domid, _ in entries.values()}),
        'firmware_granted': sorted(
            ref for ref, entry in entries.items()
            if firmware_table.get(ref) == entry),
        'firmware_ports_bound': [
            port for d in firmware.values() for port in d['ports']
            if ports.get(port) == BOUND],
    }


def linux_facts(directory, domid, firmware, first_line):
    console = read(directory / 'console.log')
    events = parse_events(read(directory / 'events.log'))
    resets, reset_from, reset_to = parse_resets(
        read(directory / 'xswatch.log'), domid,
        events.get('first-line', float('inf')),
        events.get('ready', float('inf')))
    packets = re.search(r"packets put into the firmware's buffers: (-?\d+)",
                        read(directory / 'scenario.log'))
    def line(begin):
        m = re.search(rf'^GUEST\[.*?\]: {begin}(.*)$', console, re.M)
        return m[1] if m else ''

    kept = []
    for name, device in firmware.items():
        keys = first_line.get(name, {'keys': {}})['keys']
        refs = device['rings']
        if refs and all(keys.get(k) == str(v) for k, v in refs.items()):
            kept.append(name)
    return {
        'ready': 'ready' in events,
        'version': re.findall(r'Linux version ([\d.]+)', console),
        'disks': {m[1]: m[2] for m in re.finditer(
            r"GUEST\[.*?\]: (\w+) (?:says '(.*)'|is missing)", console)},
        'ping': bool(re.search(r'GUEST.*: ping .* [1-9]\d* packets received',
                               console)),
        'kdump': bool(re.search(r'^.*ommand line:.* elfcorehdr=', console,
                                re.M)),
        'alive': parse_alive(console),
        'all_disks': line('all disks: ').split(),
        'pci_classes': line('classes of PCI devices: ').split(),
        'tables': line('SMBIOS has '),
        'store_trouble': re.findall(
            r'xenbus: (error .*|.* is not quiescent).*', console),
        'ballooned': 'Initial ballooning down finished' in console,
        'firmware_ring_keys_at_first_line': kept,
        'packets_to_firmware': int(packets[1]) if packets else None,
        'resets': resets,
        'reset_seconds': reset_to and round(reset_to - reset_from, 3),
        # how long Linux has run while pages of the firmware were mapped
        'exposed_seconds': reset_to and 'unpaused' in events and round(
            reset_to - events['unpaused'], 3),
    }


def evidence(directory):
    directory = Path(directory)
    log = read(directory / 'firmware.log')
    status = read(directory / 'status').strip()
    domid = read(directory / 'domid').strip()
    driver = read(directory / 'driver').strip()
    stub = read(directory / 'stub').strip()
    events = parse_events(read(directory / 'events.log'))
    begin, end = map(events.get, ('resume firmware', 'checkpoint announced'))
    stores = {}
    dumps = {}
    tables = {}
    connections = {}
    for path in directory.glob('snapshot-*-xenstore.txt'):
        tag = path.name[len('snapshot-'):-len('-xenstore.txt')]
        stores[tag] = parse_xenstore(read(path))
        dumps[tag] = read(directory / f'snapshot-{tag}-xen.txt')
        tables[tag] = read(directory / f'snapshot-{tag}-grants.txt')
        connections[tag] = read(directory / f'snapshot-{tag}-connection.txt')
    created = parse_frontends(stores.get('created', {}), domid)
    left = parse_frontends(stores.get('firmware', {}), domid)
    firmware = parse_bios(log, left) | parse_ipxe(log, left) | \
        parse_firmware(log)
    firmware_grants = parse_grants(dumps.get('firmware', ''), domid)
    firmware_table = parse_table(tables.get('firmware', ''))
    facts = {
        'scenario': directory.name,
        'status': int(status) if status else None,
        'domid': int(domid) if domid else None,
        'driver': int(driver) if driver else None,  # the driver domain's
        'stub': int(stub) if stub else None,        # the stub domain's
        'firmware': firmware,
        'devices': parse_os(log),
        'loader': parse_loader(log),
        'litter': {m[1]: int(m[2]) for m in re.finditer(
            r'^PVFW: litters xenstore: (\S+), (\d+)$', log, re.M)},
        # what the OS had under way in xenstore at its announcement
        'xenstore_lives': 'PVOS: its request was answered, its watch fires'
                          in log,
        'grants_in_use_by_firmware': [int(n) for n in re.findall(
            r'^PVFW: (\d+) grants are still in use$', log, re.M)],
        'written': {int(n): text for n, text in re.findall(
            r"disk (\d+): sector 7 says '(.*)'",
            read(directory / 'written.log'))},
        'snapshots': {
            tag: snapshot_facts(stores[tag], dumps[tag], tables[tag],
                                connections[tag], domid, created, firmware,
                                firmware_grants, firmware_table)
            for tag in sorted(stores, key=lambda t: events.get(
                t if t == 'created' else f'snapshot {t}', 0))},
        'config': dict(re.findall(r'^(\w+) = (.*)$',
                                  read(directory / 'guest.cfg'), re.M)),
        'libvirt': [line.strip() for line in
                    read(directory / 'libvirt.xml').splitlines()],
        # what became of it in dom0
        'package': dict(re.findall(r'^(\w+) (.*?) ?$',
                                   read(directory / 'package.txt'), re.M)),
        'model_uid': next(map(int, re.findall(
            r'the device model runs as user (\d+)',
            read(directory / 'scenario.log'))), None),
        'dm_log': [line for log in ('refused.log', 'qemu-dm.log')
                   for line in read(directory / log).splitlines()
                   if re.search('xen-fw-handoff:|xen-platform: guest:', line)],
        # seen where a scenario has switched tracing on
        # how long the OS's announcement took, and what it did
        'handoff_seconds': end - begin if begin and end else None,
        'walks': parse_walks(read(directory / 'xswatch.log'), domid,
                             begin or float('inf'), end or float('inf')),
        # as toolstacks were told, of all of the guest's lives
        'timed_out': sorted(set(map(int, re.findall(
            r'/fw-handoff/timed-out = (\d+)$',
            read(directory / 'xswatch.log'), re.M)))),
        # from where a loader reads Linux to its first line
        'loader_walks': parse_walks(
            read(directory / 'xswatch.log'), domid,
            events.get('loads', float('inf')),
            events.get('first-line', float('inf'))),
        'traces': {path.stem[len('traces-'):]: parse_traces(
            read(path), read(path.with_suffix('.xen')), domid)
            for path in directory.glob('traces-*.txt')},
        # BIOS's output, on its way over the serial port and Xen's console
        'bios_logs': ['SeaBIOS (version' in log, f'(d{domid}) SeaBIOS (version'
                      in read(directory / 'xen.log')],
        'first_line_seconds': first_line_seconds(events),
        'bios_says': re.findall(rf'^(?:\(XEN\) )?\(d{domid}\) (.*)$',
                                read(directory / 'xen.log'), re.M),
        'int13': parse_int13(log, read(directory / 'int13.txt')),
        'product_writes': len(re.findall(
            r'memory_region_ops_write .* addr 0x12 value 0x3 size 2 '
            r"name 'xen-fixed'", read(directory / 'qemu-dm.log'))),
        'qmp': {path.stem[len('qmp-'):]: parse_replies(read(path))
                for path in directory.glob('qmp-*.txt')},
    }
    if (directory / 'held.txt').exists():
        facts['held'] = parse_held(read(directory / 'held.txt'))
    if (directory / 'soak.txt').exists():
        facts['soak'] = parse_soak(read(directory / 'soak.txt'))
    facts['emulated'] = {tag: parse_emulated(replies)
                         for tag, replies in facts['qmp'].items()
                         if 'pci' in replies}
    if (directory / 'before').is_dir():
        facts['before'] = evidence(directory / 'before')
    facts['others'] = [evidence(other)
                       for other in sorted(directory.glob('other*'))]
    if 'GUEST[' in read(directory / 'console.log'):
        facts['linux'] = linux_facts(
            directory, domid, firmware,
            parse_frontends(stores.get('first-line', {}), domid))
    return facts


if __name__ == '__main__':
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit('usage: evidence.py build/xen/RUN/SCENARIO')
    print(json.dumps(evidence(sys.argv[1]), indent=2))

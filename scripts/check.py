#!/usr/bin/env python3
"""Checks of make check that compare files of the repository: check.py WHAT.

grammar: what the device's source can say in the log and what the spec says of
it.  map: the paths in README.md and CONTRIBUTING.md and the tree.  Each prints
what does not fit.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from pathlib import Path
import re
import subprocess
import sys

import test as tests

TOP = Path(__file__).resolve().parent.parent
VALUE = '\0'        # in a line of the source, whatever is put in

# one report: its function and the literals of its line
LITERALS = r'((?:\s*(?:"(?:[^"\\]|\\.)*"|PRI\w+))+)'
BEGIN = (r'(?:(xen_handoff_(?:say|warn))\((?:&s->report|r),|'
         r'(\w+_report\w*)\((?:\s*err,)?\s*XEN_FW_HANDOFF_LOG)\s*')
REPORT = re.compile(BEGIN + LITERALS)
MACRO = re.compile(r'#define (\w+) ("(?:\\\n|[^\n])*)')


def tracked():
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=TOP, check=True, capture_output=True, text=True)
    return [path for path in listed.stdout.splitlines()
            if (TOP / path).exists()]


def lines_of_source():
    """Every line that the device may say, {line: where}."""
    lines = {}
    for path in tracked():
        if not re.match(r'(hw|include)/.*\.[ch]$', path):
            continue
        source = (TOP / path).read_text()
        for m in MACRO.finditer(source):    # a text that several lines have
            source = re.sub(rf'(?<!#define )\b{m[1]}\b',
                            lambda _: m[2].replace('\\\n', ''), source)
        reports = list(REPORT.finditer(source))
        if len(reports) != len(re.findall(BEGIN, source)):
            print(f'{path}: a line is put together in a way that this check '
                  'does not understand')
        for m in reports:
            text = ''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', m[3]))
            # what PRIu64 stands for ends with the literal
            line = re.sub(r'%[-\d.]*(?:[a-z]|$|(?= ))', VALUE, text)
            if m[2] == 'warn_reportf_err':
                line += VALUE
            if line == VALUE:       # xen_handoff_say() itself
                continue
            lines[line] = f'{path}:{source[:m.start()].count(chr(10)) + 1}'
    return lines


def grammar():
    lines = lines_of_source()
    spec = tests.log_grammar()
    for line, where in lines.items():
        if not any(g.fullmatch(line) for g in spec.values()):
            print(f"{where}: the spec's grammar has no line for: "
                  f'{line.replace(VALUE, "<...>")}')
    for line, g in spec.items():
        if not any(g.fullmatch(said) for said in lines):
            print(f'docs/specs/xen-fw-handoff.txt: no source says: {line}')


def paths_of_map():
    """Paths of this repository that the documents name, {path: document}."""
    top = {path.partition('/')[0] for path in tracked() if '/' in path}
    return {path: document
            for document in ('README.md', 'CONTRIBUTING.md')
            for path in re.findall(r'[`(]([\w./*-]+)[`)]',
                                   (TOP / document).read_text())
            if path.partition('/')[0] in top
            or re.fullmatch(r'[\w.]+\.(md|patch)', path)}


def check_map():
    files = tracked()
    named = paths_of_map()
    for path, document in named.items():
        # NAME and the like stand for many
        if not re.search('[A-Z]{3}', Path(path).stem) or path.endswith('.md'):
            if not (TOP / path).exists():
                print(f'{document}: there is no {path}')
    for path in files:
        if '/' in path and not path.startswith('.') and not any(
                path == p or p.endswith('/') and path.startswith(p)
                for p in named):
            print(f'{path} is in no map')


if __name__ == '__main__':
    {'grammar': grammar, 'map': check_map}[sys.argv[1]]()

#!/usr/bin/env python3
"""Make commits of our changes, and mails of the commits: called by series.sh.

series.py commit TREE SOURCE VERSION    in the worktree TREE, which is at "base";
                                        "whole" is all of ours on WHOLE
series.py mail TREE SOURCE VERSION OUT  one directory of mails for each series

series/NAME is one series: its cover letter and, after a line "---", its patches
in their order.  Each is the subject of one of those of its SOURCE; indented below
it are the new files that come with it.

series/VERSION/ is what is different on that version: a patch is applied instead
of ours of the same subject, or after it if it is its "fixup!"; one that is of
none of ours is for that version only.  A file *.drop has the subject of one that
is not needed, and why.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

TOP = Path(__file__).resolve().parent.parent
SERIES = {'qemu': ('tcg-svm', 'xen-hosts', 'fixes', 'xen-for-qtest', 'xen-fw-handoff'),
          'seabios': ('seabios',)}
PATCHES = {'qemu': ('patches/*.patch', 'meson.build.patch'),
           'seabios': ('roms/seabios/*.patch',)}
# From series.sh: an option of git's, and of which version "whole" is
SIGNOFF, WHOLE = os.environ['SIGNOFF'], os.environ['WHOLE']


def die(text):
    sys.exit(f'series: {text}')


def git(tree, *args, **kwargs):
    done = subprocess.run(['git', *args], cwd=tree, text=True, check=False,
                          capture_output=True, **kwargs)
    if done.returncode:
        die(f'git {" ".join(args)} failed in {tree}:\n'
            f'{done.stdout}{done.stderr}')
    return done.stdout


def patches(files):
    """{subject: text of the patch} of mailboxes."""
    found = {}
    for file in files:
        for text in re.split(r'^(?=From [0-9a-f]{40} )', file.read_text(),
                             flags=re.M)[1:]:
            subject = re.search(r'^Subject: (?:\[PATCH.*?\] )?(.*(?:\n .*)*)',
                                text, re.M)[1].replace('\n', '')
            if subject in found:
                die(f'{file.name}: there are two patches "{subject}"')
            found[subject] = text
    return found


def drops(version):
    return {subject: why.strip()
            for file in (TOP / 'series' / version).glob('*.drop')
            for subject, _, why in [file.read_text().partition('\n')]}


def cover_and_list(series):
    """The cover letter, and [(subject, [new file])]."""
    cover, _, rest = (TOP / 'series' / series).read_text().partition('\n---\n')
    mails = []
    for line in rest.splitlines():
        if line.startswith(' '):
            mails[-1][1].append(line.strip())
        elif line:
            mails.append((line, []))
    return cover.strip(), mails


def commit(tree, source, version):
    ours = patches([file for pattern in PATCHES[source]
                    for file in sorted(TOP.glob(pattern))])
    other = patches(sorted((TOP / 'series' / version).glob('*.patch')))
    anywhere = {subject for file in (TOP / 'series').glob('*/*.patch')
                for subject in patches([file])}
    drop = drops(version)
    listed = [mail for s in SERIES[source] for mail in cover_and_list(s)[1]]
    subjects = [subject for subject, _ in listed]
    for subject in [*ours, *(x.removeprefix('fixup! ') for x in other)]:
        if subjects.count(subject) != 1:
            die(f'"{subject}" has to be in one of series/* once')
    for subject in [*subjects, *drop]:
        if subject not in ours and subject not in anywhere:
            die(f'{" ".join(PATCHES[source])}: nothing has "{subject}"')

    for series in SERIES[source]:
        for subject, files in cover_and_list(series)[1]:
            patch = other.get(subject, ours.get(subject))
            if subject in drop or not patch:
                continue
            git(tree, 'am', '-q', '-3', input=patch)
            if files:
                git(tree, 'checkout', '-q', 'whole', '--', *files)
            if fixup := other.get(f'fixup! {subject}'):
                git(tree, 'commit', '-q', '--amend', '--no-edit')
                git(tree, 'am', '-q', '-3', input=fixup)
                git(tree, 'reset', '-q', '--soft', 'HEAD^')
            # by who sends it
            git(tree, 'commit', '-q', '--amend', '--reset-author', '--no-edit',
                SIGNOFF)
        git(tree, 'tag', '-f', series)

    if version == WHOLE:
        # what other versions change in files of ours, wherever a mirror lacks them
        new = [f'--include={f}' for _, files in listed for f in files]
        for file in (TOP / 'series').glob('*/*.patch'):
            if subprocess.run(['git', 'apply', '--check', '--cached', *new,
                               file], cwd=tree, check=False).returncode:
                die(f'series/{file.parent.name}/{file.name} does not fit our '
                    'files any more: write it anew')
        for path in git(tree, 'diff', '--name-only', 'HEAD',
                        'whole').splitlines():
            die(f'{path} is not all in the series: see series/*')


def mail(tree, source, version, out):
    shutil.rmtree(out, ignore_errors=True)
    before, drop = 'base', drops(version)
    for series in SERIES[source]:
        if not git(tree, 'rev-list', f'{before}..{series}'):
            continue
        git(tree, 'format-patch', '-q', '--cover-letter', '--no-base',
            '-o', str(Path(out) / series), f'{before}..{series}')
        cover, mails = cover_and_list(series)
        subject, _, text = cover.partition('\n')
        text = '\n\n'.join([text.strip(), *(
            f'Not needed here: "{x}".\n{drop[x]}'
            for x, _ in mails if x in drop)])
        [letter] = (Path(out) / series).glob('0000-*')
        letter.write_text(letter.read_text()
                          .replace('*** SUBJECT HERE ***', subject)
                          .replace('*** BLURB HERE ***', text))
        before = series


if __name__ == '__main__':
    {'commit': commit, 'mail': mail}[sys.argv[1]](*sys.argv[2:])

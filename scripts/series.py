#!/usr/bin/env python3
"""Make commits of our changes, and mails of the commits: called by series.sh.

series.py commit REPO        all patches, on the branch "base" of QEMU 10.0
series.py port REPO FROM DIR the same commits of the repository FROM on another
                             version, with the amendments in DIR
series.py mail REPO OUT DIR  one directory of mails for each series

series/NAME/ is one series.  Its file "cover" has the cover letter, and after a
line "---" the globs of those of patches/ that come first.  Every other file is
a patch: its message, and after a line "---" what it takes of our tree,
a path or "path: regex": of the lines that we add to an upstream file those that
match, and those without a match that are in a paragraph with one.

DIR/STEP.patch amends the patch STEP for that version.  A file that conflicts
stays as it is there: what it needs has to be in the amendment.  DIR/NUMBER.drop
says why that one of patches/ is not needed there; so does the cover letter.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

TOP = Path(__file__).resolve().parent.parent
SERIES = ('tcg-svm', 'xen-fw-handoff')
SIGNOFF = os.environ['SIGNOFF']      # an option of git's, from series.sh


def die(text):
    sys.exit(f'series: {text}')


class Tree:
    """A work tree of a repository."""

    def __init__(self, path):
        self.path = path

    def git(self, *args, check=True, **kwargs):
        done = subprocess.run(['git', *args], cwd=self.path, text=True,
                              capture_output=True, check=False, **kwargs)
        if check and done.returncode:
            die(f'git {" ".join(args)[:200]} failed in {self.path}:\n'
                f'{done.stdout}{done.stderr}')
        return done.stdout

    def lines(self, *args):
        return self.git(*args).splitlines()


def tree_at_base(repo):
    """A second work tree, since a build of the first one wants it untouched."""
    tree = Tree(repo.with_name(f'{repo.name}.commits'))
    if not tree.path.exists():
        Tree(repo).git('worktree', 'prune')
        Tree(repo).git('worktree', 'add', '-q', '--detach', str(tree.path))
    tree.git('am', '--abort', check=False)
    tree.git('checkout', '-q', '--force', '--detach', 'base')
    tree.git('clean', '-fdq')
    return tree


def parts(path):
    """The text of a file of series/, and the lines after its "---"."""
    text, _, rest = path.read_text().partition('\n---\n')
    return text.strip() + '\n', [x for x in rest.splitlines() if x]


def steps(series):
    return sorted(x for x in (TOP / 'series' / series).iterdir()
                  if x.name != 'cover')


def mails(series):
    globs = parts(TOP / 'series' / series / 'cover')[1]
    return [x for glob in globs for x in sorted(TOP.glob(glob))]


def added(tree, path):
    """Of the commit "whole": [(line, run)], run is None for lines of upstream's
    or of patches/."""
    base = tree.git('show', f'patched:{path}').splitlines(keepends=True)
    whole = tree.git('show', f'whole:{path}').splitlines(keepends=True)
    runs = [None] * len(whole)
    for line in tree.lines('diff', '-U0', 'patched', 'whole', '--', path):
        if head := re.match(r'@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@', line):
            if head[1] != '0':
                die(f'{path} is taken by lines, but a line of upstream is '
                    'changed: take the whole file')
            first = int(head[2]) - 1
            for i in range(first, first + int(head[3] or 1)):
                runs[i] = first
    assert len(whole) - len(base) == sum(x is not None for x in runs)
    return list(zip(whole, runs))


def paragraphs(run):
    """Blank lines go with the paragraph that they set off."""
    found = [[]]
    for line in run:
        if line.strip():
            found[-1].append(line)
        elif run[0].strip():
            found[-1].append(line)
            found.append([])
        else:
            found.append([line])
    return [x for x in found if x]


def split(tree, path, rules):
    """[(line, number of the patch that brings it)], -1 is upstream.

    rules: [(number, regex)]
    """
    owned, lines = [], added(tree, path)
    while lines:
        run = lines[0][1]
        same = next((i for i, x in enumerate(lines) if x[1] != run),
                    len(lines))
        texts = [x[0] for x in lines[:same]]
        lines = lines[same:]
        if run is None:
            owned += [(x, -1) for x in texts]
            continue
        for paragraph in paragraphs(texts):
            who = [next((n for n, rule in rules if rule.search(x)), None)
                   for x in paragraph]
            if set(who) == {None}:
                die(f'{path}: these lines are in no patch, name them in one '
                    f'of series/*/*:\n{"".join(paragraph)}')
            first = min(n for n in who if n is not None)
            owned += [(x, first if n is None else n)
                      for x, n in zip(paragraph, who)]
    return owned


def compose(tree):
    """All of ours in one commit, "whole"."""
    tree.git('apply', '--index', str(TOP / 'meson.build.patch'))
    subprocess.run(['sh', '-c', '. scripts/common.sh; . scripts/qemu.sh; '
                    'overlay "$1"', 'scripts/series', str(tree.path)],
                   cwd=TOP, check=True)
    tree.git('add', '-A')
    tree.git('commit', '-q', '-m', 'whole')
    tree.git('tag', '-f', 'whole')


def commit_steps(tree, files):
    takes = [parts(x)[1] for x in files]
    rules = {}
    for n, lines in enumerate(takes):
        for path, colon, regex in (x.partition(': ') for x in lines):
            if colon:
                rules.setdefault(path, []).append((n, re.compile(regex)))
    owned = {path: split(tree, path, x) for path, x in rules.items()}
    for n, (file, lines) in enumerate(zip(files, takes)):
        for path, colon, _ in (x.partition(': ') for x in lines):
            if colon:
                (tree.path / path).write_text(''.join(
                    x for x, who in owned[path] if who <= n))
                tree.git('add', path)
            else:
                tree.git('checkout', '-q', 'whole', '--', path)
        tree.git('commit', '-q', SIGNOFF, '-F', '-',
                 input=parts(file)[0])
        tree.git('notes', 'add', '-f', '-m', file.name)


def commit(repo):
    used = {x for s in SERIES for x in mails(s)}
    if lost := set((TOP / 'patches').glob('*.patch')) - used:
        die(f'{min(lost).name} is in no series: name it in series/*/cover')
    tree = tree_at_base(repo)
    for series in SERIES:
        for mail in mails(series):
            tree.git('am', '-q', SIGNOFF, str(mail))
            # by who sends it, as all others are
            tree.git('commit', '-q', '--amend', '--reset-author', '--no-edit')
            tree.git('notes', 'add', '-f', '-m', mail.name[:4])
        tree.git('tag', '-f', 'patched')
        if files := steps(series):
            compose(tree)
            tree.git('checkout', '-q', '--detach', 'patched')
            commit_steps(tree, files)
        tree.git('tag', '-f', series)
    if lost := tree.lines('diff', '--name-only', 'HEAD', 'whole'):
        die(f'{lost[0]} is not all in a patch: name it in one of '
            'series/*/*')


def port_step(tree, origin, amend):
    step = tree.git('notes', 'show', origin).strip()
    if (amend / f'{step}.drop').exists():
        return
    tree.git('cherry-pick', '--no-commit', origin, check=False)
    conflicts = tree.lines('diff', '--name-only', '--diff-filter=U')
    patch = amend / f'{step}.patch'
    text = patch.read_text() if patch.exists() else ''
    for path in conflicts:
        if f'\n+++ b/{path}\n' not in text:
            die(f'{step} conflicts in {path}: write what it needs in this '
                f'version to {patch.relative_to(TOP)}')
        tree.git('checkout', '--ours', '--', path)
        tree.git('add', path)
    if text:
        tree.git('apply', '--index', str(patch))
    tree.git('commit', '-q', '-C', origin)
    tree.git('notes', 'add', '-f', '-m', step)


def port(repo, source, amend):
    known = {f.name for s in SERIES for f in steps(s)} | \
        {f.name[:4] for s in SERIES for f in mails(s)}
    for file in amend.iterdir():
        if file.stem not in known:
            die(f'{file.relative_to(TOP)} amends no patch: name it after one '
                'of series/*/*, or after the number of one of patches/')
    tree = tree_at_base(repo)
    tree.git('fetch', '-q', '--no-tags', str(source),
             '+refs/tags/*:refs/origin/*', '+refs/notes/*:refs/notes/*')
    before = 'refs/origin/base'
    for series in SERIES:
        after = f'refs/origin/{series}'
        for origin in tree.lines('rev-list', '--reverse',
                                 f'{before}..{after}'):
            port_step(tree, origin, amend)
        tree.git('tag', '-f', series)
        before = after


def dropped(series, amend):
    """For the cover letter: what is not in the series of this version."""
    for file in mails(series):
        drop = amend / f'{file.name[:4]}.drop'
        if drop.exists():
            subject = re.search(r'^Subject: \[PATCH\] (.*(?:\n .*)*)',
                                file.read_text(), re.M)[1].replace('\n', '')
            yield f'Not needed here: "{subject}".\n{drop.read_text().strip()}'


def mail(repo, out, amend):
    shutil.rmtree(out, ignore_errors=True)
    tree, before = Tree(repo), 'base'
    for series in SERIES:
        tree.git('format-patch', '-q', '--cover-letter', '--no-base',
                 '-o', str(out / series), f'{before}..{series}')
        subject, _, text = parts(TOP / 'series' / series / 'cover')[0] \
            .partition('\n')
        text = '\n\n'.join([text.strip(), *dropped(series, amend)])
        [cover] = (out / series).glob('0000-*')
        cover.write_text(cover.read_text()
                         .replace('*** SUBJECT HERE ***', subject)
                         .replace('*** BLURB HERE ***', text))
        before = series


if __name__ == '__main__':
    verb, *args = sys.argv[1:]
    {'commit': commit, 'port': port, 'mail': mail}[verb](
        *(Path(x).resolve() for x in args))

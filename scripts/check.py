#!/usr/bin/env python3
"""Compare the paths in README.md and CONTRIBUTING.md with the tree, for
make check.  Says what does not fit, and fails then.

SPDX-License-Identifier: GPL-2.0-or-later
"""

from pathlib import Path
import re
import subprocess
import sys

TOP = Path(__file__).resolve().parent.parent


def tracked():
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=TOP, check=True, capture_output=True, text=True)
    return [path for path in listed.stdout.splitlines()
            if (TOP / path).exists()]


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
                yield f'{document}: there is no {path}'
    for path in files:
        if '/' in path and not path.startswith('.') and not any(
                path == p or p.endswith('/') and path.startswith(p)
                for p in named):
            yield f'{path} is in no map'


if __name__ == '__main__':
    sys.exit('\n'.join(check_map()) or None)

#!/bin/sh
# check.sh: what can be checked without running anything: make check, before a commit.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$TOP"
CHECKPATCH=build/qemu/scripts/checkpatch.pl
[ -e "$CHECKPATCH" ] || die "checkpatch is in QEMU's source, which is not there yet: make build"
mkdir -p "$CACHE/log"
apt_setup
apt_install git perl shellcheck python3-sphinx mandoc
passed=0 failed=0

# check WHAT COMMAND...: what it has to say is of interest if it fails
check() {
    what=$1
    shift
    if "$@" </dev/null >"$out" 2>&1; then
        echo "ok: $what"
        passed=$((passed + 1))
    else
        echo "NOT OK: $what"
        sed 's/^/    /' "$out" | head -n 40
        failed=$((failed + 1))
    fi
}

files() { git ls-files --cached --others --exclude-standard -- "$@"; }

shell_scripts() {
    files | while read -r f; do
        case $f in
        *.sh) echo "$f" ;;
        *) ! head -n 1 "$f" | grep -q '^#!.*/\(busybox \)\?sh\b' || echo "$f" ;;
        esac
    done
}

# shellcheck disable=SC2046  # names without spaces
{
c_style() {     # also what it only warns of; SeaBIOS has a style of its own
    ! perl "$CHECKPATCH" --no-tree --terse --no-summary -f $(files '*.c' '*.h' ':!roms') 2>&1 | grep .
}
shell_style() { shellcheck -x $(shell_scripts); }
man_pages() { mandoc -T lint -W warning $(files 'packaging/*.[1-8]'); }
}

pages() {   # as QEMU's own documentation has them, but without all others; and the manual page
    mkdir -p "$work/docs/specs" "$work/docs/system/i386"
    cp docs/specs/xen-fw-handoff.txt "$work/docs/specs/xen-fw-handoff.rst"
    cp docs/system/i386/xen-fw-handoff.rst "$work/docs/system/i386/"
    printf '.. toctree::\n\n   specs/xen-fw-handoff\n   system/i386/xen-fw-handoff\n' >"$work/docs/index.rst"
    sphinx-build -q -W -n -C -D project=pages -b dummy "$work/docs" "$work/doctrees" &&
        sphinx-build -q -W -n -b man packaging "$work/man"
}

machine_paths() {   # they differ from one machine to the next
    ! git grep --untracked -nIE "(^|[[:space:]=:(,\`][\"']?)/(home|root|work|mnt)/" -- . ':!LICENSE' &&
        case $TOP in
        /*/*) ! git grep --untracked -nIF -e "$TOP" -e "$CACHE" -- . ;;
        esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/out
check 'C: checkpatch' c_style
check 'shell: shellcheck' shell_style
check 'man pages: mandoc' man_pages
check 'pages: sphinx' pages
check 'README.md and CONTRIBUTING.md: every path is there, every file is in the map' python3 scripts/check.py
check 'patches/ and meson.build.patch: as make refresh writes them' scripts/edit.sh check
check 'roms/seabios/*.patch: as make refresh OF=seabios writes them' scripts/edit.sh seabios check
check 'no path of one machine' machine_paths
echo "$passed passed, $failed failed"
[ $failed = 0 ]

#!/bin/sh
# series.sh [check]: our changes as patch series for QEMU's and SeaBIOS's maintainers, in
# build/series/: for QEMU 10.0 and each version that has a directory in series/, the newest of
# which is QEMU_TREE=DIR if that is set; for SeaBIOS as we build it and for its newest release.
# scripts/series.py says how series/ is read, and that all patches add up to what build.sh and
# bios.sh compose.  With check, each patch is built; QEMU's are read by checkpatch.pl, and the
# tests run on the last one.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/qemu.sh
. "$(dirname "$0")/qemu.sh"

# Warnings are errors, as in QEMU's own CI; without TPM that would be one in xen-pvh-common.c
CONFIGURE="$CONFIGURE --enable-werror --enable-tpm"
UNIT="test-xs-node test-xen-operations test-xen-guest-ring test-xen-handoff-ledger test-xen-handoff-model"
QTESTS="xen-disk-test xen-handoff-test xen-handoff-fuzz device-introspect-test"
# Debian packages newer QEMUs in unstable, and only there
EXTRA="deb-src sid"

unsigned() {
    [ $SIGNOFF = --signoff ] ||
        say "nobody signs these patches off; to send them: git config user.name 'Your Name'," \
            "git config user.email you@example.org, and make series again"
}

commits() { # VERSION: ours on top of it, and the worktree $work to build them in
    fetch "$1"
    repository
    if [ "$1" = "$WHOLE" ]; then
        whole
        first=$repo
    fi
    work=$CACHE/git/$name
    ported "$1"
    python3 "$TOP/scripts/series.py" mail "$work.commits" $SOURCE "$1" "$TOP/build/series/$name"
    count=$(git -C "$repo" rev-list --count "base..$LAST")
    say "build/series/$name has $count patches"
}

configured() {
    # shellcheck disable=SC2086
    set -- $CONFIGURE
    [ "$*" != "$(cat "$work/build/configured" 2>/dev/null)" ] || return 0
    rm -rf "$work/build"
    mkdir "$work/build"
    (cd "$work/build" && ../configure "$@") >"$CACHE/log/series-configure.log" 2>&1
    echo "$*" >"$work/build/configured"
}

targets() {     # the programs that there are by now
    echo qemu-system-x86_64
    (cd "$work" && for t in tests/unit/test-xs-node.c tests/unit/test-xen-*.c tests/qtest/xen-*.c; do
        ! grep -qs '^int main' "$t" || echo "${t%.c}"
    done)
}

# A new symbol of Kconfig is poisoned for all of QEMU, which would all be built again.  No C
# file looks at ours, so the headers that have them may keep their time
symbols() {
    [ -e "$work/build/config-poison.h" ] || return 0
    ! git -C "$work" grep -q 'CONFIG_XEN_\(FW_HANDOFF\|LOOPBACK\)' HEAD -- '*.[ch]' || return 0
    old=$CACHE/git/old
    touch -r "$work/build/config-poison.h" "$old"
    ninja -C "$work/build" config-poison.h
    touch -r "$old" "$work/build/config-poison.h" "$work/build/x86_64-softmmu-config-devices.h"
}

each_builds() { # what was built once need not be built again
    n=0
    git -C "$work" rev-parse -q --verify base >/dev/null 2>&1 || worktree "$work"
    for c in $(git -C "$repo" rev-list --reverse "base..$LAST"); do
        n=$((n + 1))
        t=$(git -C "$repo" rev-parse "$c^{tree}")
        ! grep -qx "$t" "$work/build/builds" 2>/dev/null || continue
        git -C "$work" checkout -q --force --detach "$c"
        configured
        # shellcheck disable=SC2046
        { symbols && ninja -C "$work/build" $(targets); } >"$CACHE/log/series-build.log" 2>&1 || {
            tail -n 20 "$CACHE/log/series-build.log"
            git -C "$repo" log -1 --format='%s: does not build'
            return 1
        }
        echo "$t" >>"$work/build/builds"
        echo "[$n/$count]"
    done
}

style() {       # checkpatch.pl; get_maintainer.pl answers its question whether MAINTAINERS knows all files
    git -C "$work" checkout -q --force --detach xen-fw-handoff
    cd "$work"
    scripts/checkpatch.pl "$SIGNOFF" --terse --no-summary base..xen-fw-handoff >"$CACHE/log/checkpatch.log" 2>&1 ||
        grep -q 'ERROR:\|WARNING:' "$CACHE/log/checkpatch.log" ||
        { tail "$CACHE/log/checkpatch.log" >&2; die "checkpatch.pl itself fails"; }
    ! grep 'ERROR:\|WARNING:' "$CACHE/log/checkpatch.log" | grep -v 'added, moved or deleted file' >&2 ||
        die "checkpatch.pl of $name has found these"
    for f in $(git diff --name-only --diff-filter=A base xen-fw-handoff); do
        [ -n "$(scripts/get_maintainer.pl --nogit --nogit-fallback --nol -f "$f")" ] ||
            die "MAINTAINERS knows nobody for $f: add a line to meson.build.patch"
    done
    cd "$TOP"
}

pages() {       # QEMU's own configuration of Sphinx, and all pages beside ours: an index has to name them
    log=$CACHE/log/sphinx.log html=$CACHE/git/html
    rm -rf "$html"
    logged "building the pages of $name" "$log" sphinx-build -q -b html -d "$html/doctrees" "$work/docs" "$html"
    ! grep 'xen-fw-handoff\.rst' "$log" >&2 || die "sphinx-build of $name complains of our pages"
    for page in specs system/i386; do
        [ -s "$html/$page/xen-fw-handoff.html" ] || die "sphinx-build made no page of docs/$page/xen-fw-handoff.rst"
    done
}

tests() {
    names=
    for t in $UNIT; do set -- "$@" "tests/unit/$t"; names="$names $t"; done
    for t in $QTESTS; do set -- "$@" "tests/qtest/$t"; names="$names qtest-x86_64/$t"; done
    # shellcheck disable=SC2046
    logged "building the tests of $name" "$CACHE/log/series-build.log" ninja -C "$work/build" $(targets) "$@"
    # shellcheck disable=SC2086
    logged "testing $name" "$CACHE/log/series-test.log" \
        "$work/build/pyvenv/bin/meson" test -C "$work/build" --no-rebuild --timeout-multiplier 5 $names
}

check() {
    logged "building $name with each of $count patches" "$CACHE/log/series.log" each_builds
    style
    tests
    pages
    passed="$passed $count on $name,"
}

each_bios() {   # builds, and gcc has nothing to say about it
    for c in $(git -C "$repo" rev-list --reverse "base..$LAST"); do
        worktree "$work"
        git -C "$work" checkout -q --force --detach "$c"
        make_bios "$work" "$work/out"
    done
}

check_bios() {
    logged "building $name with each of $count patches" "$CACHE/log/series-bios.log" each_bios
    ! grep '^src/.*warning:' "$CACHE/log/series-bios.log" >&2 || die "gcc warns of these in $name"
    passed="$passed $count on $name,"
}

case ${1:-} in '' | check) ;; *) die "usage: scripts/series.sh [check]" ;; esac
need_space 2000
mkdir -p "$CACHE/log"
one_at_a_time
apt_setup
# shellcheck disable=SC2086
apt_install $PACKAGES git perl python3-sphinx python3-sphinx-rtd-theme
identity
passed=
for v in $WHOLE $(cd "$TOP/series" && echo [0-9]*); do
    [ "$v" = "$WHOLE" ] || (fetch "$v") >"$CACHE/log/series-fetch.log" 2>&1 || {
        say "no series for QEMU $v: the mirror does not have its source; QEMU_TREE=DIR takes a tree of yours"
        continue
    }
    commits "$v"
    [ "${1:-}" = check ] || continue
    [ "$v" = "$WHOLE" ] || newest_needs
    check
done
# shellcheck source=scripts/seabios.sh
. "$TOP/scripts/seabios.sh"
# shellcheck disable=SC2086
apt_install $PACKAGES
WHOLE=$SEABIOS
LAST=seabios
newest=$(apt-cache showsrc seabios | awk '$1 == "Version:" { print $2 }' | sort -V | tail -n 1)
for v in $WHOLE "${newest%.*}"; do
    commits "$v"
    [ "${1:-}" != check ] || check_bios
done
unsigned
[ "${1:-}" = check ] || exit 0
say "passed:$passed each built and read by checkpatch.pl if it is QEMU's; tests and pages of both"

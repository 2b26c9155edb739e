#!/bin/sh
# edit.sh [seabios] [refresh|check]: patches/ and meson.build.patch as commits in build/edit, a
# worktree of QEMU's source; refresh writes what the commits there say back.  Those that only
# change files of WIRING are meson.build.patch, all others are patches/.  check shows how both
# differ from what refresh would write.  With seabios the same for its source, in
# build/edit-seabios, and the patches in roms/seabios/.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
if [ "${1:-}" = seabios ]; then
    shift
    # shellcheck source=scripts/seabios.sh
    . "$(dirname "$0")/seabios.sh"
    of=' OF=seabios' edit_name=edit-seabios dir=roms/seabios WANTED=$SEABIOS
else
    # shellcheck source=scripts/qemu.sh
    . "$(dirname "$0")/qemu.sh"
    of='' edit_name=edit dir=patches WANTED=$WHOLE
fi

WIRING='(^|/)(meson\.build|Kconfig|trace-events|MAINTAINERS|index\.rst|target-i386\.rst|qapi-schema\.json|[^/]*\.hx|monitor/monitor\.c|tests/qtest/qmp-cmd-test\.c)$'
FORMAT="--zero-commit --no-signature --keep-subject --abbrev=12 --no-renames"
edit=$CACHE/$edit_name

in_edit() { plain_git -C "$edit" "$@"; }
# shellcheck disable=SC2086
written() { cat $PATCHES | sha256sum; }

saved() {       # all that is in build/edit; not if git cannot tell
    head=$(in_edit rev-parse -q --verify HEAD) && changes=$(in_edit status --porcelain) &&
        [ -z "$changes" ] && [ "$head" = "$(in_edit rev-parse -q --verify written)" ]
}

source_tree() {
    apt_setup
    # shellcheck disable=SC2086
    apt_install $PACKAGES
    fetch $WANTED
    repository
}

make_edit() {
    source_tree
    [ ! -e "$edit" ] || saved || die "$edit has what make refresh$of has not written: do that, or remove it"
    if [ "$(in_edit rev-parse --git-common-dir 2>/dev/null)" = "$repo" ]; then
        in_edit checkout -q --force --detach base
    else
        worktree "$edit"
        in_edit checkout -q --force
    fi
    mkdir -p "$TOP/build"
    ln -sfn "$edit" "$TOP/build/$edit_name"
    written >"$edit.from"
    our_commits "$edit" || die "go on in build/$edit_name: resolve it, git am --continue, then make refresh$of"
    in_edit tag -f written >/dev/null
    say "build/$edit_name has our patches as commits"
}

two_kinds() {   # of commits; in_order, if all of one come first
    patches='' wiring='' in_order=yes
    for c in $(in_edit rev-list --reverse base..HEAD); do
        if in_edit diff-tree -r --no-commit-id --name-only "$c" | grep -qvE "$WIRING"; then
            patches="$patches $c"
            [ -z "$wiring" ] || in_order=
        else
            wiring="$wiring $c"
        fi
    done
}

sort_commits() { # and each fixup goes to the commit that it is for
    in_edit -c sequence.editor=: rebase -q -i --autosquash base || return 1
    two_kinds
    [ -z "$in_order" ] || return 0
    in_edit checkout -q --detach base
    # shellcheck disable=SC2086
    in_edit cherry-pick $patches $wiring >/dev/null
}

# shellcheck disable=SC2086
write_to() {    # DIR
    last=HEAD
    for c in $wiring; do last=$last^; done
    in_edit format-patch -q $FORMAT -o "$1/$dir" "base..$last"
    [ $SOURCE != qemu ] || in_edit format-patch $FORMAT --stdout "$last..HEAD" >"$1/meson.build.patch"
}

refresh() {
    [ -e "$edit/.git" ] || die "there is no build/$edit_name: make edit$of"
    [ "$(written)" = "$(cat "$edit.from")" ] ||
        die "our patches are others than those that make edit$of has read"
    [ -z "$(in_edit status --porcelain)" ] || die "build/$edit_name has changes that are not committed"
    sort_commits || die "go on in build/$edit_name: resolve it, git rebase or cherry-pick --continue, then make refresh$of"
    rm -f "$TOP/$dir"/*.patch
    write_to "$TOP"
    in_edit tag -f written >/dev/null
    written >"$edit.from"
}

check() {
    source_tree
    edit=$edit.check
    worktree "$edit"
    our_commits "$edit" || die "this does not apply to $SOURCE $version"
    two_kinds
    [ -n "$in_order" ] || die "one of patches/ is only wiring, or meson.build.patch is not"
    rm -rf "$edit.out" && mkdir "$edit.out"
    write_to "$edit.out"
    rc=0
    for f in $PATCHES; do diff "$f" "$edit.out/${f#"$TOP"/}" || rc=1; done
    # shellcheck disable=SC2086
    [ "$(echo $PATCHES | wc -w)" = "$(find "$edit.out" -name '*.patch' | wc -l)" ] || rc=1
    rm -rf "$edit" "$edit.out"
    return $rc
}

need_space 1000
mkdir -p "$CACHE/log"
case ${1:-} in
'') one_at_a_time; make_edit ;;
refresh) one_at_a_time; refresh ;;
check) one_at_a_time; check ;;
*) die "usage: scripts/edit.sh [seabios] [refresh|check]" ;;
esac

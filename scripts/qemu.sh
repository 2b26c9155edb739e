# QEMU's source as Debian has it, what it needs to be built, and our files in it.
# Sourced after common.sh, never run.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034

PACKAGES="gcc libc6-dev make git dpkg-dev pkg-config ninja-build xz-utils
    python3 python3-venv python3-tomli libglib2.0-dev libpixman-1-dev libxen-dev zlib1g-dev
    libfdt-dev cpio kmod meson/bookworm-backports"
CONFIGURE="--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features
    --extra-cflags=-Werror=implicit-function-declaration --enable-system --enable-tcg
    --enable-xen --enable-kvm --enable-pixman --enable-vnc --disable-docs --disable-debug-info
    --disable-download --disable-install-blobs"

# overlay_files: our files that belong into QEMU's tree
overlay_files() {
    (cd "$TOP" && find hw include qapi stubs docs/specs tests/unit tests/qtest -type f | sort)
}

# overlay TREE: those that have changed to their place there.  The specification is
# reStructuredText, which QEMU wants to be named so
overlay() {
    overlay_files | while read -r f; do
        to=$1/$f
        case $f in docs/specs/*.txt) to=${to%.txt}.rst ;; esac
        cmp -s "$TOP/$f" "$to" || { mkdir -p "$(dirname "$to")"; cp "$TOP/$f" "$to"; }
    done
}

# fetch 10.0: the newest 10.0.x source package, whole or not at all; sets version and orig
fetch() {
    version=$(apt-cache showsrc qemu | awk -v want="1:$1." '$1 == "Version:" && index($2, want) == 1 { print $2 }' |
        sort -V | tail -n 1)
    [ -n "$version" ] || die "the mirror has no source package of QEMU $1.x (any more)"
    orig=$CACHE/source/$(echo "${version#*:}" | tr '~' '-')
    [ ! -e "$orig/fetched" ] || return 0
    rm -rf "$orig"
    mkdir -p "$orig"
    logged "fetching QEMU $version" "$CACHE/log/fetch.log" \
        sh -c "cd '$orig' && apt-get source --download-only 'qemu=$version' && touch fetched"
}

# unpack DIR: what fetch() has fetched
unpack() {
    rm -rf "$1"
    logged "unpacking QEMU ${version#*:}" "$CACHE/log/unpack.log" \
        dpkg-source --no-check --no-copy -x "$orig"/*.dsc "$1"
}

# plain_git: git as it is on every machine, whoever runs it
plain_git() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
        GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost \
        GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@localhost git "$@"
}

# repository: the source that fetch() has fetched, as the commit "base" of the bare
# repository $repo.  A threshold of 1 writes one pack instead of 10000 files
repository() {
    name=${version#*:} name=${name%%[+-]*}
    repo=$CACHE/git/$name.git
    [ "$version" != "$(plain_git -C "$repo" log -1 --format=%s base 2>/dev/null)" ] || return 0
    unpack "$CACHE/unpacked"
    plain_git init -q "$CACHE/unpacked"
    logged "making a repository of it" "$CACHE/log/git.log" \
        plain_git -C "$CACHE/unpacked" -c core.bigFileThreshold=1 -c core.compression=1 add -Af
    plain_git -C "$CACHE/unpacked" commit -q -m "$version"
    plain_git -C "$CACHE/unpacked" tag base
    plain_git -C "$CACHE/unpacked" config core.bare true
    rm -rf "$repo"
    mkdir -p "$CACHE/git"
    mv "$CACHE/unpacked/.git" "$repo"
    rm -rf "$CACHE/unpacked"
}

# worktree DIR: of $repo at "base", in place of what was there before, with those files
# that our patches change: git needs no more for them
worktree() {
    rm -rf "$1"
    plain_git -C "$repo" worktree prune
    plain_git -C "$repo" worktree add -q --detach --no-checkout "$1" base
    plain_git -C "$1" read-tree base
    sed -n 's|^--- a/||p' "$TOP"/patches/*.patch "$TOP/meson.build.patch" |
        (cd "$1" && xargs git ls-files -- | plain_git checkout-index -f --stdin)
}

# our_commits DIR: patches/ and meson.build.patch as commits in that worktree
our_commits() {
    plain_git -C "$1" am -q -3 "$TOP"/patches/*.patch "$TOP/meson.build.patch" >"$CACHE/log/am.log" 2>&1 ||
        { cat "$CACHE/log/am.log" >&2; return 1; }
}

# whole: the tag "whole" of $repo is all of ours on "base"
whole() {
    worktree "$CACHE/compose"
    our_commits "$CACHE/compose" ||
        die "this does not apply to QEMU $version: make edit, and resolve it there"
    overlay "$CACHE/compose"
    plain_git -C "$CACHE/compose" add -f --ignore-removal .
    plain_git -C "$CACHE/compose" commit -q -m "all of ours"
    plain_git -C "$CACHE/compose" tag -f whole >"$CACHE/log/git.log"
    rm -rf "$CACHE/compose"
}

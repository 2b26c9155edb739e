# A source package of Debian's, as a repository with our patches as commits on it and our files.
# Sourced by qemu.sh and seabios.sh, which say which: SOURCE is its name, EPOCH its version's, if
# it has one, PATCHES are ours and overlay_files() in OVERLAY.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154

# fetch 10.0: the newest 10.0.x source package that is to be had, whole or not at all, or the tree
# that stands for it; sets version and orig.  A mirror may list for hours what it does not have yet
fetch() {
    [ -z "${TREE:-}" ] || [ "$1" != "$NEWEST" ] || { fetch_tree; return 0; }
    for version in $(apt-cache showsrc "$SOURCE" | awk -v want="$EPOCH$1." '$1 == "Version:" && index($2, want) == 1 { print $2 }' |
        sort -Vru); do
        orig=$CACHE/source/$SOURCE-$(echo "${version#*:}" | tr '~' '-')
        [ ! -e "$orig/fetched" ] || return 0
        rm -rf "$orig"
        mkdir -p "$orig"
        if (logged "fetching $SOURCE $version" "$CACHE/log/fetch.log" \
            sh -c "cd '$orig' && apt-get source --only-source --download-only '$SOURCE=$version' && touch fetched"); then
            return 0
        fi
    done
    die "the mirror has no source package of $SOURCE $1.x (any more), or cannot be reached"
}

# fetch_tree: $TREE in place of a source package; its version ends in what its files are
fetch_tree() {
    [ -e "$TREE/VERSION" ] || die "QEMU_TREE=$TREE is no source tree of QEMU: it has no file VERSION"
    orig=$CACHE/source/$SOURCE-tree
    mkdir -p "$orig"
    from_tree --sort=name -cf - | sha256sum | cut -c 1-12 >"$orig/tree.dsc"
    version=$(cat "$TREE/VERSION")+tree-$(cat "$orig/tree.dsc")
}

# from_tree OPTION...: tar of what $TREE has that neither git nor a build of it has put there
from_tree() {
    tar -C "$TREE" --exclude-vcs --exclude='./build*' "$@" .
}

# unpack DIR: what fetch() has fetched
unpack() {
    rm -rf "$1"
    case $orig in *-tree) mkdir -p "$1"; from_tree -cf - | tar -xf - -C "$1"; return 0 ;; esac
    logged "unpacking $SOURCE ${version#*:}" "$CACHE/log/unpack.log" \
        dpkg-source --no-check --no-copy -x "$orig"/*.dsc "$1"
}

# plain_git: git as it is on every machine, whoever runs it
plain_git() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
        GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost \
        GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@localhost git "$@"
}

# repository: the source that fetch() has fetched, as the commit "base" of the bare repository
# $repo, on top of what was "base" before: worktrees may have somebody's commits on that, which
# then can be rebased.  A threshold of 1 writes one pack instead of 10000 files
repository() {
    name=${version#*:} name=$SOURCE-${name%%[+-]*}
    repo=$CACHE/git/$name.git
    [ "$version" != "$(plain_git -C "$repo" log -1 --format=%s base 2>/dev/null)" ] || return 0
    unpack "$CACHE/unpacked"
    plain_git init -q --bare "$repo"
    # else git packs it in the background, while others use it
    plain_git -C "$repo" config gc.auto 0
    rm -f "$repo"/index*    # of an earlier source
    logged "making a repository of it" "$CACHE/log/git.log" plain_git --git-dir="$repo" --work-tree="$CACHE/unpacked" \
        -c core.bigFileThreshold=1 -c core.compression=1 add -Af "$CACHE/unpacked"
    old=$(plain_git -C "$repo" rev-parse -q --verify base || :)
    files=$(plain_git -C "$repo" write-tree)
    new=$(plain_git -C "$repo" commit-tree ${old:+-p "$old"} -m "$version" "$files")
    plain_git -C "$repo" tag -f base "$new" >"$CACHE/log/git.log"
    rm -rf "$CACHE/unpacked"
}

# worktree DIR: of $repo at "base", in place of what was there before, with those files
# that our patches change: git needs no more for them
worktree() {
    rm -rf "$1"
    plain_git -C "$repo" worktree prune
    plain_git -C "$repo" worktree add -q --detach --no-checkout "$1" base
    plain_git -C "$1" read-tree base
    # shellcheck disable=SC2086
    sed -n 's|^--- a/||p' $PATCHES |
        (cd "$1" && xargs git ls-files -- | plain_git checkout-index -f --stdin)
}

# our_commits DIR: $PATCHES as commits in that worktree
our_commits() {
    # shellcheck disable=SC2086
    plain_git -C "$1" am -q -3 $PATCHES >"$CACHE/log/am.log" 2>&1 ||
        { cat "$CACHE/log/am.log" >&2; return 1; }
}

# whole: the tag "whole" of $repo is all of ours on "base"
whole() {
    worktree "$CACHE/compose"
    our_commits "$CACHE/compose" ||
        die "this does not apply to $SOURCE $version: make edit, and resolve it there"
    overlay "$CACHE/compose"
    plain_git -C "$CACHE/compose" add -f --ignore-removal .
    plain_git -C "$CACHE/compose" commit -q -m "all of ours"
    plain_git -C "$CACHE/compose" tag -f whole >"$CACHE/log/git.log"
    rm -rf "$CACHE/compose"
}

# identity: of who signs patches off; to build them it takes nobody
identity() {
    who=$(git -C "$TOP" config user.name || :) mail=$(git -C "$TOP" config user.email || :)
    SIGNOFF=--signoff
    case $who@$mail in @* | *@) SIGNOFF=--no-signoff who=nobody mail=nobody@localhost ;; esac
    export SIGNOFF GIT_AUTHOR_NAME="$who" GIT_AUTHOR_EMAIL="$mail"
    export GIT_COMMITTER_NAME="$who" GIT_COMMITTER_EMAIL="$mail"
    # nothing else of the machine's git configuration changes what is written
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
}

# ported VERSION: ours as series of commits on "base", as series/VERSION changes them; the
# repository $first has all of ours, and what git am -3 needs
ported() {
    [ "$repo" = "$first" ] ||
        plain_git -C "$repo" fetch -q --no-tags "$first" +refs/tags/whole:refs/tags/whole
    commits=$CACHE/git/$name.commits
    worktree "$commits"
    python3 "$TOP/scripts/series.py" commit "$commits" "$SOURCE" "$1"
}

# overlay TREE: our files that have changed to their place there.  The specification is
# reStructuredText, which QEMU wants to be named so
overlay() {
    overlay_files | while read -r f; do
        to=$1/$f
        case $f in docs/specs/*.txt) to=${to%.txt}.rst ;; esac
        cmp -s "$OVERLAY/$f" "$to" || { mkdir -p "$(dirname "$to")"; cp "$OVERLAY/$f" "$to"; }
    done
}

# compose: patches and overlay in the source's $tree; git leaves what has not changed alone.
# A tree gets what its series are, from the repository $first
compose() {
    # shellcheck disable=SC2086
    wanted=$(cat $PATCHES "$orig"/*.dsc | sha256sum; overlay_files)
    [ -z "${TREE:-}" ] || wanted=$wanted$(plain_git -C "$first" rev-parse 'whole^{tree}'
        find "$TOP/series" -type f -exec sha256sum {} + | sort)
    [ "$wanted" != "$(cat "$tree/composed" 2>/dev/null)" ] || return 0
    repository
    if [ -n "${TREE:-}" ]; then
        ported "$NEWEST"
        plain_git -C "$repo" tag -f whole "$LAST" >"$CACHE/log/git.log"
    else
        whole
    fi
    mkdir -p "$tree/$SOURCE"
    (export GIT_INDEX_FILE="$tree/index" &&
        plain_git --git-dir="$repo" --work-tree="$tree/$SOURCE" read-tree --reset -u whole)
    echo "$wanted" >"$tree/composed"
}

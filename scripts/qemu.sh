# QEMU's source as Debian has it, what it needs to be built, and our files in it.
# Sourced after common.sh, never run.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034

PACKAGES="gcc libc6-dev make patch dpkg-dev pkg-config ninja-build xz-utils rsync
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

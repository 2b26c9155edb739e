#!/bin/sh
# build.sh [asan|coverage|deb]: build QEMU with the overlay: newest 10.0.x source of Debian
# trixie, fetched and verified by apt, our patches and files on top.  One binary is the
# device model under test and the outer machine of the lab; asan and coverage are for the
# tests without Xen only, deb is what the package has, each in its own directory.
# Everything is kept in the cache; build/ only gets links.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

PACKAGES="gcc libc6-dev make patch dpkg-dev pkg-config ninja-build xz-utils rsync
    python3 python3-venv python3-tomli libglib2.0-dev libpixman-1-dev libxen-dev zlib1g-dev
    libfdt-dev cpio kmod meson/bookworm-backports"
CONFIGURE="--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features
    --extra-cflags=-Werror=implicit-function-declaration --enable-system --enable-tcg
    --enable-xen --enable-kvm --enable-pixman --enable-vnc --disable-docs --disable-debug-info
    --disable-download --disable-install-blobs"
TARGETS="qemu-system-x86_64 tests/unit/test-xen-handoff-ledger tests/qtest/xen-handoff-test
    tests/qtest/xen-handoff-fuzz tests/qtest/xen-handoff-bench"

# overlay_files: our files that belong into QEMU's tree, by their place there
overlay_files() {
    (cd "$TOP" && find configs hw include docs/specs tests/unit tests/qtest -type f | sort)
}

# variant NAME: what is built where.  Optimizing less builds faster.  asan: -g1 for line
# numbers in stacks; gcc's UBSan has no log_path of its own when it shares libasan's runtime.
# coverage: only our files are counted, so that QEMU exits as fast as ever.  deb: as
# debian/rules has it for qemu-system-xen, plus dpkg's flag that is not QEMU's default
variant() {
    case $1 in
        plain) dir=build ;;
        asan) dir=build-asan
            CONFIGURE="$CONFIGURE --enable-asan --enable-ubsan -Doptimization=1 --extra-cflags=-g1
                --extra-ldflags=-static-libubsan --extra-ldflags=-Wl,--exclude-libs,libubsan.a" ;;
        coverage) dir=build-coverage
            CONFIGURE="$CONFIGURE --enable-gcov -Doptimization=0
                --extra-cflags=-fprofile-filter-files=hw/.*/xen.*handoff" ;;
        deb) dir=build-deb TARGETS=qemu-system-i386
            PACKAGES="$PACKAGES libusb-1.0-0-dev libjpeg-dev libspice-server-dev libcap-ng-dev"
            CONFIGURE="--python=/usr/bin/python3 --target-list=i386-softmmu
                --with-devices-i386=xen-fw-handoff --with-pkgversion=xen-fw-handoff
                --prefix=/usr --sysconfdir=/etc --localstatedir=/var --libexecdir=/usr/lib/qemu
                --firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu
                --disable-relocatable --disable-install-blobs --disable-download
                --disable-containers --disable-docs --disable-debug-info
                --extra-cflags=-fstack-protector-strong --extra-ldflags=-Wl,--as-needed
                --disable-tools --without-default-features --enable-avx2
                --enable-xen --enable-xen-pci-passthrough --disable-tcg --disable-kvm
                --audio-drv-list= --enable-libusb --enable-pixman --enable-vnc
                --enable-vnc-jpeg --enable-spice --enable-virtfs --enable-attr --enable-cap-ng" ;;
        *) die "no variant $1; usage: scripts/build.sh [asan|coverage|deb]" ;;
    esac
}

fetch() {   # the newest 10.0.x source package, whole or not at all
    version=$(apt-cache showsrc qemu | sed -n 's/^Version: \(1:10\.0\..*\)/\1/p' | sort -V | tail -n 1)
    [ -n "$version" ] || die "the mirror has no source package of QEMU 10.0.x in trixie"
    orig=$CACHE/source/$(echo "${version#*:}" | tr '~' '-')
    [ ! -e "$orig/fetched" ] || return 0
    rm -rf "$orig"
    mkdir -p "$orig"
    logged "fetching QEMU $version" "$CACHE/log/fetch.log" \
        sh -c "cd '$orig' && apt-get source --download-only 'qemu=$version' && touch fetched"
}

compose() { # our patches on a fresh tree, synced by content so that ninja rebuilds little
    wanted=$(cat "$TOP"/patches/*.patch "$TOP/meson.build.patch" "$orig"/*.dsc | sha256sum; overlay_files)
    [ "$wanted" != "$(cat "$tree/composed" 2>/dev/null)" ] || return 0
    rm -rf "$CACHE/compose"
    logged "unpacking QEMU ${version#*:}" "$CACHE/log/unpack.log" \
        dpkg-source --no-check --no-copy -x "$orig"/*.dsc "$CACHE/compose"
    for p in "$TOP"/patches/*.patch "$TOP/meson.build.patch"; do
        patch -d "$CACHE/compose" -p1 --no-backup-if-mismatch <"$p" >"$CACHE/log/patch.log" 2>&1 ||
            { cat "$CACHE/log/patch.log" >&2; die "$p does not apply to QEMU $version"; }
    done
    mkdir -p "$tree/qemu"
    # not --times: an unchanged file keeps its old one, a changed file gets the present
    rsync -rlpc --delete --exclude='/build*' "$CACHE/compose/" "$tree/qemu/"
    rm -rf "$CACHE/compose"
    overlay
    echo "$wanted" >"$tree/composed"
}

overlay() {
    overlay_files | while read -r f; do
        cmp -s "$TOP/$f" "$tree/qemu/$f" ||
            { mkdir -p "$(dirname "$tree/qemu/$f")"; cp "$TOP/$f" "$tree/qemu/$f"; }
    done
}

configure() {
    # shellcheck disable=SC2086
    set -- $CONFIGURE   # on one line
    wanted=$*
    [ "$wanted" != "$(cat "$b/configured" 2>/dev/null)" ] || return 0
    rm -rf "$b"
    mkdir -p "$b"
    # shellcheck disable=SC2086
    logged "configuring" "$CACHE/log/configure.log" sh -c "cd '$b' && ../configure $wanted"
    echo "$wanted" >"$b/configured"
}

[ $# -le 1 ] || die "usage: scripts/build.sh [asan|coverage|deb]"
variant "${1:-plain}"
need_space 500
mkdir -p "$CACHE/log"
one_at_a_time
apt_setup
# shellcheck disable=SC2086
apt_install $PACKAGES
fetch
tree=$CACHE/tree/${orig##*/}
b=$tree/qemu/$dir
[ -e "$b/${TARGETS%% *}" ] || need_space 4000
compose
overlay
configure
# shellcheck disable=SC2086
logged "building" "$CACHE/log/build.log" ninja -C "$b" $TARGETS
mkdir -p "$TOP/build"
ln -sfn "$tree/qemu" "$TOP/build/qemu"
[ "$dir" = build ] || { say "build/qemu/$dir is up to date"; exit 0; }
ln -sfn "$b/qemu-system-x86_64" "$TOP/build/qemu-system-x86_64"
say "build/qemu-system-x86_64 is $("$TOP/build/qemu-system-x86_64" --version | head -n 1)"

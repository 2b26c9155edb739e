#!/bin/sh
# build.sh [asan|coverage|fuzz|deb|source]: build QEMU with the overlay: newest 10.0.x source of
# Debian's, fetched and verified by apt, our patches and files on top.  One binary is the
# device model under test and the outer machine of the lab; asan and coverage are for the
# tests without Xen only, fuzz is QEMU and a fuzzer in one program, deb is what the package
# has, each in its own directory; source ends before anything is configured.  Everything is
# kept in the cache; build/ only gets links.
# QEMU_TREE=DIR builds that tree instead, with our series as series/ has them for a newer QEMU.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/qemu.sh
. "$(dirname "$0")/qemu.sh"

TARGETS="qemu-system-x86_64 tests/unit/test-xs-node tests/unit/test-xen-operations
    tests/unit/test-xen-guest-ring tests/unit/test-xen-handoff-ledger tests/unit/test-xen-handoff-model
    tests/qtest/xen-disk-test tests/qtest/xen-handoff-test tests/qtest/xen-handoff-fuzz
    tests/qtest/xen-handoff-bench"

# variant NAME: what is built where.  Optimizing less builds faster.  asan: -g1 for line
# numbers in stacks; gcc's UBSan has no log_path of its own when it shares libasan's runtime.
# coverage: only our files are counted, so that QEMU exits as fast as ever.  fuzz: as QEMU's
# scripts/oss-fuzz/build.sh has it, and our files' lines are counted.  deb: as debian/rules has
# it for qemu-system-xen, plus dpkg's flag that is not QEMU's default
variant() {
    case $1 in
        plain | source) dir=build ;;
        asan) dir=build-asan
            CONFIGURE="$CONFIGURE --enable-asan --enable-ubsan -Doptimization=1 --extra-cflags=-g1
                --extra-ldflags=-static-libubsan --extra-ldflags=-Wl,--exclude-libs,libubsan.a" ;;
        coverage) dir=build-coverage
            CONFIGURE="$CONFIGURE --enable-gcov -Doptimization=0
                --extra-cflags=-fprofile-filter-files=hw/.*/xen.*handoff" ;;
        fuzz) dir=build-fuzz TARGETS=qemu-fuzz-x86_64 PACKAGES="$PACKAGES clang llvm libclang-rt-dev"
            CONFIGURE="$CONFIGURE --cc=clang --cxx=clang++ --enable-fuzzing --enable-asan --enable-ubsan
                --disable-tcg --without-default-devices --with-devices-x86_64=fuzz
                --extra-cflags=-g1 --extra-cflags=-fprofile-instr-generate
                --extra-cflags=-fcoverage-mapping --extra-cflags=-fprofile-list=$TOP/scripts/fuzz-files
                --extra-ldflags=-fprofile-instr-generate" ;;
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
        *) die "no variant $1; usage: scripts/build.sh [asan|coverage|fuzz|deb|source]" ;;
    esac
}

# same OURS QEMUS: a file of QEMU's tree is one of ours
same() {
    cmp -s "$TOP/$1" "$tree/qemu/$2" || cp "$TOP/$1" "$tree/qemu/$2"
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

# without_valgrind: QEMU has no option for it, and looks for its header whenever meson runs; the
# package must not depend on what else the machine has
without_valgrind() {
    ninja -C "$b" build.ninja >>"$CACHE/log/configure.log" 2>&1 || die "meson failed; what it said is in $CACHE/log/configure.log"
    ! grep -q '^#define CONFIG_VALGRIND_H$' "$b/config-host.h" ||
        sed -i 's/^#define CONFIG_VALGRIND_H$/#undef CONFIG_VALGRIND_H/' "$b/config-host.h"
}

[ $# -le 1 ] || die "usage: scripts/build.sh [asan|coverage|fuzz|deb|source]"
variant "${1:-plain}"
need_space 500
mkdir -p "$CACHE/log"
one_at_a_time
apt_setup
# shellcheck disable=SC2086
apt_install $PACKAGES
[ -z "$TREE" ] || newest_needs
fetch $WHOLE
[ -z "$TREE" ] || {
    repository
    whole
    first=$repo
    identity
    fetch "$NEWEST"
}
tree=$CACHE/tree/${orig##*/}
b=$tree/qemu/$dir
[ -e "$b/${TARGETS%% *}" ] || need_space 4000
compose
[ -n "$TREE" ] || overlay "$tree/qemu"
mkdir -p "$TOP/build"
ln -sfn "$tree/qemu" "$TOP/build/qemu"
[ "${1:-}" != source ] || { say "build/qemu is what patches and overlay make of QEMU ${version#*:}"; exit 0; }
case $dir in
    build-deb)
        # the same package wherever it is built
        CONFIGURE="$CONFIGURE --extra-cflags=-ffile-prefix-map=$tree/qemu=."
        same packaging/devices.mak configs/devices/i386-softmmu/xen-fw-handoff.mak ;;
    build-fuzz)
        same scripts/fuzz-devices.mak configs/devices/x86_64-softmmu/fuzz.mak
        same scripts/fuzz-files scripts/oss-fuzz/instrumentation-filter-template ;;
esac
configure
[ "$dir" != build-deb ] || without_valgrind
# shellcheck disable=SC2086
logged "building" "$CACHE/log/build.log" ninja -C "$b" $TARGETS
[ "$dir" = build ] || { say "build/qemu/$dir is up to date"; exit 0; }
ln -sfn "$b/qemu-system-x86_64" "$TOP/build/qemu-system-x86_64"
say "build/qemu-system-x86_64 is $("$TOP/build/qemu-system-x86_64" --version | head -n 1)"

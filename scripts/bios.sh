#!/bin/sh
# bios.sh [test | fuzz | dma]: build build/bios-256k.bin, SeaBIOS as Debian has it with our driver
# of Xen PV disks; test: also build/xen-blk-test, which tries that driver without Xen; fuzz: also
# build/xen-blk-fuzz, the same guided by coverage; both are run by build/run-32; dma: also
# build/bios-ata-dma.bin, which reads IDE disks by DMA, for make bench to compare.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/seabios.sh
. "$(dirname "$0")/seabios.sh"

case ${1:-} in
'' | dma) ;;
test) PACKAGES="$PACKAGES gcc-multilib" ;;
fuzz) PACKAGES="$PACKAGES g++-multilib clang llvm libclang-rt-dev" ;;
*) die "usage: scripts/bios.sh [test | fuzz | dma]" ;;
esac
need_space 100
mkdir -p "$CACHE/log"
one_at_a_time
apt_setup
# shellcheck disable=SC2086
apt_install $PACKAGES
fetch $SEABIOS
tree=$CACHE/tree/${orig##*/}
compose
overlay "$tree/$SOURCE"
mkdir -p "$TOP/build"

# build OUT NAME [LINE]: build/NAME, whose time tells when it changed
build() {
    logged "building ${2%.bin}" "$CACHE/log/${2%.bin}.log" make_bios "$tree/$SOURCE" "$tree/$1" "${3:-}"
    cmp -s "$tree/$1/bios.bin" "$TOP/build/$2" || cp "$tree/$1/bios.bin" "$TOP/build/$2"
}

# runner: build/run-32 PROGRAM..., for the driver's programs, which are 32-bit: not every kernel
# runs those, and QEMU's user mode does
runner() {
    how=
    /lib/ld-linux.so.2 --version >/dev/null 2>&1 || {
        apt_install qemu-user
        how=qemu-i386
    }
    printf '#!/bin/sh\nexec %s "$@"\n' "$how" >"$TOP/build/run-32"
    chmod 755 "$TOP/build/run-32"
}

build out bios-256k.bin
[ "${1:-}" != dma ] || build out-dma bios-ata-dma.bin CONFIG_ATA_DMA=y
case ${1:-} in
test | fuzz) logged "building the driver's $1" "$CACHE/log/bios-$1.log" make -C "$TOP/tests/seabios" \
    SEABIOS="$tree/$SOURCE" CONFIG="$tree/out" OUT="$TOP/build" "$TOP/build/xen-blk-$1"
    runner ;;
esac
say "build/bios-256k.bin is SeaBIOS ${version%-*} with XEN_BLK"

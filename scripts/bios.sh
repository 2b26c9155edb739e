#!/bin/sh
# bios.sh [test]: build build/bios-256k.bin, SeaBIOS as Debian has it with our driver of Xen PV
# disks; test: also build/xen-blk-test, which tries that driver without Xen.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=scripts/seabios.sh
. "$(dirname "$0")/seabios.sh"

case ${1:-} in
'') ;;
test) PACKAGES="$PACKAGES gcc-multilib" ;;
*) die "usage: scripts/bios.sh [test]" ;;
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
logged "building" "$CACHE/log/bios.log" make_bios "$tree/$SOURCE" "$tree/out"
cmp -s "$tree/out/bios.bin" "$TOP/build/bios-256k.bin" ||
    cp "$tree/out/bios.bin" "$TOP/build/bios-256k.bin"
[ "${1:-}" != test ] || logged "building the driver's test" "$CACHE/log/bios-test.log" \
    make -C "$TOP/tests/seabios" SEABIOS="$tree/$SOURCE" CONFIG="$tree/out" OUT="$TOP/build"
say "build/bios-256k.bin is SeaBIOS ${version%-*} with XEN_BLK"

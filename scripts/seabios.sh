# SeaBIOS's source as Debian has it, what it needs to be built, and our files in it.
# Sourced after common.sh, never run.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034

# shellcheck source=scripts/source.sh
. "$TOP/scripts/source.sh"

SOURCE=seabios
EPOCH=
TREE=
SEABIOS=1.16        # trixie's
PATCHES="$TOP/roms/seabios/*.patch"
PACKAGES="gcc libc6-dev make git dpkg-dev python3"

# overlay_files: our files that belong into SeaBIOS's tree
OVERLAY=$TOP/roms/seabios
overlay_files() { (cd "$OVERLAY" && find src -type f | sort); }

# make_bios TREE OUT [LINE]: as Debian makes the one that Xen's guests have, LINE in its config
make_bios() {
    mkdir -p "$2"
    printf '%s\n' CONFIG_QEMU=y CONFIG_ROM_SIZE=256 "${3:-}" >"$2/.config"
    for target in oldnoconfig "$2/bios.bin"; do
        make -C "$1" PYTHON="python3 -B" KCONFIG_CONFIG="$2/.config" OUT="$2/" \
            EXTRAVERSION="-xen-fw-handoff" "$target"
    done
}

# QEMU's source as Debian has it, what it needs to be built, and our files in it.
# Sourced after common.sh, never run.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034

# shellcheck source=scripts/source.sh
. "$TOP/scripts/source.sh"

SOURCE=qemu
EPOCH=1:
export WHOLE=10.0   # what we build on
NEWEST=$(cd "$TOP/series" && printf '%s\n' [0-9]* | sort -V | tail -n 1)
TREE=${QEMU_TREE:-} # a source tree that stands for the newest
LAST=xen-fw-handoff # of the series
# QEMU 11 installs its own wheel of qemu.qmp, also for a build that has no use for it
NEWEST_PACKAGES="python3-pip python3-setuptools python3-wheel"
PATCHES="$TOP/patches/*.patch $TOP/meson.build.patch"
PACKAGES="gcc libc6-dev make git dpkg-dev pkg-config ninja-build xz-utils
    python3 python3-venv python3-tomli libglib2.0-dev libpixman-1-dev libxen-dev zlib1g-dev
    libfdt-dev cpio kmod $MESON"
CONFIGURE="--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features
    --extra-cflags=-Werror=implicit-function-declaration --enable-system --enable-tcg
    --enable-xen --enable-kvm --enable-pixman --enable-vnc --disable-docs --disable-debug-info
    --disable-download --disable-install-blobs"

# overlay_files: our files that belong into QEMU's tree
OVERLAY=$TOP
overlay_files() {
    (cd "$TOP" && find hw include qapi stubs docs/specs docs/system tests/unit tests/qtest -type f | sort)
}

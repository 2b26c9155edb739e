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

# newest_needs: what QEMU 11 wants at configure, also for a build that has no use for it.  A release
# has wheels of the last two in it; Debian's source package has not, and only unstable has both
newest_needs() {
    apt_install python3-pip python3-setuptools python3-wheel
    modules=$CACHE/modules
    [ -e "$modules" ] || (
        EXTRA="deb sid"
        apt_setup
        rm -rf "$modules.new"
        mkdir "$modules.new"
        logged "fetching modules of Python for QEMU $NEWEST" "$CACHE/log/fetch.log" \
            sh -c "cd '$modules.new' && apt-get download python3-pycotap python3-qemu-qmp"
        for d in "$modules.new"/*.deb; do dpkg -x "$d" "$modules.new"; done
        mv "$modules.new" "$modules"
    )
    export PYTHONPATH="$modules/usr/lib/python3/dist-packages"
}

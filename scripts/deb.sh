#!/bin/sh
# deb.sh [lab]: build/qemu-system-xen-fw-handoff_VERSION_amd64.deb, QEMU as Debian builds it for Xen
# with our device, beside Debian's own.  Checked by lintian, and by apt for whether the
# release has what it depends on.  lab: also build/deb/, what a lab's dom0 installs, first the
# older package OLD, if that is set.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
case ${1:-} in '' | lab) ;; *) die "usage: scripts/deb.sh [lab]" ;; esac
PACKAGE='qemu-system-xen-fw-handoff'

# version: Debian's of QEMU without its epoch and +ds, then ours: of a tag and what came after
# it, or of how many commits there are, so that a later one is greater, then the release, whose
# Xen it is linked with
version() {
    qemu=$(basename "$(dirname "$(readlink -f "$TOP/build/qemu")")" | sed 's/^qemu-//; s/+ds//')
    if ours=$(git -C "$TOP" describe --tags --match 'v[0-9]*' 2>/dev/null); then
        ours=$(echo "${ours#v}" | sed 's/-/+/; s/-/./g')
    else
        ours=0+$(git -C "$TOP" rev-list --count HEAD).g$(git -C "$TOP" rev-parse --short HEAD)
    fi || die "no version: this needs git and the repository's history"
    [ -z "$(git -C "$TOP" status --porcelain --untracked-files=no)" ] || ours=$ours+dirty
    echo "$qemu+fw$ours~deb$DEBIAN"
}

changelog() {
    printf 'xen-fw-handoff (%s) unstable; urgency=medium\n\n' "$VERSION"
    printf '  * See changelog.gz for what has changed.\n\n'
    printf ' -- %s  %s\n' "$MAINTAINER" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
}

[ -z "${OLD:-}" ] || [ "$(dpkg-deb -f "$OLD" Package 2>/dev/null)" = $PACKAGE ] || die "OLD=$OLD is no package $PACKAGE"
mkdir -p "$CACHE/log"
apt_setup
apt_install lintian git debhelper dh-python python3-sphinx
# version() counts commits
[ "$(git -C "$TOP" rev-parse --is-shallow-repository)" != true ] ||
    die "the package's version needs the whole history, and this clone is a shallow one: git fetch --unshallow --tags"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# what is in build/ may not be there any more when it is used
[ -z "${OLD:-}" ] || install -m 644 -D -t "$work/old" "$OLD"
"$TOP/scripts/build.sh" deb
"$TOP/scripts/bios.sh"
SOURCE_DATE_EPOCH=$(git -C "$TOP" log -1 --format=%ct)
export SOURCE_DATE_EPOCH        # dpkg-deb's times
VERSION=$(version)
MAINTAINER=$(git -C "$TOP" log -1 --format='%an <%ae>')
tree=$work/tree
cp -r "$TOP/packaging" "$tree"
cp "$TOP/build/qemu/build-deb/qemu-system-i386" "$TOP/build/bios-256k.bin" "$TOP/scripts/xen-fw-handoff-log" \
    "$TOP/CHANGELOG.md" "$TOP/docs/toolstacks.md" "$TOP/docs/stub-domains.md" "$TOP/docs/specs/xen-fw-handoff.txt" \
    "$TOP/tests/xen/guest/stub" "$tree"
sphinx-build -q -W -b man "$TOP/packaging" "$work/man"
cp "$work/man/xen-fw-handoff.7" "$tree"
sed 1d "$TOP/build/qemu/debian/copyright" >>"$tree/debian/copyright"
changelog >"$tree/debian/changelog"
sed -i "s|@MAINTAINER@|$MAINTAINER|; s|@XEN@|$XEN|" "$tree/debian/control"
logged "making the package" "$CACHE/log/deb.log" \
    sh -c "cd '$tree' && DEB_BUILD_OPTIONS=noautodbgsym debian/rules binary"

deb=${PACKAGE}_${VERSION}_amd64.deb
find "$TOP/build" -maxdepth 1 -name "${PACKAGE}_*.deb" ! -samefile "${OLD:-/}" -delete
mv "$work/$deb" "$TOP/build/"
deb=$TOP/build/$deb
# a commit in the version makes a name too long for CDs, and for nothing else
lintian --allow-root --fail-on error,warning --suppress-tags package-has-long-file-name "$deb" || die "lintian does not like build/${deb##*/}"
apt-get install --simulate -o APT::Get::Show-User-Simulation-Note=false "$deb" >"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; die "apt of Debian $DEBIAN would not install build/${deb##*/}"; }
say "build/${deb##*/}: $(du -h "$deb" | cut -f 1); lintian finds nothing, Debian $DEBIAN has what it needs"
[ "${1:-}" = lab ] || exit 0
rm -rf "$TOP/build/deb"
mkdir "$TOP/build/deb"
ln "$deb" "$TOP/build/deb/"
[ -z "${OLD:-}" ] || cp -r "$work/old" "$TOP/build/deb/"
cd "$TOP/build/deb"
logged "fetching the packages that have QEMU's data" "$CACHE/log/deb-data.log" \
    apt-get download qemu-system-data seabios ipxe-qemu

#!/bin/sh
# deb.sh [lab]: build/qemu-system-xen-fw-handoff_VERSION_amd64.deb, QEMU as Debian builds it for Xen
# with our device, beside Debian's own.  Checked by lintian, and by apt for whether the
# release has what it depends on.  lab: also build/deb/, what a lab's dom0 installs.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
case ${1:-} in '' | lab) ;; *) die "usage: scripts/deb.sh [lab]" ;; esac
PACKAGE='qemu-system-xen-fw-handoff'
DOC=usr/share/doc/$PACKAGE

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

# place MODE FILE PATH: into the package
place() { install -D -m "$1" "$2" "$root/$3"; }
compressed() { mkdir -p "$(dirname "$root/$2")"; gzip -9n <"$1" >"$root/$2"; }

# depends: packages of the libraries; dpkg-shlibdeps wants a source package around it
depends() {
    mkdir -p "$work/debian"
    printf 'Source: x\n\nPackage: x\nArchitecture: any\n' >"$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O "$root/$model" "$root/$filter" 2>"$work/shlibdeps.log") |
        sed -n 's/^shlibs:Depends=//p'
}

changelog() {
    printf '%s (%s) unstable; urgency=medium\n\n' "$PACKAGE" "$VERSION"
    printf '  * See changelog.gz for what has changed.\n\n'
    printf ' -- %s  %s\n' "$MAINTAINER" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
}

"$TOP/scripts/build.sh" deb
"$TOP/scripts/bios.sh"
mkdir -p "$CACHE/log"
apt_setup
apt_install lintian git dpkg-dev python3-sphinx
SOURCE_DATE_EPOCH=$(git -C "$TOP" log -1 --format=%ct)
export SOURCE_DATE_EPOCH        # dpkg-deb's times
VERSION=$(version)
MAINTAINER=$(git -C "$TOP" log -1 --format='%an <%ae>')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
model=usr/libexec/xen-fw-handoff/qemu-system-i386
filter=usr/libexec/xen-fw-handoff/xenstore-filter
mkdir -p "$root/DEBIAN" "$root/usr/libexec/xen-fw-handoff"
chmod 755 "$root"
P=$TOP/packaging

strip --remove-section=.comment --remove-section=.note \
    -o "$root/$model" "$TOP/build/qemu/build-deb/qemu-system-i386"
chmod 755 "$root/$model"
# shellcheck disable=SC2046
(export DEB_BUILD_MAINT_OPTIONS=hardening=+all
    gcc $(for f in CPPFLAGS CFLAGS LDFLAGS; do dpkg-buildflags --get $f; done) -s \
        -o "$root/$filter" "$P/xenstore-filter.c" -lxenctrl -lxenstore)
place 644 "$TOP/build/bios-256k.bin" usr/share/xen-fw-handoff/bios-256k.bin
place 755 "$P/device-model" usr/libexec/xen-fw-handoff/device-model
place 755 "$TOP/scripts/xen-fw-handoff-log" usr/bin/xen-fw-handoff-log
sed -i '1s|.*|#!/usr/bin/python3|' "$root/usr/bin/xen-fw-handoff-log"
sphinx-build -q -W -b man "$P" "$work/man"
compressed "$work/man/xen-fw-handoff.7" usr/share/man/man7/xen-fw-handoff.7.gz
compressed "$P/xen-fw-handoff-log.1" usr/share/man/man1/xen-fw-handoff-log.1.gz
place 644 "$TOP/docs/specs/xen-fw-handoff.txt" "$DOC/xen-fw-handoff.txt"
place 644 "$TOP/docs/toolstacks.md" "$DOC/toolstacks.md"
place 644 "$TOP/docs/stub-domains.md" "$DOC/stub-domains.md"
place 644 "$P/guest.cfg" "$DOC/examples/guest.cfg"
compressed "$TOP/CHANGELOG.md" "$DOC/changelog.gz"
changelog >"$work/changelog"
compressed "$work/changelog" "$DOC/changelog.Debian.gz"
cat "$P/copyright" >"$work/copyright"
sed 1d "$TOP/build/qemu/debian/copyright" >>"$work/copyright"
place 644 "$work/copyright" "$DOC/copyright"
place 644 "$P/lintian-overrides" "usr/share/lintian/overrides/$PACKAGE"
place 755 "$P/prerm" DEBIAN/prerm
needs=$(depends)
[ -n "$needs" ] || { cat "$work/shlibdeps.log" >&2; die "dpkg-shlibdeps found no dependency of $model"; }
sed -e "s|@PACKAGE@|$PACKAGE|; s|@VERSION@|$VERSION|; s|@MAINTAINER@|$MAINTAINER|; s|@DEPENDS@|$needs|" \
    -e "s|@XEN@|$XEN|; s|@SIZE@|$(du -sk --exclude=DEBIAN "$root" | cut -f 1)|" "$P/control.in" >"$root/DEBIAN/control"
(cd "$root" && find usr -type f | sort | xargs md5sum >DEBIAN/md5sums)

deb=$TOP/build/${PACKAGE}_${VERSION}_amd64.deb
rm -f "$TOP/build/${PACKAGE}"_*.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
# a commit in the version makes a name too long for CDs, and for nothing else
lintian --allow-root --fail-on error,warning --suppress-tags package-has-long-file-name "$deb" || die "lintian does not like build/${deb##*/}"
apt-get install --simulate -o APT::Get::Show-User-Simulation-Note=false "$deb" >"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; die "apt of Debian $DEBIAN would not install build/${deb##*/}"; }
say "build/${deb##*/}: $(du -h "$deb" | cut -f 1); lintian finds nothing, Debian $DEBIAN has what it needs"
[ "${1:-}" = lab ] || exit 0
rm -rf "$TOP/build/deb"
mkdir "$TOP/build/deb"
ln "$deb" "$TOP/build/deb/"
cd "$TOP/build/deb"
logged "fetching the packages that have QEMU's data" "$CACHE/log/deb-data.log" \
    apt-get download qemu-system-data seabios ipxe-qemu

#!/bin/sh
# in-root.sh SUITE COMMAND...: run COMMAND as a machine with that release of Debian would: in its
# root, which mmdebstrap makes once in the cache, with the repository at its own path.  There
# build/ is what is build/SUITE/ here, and the cache has a directory in this one.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
[ $# -ge 2 ] || die "usage: scripts/in-root.sh bookworm|trixie COMMAND..."
[ "$(id -u)" = 0 ] || die "only root can enter the root of another release; make test and test-xen go without it with HOSTS=$SUITE"
(host "$1")     # or it has said which there are
suite=$1 root=$CACHE/root-$1 cache=$CACHE/$1 build=$TOP/build/$1
shift

# proxies: what apt here goes through, it has to go through there, too
proxies() { apt-config dump | grep -i '^Acquire::[a-z]*::Proxy[: ]' || :; }

make_root() {
    need_space 3000
    mkdir -p "$CACHE/log"
    apt_setup
    apt_install mmdebstrap mount
    rm -rf "$root.new"
    proxies >"$root.proxies"
    logged "making a root of $suite" "$CACHE/log/root.log" env -u APT_CONFIG \
        mmdebstrap --variant=apt --skip=cleanup/apt/lists --include=make,debian-archive-keyring,ca-certificates \
        --setup-hook="cp '$root.proxies' \"\$1/etc/apt/apt.conf.d/99proxies\"" \
        "$suite" "$root.new" \
        "deb $mirror $suite main" "deb $mirror $suite-updates main" \
        ${security:+"deb $security $suite-security main"}
    mv "$root.new" "$root"
}

[ -d "$root" ] || (one_at_a_time && { [ -d "$root" ] || make_root; })
mkdir -p "$cache" "$build" "$root$cache" "$root$TOP"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
proxies >"$root/etc/apt/apt.conf.d/99proxies"
# shellcheck disable=SC2016
exec unshare --mount sh -euc '
    root=$1 cache=$2 top=$3 build=$4
    shift 4
    mount --rbind "$root" "$root"   # who is inside may do the same
    for d in /dev /proc "$cache" "$top"; do
        mount --rbind "$d" "$root$d"
    done
    mount --bind "$build" "$root$top/build"
    exec chroot "$root" env -C "$top" XDG_CACHE_HOME="$cache" "$@"
' in-root "$root" "$cache" "$TOP" "$build" "$@"

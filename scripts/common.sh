# What the scripts here share: messages, the cache, apt with its own lists.
# Sourced, never run.  POSIX sh.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh

set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
while [ ! -e "$TOP/meson.build.patch" ]; do
    [ "$TOP" != / ] || { echo "not inside the repository" >&2; exit 1; }
    TOP=$(dirname "$TOP")
done
ME=$(basename "$0" .sh)
export LC_ALL=C
trap 'exit 130' INT TERM        # what a trap of EXIT removes is removed then, too

say() { printf '%s: %s\n' "$ME" "$*"; }
die() { printf '%s: %s\n' "$ME" "$*" >&2; exit 1; }

[ -n "${XDG_CACHE_HOME:-${HOME:-}}" ] || die "set HOME or XDG_CACHE_HOME: the build needs a place for its cache"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/xen-fw-handoff

# host SUITE: all that differs between the releases of Debian that are hosts: the versions of
# Debian, its Xen and its Linux, and packages that are named otherwise
host() {
    SUITE=$1
    # shellcheck disable=SC2034  # others have them
    case $SUITE in
    bookworm)
        DEBIAN=12 XEN=4.17 LINUX=6.1 MESON=meson/bookworm-backports LIBMAGIC=libmagic1
        LIBVIRT=libvirt0
        ;;
    trixie)
        DEBIAN=13 XEN=4.20 LINUX=6.12 MESON=meson LIBMAGIC=libmagic1t64
        LIBVIRT="libvirt0 libvirt-common"
        ;;
    *) die "this needs Debian 12 (bookworm) or 13 (trixie), not ${2:-$SUITE}" ;;
    esac
}
SOURCES=trixie      # has those of QEMU and SeaBIOS, for all of them

# shellcheck source=/dev/null
host "$(. /etc/os-release; echo "${VERSION_CODENAME:-}")" "$(. /etc/os-release; echo "${PRETTY_NAME:-something else}")"

# need_space MB: one sentence now instead of a half-written file later
need_space() {
    mkdir -p "$CACHE" 2>/dev/null || die "cannot write the cache $CACHE: set XDG_CACHE_HOME to a directory of yours"
    free=$(df -Pm "$CACHE" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] ||
        die "$CACHE has $free MB free, $1 MB are needed: make room or set XDG_CACHE_HOME to another disk"
}

# one_at_a_time: two builds in one cache would tread on each other
one_at_a_time() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/lock"
    flock -n 9 || { say "waiting for another build in $CACHE"; flock 9; }
}

# end PID: and what it waits for, if it is a shell: other programs see to that themselves
end() {
    # shellcheck disable=SC2046
    [ "$(readlink "/proc/$1/exe")" != "$(readlink /proc/$$/exe)" ] ||
        set -- "$1" $(cat "/proc/$1/task/$1/children" 2>/dev/null)
    kill "$1" 2>/dev/null || :
    shift
    for child; do end "$child"; done
}

# logged WHAT LOG COMMAND...: run COMMAND with its output in LOG; show how far it is
# when it prints ninja's [done/total]; on failure show the log's end and give up
logged() {
    what=$1 log=$2
    shift 2
    mkdir -p "$(dirname "$log")"
    : >"$log"
    start=$(date +%s)
    say "$what ..."
    # ninja and apt must not inherit the lock: a daemon of theirs could keep it
    "$@" >"$log" 2>&1 9>&- </dev/null &
    pid=$!
    trap 'end $pid; exit 130' INT TERM
    shown=0
    while kill -0 $pid 2>/dev/null; do
        done=$(tail -c 2000 "$log" | tr '\r' '\n' | sed -n 's/^\[\([0-9]*\)\/\([0-9]*\)\].*/\1 \2/p' | tail -n 1)
        if [ -n "$done" ]; then
            percent=$((${done% *} * 100 / ${done#* }))
            [ $((percent / 10)) -le $((shown / 10)) ] || [ "$percent" = 100 ] ||
                say "$what: $percent % after $(($(date +%s) - start)) s"
            shown=$percent
        fi
        sleep 0.5
    done
    rc=0
    wait $pid || rc=$?
    trap 'exit 130' INT TERM
    [ $rc = 0 ] || {
        tail -n 20 "$log" | cut -c 1-200 >&2
        die "$what failed (status $rc); the whole log is $log"
    }
    took=$(($(date +%s) - start))
    [ $took -lt 2 ] || say "$what: done in $took s"
}

# debians CODENAME: where $targets have its main from; others name a suite of theirs like that, too
debians() {
    echo "$targets" | awk -v of="$1" '$1 == of && $2 == "main" && $4 == "Debian" && NF == 4 { print $3; exit }'
}

# apt_setup: apt with its own sources and lists in the cache.  The mirror is the machine's,
# its configuration is only read.  The lists are refreshed once a day.  With EXTRA set, "deb-src
# sid" or "deb bullseye", they are others, which have that, too.
apt_setup() {
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e $key ] || die "no $key: apt-get install debian-archive-keyring"
    apt=$CACHE/apt${EXTRA:+-${EXTRA% *}-${EXTRA#* }}
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    # shellcheck disable=SC2016
    targets=$(unset APT_CONFIG; apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI) $(ORIGIN)' 'Created-By: Packages') ||
        die "apt-get indextargets failed: apt's sources are broken, run 'apt-get update' and see"
    mirror=$(debians "$SUITE")
    security=$(debians "$SUITE-security")
    [ -n "$mirror" ] || die "apt knows no mirror of Debian's $SUITE main: run apt-get update, if that is done add one to apt's sources"
    {
        for s in "$SUITE" "$SUITE-updates" "$SUITE-backports"; do
            # apt wants no source twice with other options
            [ "$s" = "${EXTRA:+${EXTRA#* }}" ] || echo "deb [signed-by=$key] $mirror $s main"
        done
        echo "deb-src [signed-by=$key] $mirror $SOURCES main"
        # what a mirror had of it weeks ago will do
        [ -z "${EXTRA:-}" ] || echo "${EXTRA% *} [signed-by=$key check-valid-until=no] $mirror ${EXTRA#* } main"
        [ -z "$security" ] || {
            echo "deb [signed-by=$key] $security $SUITE-security main"
            echo "deb-src [signed-by=$key] $security $SOURCES-security main"
        }
    } >"$apt/sources.list"
    cat >"$apt/apt.conf" <<E
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
Acquire::Languages "none";
DPkg::Lock::Timeout "600";
E
    export APT_CONFIG="$apt/apt.conf" DEBIAN_FRONTEND=noninteractive
    if [ -z "$(find "$apt/updated" -newer "$apt/sources.list.used" -mtime -1 2>/dev/null)" ] ||
        ! cmp -s "$apt/sources.list" "$apt/sources.list.used"; then
        apt_update
    fi
}

apt_update() {
    if apt-get update >"$CACHE/log/apt-update.log" 2>&1; then
        cp "$apt/sources.list" "$apt/sources.list.used"
        touch "$apt/updated"
    elif [ -e "$apt/updated" ]; then
        say "the mirror cannot be reached, going on with the package lists of $(date -r "$apt/updated")"
    else
        die "apt-get update failed, a Debian mirror must be reachable; what apt said is in $CACHE/log/apt-update.log"
    fi
}

# apt_install PACKAGE...: those that are missing, or say what root has to type.
# A package may be named with its suite: meson/bookworm-backports.
apt_install() {
    missing=
    for p in "$@"; do
        dpkg-query -W -f '${Status}\n' "${p%/*}" 2>/dev/null | grep -q '^install ok installed' ||
            missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] ||
        die "packages are missing; run: sudo env APT_CONFIG=$APT_CONFIG apt-get install -y$missing"
    # shellcheck disable=SC2086
    logged "installing$missing" "$CACHE/log/apt-install.log" apt-get install -y $missing
}

# dm_restrict=1: QEMU runs as a user of its own in a chroot, and xenstore-filter of the package
# is its xenstored.  The handoff is as with any guest; who has taken over QEMU gets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

as_installed
# shellcheck disable=SC2034  # guest() reads it: the kernel's
NUMBERS=0
restricted

# filtered COMMAND...: in the place of QEMU, which the shell becomes that has started the filter
filtered() {
    chroot=$(mktemp -d)
    # shellcheck disable=SC2016
    DOMID=$DOMID CHROOT=$chroot sh -c 'xenstore-filter "$DOMID" "$CHROOT" || exit 99
        XENSTORED_PATH=$CHROOT/var/run/xenstored/socket exec "$@"' sh "$@" >/dev/null 2>&1
}

refused() {
    status=0
    filtered "$@" || status=$?
    [ $status = 1 ] || fail "not refused but status $status: $*"
}

empty() { [ -z "$(ls -A "$1")" ]; }

start firmware "$ALL" os 1 late "$ALL" gates "firmware announced done"
checkpoint firmware 120
snapshot firmware
says_its_user
own=/local/domain/$DOMID frontend=/local/domain/$DOMID/device/vbd/51712
xenstore-write "$own/device/lab/0/theirs" 1
xenstore-chmod "$own/device/lab/0/theirs" n0 "r$DOMID"
xenstore-ls -fp >/tmp/before
filtered xenstore-read "$frontend/state" || fail "the guest's own is refused"
filtered xenstore-read "$own/device/lab/0/theirs" || fail "what the guest may read is refused"
refused xenstore-read /local/domain/0/domid
refused xenstore-read "/libxl/$DOMID/type"
refused xenstore-ls /local/domain
refused xenstore-ls "/local/domain/0/backend"
refused xenstore-write "$own/name" it
refused xenstore-write "$own/control/shutdown" poweroff
refused xenstore-write "/local/domain/0/backend/vbd/$DOMID/51712/state" 6
refused xenstore-write "$frontend/backend" /local/domain/0
refused xenstore-write "$frontend/state" Connected
refused xenstore-write "$own/device/vbd/1/state" 1
refused xenstore-write "device-model/$DOMID/fw-handoff/more" 1
refused xenstore-write "device-model/$DOMID/fw-handoff/handed-off" many
refused xenstore-write "device-model/$DOMID/fw-handoff/skipped" 1234567890
refused xenstore-write "device-model/$DOMID/state" running
refused xenstore-rm "$frontend"
refused xenstore-rm "$own/device/lab/0/theirs"
refused xenstore-rm "$own"
refused xenstore-chmod "$frontend/state" b0
xenstore-ls -fp | cmp /tmp/before - || fail "xenstore is not as it was"
xenstore-rm "$own/device/lab"
resume firmware
take_over
await 10 "end of what libxl would stumble over" empty "/run/xen/qemu-root-$DOMID"
await 10 "end of the last filter's" empty "$chroot"

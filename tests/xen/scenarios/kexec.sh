# Linux, which has announced itself, boots another one by kexec; that one crashes, and a third takes
# over (kdump).  Xen has both as soft resets: each time xl makes new devices, and a device model that
# is restored.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

seen() { [ "$(grep -ac "$1" "$CONSOLE")" -ge "$2" ]; }     # REGEX so many times on the console

# kexec_disk: make disk 0, with what Linux boots by kexec and the tool for it behind the marks
kexec_disk() {
    disk 0
    image=/tmp/$SCENARIO-disk0.img
    truncate -s 64M "$image"
    (
        cd /
        {
            printf '%s\n' usr usr/bin usr/bin/kexec lib lib64 lib/x86_64-linux-gnu usr/lib \
                usr/lib/x86_64-linux-gnu guest guest/vmlinuz guest/initrd
            LD_TRACE_LOADED_OBJECTS=1 usr/bin/kexec | grep -o '/[^ ]*' | cut -c 2-
        } | cpio -o -H newc 2>/dev/null
    ) | dd of="$image" bs=1M seek=1 conv=notrunc 2>/dev/null
}

# next_linux N NAME: the Nth one is there
next_linux() {
    await 220 "Linux number $1" seen 'GUEST.*ready' "$1"
    event "$2"
    alive
    snapshot "$2"
}

kexec_disk
linux_guest 'THEN=kexec crashkernel=160M sysrq_always_enabled' 'memory = 640' 'on_soft_reset = "soft-reset"'
connected
first_line
wait_console 'GUEST.*is prepared' 220
snapshot 'prepared'
archive_evidence
present
xl reboot "$SCENARIO"       # Linux's way to do that is kexec
next_linux 2 kexec
[ -z "$DM_ARGS" ] || reported kexec
await 120 "Linux to be prepared again" seen 'GUEST.*is prepared' 2
xl sysrq "$SCENARIO" c
next_linux 3 crashed
[ -z "$DM_ARGS" ] || reported crashed

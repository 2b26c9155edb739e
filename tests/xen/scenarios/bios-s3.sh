# Linux, booted by the BIOS under test from a disk that is PV only, sleeps (S3): the BIOS wakes it
# and leaves its disk alone.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

sleeps() { [ "$(qmp "/run/xen/qmp-libxl-$DOMID" '{"execute":"query-status"}' | grep -c suspended)" = 1 ]; }

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
# Linux 6.12 has an upcall by its local APIC, an edge: lost if an event comes while that is still off
linux_disk 4 syslinux "DISKS=xvde THEN=sleep xen_no_vector_callback"
guest
loads
ready
await 60 "the guest to sleep" sleeps
event asleep
say "waiting for xl trigger s3resume (60 s at most)"
timeout 60 xl trigger "$SCENARIO" s3resume
wait_console 'GUEST.*is awake' 60
alive
snapshot 'awake'

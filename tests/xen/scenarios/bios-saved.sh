# The guest is saved while a loader uses the BIOS's PV disk, and restored: nobody is behind that
# disk any more, so the loader's next read has to fail, and at once.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
int13_disk 4 gl
guest
event started
xl unpause "$SCENARIO"
checkpoint_scratch 'firmware' 300
snapshot 'firmware'
save
restore
resume_scratch 'firmware'
await 60 "the test of INT 13h to end" said_done
snapshot 'restored'

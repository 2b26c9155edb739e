# The guest is saved while its firmware has all connected, and restored before any OS, or migrated
# (VARIANT), or has a QEMU that is restricted: another firmware connects all anew, and an OS
# follows that resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

case $VARIANT in
restrict)
    as_installed
    # shellcheck disable=SC2034  # guest() reads them; a restored QEMU cannot open a disk
    NUMBERS=4 KIND=kernel
    restricted
    ;;
*) guest ;;
esac
start firmware "$ALL" quiet 1 gates firmware
through firmware
checkpoint_scratch 'quiet' 60
case $VARIANT in
migrate) migrate ;;
*)
    save
    restore
    ;;
esac
[ -z "$DM_ARGS" ] || reported restored
[ "$VARIANT" != restrict ] || says_its_user
options chain "$ALL" os 1 late "$ALL" gates "chained announced done"
resume_scratch 'quiet'
checkpoint 'chained' 60
snapshot 'firmware'
resume 'chained'
take_over

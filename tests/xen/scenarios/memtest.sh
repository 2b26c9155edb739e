# Nothing announces itself: the BIOS under test boots Memtest86+ from a disk that is PV only.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

tests() { grep -aq 'Memtest86' "$OUT/firmware.log"; }

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
memtest_disk 4
guest
event started
xl unpause "$SCENARIO"
await 120 "Memtest86+" tests
snapshot 'firmware'
reported firmware

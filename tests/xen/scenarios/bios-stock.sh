# The stock BIOS has nothing to boot from where the only disk is PV.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
BIOS=$STOCK NUMBERS=4 KIND=kernel
linux_disk 4 syslinux ''
guest
event started
xl unpause "$SCENARIO"
boots_nothing
snapshot 'firmware'

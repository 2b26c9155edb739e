# iPXE opens its NIC, finds nothing to boot and closes it; the BIOS under test goes on with its PV
# disk, which is an OS that resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads it
NUMBERS=4
naive_disk 4
ipxe 'cmdline = "ifopen net0 && exit"'
naive start firmware none

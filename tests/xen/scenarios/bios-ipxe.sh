# The BIOS under test has connected two disks, iPXE its NIC, from which it boots an OS that
# announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS="4 5"
ipxe_guest
naive start firmware none

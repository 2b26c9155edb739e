# The same, and the OS reboots: another domain, in which the BIOS connects all anew.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

bios
# shellcheck disable=SC2034  # guest() reads them
NUMBERS=4 KIND=kernel
naive_disk 4
guest 'on_reboot = "restart"'
reboot_into 1 firmware none late "$ALL"
naive options firmware none

# The OS reboots: xl makes a new domain with a new device model, and the firmware runs again.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest 'on_reboot = "restart"'
reboot_into 1
naive options

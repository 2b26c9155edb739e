# The OS asks for a soft reset, as Linux does before kexec: xl makes new devices and a new
# device model, which it restores; the guest goes on after its hypercall.  No firmware runs,
# so that all connections are those of an OS, which sets its callback before it attaches them.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest 'on_soft_reset = "soft-reset"'
reboot_into 5
[ -z "$DM_ARGS" ] || reported restored
late_announce options

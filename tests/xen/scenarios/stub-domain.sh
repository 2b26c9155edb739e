# The device model runs in a Linux stub domain; dom0 has the backends.  The firmware leaves all
# connected; an OS announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() has it: QEMU in a stub domain serves no disk of dom0's
KIND=kernel
stub_initrd
guest 'device_model_version = "qemu-xen"' 'device_model_stubdomain_override = 1' \
    'stubdomain_kernel = "/guest/vmlinux.gz"' "stubdomain_ramdisk = \"/tmp/$SCENARIO-initrd\"" \
    'stubdomain_memory = 320' \
    "stubdomain_cmdline = \"console=hvc0 rdinit=/guest/stub $LINUX\""
xenstore-read "/local/domain/$DOMID/image/device-model-domid" >"$OUT/stub"
naive start

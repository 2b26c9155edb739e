# The usual xl.cfg: disks and a NIC with emulated twins, which Linux unplugs, and tables for
# the guest.  A vCPU, a disk and a NIC are added when Linux runs.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

acpi=/tmp/$SCENARIO-acpi smbios=/tmp/$SCENARIO-smbios
# a table that is a header and nothing else; a structure of type 11 with its length in front
printf 'LAB1\44\0\0\0\1\25LABLABLABTABLE\1\0\0\0LAB \1\0\0\0' >"$acpi"
printf '\20\0\0\0\13\5\0\1\1LABSMBIOS\0\0' >"$smbios"
linux_guest "" "$EMULATED_NIC" "$NO_NIC_ROM" 'firmware = "seabios"' \
    'maxvcpus = 2' \
    "acpi_firmware = \"$acpi\"" "smbios_firmware = \"$smbios\""
start firmware "$ALL" os 0 gates firmware
checkpoint 'firmware' 60
snapshot 'firmware'
emulated 'firmware'
resume 'firmware'
ready
emulated 'os'
disk 2
say "waiting for xl vcpu-set, block-attach and network-attach (60 s at most each)"
timeout 60 xl vcpu-set --ignore-host "$SCENARIO" 2
timeout 60 xl block-attach "$SCENARIO" \
    "format=raw,vdev=xvdc,access=rw,backendtype=qdisk,target=/tmp/$SCENARIO-disk2.img"
timeout 60 xl network-attach "$SCENARIO" 'mac=00:16:3e:11:11:12' 'bridge=xenbr0'
wait_console "alive . 2 vCPUs.* xvdc 'LAB.* eth1 " 90
snapshot 'hotplugged'

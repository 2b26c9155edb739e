# iPXE boots Linux from a SAN with its netfront although the NIC has an emulated twin, which Linux
# unplugs.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

ipxe_guest "$EMULATED_NIC" "$NO_NIC_ROM"
start firmware none boot "$LINUX $EMULATION" gates firmware
checkpoint 'firmware' 150
snapshot 'firmware'
emulated 'firmware'
resume 'firmware'
first_line
ready
emulated 'os'

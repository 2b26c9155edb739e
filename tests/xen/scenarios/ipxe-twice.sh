# iPXE boots from a SAN what turns out to be another iPXE, which finds the NIC in use, connects it
# with rings of its own and boots an OS that resets nothing from the SAN's other disk.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # ipxe_guest() reads it
LOADS=/guest/ipxe.lkrn
san 1
ipxe_guest
start firmware none boot "$SANBOOT.1" gates firmware
checkpoint 'firmware' 150
snapshot 'first'
# the second one's firmware waits for options of its own
xenstore-rm "/local/domain/$DOMID/lab/complete"
resume 'firmware'
checkpoint 'begin' 150
xenstore-rm "/local/domain/$DOMID/lab/go"
naive options firmware none boot ''

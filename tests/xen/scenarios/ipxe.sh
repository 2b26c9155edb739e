# iPXE boots an OS that announces itself but resets nothing, not even the NIC that iPXE has
# left connected.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

ipxe_guest
naive start firmware none

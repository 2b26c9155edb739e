# iPXE boots Linux and leaves the NIC connected; Linux's own boot code asks iPXE for its SAN's
# disk (EDD), the last that iPXE is used.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

ipxe_guest
connected firmware none boot "$LINUX"
first_line
ready

# The devices of the Debian package: QEMU's, without what is for our tests only
#
# SPDX-License-Identifier: GPL-2.0-or-later

include default.mak

CONFIG_XEN_LOOPBACK=n

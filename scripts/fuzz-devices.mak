# The devices of make fuzz-deep: those that its guest has, and no others
#
# SPDX-License-Identifier: GPL-2.0-or-later

CONFIG_I440FX=y
CONFIG_XEN_BUS=y
CONFIG_XEN_EMU=y
CONFIG_XEN_FW_HANDOFF=y
CONFIG_XEN_LOOPBACK=y

# Linux with xen_emul_unplug=unnecessary tells that it has PV drivers, and unplugs nothing.  It
# has less memory than it may have, and gives the rest back when it starts.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

linux_guest "xen_emul_unplug=unnecessary" 'maxmem = 320'
connected
ready
reported os
emulated 'os'

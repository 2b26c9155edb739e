# GPLPV in Windows, the free build: follows the protocol without a log.  The firmware has used
# two queues of the NIC, which dom0's netback allows only if it is told to.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

queues=/sys/module/xen_netback/parameters/max_queues
echo 2 >$queues
guest
naive start queues 2 order "product=2 build=1 unplug=3 late"
echo 1 >$queues

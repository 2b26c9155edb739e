/*
 * Xen firmware handoff: where it is not built in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-fw-handoff.h"

XenFwHandoffInfo *qmp_query_xen_fw_handoff(Error **errp)
{
    error_setg(errp, "this machine has no xen-fw-handoff device");
    return NULL;
}

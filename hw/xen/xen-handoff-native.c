/*
 * Xen firmware handoff: what it asks of a real Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen_native.h"
#include "qemu/module.h"
#include "hw/xen/xen_fw_handoff.h"

static int native_get_hvm_param(uint32_t index, uint64_t *value)
{
    return xc_hvm_param_get(xen_xc, xen_domid, index, value) < 0 ? -errno : 0;
}

static const XenFwHandoffOps native_ops = {
    .get_hvm_param = native_get_hvm_param,
};

/* Runs when the Xen bus comes up, which may be one that QEMU emulates */
static void native_init(void)
{
    if (xen_mode == XEN_ATTACH) {
        xen_fw_handoff_ops = &native_ops;
    }
}

xen_backend_init(native_init)

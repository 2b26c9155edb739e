/*
 * Xen firmware handoff: what it asks of QEMU's own emulation of Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/module.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen_fw_handoff.h"
#include "hw/xen/interface/hvm/params.h"

#include "xen_evtchn.h"
#include "xen_gnttab.h"

static int emu_get_hvm_param(uint32_t index, uint64_t *value)
{
    if (index != HVM_PARAM_CALLBACK_IRQ) {
        return -EINVAL;
    }
    *value = xen_evtchn_get_callback_param();
    return 0;
}

static int emu_grant_table_size(unsigned int *version, unsigned int *frames)
{
    uint32_t nr_frames;

    if (!xen_gnttab_get_table(&nr_frames)) {
        return -ENOTSUP;
    }
    *version = 1; /* the emulation has no other */
    *frames = nr_frames;
    return 0;
}

/* The table is memory of this process already */
static void *emu_map_grant_table(unsigned int frames)
{
    uint32_t nr_frames;
    void *table = xen_gnttab_get_table(&nr_frames);

    if (!table) {
        errno = ENOTSUP;
        return NULL;
    }
    if (!frames || frames > nr_frames) {
        errno = EINVAL;
        return NULL;
    }
    return table;
}

static void emu_unmap_grant_table(void *table, unsigned int frames)
{
}

static const XenFwHandoffOps emu_ops = {
    .get_hvm_param = emu_get_hvm_param,
    .add_callback_notifier = xen_evtchn_add_callback_notifier,
    .grant_table_size = emu_grant_table_size,
    .map_grant_table = emu_map_grant_table,
    .unmap_grant_table = emu_unmap_grant_table,
};

/* Runs when the Xen bus comes up; a test's xen-loopback has set its own ops */
static void emu_init(void)
{
    if (xen_mode == XEN_EMULATE && !xen_fw_handoff_ops) {
        xen_fw_handoff_ops = &emu_ops;
    }
}

xen_backend_init(emu_init)

/*
 * Operations on the guest of QEMU's own Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "hw/core/cpu.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/interface/hvm/params.h"
#include "system/cpus.h"

#include "xen_evtchn.h"
#include "xen_gnttab.h"
#include "xen_xenstore.h"

static int emu_hvm_param_get(uint32_t index, uint64_t *value)
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
static void *emu_grant_table_map(unsigned int frames)
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

static void emu_grant_table_unmap(void *table, unsigned int frames)
{
}

/* There is nobody to ask: QEMU is xenstored */
static int emu_xenstore_reset(int64_t until)
{
    xen_xenstore_reset_connection();
    return 0;
}

/* --- holding a vCPU ------------------------------------------------------- */

static GSList *held;            /* of CPUState, under the BQL */

/*
 * In the thread of the vCPU, after its access and before the guest goes on.
 * The thread does all else that is asked of it meanwhile: others may stop it,
 * read its registers, or end it.
 */
static void wait_for_release(CPUState *cpu, run_on_cpu_data unused)
{
    while (g_slist_find(held, cpu) && !cpu->unplug) {
        if (!cpu->stop && cpu_work_list_empty(cpu)) {
            qemu_cond_wait_bql(cpu->halt_cond);
        }
        qemu_wait_io_event_common(cpu);
    }
    /* the guest may eject a CPU that is held */
    held = g_slist_remove(held, cpu);
}

static bool emu_vcpu_hold(void)
{
    if (!current_cpu) {
        return false;
    }
    if (!g_slist_find(held, current_cpu)) {
        held = g_slist_prepend(held, current_cpu);
        async_run_on_cpu(current_cpu, wait_for_release, RUN_ON_CPU_NULL);
    }
    return true;
}

static void emu_vcpu_release(void)
{
    g_autoptr(GSList) released = g_steal_pointer(&held);

    for (GSList *l = released; l; l = l->next) {
        qemu_cpu_kick(l->data);
    }
}

static const struct guest_backend_ops emu_guest_ops = {
    .hvm_param_get = emu_hvm_param_get,
    .add_callback_notifier = xen_evtchn_add_callback_notifier,
    .vcpu_hold = emu_vcpu_hold,
    .vcpu_release = emu_vcpu_release,
    .grant_table_size = emu_grant_table_size,
    .grant_table_map = emu_grant_table_map,
    .grant_table_unmap = emu_grant_table_unmap,
    .events_in_drain = true,
    .xenstore_reset = emu_xenstore_reset,
};

/* Runs when the Xen bus comes up; a test's xen-loopback has set its own ops */
static void emu_init(void)
{
    if (xen_mode == XEN_EMULATE && !xen_guest_ops) {
        xen_guest_ops = &emu_guest_ops;
    }
}

xen_backend_init(emu_init)

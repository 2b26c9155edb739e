/*
 * Xen firmware handoff: the guest's grant table seen from this side
 *
 * When a backend has let go, the firmware's entry in the grant table still
 * permits it to map the page again, which is the OS's by then.  Linux never
 * clears what it has not granted itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/interface/grant_table.h"
#include "xen_fw_handoff_grants.h"
#include "trace.h"

#define PAGE_ENTRIES (XEN_PAGE_SIZE / sizeof(grant_entry_v1_t))

#define IN_USE (GTF_reading | GTF_writing)

/* One entry as Xen and the guest see it: read and replaced as a whole */
typedef union Entry {
    grant_entry_v1_t v1;
    uint64_t raw;
} Entry;

QEMU_BUILD_BUG_ON(sizeof(Entry) != sizeof(uint64_t));

bool xen_fw_handoff_table_refresh(XenFwHandoffTable *table, Error **errp)
{
    unsigned int version, frames;
    void *map;
    int rc;

    rc = xen_guest_ops->grant_table_size(&version, &frames);
    if (rc < 0) {
        error_setg_errno(errp, -rc, "cannot query the guest's grant table");
        return false;
    }
    if (version > 1) {
        error_setg(errp, "the guest's grant table has version %u", version);
        return false;
    }
    frames = MIN(frames, XEN_FW_HANDOFF_MAX_GRANT_FRAMES);
    if (frames == table->frames) {
        return true;
    }
    xen_fw_handoff_table_unmap(table);
    if (!frames) {
        return true;            /* nothing has been granted yet */
    }
    trace_xen_fw_handoff_grant_table(frames);
    map = xen_guest_ops->grant_table_map(frames);
    if (!map) {
        error_setg_errno(errp, errno, "cannot map the guest's grant table");
        return false;
    }
    *table = (XenFwHandoffTable) { map, frames, frames * PAGE_ENTRIES };
    return true;
}

void xen_fw_handoff_table_unmap(XenFwHandoffTable *table)
{
    if (table->entry) {
        xen_guest_ops->grant_table_unmap(table->entry, table->frames);
    }
    *table = (XenFwHandoffTable) { NULL };
}

static bool is_access(Entry e)
{
    return (e.v1.flags & GTF_type_mask) == GTF_permit_access;
}

static Entry read_entry(const XenFwHandoffTable *table, uint32_t ref)
{
    return (Entry) { .raw = qatomic_read__nocheck(&table->entry[ref]) };
}

bool xen_fw_handoff_table_in_use(const XenFwHandoffTable *table, uint32_t ref)
{
    Entry e;

    if (ref >= table->entries) {
        return false;
    }
    e = read_entry(table, ref);
    return is_access(e) && e.v1.flags & IN_USE;
}

XenFwHandoffGrants *xen_fw_handoff_grants_record(
    const XenFwHandoffTable *table, const XenFwHandoffGrants *before)
{
    XenFwHandoffGrants *record;

    if (before && before->len == table->entries &&
        (!before->len || !memcmp(before->data, table->entry,
                                 table->entries * sizeof(Entry)))) {
        return NULL;
    }
    record = g_array_sized_new(false, false, sizeof(Entry), table->entries);
    g_array_append_vals(record, table->entry, table->entries);
    return record;
}

uint8_t xen_fw_handoff_grants_seeded(const XenFwHandoffTable *table)
{
    uint8_t seeded = 0;

    for (unsigned int ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        /* what cannot be read may be one */
        seeded |= (ref >= table->entries || read_entry(table, ref).raw) << ref;
    }
    return seeded;
}

/* Whether a backend uses the entry or not, is it the one that was recorded? */
static bool recorded(const XenFwHandoffGrants *record, unsigned int ref,
                     Entry e)
{
    Entry was;

    if (ref >= record->len) {
        return false;
    }
    was = g_array_index(record, Entry, ref);
    was.v1.flags &= ~IN_USE;
    e.v1.flags &= ~IN_USE;
    return was.raw == e.raw;
}

void xen_fw_handoff_grants_clear(const XenFwHandoffTable *table,
                                 GHashTable *domids,
                                 const XenFwHandoffGrants *record,
                                 uint8_t seeded, XenFwHandoffGrantCount *count)
{
    for (unsigned int ref = XEN_FW_HANDOFF_FIRST_GRANT; ref < table->entries;
         ref++) {
        Entry e = read_entry(table, ref);

        if ((ref < GNTTAB_NR_RESERVED_ENTRIES && seeded & BIT(ref)) ||
            !is_access(e) ||
            !g_hash_table_contains(domids, GUINT_TO_POINTER(e.v1.domid)) ||
            !recorded(record, ref, e)) {
            continue;
        }
        if (e.v1.flags & IN_USE ||
            qatomic_cmpxchg__nocheck(&table->entry[ref], e.raw, 0) != e.raw) {
            trace_xen_fw_handoff_grant(ref, e.v1.domid, "in use");
            count->in_use++;
        } else {
            trace_xen_fw_handoff_grant(ref, e.v1.domid, "cleared");
            count->cleared++;
        }
    }
}

/*
 * Xen firmware handoff: the guest's grant table seen from this side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_GRANTS_H
#define HW_XEN_FW_HANDOFF_GRANTS_H

/*
 * The toolstack grants references below GNTTAB_NR_RESERVED_ENTRIES of Xen's
 * grant_table.h: always console and xenstore, and whatever else is there before
 * the guest runs.  All others are the firmware's to use.
 */
#define XEN_FW_HANDOFF_FIRST_GRANT 2

/* Frames of a grant table that are looked at; Xen's own default limit is 64 */
#define XEN_FW_HANDOFF_MAX_GRANT_FRAMES 1024

/**
 * XenFwHandoffTable: the guest's grant table, mapped; one at a time
 *
 * All zero while it is not.
 */
typedef struct XenFwHandoffTable {
    uint64_t *entry;            /* the guest and Xen go on writing to them */
    unsigned int frames, entries;
} XenFwHandoffTable;

/**
 * xen_fw_handoff_table_refresh: map the table, or what it has grown by
 *
 * Returns false with @errp where it cannot be read or is of version 2.
 */
bool xen_fw_handoff_table_refresh(XenFwHandoffTable *table, Error **errp);

void xen_fw_handoff_table_unmap(XenFwHandoffTable *table);

/**
 * xen_fw_handoff_table_in_use:
 * @table: the table
 * @ref: a grant reference, which may be any number
 *
 * Returns true if a backend has mapped the page.
 */
bool xen_fw_handoff_table_in_use(const XenFwHandoffTable *table, uint32_t ref);

/**
 * XenFwHandoffGrants: the grant entries that the firmware had
 *
 * Opaque; g_array_unref() it.
 */
typedef GArray XenFwHandoffGrants;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XenFwHandoffGrants, g_array_unref)

/**
 * XenFwHandoffGrantCount: what became of them
 *
 * @cleared: entries that are no more
 * @in_use: entries that a backend still uses, so that they had to stay
 */
typedef struct XenFwHandoffGrantCount {
    unsigned int cleared, in_use;
} XenFwHandoffGrantCount;

/**
 * xen_fw_handoff_grants_record: remember all entries of the guest's grant table
 * @before: what was recorded before, or NULL
 *
 * They are the firmware's if HVM_PARAM_CALLBACK_IRQ reads 0 afterwards: no OS
 * grants anything before it sets that.
 *
 * Returns them, or NULL if they are those of @before.
 */
XenFwHandoffGrants *xen_fw_handoff_grants_record(
    const XenFwHandoffTable *table, const XenFwHandoffGrants *before);

/**
 * xen_fw_handoff_grants_seeded: what the toolstack has granted
 * @table: of a guest that has not run yet
 *
 * Returns a bit for each reference below GNTTAB_NR_RESERVED_ENTRIES.
 */
uint8_t xen_fw_handoff_grants_seeded(const XenFwHandoffTable *table);

/**
 * xen_fw_handoff_grants_clear: take the firmware's entries out of the grant
 * table
 * @domids: set of GUINT_TO_POINTER(domid): only entries for these domains
 * @record: only entries that are the very same there, with their frame
 * @seeded: not the toolstack's, from xen_fw_handoff_grants_seeded()
 * @count: how many
 *
 * An entry that is in use stays: only its owner may wait for the end of that.
 * Each entry goes by one compare-and-swap of all of it, so that one of an OS
 * which runs meanwhile is never hit.  Xen's public grant_table.h has the rules
 * ("Invalidating an in-use entry").
 */
void xen_fw_handoff_grants_clear(const XenFwHandoffTable *table,
                                 GHashTable *domids,
                                 const XenFwHandoffGrants *record,
                                 uint8_t seeded, XenFwHandoffGrantCount *count);

#endif

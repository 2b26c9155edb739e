/*
 * Xen firmware handoff: the guest's grant table seen from this side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_HANDOFF_GRANTS_H
#define HW_XEN_HANDOFF_GRANTS_H

/*
 * The toolstack grants references below GNTTAB_NR_RESERVED_ENTRIES of Xen's
 * grant_table.h: always console and xenstore, and whatever else is there before
 * the guest runs.  All others are the firmware's to use.
 */
#define XEN_HANDOFF_FIRST_GRANT 2

/* Frames of a grant table that are looked at; Xen's own default limit is 64 */
#define XEN_HANDOFF_MAX_GRANT_FRAMES 1024

/**
 * XenHandoffTable: the guest's grant table, mapped; one at a time
 *
 * All zero while it is not.
 */
typedef struct XenHandoffTable {
    uint64_t *entry;            /* the guest and Xen go on writing to them */
    unsigned int frames, entries;
} XenHandoffTable;

/**
 * xen_handoff_table_refresh: map the table, or what it has grown by
 *
 * Returns false with @errp where it cannot be read or is of version 2.
 */
bool xen_handoff_table_refresh(XenHandoffTable *table, Error **errp);

void xen_handoff_table_unmap(XenHandoffTable *table);

/**
 * xen_handoff_table_in_use:
 * @table: the table
 * @ref: a grant reference, which may be any number
 *
 * Returns true if a backend has mapped the page.
 */
bool xen_handoff_table_in_use(const XenHandoffTable *table, uint32_t ref);

/**
 * XenHandoffGrants: the grant entries that the firmware had
 *
 * Opaque; g_array_unref() it.
 */
typedef GArray XenHandoffGrants;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XenHandoffGrants, g_array_unref)

/**
 * XenHandoffGrantCount: what became of them
 *
 * @cleared: entries that are no more
 * @in_use: entries that a backend still uses, so that they had to stay
 */
typedef struct XenHandoffGrantCount {
    unsigned int cleared, in_use;
} XenHandoffGrantCount;

/**
 * xen_handoff_grants_record: remember all entries of the guest's grant table
 * @before: what was recorded before, or NULL
 *
 * They are the firmware's if HVM_PARAM_CALLBACK_IRQ reads 0 afterwards: no OS
 * grants anything before it sets that.
 *
 * Returns them, or NULL if they are those of @before.
 */
XenHandoffGrants *xen_handoff_grants_record(const XenHandoffTable *table,
                                            const XenHandoffGrants *before);

/**
 * xen_handoff_grants_seeded: what the toolstack has granted
 * @table: of a guest that has not run yet
 *
 * Returns a bit for each reference below GNTTAB_NR_RESERVED_ENTRIES.
 */
uint8_t xen_handoff_grants_seeded(const XenHandoffTable *table);

/**
 * xen_handoff_grants_clear: take the firmware's entries out of the grant table
 * @domids: set of GUINT_TO_POINTER(domid): only entries for these domains
 * @record: only entries that are the very same there, with their frame
 * @seeded: not the toolstack's, from xen_handoff_grants_seeded()
 * @count: how many
 *
 * An entry that is in use stays: only its owner may wait for the end of that.
 * Each entry goes by one compare-and-swap of all of it, so that one of an OS
 * which runs meanwhile is never hit.  Xen's public grant_table.h has the rules
 * ("Invalidating an in-use entry").
 */
void xen_handoff_grants_clear(const XenHandoffTable *table, GHashTable *domids,
                              const XenHandoffGrants *record, uint8_t seeded,
                              XenHandoffGrantCount *count);

#endif

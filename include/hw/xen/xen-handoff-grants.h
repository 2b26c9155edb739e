/*
 * Xen firmware handoff: the guest's grant table seen from this side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_HANDOFF_GRANTS_H
#define HW_XEN_HANDOFF_GRANTS_H

/*
 * References below are the toolstack's: console, xenstore and what Xen keeps
 * for their like (GNTTAB_NR_RESERVED_ENTRIES in Xen's grant_table.h).
 */
#define XEN_HANDOFF_FIRST_GRANT 8

/* Frames of a grant table that are looked at; Xen's own default limit is 64 */
#define XEN_HANDOFF_MAX_GRANT_FRAMES 1024

/**
 * XenHandoffTable: the guest's grant table, mapped; one at a time
 */
typedef struct XenHandoffTable {
    uint64_t *entry;            /* the guest and Xen go on writing to them */
    unsigned int frames, entries;
} XenHandoffTable;

/**
 * xen_handoff_table_map:
 *
 * Returns the table, or NULL with @errp where it cannot be read or is of
 * version 2.
 */
XenHandoffTable *xen_handoff_table_map(Error **errp);

/**
 * xen_handoff_table_unmap:
 * @table: from xen_handoff_table_map(), or NULL
 */
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
 *
 * They are the firmware's if HVM_PARAM_CALLBACK_IRQ reads 0 afterwards: no OS
 * grants anything before it sets that.
 *
 * Returns them, or NULL with @errp where the table cannot be read.
 */
XenHandoffGrants *xen_handoff_grants_record(Error **errp);

/**
 * xen_handoff_grants_clear: take the firmware's entries out of the grant table
 * @domids: set of GUINT_TO_POINTER(domid): only entries for these domains
 * @record: only entries that are the very same there, with their frame
 * @count: how many
 *
 * An entry that is in use stays: only its owner may wait for the end of that.
 * Each entry goes by one compare-and-swap of all of it, so that one of an OS
 * which runs meanwhile is never hit.  Xen's public grant_table.h has the rules
 * ("Invalidating an in-use entry").
 *
 * Returns false with @errp where the table cannot be read or is of version 2.
 */
bool xen_handoff_grants_clear(GHashTable *domids,
                              const XenHandoffGrants *record,
                              XenHandoffGrantCount *count, Error **errp);

#endif

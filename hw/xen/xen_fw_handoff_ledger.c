/*
 * Xen firmware handoff: whose connection is it?
 *
 * The ledger remembers of every frontend which keys the toolstack gave it and
 * what it looked like when the firmware had connected it.  It is fed by a
 * watch on the guest's device/ directory and asked when a handoff begins.
 * When in doubt it says so: a connection of the firmware that is left alone
 * costs what it costs today, one of the OS that is torn down costs a disk.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "hw/xen/xen_fw_handoff_ledger.h"

typedef struct Frontend {
    GHashTable *toolstack_keys; /* a set; NULL: never seen at rest */
    XenFwHandoffLedgerOwner owner;
    bool gone;                  /* remembered: its name counts */
    XenFwHandoffSnapshot *firmware; /* its connection while it is the owner */
    GHashTable *rings;          /* a set of references, see ledger_rings() */
} Frontend;

struct XenFwHandoffLedger {
    GHashTable *frontends;      /* "vbd/51712" to Frontend */
    unsigned int connections;   /* of these the firmware's */
    bool ever_connected;        /* has there ever been one */
};

XenFwHandoffSnapshot *xen_fw_handoff_snapshot_new(enum xenbus_state state)
{
    XenFwHandoffSnapshot *seen = g_new0(XenFwHandoffSnapshot, 1);

    seen->state = state;
    seen->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return seen;
}

bool xen_fw_handoff_snapshot_add(XenFwHandoffSnapshot *seen, const char *key,
                                 const char *value)
{
    if (g_hash_table_size(seen->keys) >= XEN_FW_HANDOFF_MAX_KEYS ||
        strlen(key) > XEN_FW_HANDOFF_MAX_VALUE ||
        strlen(value) > XEN_FW_HANDOFF_MAX_VALUE) {
        seen->too_much = true;
        return false;
    }
    g_hash_table_replace(seen->keys, g_strdup(key), g_strdup(value));
    return true;
}

void xen_fw_handoff_snapshot_free(XenFwHandoffSnapshot *seen)
{
    if (seen) {
        g_hash_table_unref(seen->keys);
        g_free(seen->backend);
        g_free(seen);
    }
}

/* Grant references and ports repeat, so every key has to be the same */
bool xen_fw_handoff_snapshot_equal(const XenFwHandoffSnapshot *a,
                                   const XenFwHandoffSnapshot *b)
{
    GHashTableIter iter;
    gpointer key, value;

    if (a->state != b->state || a->too_much || b->too_much ||
        g_hash_table_size(a->keys) != g_hash_table_size(b->keys)) {
        return false;
    }
    g_hash_table_iter_init(&iter, a->keys);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (g_strcmp0(g_hash_table_lookup(b->keys, key), value)) {
            return false;
        }
    }
    return true;
}

/* The keys of the directory itself: of "queue-0/tx-ring-ref" the "queue-0" */
static GHashTable *snapshot_top_keys(const XenFwHandoffSnapshot *seen)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                            NULL);
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, seen->keys);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_hash_table_add(set, g_strndup(key, strcspn(key, "/")));
    }
    return set;
}

bool xen_fw_handoff_is_connection(enum xenbus_state state)
{
    return state >= XenbusStateInitWait && state <= XenbusStateClosed;
}

static bool has_toolstack_keys(const Frontend *f,
                               const XenFwHandoffSnapshot *seen)
{
    GHashTableIter iter;
    gpointer key;

    if (!f || !f->toolstack_keys) {
        return true;            /* they are not known */
    }
    g_hash_table_iter_init(&iter, seen->keys);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_autofree char *top = g_strndup(key, strcspn(key, "/"));

        if (!g_hash_table_contains(f->toolstack_keys, top)) {
            return false;
        }
    }
    return !seen->too_much;
}

/*
 * Has the firmware left anything?  Its own word, the frontend's state, is not
 * enough: one that gives up half-way says Initialising to a backend that goes
 * on mapping its rings, or leaves keys that the next one's backend believes.
 */
static bool is_left_open(const Frontend *f, const XenFwHandoffSnapshot *seen)
{
    if (xen_fw_handoff_is_connection(seen->state)) {
        return true;
    }
    if (seen->state == XenbusStateInitialising) {
        return seen->backend_state > XenbusStateInitWait || seen->ring_in_use ||
               !has_toolstack_keys(f, seen);
    }
    /* No state that any frontend has, but there is a backend to it */
    return seen->backend_state != XenbusStateUnknown;
}

/* Every "ring-ref", "ring-ref0", "queue-1/tx-ring-ref" and the like */
static void note_rings(GHashTable *rings, const XenFwHandoffSnapshot *seen)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, seen->keys);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        unsigned int ref;

        if (g_strrstr(key, "ring-ref") &&
            g_hash_table_size(rings) < XEN_FW_HANDOFF_MAX_RINGS &&
            !qemu_strtoui(value, NULL, 10, &ref)) {
            g_hash_table_add(rings, GUINT_TO_POINTER(ref));
        }
    }
}

static void frontend_free(gpointer opaque)
{
    Frontend *f = opaque;

    g_clear_pointer(&f->toolstack_keys, g_hash_table_unref);
    xen_fw_handoff_snapshot_free(f->firmware);
    g_hash_table_unref(f->rings);
    g_free(f);
}

XenFwHandoffLedger *xen_fw_handoff_ledger_new(void)
{
    XenFwHandoffLedger *ledger = g_new0(XenFwHandoffLedger, 1);

    ledger->frontends = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              frontend_free);
    return ledger;
}

void xen_fw_handoff_ledger_free(XenFwHandoffLedger *ledger)
{
    if (ledger) {
        g_hash_table_unref(ledger->frontends);
        g_free(ledger);
    }
}

bool xen_fw_handoff_ledger_has(XenFwHandoffLedger *ledger, const char *frontend)
{
    Frontend *f = g_hash_table_lookup(ledger->frontends, frontend);

    return f && !f->gone;
}

unsigned int xen_fw_handoff_ledger_connections(XenFwHandoffLedger *ledger)
{
    return ledger->connections;
}

bool xen_fw_handoff_ledger_ever_connected(XenFwHandoffLedger *ledger)
{
    return ledger->ever_connected;
}

void xen_fw_handoff_ledger_foreach(XenFwHandoffLedger *ledger,
                                   XenFwHandoffLedgerFn *fn, void *opaque)
{
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, ledger->frontends);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        Frontend *f = value;
        const char *backend =
            f->firmware ? g_hash_table_lookup(f->firmware->keys, "backend")
                        : NULL;

        if (f->owner != XEN_FW_HANDOFF_NONE) {
            fn(name, backend ?: "", f->owner, opaque);
        }
    }
}

static void set_owner(XenFwHandoffLedger *ledger, Frontend *f,
                      XenFwHandoffLedgerOwner owner)
{
    ledger->connections -= f->owner == XEN_FW_HANDOFF_FIRMWARE;
    ledger->connections += owner == XEN_FW_HANDOFF_FIRMWARE;
    ledger->ever_connected |= owner == XEN_FW_HANDOFF_FIRMWARE;
    f->owner = owner;
}

XenFwHandoffLedgerOwner xen_fw_handoff_ledger_update(XenFwHandoffLedger *ledger,
                                                     const char *frontend,
                                                     XenFwHandoffSnapshot *seen,
                                                     XenFwHandoffOs os)
{
    g_autoptr(XenFwHandoffSnapshot) owned = seen;
    Frontend *f = g_hash_table_lookup(ledger->frontends, frontend);

    if (!f || f->gone) {
        /* No state yet: whoever makes it, toolstack or guest, is not done */
        if (seen->state == XenbusStateUnknown) {
            return XEN_FW_HANDOFF_NONE;
        }
        if (!f) {
            if (g_hash_table_size(ledger->frontends) >=
                XEN_FW_HANDOFF_MAX_FRONTENDS) {
                return XEN_FW_HANDOFF_NONE;
            }
            f = g_new0(Frontend, 1);
            f->rings = g_hash_table_new(NULL, NULL);
            g_hash_table_insert(ledger->frontends, g_strdup(frontend), f);
        }
        f->gone = false;
        if (seen->state == XenbusStateInitialising && !seen->too_much) {
            f->toolstack_keys = snapshot_top_keys(seen);
        }
    }

    if (os == XEN_FW_HANDOFF_OS_ABSENT) {
        note_rings(f->rings, seen);
        set_owner(ledger, f,
                  is_left_open(f, seen) ? XEN_FW_HANDOFF_FIRMWARE
                                        : XEN_FW_HANDOFF_NONE);
    } else if (!xen_fw_handoff_is_connection(seen->state)) {
        set_owner(ledger, f, XEN_FW_HANDOFF_NONE);
    } else if (os == XEN_FW_HANDOFF_OS_UNKNOWN) {
        set_owner(ledger, f, XEN_FW_HANDOFF_UNKNOWN);
    } else if (f->owner == XEN_FW_HANDOFF_FIRMWARE ||
               f->owner == XEN_FW_HANDOFF_OS_CHANGED) {
        /*
         * Perhaps the event is late and was still the firmware's doing.  That
         * cannot be told from an OS that has just touched this frontend.
         */
        set_owner(ledger, f, XEN_FW_HANDOFF_OS_CHANGED);
    } else {
        set_owner(ledger, f, XEN_FW_HANDOFF_OS);
    }

    g_clear_pointer(&f->firmware, xen_fw_handoff_snapshot_free);
    if (f->owner == XEN_FW_HANDOFF_FIRMWARE) {
        f->firmware = g_steal_pointer(&owned);
    }
    return f->owner;
}

void xen_fw_handoff_ledger_remove(XenFwHandoffLedger *ledger, const char *path)
{
    size_t len = strlen(path);
    GHashTableIter iter;
    gpointer name, value;

    g_hash_table_iter_init(&iter, ledger->frontends);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        const char *rest = (const char *)name + len;
        Frontend *f = value;

        if (!len || (!strncmp(name, path, len) && (!*rest || *rest == '/'))) {
            set_owner(ledger, f, XEN_FW_HANDOFF_NONE);
            g_clear_pointer(&f->toolstack_keys, g_hash_table_unref);
            g_clear_pointer(&f->firmware, xen_fw_handoff_snapshot_free);
            g_hash_table_remove_all(f->rings);
            f->gone = true;
        }
    }
}

XenFwHandoffLedgerOwner xen_fw_handoff_ledger_owner(
    XenFwHandoffLedger *ledger, const char *frontend,
    const XenFwHandoffSnapshot *seen, XenFwHandoffOs os)
{
    Frontend *f = g_hash_table_lookup(ledger->frontends, frontend);

    if (os == XEN_FW_HANDOFF_OS_ABSENT) {
        return is_left_open(f, seen) ? XEN_FW_HANDOFF_FIRMWARE
                                     : XEN_FW_HANDOFF_NONE;
    }
    if (!xen_fw_handoff_is_connection(seen->state)) {
        return XEN_FW_HANDOFF_NONE;
    }
    if (os == XEN_FW_HANDOFF_OS_UNKNOWN) {
        return XEN_FW_HANDOFF_UNKNOWN;
    }
    if (!f) {
        return XEN_FW_HANDOFF_OS;
    }
    if (f->owner == XEN_FW_HANDOFF_FIRMWARE &&
        !xen_fw_handoff_snapshot_equal(f->firmware, seen)) {
        return XEN_FW_HANDOFF_OS_CHANGED;
    }
    /* NONE: it was at rest when last seen, its event is still on the way */
    return f->owner == XEN_FW_HANDOFF_NONE ? XEN_FW_HANDOFF_OS : f->owner;
}

GHashTable *xen_fw_handoff_ledger_rings(XenFwHandoffLedger *ledger,
                                        const char *frontend,
                                        const XenFwHandoffSnapshot *seen)
{
    Frontend *f = g_hash_table_lookup(ledger->frontends, frontend);
    GHashTable *rings = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer ref;

    if (f) {
        g_hash_table_iter_init(&iter, f->rings);
        while (g_hash_table_iter_next(&iter, &ref, NULL)) {
            g_hash_table_add(rings, ref);
        }
    }
    note_rings(rings, seen);
    return rings;
}

GHashTable *xen_fw_handoff_ledger_toolstack_keys(XenFwHandoffLedger *ledger,
                                                 const char *frontend)
{
    Frontend *f = g_hash_table_lookup(ledger->frontends, frontend);

    return f ? f->toolstack_keys : NULL;
}

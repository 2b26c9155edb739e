/*
 * Xen firmware handoff: the guest's frontends as xenstore has them
 *
 * Everything below device/ is the guest's to write, so whatever is read here is
 * bounded and nothing of it is believed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/log.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen_fw_handoff.h"
#include "xen_fw_handoff_xenstore.h"
#include "trace.h"

int xen_fw_handoff_read_state(struct qemu_xs_handle *xsh, xs_transaction_t tid,
                              const char *dir, enum xenbus_state *state)
{
    g_autofree char *path = g_strdup_printf("%s/state", dir);
    char *value = qemu_xen_xs_read(xsh, tid, path, NULL);
    int rc = value ? 0 : -errno;

    trace_xs_node_read(path, value);
    *state = XenbusStateUnknown;
    /* strictly one digit: no overflow, no sign, nothing behind it */
    if (value && value[0] >= '1' && value[0] <= '8' && !value[1]) {
        *state = value[0] - '0';
    } else if (value) {
        rc = -EINVAL;
    }
    free(value);
    return rc;
}

const char *xen_fw_handoff_state_name(enum xenbus_state state)
{
    const char *name = xs_strstate(state);

    return g_str_has_prefix(name, "XenbusState") ? name + strlen("XenbusState")
                                                 : name;
}

typedef enum Values {
    VALUES_NONE,
    VALUES_OF_RINGS,            /* and what has some below */
    VALUES_ALL,
} Values;

/* Each value costs a question to xenstored */
static bool is_wanted(Values values, const char *key)
{
    return values == VALUES_ALL ||
           (values == VALUES_OF_RINGS && (strstr(key, "ring-ref") ||
                                          g_str_has_prefix(key, "queue-")));
}

static void add_keys(const XenFwHandoffXs *store, XenFwHandoffSnapshot *seen,
                     const char *name, const char *below, Values values)
{
    g_autofree char *dir = g_strdup_printf("%s/%s%s%s", store->root, name,
                                           *below ? "/" : "", below);
    unsigned int n = 0;
    char **keys = qemu_xen_xs_directory(store->xsh, store->tid, dir, &n);

    for (unsigned int i = 0; i < n && !seen->too_much; i++) {
        g_autofree char *key = *below ? g_strdup_printf("%s/%s", below, keys[i])
                                      : g_strdup(keys[i]);
        char *value;

        if (!strcmp(key, "state")) {
            continue;
        }
        if (!is_wanted(values, strrchr(key, '/') ?: key)) {
            xen_fw_handoff_snapshot_add(seen, key, "");
            continue;
        }
        if (store->until && get_clock() > store->until &&
            g_hash_table_size(seen->keys) >= XEN_FW_HANDOFF_USUAL_KEYS) {
            seen->too_much = true;
            break;
        }
        value = xs_node_read(store->xsh, store->tid, NULL, NULL, "%s/%s/%s",
                             store->root, name, key);
        if (value && xen_fw_handoff_snapshot_add(seen, key, value) && !*value &&
            !*below) {
            /* "queue-0" is a directory */
            add_keys(store, seen, name, key, values);
        }
        free(value);
    }
    free(keys); /* one block, the strings included */
}

bool xen_fw_handoff_is_frontend(const char *class, const char *id)
{
    return strcmp(class, "pci") && strcmp(class, "suspend") &&
           strlen(class) + 1 + strlen(id) <= XEN_FW_HANDOFF_MAX_NAME;
}

bool xen_fw_handoff_for_each_frontend(const XenFwHandoffXs *store,
                                      XenFwHandoffFrontendFn *fn, void *opaque,
                                      Error **errp)
{
    unsigned int n_class = 0, left = XEN_FW_HANDOFF_MAX_FRONTENDS;
    char **class = qemu_xen_xs_directory(store->xsh, store->tid, store->root,
                                         &n_class);

    if (!class && errno != ENOENT) {
        error_setg_errno(errp, errno, "cannot list '%s'", store->root);
        return false;
    }
    for (unsigned int i = 0; i < n_class && left; i++) {
        g_autofree char *dir = g_strdup_printf("%s/%s", store->root, class[i]);
        unsigned int n = 0;
        char **id;

        id = qemu_xen_xs_directory(store->xsh, store->tid, dir, &n);
        for (unsigned int j = 0; j < n && left; j++, left--) {
            if (xen_fw_handoff_is_frontend(class[i], id[j])) {
                g_autofree char *name = g_strdup_printf("%s/%s", class[i],
                                                        id[j]);

                fn(name, opaque);
            }
        }
        free(id);
    }
    free(class);
    if (!left) {
        qemu_log_mask(LOG_GUEST_ERROR,
                      "%s has %d frontends or more, no more are looked at\n",
                      store->root, XEN_FW_HANDOFF_MAX_FRONTENDS);
    }
    return true;
}

bool xen_fw_handoff_backend_domid(const char *backend, uint16_t *domid)
{
    unsigned int value;
    const char *rest;

    if (!strstart(backend, "/local/domain/", &rest) ||
        !g_ascii_isdigit(*rest) || qemu_strtoui(rest, &rest, 10, &value) ||
        !g_str_has_prefix(rest, "/backend/") || value >= DOMID_FIRST_RESERVED) {
        return false;
    }
    *domid = value;
    return true;
}

/*
 * Where is the backend of a frontend?  The guest may write what it likes to its
 * own directory, but neither to libxl's nor to that of the backend: libxl's
 * record decides, and where there is none the guest's word if it is the path of
 * a backend for this guest whose key "frontend" points back.
 */
static char *trusted_backend(const XenFwHandoffXs *store, const char *name)
{
    g_autofree char *frontend = g_strdup_printf("%s/%s", store->root, name);
    g_autofree char *domid = g_strdup_printf("%u", xen_domid);
    g_autofree char *backend = NULL;
    g_auto(GStrv) part = NULL;
    uint16_t backend_domid;
    bool trusted;
    char *value;

    value = xs_node_read(store->xsh, store->tid, NULL, NULL,
                         "/libxl/%u/device/%s/backend", xen_domid, name);
    if (value) {
        backend = g_strdup(value);
        free(value);
        return g_steal_pointer(&backend);
    }
    value = xs_node_read(store->xsh, store->tid, NULL, NULL, "%s/backend",
                         frontend);
    if (!value) {
        return NULL;
    }
    backend = g_strdup(value);
    free(value);
    /* "/local/domain/<d>/backend/<type>/<domid>/<id>" that points back to us */
    part = g_strsplit(backend, "/", 9);
    if (g_strv_length(part) != 8 || strcmp(part[6], domid) ||
        !xen_fw_handoff_backend_domid(backend, &backend_domid)) {
        return NULL;
    }
    value = xs_node_read(store->xsh, store->tid, NULL, NULL, "%s/frontend",
                         backend);
    trusted = !g_strcmp0(value, frontend);
    free(value);
    return trusted ? g_steal_pointer(&backend) : NULL;
}

XenFwHandoffSnapshot *xen_fw_handoff_read_frontend(const XenFwHandoffXs *store,
                                                   const char *name,
                                                   XenFwHandoffLedger *ledger,
                                                   XenFwHandoffRead what)
{
    g_autofree char *dir = g_strdup_printf("%s/%s", store->root, name);
    XenFwHandoffSnapshot *seen =
        xen_fw_handoff_snapshot_new(XenbusStateUnknown);
    Values values = VALUES_ALL;
    bool connected;

    xen_fw_handoff_read_state(store->xsh, store->tid, dir, &seen->state);
    if (what == XEN_FW_HANDOFF_READ_FIRMWARE) {
        values = VALUES_OF_RINGS;
    } else if (what == XEN_FW_HANDOFF_READ_WATCH &&
               seen->state == XenbusStateInitialising &&
               !xen_fw_handoff_ledger_has(ledger, name)) {
        values = VALUES_NONE;
    }
    add_keys(store, seen, name, "", values);
    connected = xen_fw_handoff_is_connection(seen->state);
    if (!connected || what != XEN_FW_HANDOFF_READ_WATCH) {
        seen->backend = trusted_backend(store, name);
    }
    if (!connected && seen->backend) {
        xen_fw_handoff_read_state(store->xsh, store->tid, seen->backend,
                                  &seen->backend_state);
    }
    return seen;
}

/*
 * Operations on the guest of a real Xen
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen-hvm-common.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "hw/xen/xen_backend_ops.h"

/*
 * With -xen-domid-restrict QEMU can make no hypercall of these.  What stands in
 * xenstored's place in its chroot, xenstore-filter, makes them for us.  This is
 * a connection to it, which is kept since it grants few.
 */
static struct qemu_xs_handle *native_filter;

/* Returns 0 or a negative errno, and in @value what Xen has answered */
static int native_ask(const char *what, char **value)
{
    native_filter = native_filter ?: qemu_xen_xs_open();
    *value = native_filter
        ? qemu_xen_xs_read(native_filter, XBT_NULL, what, NULL) : NULL;
    return *value ? 0 : -errno;
}

static int native_hvm_param_get(uint32_t index, uint64_t *value)
{
    if (xen_domid_restrict) {
        char *text;
        int rc = native_ask(index == HVM_PARAM_CALLBACK_IRQ ? "@callback-irq"
                                                            : "@store-pfn",
                            &text);

        if (!rc) {
            rc = qemu_strtou64(text, NULL, 10, value);
        }
        free(text);
        return rc;
    }
    return xc_hvm_param_get(xen_xc, xen_domid, index, value) < 0 ? -errno : 0;
}

#if CONFIG_XEN_CTRL_INTERFACE_VERSION >= 41100

/* Of the mapping, while there is one: the table is mapped once at a time */
static xenforeignmemory_resource_handle *native_grant_table;

static int native_grant_table_size(unsigned int *version, unsigned int *frames)
{
    struct gnttab_query_size query = {
        .dom = xen_domid,
        .status = GNTST_general_error,
    };
    int rc;

    if (xen_domid_restrict) {
        char *text;

        rc = native_ask("@grant-table", &text);
        if (!rc && sscanf(text, "%u %u", version, frames) != 2) {
            rc = -EINVAL;
        }
        free(text);
        return rc;
    }
    rc = xc_gnttab_get_version(xen_xc, xen_domid);
    if (rc < 0 || xc_gnttab_query_size(xen_xc, &query) < 0) {
        return -errno;
    }
    if (query.status != GNTST_okay) {
        return -EPERM; /* the domain is there, it has a version */
    }
    *version = rc;
    *frames = query.nr_frames;
    return 0;
}

static void *native_grant_table_map(unsigned int frames)
{
    unsigned int version, have;
    void *table = NULL;
    int rc;

    if (native_grant_table) {
        errno = EBUSY;
        return NULL;
    }
    rc = native_grant_table_size(&version, &have);
    if (rc < 0) {
        errno = -rc;
        return NULL;
    }
    /* Xen would neither refuse nor forget: it adds what is missing */
    if (!frames || frames > have) {
        errno = EINVAL;
        return NULL;
    }
    native_grant_table =
        xenforeignmemory_map_resource(xen_fmem, xen_domid,
                                      XENMEM_resource_grant_table,
                                      XENMEM_resource_grant_table_id_shared,
                                      0, frames, &table,
                                      PROT_READ | PROT_WRITE, 0);
    return native_grant_table ? table : NULL;
}

static void native_grant_table_unmap(void *table, unsigned int frames)
{
    assert(native_grant_table);
    xenforeignmemory_unmap_resource(xen_fmem, native_grant_table);
    native_grant_table = NULL;
}

#else /* CONFIG_XEN_CTRL_INTERFACE_VERSION < 41100 */

static int native_grant_table_size(unsigned int *version, unsigned int *frames)
{
    return -ENOSYS;
}

static void *native_grant_table_map(unsigned int frames)
{
    errno = ENOSYS;
    return NULL;
}

static void native_grant_table_unmap(void *table, unsigned int frames)
{
    g_assert_not_reached();
}

#endif /* CONFIG_XEN_CTRL_INTERFACE_VERSION < 41100 */

/* --- the guest's connection to xenstore ----------------------------------- */

/*
 * All that is done here is what the guest could do itself, on the page that it
 * shares with xenstored.  Introducing the domain again would drop its watches,
 * too, but C xenstored then goes on with a request that it has half read and
 * freed, and oxenstored needs an event channel that the guest can close.
 */

/*
 * How often xenstored gets a turn before we take it to be done, or not to read
 * the ring
 */
#define IDLE_TURNS 2
#define UNREAD_TURNS 8

/* Bytes; xenstored's quotas do not let it queue more for a guest */
#define MAX_HEARD (4 * MiB)

typedef struct Ring {
    struct xenstore_domain_interface *page;
    struct qemu_xs_handle *xsh; /* of ours, to give xenstored a turn */
    GByteArray *heard;          /* since something was sent */
    int64_t until;              /* on get_clock() */
} Ring;

static struct xenstore_domain_interface *native_reconnecting;

/*
 * Take what xenstored has sent, until it has no more.  C xenstored looks at all
 * rings whenever it does anything, and has done so soon after it answers us.
 *
 * Returns 0 or a negative errno, EBUSY if it does not read the ring.
 */
static int ring_listen(Ring *ring)
{
    struct xenstore_domain_interface *page = ring->page;
    bool unread = true;

    for (int idle = 0; idle < IDLE_TURNS || (unread && idle < UNREAD_TURNS);
         idle++) {
        XENSTORE_RING_IDX cons, prod;

        if (get_clock() > ring->until) {
            return -ETIMEDOUT;  /* somebody else uses it, too */
        }
        free(qemu_xen_xs_get_domain_path(ring->xsh, xen_domid));
        cons = qatomic_read(&page->rsp_cons);
        prod = qatomic_load_acquire(&page->rsp_prod);
        if (prod - cons > XENSTORE_RING_SIZE) {
            return -EIO;
        }
        if (cons != prod) {
            idle = -1;
        }
        for (; cons != prod; cons++) {
            uint8_t c = page->rsp[MASK_XENSTORE_IDX(cons)];

            g_byte_array_append(ring->heard, &c, 1);
        }
        qatomic_store_release(&page->rsp_cons, cons);
        if (ring->heard->len > MAX_HEARD) {
            return -EMSGSIZE;
        }
        unread = qatomic_read(&page->req_cons) != qatomic_read(&page->req_prod);
    }
    return unread ? -EBUSY : 0;
}

/*
 * Send @len bytes.  Returns how many answers have come, the type of the last
 * one in @type, or a negative errno.  Events of watches are no answers.
 */
static int ring_send(Ring *ring, const void *data, size_t len, uint32_t *type)
{
    struct xenstore_domain_interface *page = ring->page;
    XENSTORE_RING_IDX prod = qatomic_read(&page->req_prod);
    struct xsd_sockmsg msg;
    int answers = 0, rc;

    for (size_t i = 0; i < len; i++) {
        page->req[MASK_XENSTORE_IDX(prod + i)] = ((const char *)data)[i];
    }
    g_byte_array_set_size(ring->heard, 0);
    qatomic_store_release(&page->req_prod, prod + len);
    rc = ring_listen(ring);
    if (rc < 0) {
        /* if it was not read, it was not sent */
        if (qatomic_read(&page->req_cons) == prod) {
            qatomic_store_release(&page->req_prod, prod);
        }
        return rc;
    }
    for (size_t at = 0; at + sizeof(msg) <= ring->heard->len;
         at += sizeof(msg) + msg.len) {
        memcpy(&msg, ring->heard->data + at, sizeof(msg));
        if (msg.len > XENSTORE_PAYLOAD_MAX) {
            return -EIO;
        }
        if (msg.type != XS_WATCH_EVENT) {
            *type = msg.type;
            answers++;
        }
    }
    return answers;
}

/*
 * Ask for XS_RESET_WATCHES, which ends transactions as well (Xen 4.2).
 *
 * The firmware may have left a request that it had not sent to its end.  Zeros
 * complete any, and a header of zeros is a message itself: its answer shows
 * where a message ends.
 */
static int ring_reset(Ring *ring)
{
    static const char zeros[sizeof(struct xsd_sockmsg)];
    static const struct {
        struct xsd_sockmsg header;
        char body;
    } ask = { { .type = XS_RESET_WATCHES, .len = sizeof(ask.body) } };
    uint32_t type = 0;
    bool at_start = false;
    int n = ring_listen(ring);

    if (!n) {
        n = ring_send(ring, zeros, sizeof(zeros) - 1, &type);
    }
    if (!n) {
        n = ring_send(ring, zeros, 1, &type);
        at_start = n > 0;
    }
    while (!n) {
        n = ring_send(ring, zeros, sizeof(zeros), &type);
    }
    if (n > 0 && !at_start) {
        do {
            n = ring_send(ring, zeros, 1, &type);
        } while (!n);
    }
    if (n > 0) {
        n = ring_send(ring, &ask, sizeof(ask.header) + sizeof(ask.body),
                      &type);
    }
    if (n < 0) {
        return n;
    }
    return type == XS_RESET_WATCHES ? 0 : -EPROTO;
}

static int native_xenstore_reset(int64_t until)
{
    Ring ring = { .until = until };
    uint64_t value;
    xen_pfn_t pfn;
    int rc;

    rc = native_hvm_param_get(HVM_PARAM_STORE_PFN, &value);
    if (rc < 0) {
        return rc;
    }
    pfn = value;
    ring.page = xenforeignmemory_map(xen_fmem, xen_domid,
                                     PROT_READ | PROT_WRITE, 1, &pfn, NULL);
    if (!ring.page) {
        return -errno;
    }
    ring.heard = g_byte_array_new();
    ring.xsh = native_filter ?: qemu_xen_xs_open();
    rc = ring.xsh ? ring_reset(&ring) : -errno;
    if (rc == -EBUSY && ring.page->server_features &
        XENSTORE_SERVER_FEATURE_RECONNECTION) {
        /*
         * oxenstored reads a ring after an event only, but before it writes to
         * one it sees this, and forgets the connection as it was: our first
         * write that a watch waits for ends them all.
         */
        qatomic_set(&ring.page->connection, XENSTORE_RECONNECT);
        native_reconnecting = ring.page;
        rc = 0;
    } else {
        xenforeignmemory_unmap(xen_fmem, ring.page, 1);
    }
    g_byte_array_unref(ring.heard);
    if (ring.xsh && ring.xsh != native_filter) {
        qemu_xen_xs_close(ring.xsh);
    }
    return rc;
}

/* An OS's first request would be lost if it found the connection like that */
static void native_xenstore_reset_end(void)
{
    if (native_reconnecting) {
        qatomic_cmpxchg(&native_reconnecting->connection, XENSTORE_RECONNECT,
                        XENSTORE_CONNECTED);
        xenforeignmemory_unmap(xen_fmem, native_reconnecting, 1);
        native_reconnecting = NULL;
    }
}

static const struct guest_backend_ops native_guest_ops = {
    .hvm_param_get = native_hvm_param_get,
    .vcpu_hold = xen_hold_vcpu,
    .vcpu_release = xen_release_vcpus,
    .grant_table_size = native_grant_table_size,
    .grant_table_map = native_grant_table_map,
    .grant_table_unmap = native_grant_table_unmap,
    .xenstore_reset = native_xenstore_reset,
    .xenstore_reset_end = native_xenstore_reset_end,
};

/* Runs when the Xen bus comes up, which may be one that QEMU emulates */
static void native_init(void)
{
    if (xen_mode == XEN_ATTACH) {
        xen_guest_ops = &native_guest_ops;
    }
}

xen_backend_init(native_init)

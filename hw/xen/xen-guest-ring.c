/*
 * The guest's connection to a real xenstored, from QEMU's side
 *
 * All that is done here is what the guest could do itself, on the page that it
 * shares with xenstored.  Introducing the domain again would drop its watches,
 * too, but C xenstored then goes on with a request that it has half read and
 * freed, and oxenstored needs an event channel that the guest can close.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "hw/xen/xen-guest-ring.h"

/*
 * How often xenstored gets a turn before we take it to be done, or not to read
 * the ring
 */
#define IDLE_TURNS 2
#define UNREAD_TURNS 8

/* Bytes; xenstored's quotas do not let it queue more for a guest */
#define MAX_HEARD (4 * MiB)

/* What is said to xenstored, and what it says */
typedef struct Talk {
    const XenGuestRing *ring;
    GByteArray *heard;          /* since something was sent */
    int64_t until;              /* on get_clock() */
} Talk;

/*
 * Take what xenstored has sent, until it has no more.  C xenstored looks at all
 * rings whenever it does anything, and has done so soon after it answers us.
 *
 * Returns 0 or a negative errno, EBUSY if it does not read the ring.
 */
static int listen_to(Talk *talk)
{
    struct xenstore_domain_interface *page = talk->ring->page;
    bool unread = true;

    for (int idle = 0; idle < IDLE_TURNS || (unread && idle < UNREAD_TURNS);
         idle++) {
        XENSTORE_RING_IDX cons, prod;

        if (get_clock() > talk->until) {
            return -ETIMEDOUT;  /* somebody else uses it, too */
        }
        talk->ring->turn(talk->ring->opaque);
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

            g_byte_array_append(talk->heard, &c, 1);
        }
        qatomic_store_release(&page->rsp_cons, cons);
        if (talk->heard->len > MAX_HEARD) {
            return -EMSGSIZE;
        }
        unread = qatomic_read(&page->req_cons) != qatomic_read(&page->req_prod);
    }
    return unread ? -EBUSY : 0;
}

static void put(Talk *talk, const void *data, size_t len)
{
    struct xenstore_domain_interface *page = talk->ring->page;
    XENSTORE_RING_IDX prod = qatomic_read(&page->req_prod);

    for (size_t i = 0; i < len; i++) {
        page->req[MASK_XENSTORE_IDX(prod + i)] = ((const char *)data)[i];
    }
    qatomic_store_release(&page->req_prod, prod + len);
}

/*
 * Send @len bytes.  Returns how many answers have come, the type of the last
 * one in @type, or a negative errno.  Events of watches are no answers.
 */
static int ask(Talk *talk, const void *data, size_t len, uint32_t *type)
{
    struct xenstore_domain_interface *page = talk->ring->page;
    XENSTORE_RING_IDX prod = qatomic_read(&page->req_prod);
    struct xsd_sockmsg msg;
    int answers = 0, rc;

    g_byte_array_set_size(talk->heard, 0);
    put(talk, data, len);
    rc = listen_to(talk);
    if (rc < 0) {
        /* if it was not read, it was not sent */
        if (qatomic_read(&page->req_cons) == prod) {
            qatomic_store_release(&page->req_prod, prod);
        }
        return rc;
    }
    for (size_t at = 0; at + sizeof(msg) <= talk->heard->len;
         at += sizeof(msg) + msg.len) {
        memcpy(&msg, talk->heard->data + at, sizeof(msg));
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
 * The firmware may have left a request that it had not sent to its end.  Zeros
 * complete any, and a header of zeros is a message itself: its answer shows
 * where a message ends.  Returns a negative errno, or something else.
 */
static int find_end(Talk *talk)
{
    static const char zeros[sizeof(struct xsd_sockmsg)];
    XENSTORE_RING_IDX start = qatomic_read(&talk->ring->page->req_prod);
    uint32_t type;
    bool at_start = false;
    int n = listen_to(talk);

    if (!n) {
        n = ask(talk, zeros, sizeof(zeros) - 1, &type);
    }
    if (!n) {
        n = ask(talk, zeros, 1, &type);
        at_start = n > 0;
    }
    while (!n) {
        n = ask(talk, zeros, sizeof(zeros), &type);
    }
    if (n > 0 && !at_start) {
        do {
            n = ask(talk, zeros, 1, &type);
        } while (!n);
    }
    if (n < 0) {
        /* of a header that was begun the rest, or the OS's request would be */
        put(talk, zeros, (start - qatomic_read(&talk->ring->page->req_prod)) %
                         sizeof(zeros));
    }
    return n;
}

/* Ask for XS_RESET_WATCHES, which ends transactions as well (Xen 4.2) */
static int reset_watches(Talk *talk)
{
    static const struct {
        struct xsd_sockmsg header;
        char body;
    } request = {
        { .type = XS_RESET_WATCHES, .len = sizeof(request.body) }
    };
    uint32_t type = 0;
    int n = find_end(talk);

    if (n >= 0) {
        n = ask(talk, &request, sizeof(request.header) + sizeof(request.body),
                &type);
    }
    if (n < 0) {
        return n;
    }
    return type == XS_RESET_WATCHES ? 0 : -EPROTO;
}

int xen_guest_ring_reset(const XenGuestRing *ring, int64_t until)
{
    struct xenstore_domain_interface *page = ring->page;
    g_autoptr(GByteArray) heard = g_byte_array_new();
    Talk talk = { .ring = ring, .heard = heard, .until = until };

    /*
     * Only oxenstored has that.  It reads a ring after an event, or when it
     * looks at all of them, which it does every 20 s or less often: it might
     * take a part of what we send, and no more.  But before it reads from or
     * writes to a ring it sees this, and forgets the connection as it was: our
     * first write that a watch waits for ends them all.  If none does, what has
     * been sent is taken at least.
     */
    if (qatomic_read(&page->server_features) &
        XENSTORE_SERVER_FEATURE_RECONNECTION) {
        listen_to(&talk);
        qatomic_set(&page->connection, XENSTORE_RECONNECT);
        return 0;
    }
    return reset_watches(&talk);
}

void xen_guest_ring_reset_end(const XenGuestRing *ring)
{
    /*
     * An OS's first request would be lost if it found the connection like
     * that, and also if oxenstored has just begun to forget the old one.
     */
    if (qatomic_cmpxchg(&ring->page->connection, XENSTORE_RECONNECT,
                        XENSTORE_CONNECTED) == XENSTORE_RECONNECT) {
        ring->turn(ring->opaque);
    }
}

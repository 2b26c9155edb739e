/*
 * The guest's connection to a real xenstored, from QEMU's side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_GUEST_RING_H
#define HW_XEN_GUEST_RING_H

#include "hw/xen/interface/io/xs_wire.h"

/**
 * XenGuestRing: the page that a guest shares with xenstored
 *
 * @page: that page; the guest and xenstored go on writing to it
 * @turn: give xenstored a turn: returns when it has answered to a request of
 *        ours that came after all that it was doing
 */
typedef struct XenGuestRing {
    struct xenstore_domain_interface *page;
    void (*turn)(void *opaque);
    void *opaque;
} XenGuestRing;

/**
 * xen_guest_ring_reset: have xenstored forget the guest's watches, transactions
 * and what it has not read
 *
 * It must be the last user of the connection for now: no OS, and the firmware's
 * vCPU stands still.  Ended by xen_guest_ring_reset_end().
 *
 * @until: on get_clock()
 *
 * Returns 0 or a negative errno: ETIMEDOUT, EBUSY if xenstored does not read
 * the ring, EIO if what is there makes no sense, EMSGSIZE if it is too much,
 * EPROTO if xenstored does not know XS_RESET_WATCHES.  The connection can be
 * used after that all the same.
 */
int xen_guest_ring_reset(const XenGuestRing *ring, int64_t until);

/**
 * xen_guest_ring_reset_end: end what xen_guest_ring_reset() has begun
 *
 * The guest may use the connection from now on.
 */
void xen_guest_ring_reset_end(const XenGuestRing *ring);

#endif

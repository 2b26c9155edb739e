/*
 * Xen firmware handoff: whose connection is it?
 *
 * Pure bookkeeping: nothing here touches xenstore, Xen or QEMU's devices.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_LEDGER_H
#define HW_XEN_FW_HANDOFF_LEDGER_H

#include "hw/xen/interface/io/xenbus.h"

/*
 * What one ledger holds at most.  Xen's own default quota lets a guest own
 * 1000 nodes in xenstore, so an honest guest never meets these.
 */
#define XEN_FW_HANDOFF_MAX_FRONTENDS 1024
#define XEN_FW_HANDOFF_MAX_NAME      64
#define XEN_FW_HANDOFF_MAX_KEYS      128
#define XEN_FW_HANDOFF_MAX_VALUE     256
#define XEN_FW_HANDOFF_MAX_RINGS     1024

/**
 * XenFwHandoffOs: has an operating system taken the guest over?
 *
 * Told by HVM_PARAM_CALLBACK_IRQ: firmware polls and leaves it 0, every OS
 * with PV drivers sets it before it attaches its first frontend (libxl relies
 * on the same in libxl__domain_pvcontrol_available()).
 *
 * @XEN_FW_HANDOFF_OS_ABSENT: the parameter is 0, only firmware has run
 * @XEN_FW_HANDOFF_OS_PRESENT: the parameter is set
 * @XEN_FW_HANDOFF_OS_UNKNOWN: the parameter cannot be read
 */
typedef enum XenFwHandoffOs {
    XEN_FW_HANDOFF_OS_ABSENT,
    XEN_FW_HANDOFF_OS_PRESENT,
    XEN_FW_HANDOFF_OS_UNKNOWN,
} XenFwHandoffOs;

/**
 * XenFwHandoffLedgerOwner: whose is the connection of a frontend, and how is it
 * known?
 *
 * @XEN_FW_HANDOFF_NONE: there is no connection
 * @XEN_FW_HANDOFF_FIRMWARE: the firmware's, to be torn down
 * @XEN_FW_HANDOFF_OS: the OS made it
 * @XEN_FW_HANDOFF_OS_CHANGED: the firmware made it, but it changed under the OS
 * @XEN_FW_HANDOFF_UNKNOWN: it cannot be known, so it is skipped
 */
typedef enum XenFwHandoffLedgerOwner {
    XEN_FW_HANDOFF_NONE,
    XEN_FW_HANDOFF_FIRMWARE,
    XEN_FW_HANDOFF_OS,
    XEN_FW_HANDOFF_OS_CHANGED,
    XEN_FW_HANDOFF_UNKNOWN,
} XenFwHandoffLedgerOwner;

/**
 * XenFwHandoffSnapshot: what one look into a frontend's directory found
 *
 * @state: its xenbus state, XenbusStateUnknown if it has none
 * @keys: every other key below it with its value, sub-directories as
 *        "queue-0/tx-ring-ref"; char * to char *
 * @backend: its backend's path, NULL if none was looked up, or can be trusted
 * @backend_state: XenbusStateUnknown if it was not looked at
 * @ring_in_use: a backend has one of xen_fw_handoff_ledger_rings() mapped
 * @too_much: the directory exceeds XEN_FW_HANDOFF_MAX_KEYS or _VALUE, so @keys
 * is not all of it
 */
typedef struct XenFwHandoffSnapshot {
    enum xenbus_state state;
    GHashTable *keys;
    char *backend;
    enum xenbus_state backend_state;
    bool ring_in_use;
    bool too_much;
} XenFwHandoffSnapshot;

/**
 * xen_fw_handoff_is_connection: does a frontend in @state say it is connected?
 *
 * InitWait is no usual state of a frontend, Closing and Closed mean a firmware
 * that did not get to the end: in all of them the OS finds a device that is not
 * as the toolstack made it.
 */
bool xen_fw_handoff_is_connection(enum xenbus_state state);

/** xen_fw_handoff_snapshot_new: an empty sighting in @state */
XenFwHandoffSnapshot *xen_fw_handoff_snapshot_new(enum xenbus_state state);

/**
 * xen_fw_handoff_snapshot_add: add one key
 * @key: relative to the frontend's directory
 * @value: its value
 *
 * Returns false, and marks the sighting @too_much, beyond the limits above.
 */
bool xen_fw_handoff_snapshot_add(XenFwHandoffSnapshot *seen, const char *key,
                                 const char *value);

/**
 * xen_fw_handoff_snapshot_equal: is it the same connection?
 *
 * What is known of the backend does not matter.  Sightings that are @too_much
 * equal none.
 */
bool xen_fw_handoff_snapshot_equal(const XenFwHandoffSnapshot *a,
                                   const XenFwHandoffSnapshot *b);

void xen_fw_handoff_snapshot_free(XenFwHandoffSnapshot *seen);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XenFwHandoffSnapshot,
                              xen_fw_handoff_snapshot_free)

typedef struct XenFwHandoffLedger XenFwHandoffLedger;

XenFwHandoffLedger *xen_fw_handoff_ledger_new(void);
void xen_fw_handoff_ledger_free(XenFwHandoffLedger *ledger);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XenFwHandoffLedger, xen_fw_handoff_ledger_free)

/**
 * xen_fw_handoff_ledger_has: has @frontend been seen, and not gone since?
 */
bool xen_fw_handoff_ledger_has(XenFwHandoffLedger *ledger,
                               const char *frontend);

/**
 * xen_fw_handoff_ledger_connections: how many does the firmware own?
 */
unsigned int xen_fw_handoff_ledger_connections(XenFwHandoffLedger *ledger);

/**
 * xen_fw_handoff_ledger_ever_connected: has the firmware ever connected
 * anything?
 */
bool xen_fw_handoff_ledger_ever_connected(XenFwHandoffLedger *ledger);

typedef void XenFwHandoffLedgerFn(const char *frontend, const char *backend,
                                  XenFwHandoffLedgerOwner owner, void *opaque);

/**
 * xen_fw_handoff_ledger_foreach: call @fn for every frontend that is connected
 *
 * Its argument backend is what the firmware's frontend says itself, which is
 * not to be trusted, "" if nothing.
 */
void xen_fw_handoff_ledger_foreach(XenFwHandoffLedger *ledger,
                                   XenFwHandoffLedgerFn *fn, void *opaque);

/**
 * xen_fw_handoff_ledger_update: a frontend appeared or changed its state
 * @frontend: its name, "vbd/51712"
 * @seen: what was found there; the ledger takes it over
 * @os: HVM_PARAM_CALLBACK_IRQ as read after @seen
 *
 * The first sight of a frontend at rest shows what the toolstack wrote: the
 * guest has not run yet, or not yet heard of the device.
 *
 * Returns whose the connection is by now, XEN_FW_HANDOFF_NONE also when the
 * ledger is full.
 */
XenFwHandoffLedgerOwner xen_fw_handoff_ledger_update(XenFwHandoffLedger *ledger,
                                                     const char *frontend,
                                                     XenFwHandoffSnapshot *seen,
                                                     XenFwHandoffOs os);

/**
 * xen_fw_handoff_ledger_remove: a directory was removed
 * @path: a frontend, "vbd/51712", a class of them, "vbd", or "" for all
 *
 * Its name still counts, so that a guest cannot exceed the limits by removing
 * frontends and making new ones.  If it comes back, all else is as if it were
 * new.
 */
void xen_fw_handoff_ledger_remove(XenFwHandoffLedger *ledger, const char *path);

/**
 * xen_fw_handoff_ledger_rings: the pages that a backend of @frontend may have
 * @seen: what xenstore holds now
 *
 * All grant references that the firmware has ever named there: keys that it
 * wrote first and forgot can stand beside those that its backend believes, and
 * a backend may have rings of a firmware that took its keys away.
 *
 * Returns a set of GUINT_TO_POINTER(ref), to be unreferenced.
 */
GHashTable *xen_fw_handoff_ledger_rings(XenFwHandoffLedger *ledger,
                                        const char *frontend,
                                        const XenFwHandoffSnapshot *seen);

/**
 * xen_fw_handoff_ledger_owner: decide at the announcement
 * @frontend: its name
 * @seen: what xenstore holds now; a watch event may still be on its way, so
 *        what the ledger saw last is not enough
 * @os: HVM_PARAM_CALLBACK_IRQ now
 *
 * Without an OS a frontend is the firmware's unless it is at rest: frontend
 * Initialising, its backend in InitWait or gone, no ring in use, and no key
 * that the toolstack did not write.  With an OS only a connection that the
 * ledger saw before it, and that has not changed since: a frontend that says
 * Initialising is then the OS's to connect.
 */
XenFwHandoffLedgerOwner xen_fw_handoff_ledger_owner(
    XenFwHandoffLedger *ledger, const char *frontend,
    const XenFwHandoffSnapshot *seen, XenFwHandoffOs os);

/**
 * xen_fw_handoff_ledger_toolstack_keys: what was there before the firmware
 *
 * Returns a set of the keys in the frontend's directory itself, without
 * sub-directories; NULL if it was never seen at rest.
 */
GHashTable *xen_fw_handoff_ledger_toolstack_keys(XenFwHandoffLedger *ledger,
                                                 const char *frontend);

#endif

/*
 * Xen firmware handoff: the guest's frontends as xenstore has them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_XENSTORE_H
#define HW_XEN_FW_HANDOFF_XENSTORE_H

#include "hw/xen/xen-bus-helper.h"
#include "hw/xen/xen_fw_handoff_ledger.h"

/* An honest frontend has no more, unless it has many queues */
#define XEN_FW_HANDOFF_USUAL_KEYS 24

/**
 * XenFwHandoffXs: where to look
 *
 * @xsh: our own connection to xenstore, NULL while there is none
 * @tid: in which transaction, XBT_NULL for none
 * @root: the guest's device/ directory, which is the guest's to write
 * @until: when a look at more than XEN_FW_HANDOFF_USUAL_KEYS has to end, on
 *         get_clock(); 0: when it is done
 */
typedef struct XenFwHandoffXs {
    struct qemu_xs_handle *xsh;
    xs_transaction_t tid;
    char *root;
    int64_t until;
} XenFwHandoffXs;

/**
 * xen_fw_handoff_read_state: read the state of a frontend or backend
 * @xsh: where to read
 * @tid: in which transaction
 * @dir: its directory
 *
 * @state: XenbusStateUnknown if there is none, or none of the protocol's: a
 *         guest may write what it likes
 *
 * Returns 0 or a negative errno: as of the read, or EINVAL.
 */
int xen_fw_handoff_read_state(struct qemu_xs_handle *xsh, xs_transaction_t tid,
                              const char *dir, enum xenbus_state *state);

/**
 * xen_fw_handoff_state_name: a state as a person reads it, "InitWait"
 */
const char *xen_fw_handoff_state_name(enum xenbus_state state);

/**
 * XenFwHandoffRead: what a look is for
 *
 * @XEN_FW_HANDOFF_READ_WATCH: something has changed.  The first sight of a
 *      frontend at rest is of what the toolstack wrote, of which the ledger
 *      wants to know no more than the names.
 * @XEN_FW_HANDOFF_READ_FIRMWARE: the announcement, and no OS is there: only the
 *      values that name rings matter.
 * @XEN_FW_HANDOFF_READ_OS: the announcement, and every key is to be compared.
 */
typedef enum XenFwHandoffRead {
    XEN_FW_HANDOFF_READ_WATCH,
    XEN_FW_HANDOFF_READ_FIRMWARE,
    XEN_FW_HANDOFF_READ_OS,
} XenFwHandoffRead;

/**
 * xen_fw_handoff_read_frontend: see what a frontend looks like now
 * @name: its name, "vbd/51712"
 * @ledger: what is known of it
 * @what: which keys are there without their values
 *
 * Work and memory are bounded by XEN_FW_HANDOFF_MAX_KEYS and _VALUE.  What
 * could not be read until store->until was too much, as well.  The backend is
 * looked up at the announcement, and its state is looked at only if the
 * frontend's own does not say that it is connected.  Returns what was seen, for
 * xen_fw_handoff_snapshot_free().
 */
XenFwHandoffSnapshot *xen_fw_handoff_read_frontend(const XenFwHandoffXs *store,
                                                   const char *name,
                                                   XenFwHandoffLedger *ledger,
                                                   XenFwHandoffRead what);

/**
 * xen_fw_handoff_is_frontend: can this be a frontend of the firmware's?
 * @class: "vbd"
 * @id: "51712"
 *
 * device/pci and device/suspend are not: only the toolstack uses them.  A name
 * of more than XEN_FW_HANDOFF_MAX_NAME bytes is a guest's that wants to
 * fill the log.
 */
bool xen_fw_handoff_is_frontend(const char *class, const char *id);

typedef void XenFwHandoffFrontendFn(const char *name, void *opaque);

/**
 * xen_fw_handoff_for_each_frontend: call @fn for each frontend of the guest
 *
 * For XEN_FW_HANDOFF_MAX_FRONTENDS at most.
 *
 * Returns false with @errp if xenstore does not answer.
 */
bool xen_fw_handoff_for_each_frontend(const XenFwHandoffXs *store,
                                      XenFwHandoffFrontendFn *fn, void *opaque,
                                      Error **errp);

/**
 * xen_fw_handoff_backend_domid: the domain that a trusted backend is in
 * @backend: its path, "/local/domain/<d>/backend/..."
 *
 * Returns false if the path does not have that form.
 */
bool xen_fw_handoff_backend_domid(const char *backend, uint16_t *domid);

#endif

/*
 * Xen firmware handoff: leading backends back to InitWait
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_TEARDOWN_H
#define HW_XEN_FW_HANDOFF_TEARDOWN_H

#include "hw/xen/xen_backend_ops.h"
#include "xen_fw_handoff_grants.h"
#include "xen_fw_handoff_xenstore.h"

/**
 * XenFwHandoffTaskResult: how the teardown of one frontend ended
 *
 * @XEN_FW_HANDOFF_PENDING: not yet
 * @XEN_FW_HANDOFF_DONE: frontend Initialising, backend in InitWait, or in
 * Closed if it is one that stays there
 * @XEN_FW_HANDOFF_BACKEND_GONE: there is no backend, or no frontend, any more
 * @XEN_FW_HANDOFF_TIMED_OUT: the backend did not follow in time
 * @XEN_FW_HANDOFF_CLAIMED_BY_OS: the OS uses the frontend by now; left as it is
 * @XEN_FW_HANDOFF_FAILED: something else went wrong, see its error
 */
typedef enum XenFwHandoffTaskResult {
    XEN_FW_HANDOFF_PENDING,
    XEN_FW_HANDOFF_DONE,
    XEN_FW_HANDOFF_BACKEND_GONE,
    XEN_FW_HANDOFF_TIMED_OUT,
    XEN_FW_HANDOFF_CLAIMED_BY_OS,
    XEN_FW_HANDOFF_FAILED,
} XenFwHandoffTaskResult;

/**
 * XenFwHandoffTask: the teardown of one frontend
 *
 * Filled in by the caller:
 * @name: as the ledger knows it, "vbd/51712"
 * @frontend: its directory in xenstore
 * @backend: its backend's directory, which must be one that can be trusted
 * @keys: a set of the toolstack's keys, all others are removed; NULL if they
 *        are not known, then none is
 * @rings: from xen_fw_handoff_ledger_rings()
 * @seen: if an OS runs meanwhile, the frontend as the firmware left it: once it
 *        is another, the OS has taken it.  NULL while there is no OS.
 *
 * Filled in by the teardown:
 * @result: how it ended
 * @waiting_for: the state that the backend has to reach
 * @backend_state: the state the backend was in when last read
 * @busy: if TIMED_OUT, because it has requests under way
 * @us: how long it took, in microseconds
 * @error: if FAILED, what went wrong
 */
typedef struct XenFwHandoffTask {
    char *name;
    char *frontend;
    char *backend;
    GHashTable *keys;
    GHashTable *rings;
    XenFwHandoffSnapshot *seen;

    XenFwHandoffTaskResult result;
    enum xenbus_state waiting_for;
    enum xenbus_state backend_state;
    bool busy;
    int64_t us;
    Error *error;

    /* private */
    unsigned int step;
    enum xenbus_state frontend_state; /* as written last, if an OS runs */
} XenFwHandoffTask;

void xen_fw_handoff_task_free(XenFwHandoffTask *task);

/**
 * xen_fw_handoff_rings_in_use: has a backend any of @rings mapped?
 */
bool xen_fw_handoff_rings_in_use(const XenFwHandoffTable *table,
                                 GHashTable *rings);

typedef struct XenFwHandoffTeardown XenFwHandoffTeardown;

typedef void XenFwHandoffTeardownFn(void *opaque);

/**
 * xen_fw_handoff_teardown_start: close connections from the backend's domain
 * @store: xenstore
 * @table: the guest's grant table, where it can be read
 * @tasks: array of XenFwHandoffTask
 * @timeout_ms: how long all of it may take.  Time in which QEMU's main loop
 *              stands still, as while a disk of its own drains, is not counted.
 * @done: called from the main loop when every task has ended
 *
 * Backends are led through xenstore, wherever they are: in dom0's kernel, in
 * another domain, or in this process.  All at the same time and each at its own
 * pace.
 *
 * Whatever else happens, every frontend that no OS has taken ends Initialising
 * with the toolstack's keys alone, so that an OS finds a device that it can at
 * least try.
 *
 * Returns the teardown, which keeps pointers to all of these, for
 * xen_fw_handoff_teardown_free().
 */
XenFwHandoffTeardown *xen_fw_handoff_teardown_start(
    const XenFwHandoffXs *store, XenFwHandoffTable *table, GPtrArray *tasks,
    uint32_t timeout_ms, XenFwHandoffTeardownFn *done, void *opaque);

/**
 * xen_fw_handoff_teardown_frontend_changed: somebody has written to a frontend
 * @name: "vbd/51712", which may be one that is not torn down
 *
 * An OS that has taken it over meanwhile ends its task: its backend follows the
 * OS by then.
 */
void xen_fw_handoff_teardown_frontend_changed(XenFwHandoffTeardown *t,
                                              const char *name);

/**
 * xen_fw_handoff_teardown_free: end it, also before it is done
 *
 * What has not ended then stays as it is.
 */
void xen_fw_handoff_teardown_free(XenFwHandoffTeardown *t);

#endif

/*
 * Xen firmware handoff: what it reports, in the log, over QMP and in xenstore
 *
 * The log is for people.  Of its lines only those that begin with "armed for",
 * "announced by" and "done in" are made for programs: scripts read them when a
 * guest and its QEMU are gone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_FW_HANDOFF_REPORT_H
#define HW_XEN_FW_HANDOFF_REPORT_H

#include "qapi/qapi-types-xen-fw-handoff.h"
#include "xen_fw_handoff_grants.h"
#include "hw/xen/xen_fw_handoff_ledger.h"
#include "xen_fw_handoff_teardown.h"

/* Bytes that one QEMU writes to the log at most */
#define XEN_FW_HANDOFF_LOG_MAX (1024 * 1024)

/**
 * XenFwHandoffReport: what has been done since the machine was reset
 *
 * @announcement: by what the OS announced itself, NULL if it has not
 * @total: what became of frontends and of entries of the grant table
 * @now: the same of the present handoff, or of the last one
 * The rest is private.
 */
typedef struct XenFwHandoffReport {
    char *announcement;
    XenFwHandoffCounts total, now;

    XenFwHandoffConnectionList *connections, **tail;
    uint64_t last_duration_us;
    int64_t since;              /* when the present handoff began */
    size_t said;                /* since QEMU has started */
    bool untold;                /* the node is out of date, the log says so */
} XenFwHandoffReport;

/**
 * xen_fw_handoff_say: a line of the log, with our prefix
 *
 * After XEN_FW_HANDOFF_LOG_MAX bytes nothing more is said.
 */
void xen_fw_handoff_say(XenFwHandoffReport *r, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/** xen_fw_handoff_warn: a line that an administrator should not overlook */
void xen_fw_handoff_warn(XenFwHandoffReport *r, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/** xen_fw_handoff_report_reset: forget all; also to begin with */
void xen_fw_handoff_report_reset(XenFwHandoffReport *r);

/** xen_fw_handoff_report_begin: a handoff begins */
void xen_fw_handoff_report_begin(XenFwHandoffReport *r);

/** xen_fw_handoff_report_task: the teardown of one frontend has ended */
void xen_fw_handoff_report_task(XenFwHandoffReport *r,
                                const XenFwHandoffTask *task);

/**
 * xen_fw_handoff_report_skipped: one frontend is not torn down
 * @name: "vbd/51712"
 * @state: the state it is in
 * @owner: whose it is: why it is skipped
 */
void xen_fw_handoff_report_skipped(XenFwHandoffReport *r, const char *name,
                                   enum xenbus_state state,
                                   XenFwHandoffLedgerOwner owner);

/** xen_fw_handoff_report_grants: the grant table has been gone through */
void xen_fw_handoff_report_grants(XenFwHandoffReport *r,
                                  const XenFwHandoffGrantCount *count);

/** xen_fw_handoff_report_done: a handoff has ended, whatever came of it */
void xen_fw_handoff_report_done(XenFwHandoffReport *r);

/**
 * xen_fw_handoff_report_info: what query-xen-fw-handoff returns
 * @ledger: what is known before a handoff, may be NULL
 */
XenFwHandoffInfo *xen_fw_handoff_report_info(const XenFwHandoffReport *r,
                                             XenFwHandoffState state,
                                             XenFwHandoffLedger *ledger);

/**
 * xen_fw_handoff_report_state: the device is in another state
 * @armed: the connection to xenstore of a device that is armed; NULL: it opens
 *   one, for QEMU keeps none while an OS runs
 *
 * Updates the node of toolstacks, device-model/<domid>/fw-handoff in QEMU's own
 * domain.  libxl removes it with the guest, which cannot read it.
 */
void xen_fw_handoff_report_state(XenFwHandoffReport *r,
                                 XenFwHandoffState state,
                                 struct qemu_xs_handle *armed);

#endif

/*
 * Xen firmware handoff: what it tells, in the log and over QMP
 *
 * docs/specs/xen-fw-handoff.rst has the grammar of the log.  It is stable: who
 * changes a line here changes it there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_HANDOFF_REPORT_H
#define HW_XEN_HANDOFF_REPORT_H

#include "qapi/visitor.h"
#include "xen-handoff-grants.h"
#include "hw/xen/xen-handoff-ledger.h"
#include "xen-handoff-teardown.h"

/* Bytes of the log in the life of one QEMU, but for the guest's own lines */
#define XEN_HANDOFF_LOG_MAX (1024 * 1024)

/**
 * XenHandoffReport: what has been done since the machine was reset
 *
 * @announcement: by what the OS announced itself, NULL if it has not
 * @connections: one entry per frontend that a handoff has looked at, private
 * The rest are counters: frontends by what became of them, entries of the grant
 * table, and how long the last handoff took, in microseconds.
 */
typedef struct XenHandoffReport {
    char *announcement;
    GPtrArray *connections;
    uint32_t handed_off, given_up, failed, left_alone;
    uint32_t grants_cleared, grants_in_use;
    uint64_t last_duration_us;

    /* private: as they were when this handoff began, and when that was */
    uint32_t before[4];
    uint32_t still_in_use;
    int64_t since;
    size_t said;                /* since QEMU has started */
} XenHandoffReport;

/**
 * xen_handoff_say: a line of the log, with our prefix
 *
 * After XEN_HANDOFF_LOG_MAX bytes nothing more is said.
 */
void xen_handoff_say(XenHandoffReport *r, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/** xen_handoff_warn: a line that an administrator should not overlook */
void xen_handoff_warn(XenHandoffReport *r, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/** xen_handoff_report_reset: forget all; also to begin with */
void xen_handoff_report_reset(XenHandoffReport *r);

/** xen_handoff_report_begin: a handoff begins */
void xen_handoff_report_begin(XenHandoffReport *r);

/** xen_handoff_report_task: the teardown of one frontend has ended */
void xen_handoff_report_task(XenHandoffReport *r, const XenHandoffTask *task);

/**
 * xen_handoff_report_left_alone: one frontend is not torn down
 * @name: "vbd/51712"
 * @state: the state it is in
 * @owner: whose it is: why it is left alone
 * @has_backend: one of the firmware's has a backend, but not one that we can
 *               close
 */
void xen_handoff_report_left_alone(XenHandoffReport *r, const char *name,
                                   enum xenbus_state state,
                                   XenHandoffOwner owner, bool has_backend);

/** xen_handoff_report_grants: the grant table has been gone through */
void xen_handoff_report_grants(XenHandoffReport *r,
                               const XenHandoffGrantCount *count);

/** xen_handoff_report_done: the guest goes on */
void xen_handoff_report_done(XenHandoffReport *r);

/**
 * xen_handoff_report_visit: show the connections, a list of structs
 * @ledger: what is known before a handoff, may be NULL
 * @name, @v: as of a property's getter
 *
 * Members: frontend, backend, owner, action (all str) and duration-us (int).
 */
void xen_handoff_report_visit(const XenHandoffReport *r,
                              XenHandoffLedger *ledger, Visitor *v,
                              const char *name, Error **errp);

#endif

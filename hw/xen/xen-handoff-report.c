/*
 * Xen firmware handoff: what it tells, in the log and over QMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "hw/xen/xen_fw_handoff.h"
#include "xen-handoff-report.h"
#include "xen-handoff-store.h"
#include "trace.h"

/*
 * While a backend has a page mapped, Xen answers whoever maps its reference
 * with that page, also when the OS has granted another by then.
 */
#define MAY_LACK "the guest may lack this device and others that get its " \
                 "grant references"

/* About what a line has before our text */
#define LINE_OVERHEAD 64

typedef struct Connection {
    char *frontend, *backend;
    const char *owner, *action;
    int64_t us;
} Connection;

static const char *const owner_names[] = {
    [XEN_HANDOFF_NOBODY] = "nobody",
    [XEN_HANDOFF_FIRMWARE] = "firmware",
    [XEN_HANDOFF_OS] = "os",
    [XEN_HANDOFF_OS_TOUCHED] = "os-touched",
    [XEN_HANDOFF_IN_DOUBT] = "in-doubt",
};

/*
 * The log is a file of dom0's that nobody else bounds, and every reset of the
 * guest begins anew: a guest must not fill dom0's disk.
 */
static bool may_say(XenHandoffReport *r, size_t len)
{
    if (r->said >= XEN_HANDOFF_LOG_MAX) {
        return false;
    }
    r->said += len + LINE_OVERHEAD;
    if (r->said >= XEN_HANDOFF_LOG_MAX) {
        warn_report(XEN_FW_HANDOFF_LOG "the log has reached %d KiB, no more is "
                    "said; QMP has what is done", XEN_HANDOFF_LOG_MAX / 1024);
        return false;
    }
    return true;
}

void xen_handoff_say(XenHandoffReport *r, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (may_say(r, strlen(text))) {
        info_report(XEN_FW_HANDOFF_LOG "%s", text);
    }
}

void xen_handoff_warn(XenHandoffReport *r, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (may_say(r, strlen(text))) {
        warn_report(XEN_FW_HANDOFF_LOG "%s", text);
    }
}

static void connection_free(gpointer opaque)
{
    Connection *c = opaque;

    g_free(c->frontend);
    g_free(c->backend);
    g_free(c);
}

static void add_connection(XenHandoffReport *r, const char *frontend,
                           const char *backend, XenHandoffOwner owner,
                           const char *action, int64_t us)
{
    Connection *c = g_new(Connection, 1);

    *c = (Connection) { g_strdup(frontend), g_strdup(backend ?: ""),
                        owner_names[owner], action, us };
    trace_xen_fw_handoff_result(c->frontend, c->backend, c->owner, c->action,
                                c->us);
    g_ptr_array_add(r->connections, c);
}

void xen_handoff_report_reset(XenHandoffReport *r)
{
    g_clear_pointer(&r->announcement, g_free);
    g_clear_pointer(&r->connections, g_ptr_array_unref);
    *r = (XenHandoffReport) {
        .said = r->said,
        .connections = g_ptr_array_new_with_free_func(connection_free),
    };
}

void xen_handoff_report_task(XenHandoffReport *r, const XenHandoffTask *task)
{
    XenHandoffOwner owner = XEN_HANDOFF_FIRMWARE;
    double ms = task->us / 1000.0;
    const char *action = NULL;

    switch (task->result) {
    case XEN_HANDOFF_DONE:
        xen_handoff_say(r, "%s: handed off in %.1f ms: %s is in %s", task->name,
                        ms, task->backend,
                        xen_handoff_state_name(task->backend_state));
        action = "handed-off";
        r->handed_off++;
        break;
    case XEN_HANDOFF_GONE:
        xen_handoff_say(r, "%s: handed off in %.1f ms: %s is gone", task->name,
                        ms, task->backend);
        action = "handed-off";
        r->handed_off++;
        break;
    case XEN_HANDOFF_HANGING:
        action = "given-up";
        r->given_up++;
        if (task->busy) {
            xen_handoff_warn(r, "%s: given up after %.1f ms: %s has requests "
                             "under way; look at the storage behind it, "
                             MAY_LACK, task->name, ms, task->backend);
            break;
        }
        xen_handoff_warn(r, "%s: given up after %.1f ms: %s hangs in %s, it "
                         "should be in %s; look at the backend's domain, "
                         MAY_LACK, task->name, ms, task->backend,
                         xen_handoff_state_name(task->backend_state),
                         xen_handoff_state_name(task->waiting_for));
        break;
    case XEN_HANDOFF_TAKEN:
        xen_handoff_say(r, "%s: left alone after %.1f ms: the OS has taken it "
                        "meanwhile", task->name, ms);
        owner = XEN_HANDOFF_OS_TOUCHED;
        action = "left-alone";
        r->left_alone++;
        break;
    case XEN_HANDOFF_FAILED:
        xen_handoff_warn(r, "%s: failed after %.1f ms: %s; " MAY_LACK,
                         task->name, ms, error_get_pretty(task->error));
        action = "failed";
        r->failed++;
        break;
    case XEN_HANDOFF_RUNNING:
        g_assert_not_reached();
    }
    add_connection(r, task->name, task->backend, owner, action, task->us);
}

void xen_handoff_report_left_alone(XenHandoffReport *r, const char *name,
                                   enum xenbus_state state,
                                   XenHandoffOwner owner, bool has_backend)
{
    static const char *const why[] = {
        [XEN_HANDOFF_OS] = "the OS connected it",
        [XEN_HANDOFF_OS_TOUCHED] = "it has changed since the OS is running",
        [XEN_HANDOFF_IN_DOUBT] = "nobody can tell whose it is",
    };

    xen_handoff_say(r, "%s: left alone in state %s: %s", name,
                    xen_handoff_state_name(state),
                    owner != XEN_HANDOFF_FIRMWARE ? why[owner]
                    : has_backend ? "QEMU's own backend of this kind cannot be "
                                    "closed while the guest waits"
                    : "it names no backend that confirms it");
    add_connection(r, name, NULL, owner, "left-alone", 0);
    r->left_alone++;
}

void xen_handoff_report_grants(XenHandoffReport *r,
                               const XenHandoffGrantCount *count)
{
    xen_handoff_say(r, "grants: %u of the firmware cleared, %u left because a "
                    "backend uses them", count->cleared, count->in_use);
    r->grants_cleared += count->cleared;
    r->grants_in_use += count->in_use;
    r->still_in_use = count->in_use;
}

void xen_handoff_report_begin(XenHandoffReport *r)
{
    r->before[0] = r->handed_off;
    r->before[1] = r->given_up;
    r->before[2] = r->failed;
    r->before[3] = r->left_alone;
    r->still_in_use = 0;
    r->since = g_get_monotonic_time();
}

void xen_handoff_report_done(XenHandoffReport *r)
{
    uint32_t handed_off = r->handed_off - r->before[0];
    uint32_t given_up = r->given_up - r->before[1];
    uint32_t failed = r->failed - r->before[2];
    uint32_t left_alone = r->left_alone - r->before[3];

    r->last_duration_us = g_get_monotonic_time() - r->since;
    if (!handed_off && !given_up && !failed && !left_alone &&
        !r->still_in_use) {
        xen_handoff_say(r, "done: the firmware left nothing");
    } else {
        xen_handoff_say(r, "done in %.1f ms: %u handed off, %u given up, "
                        "%u failed, %u left alone",
                        r->last_duration_us / 1000.0, handed_off, given_up,
                        failed, left_alone);
    }
}

static bool visit_one(Visitor *v, const Connection *c, Error **errp)
{
    char *frontend = c->frontend, *backend = c->backend;
    char *owner = (char *)c->owner, *action = (char *)c->action;
    int64_t us = c->us;
    bool ok;

    if (!visit_start_struct(v, NULL, NULL, 0, errp)) {
        return false;
    }
    ok = visit_type_str(v, "frontend", &frontend, errp) &&
         visit_type_str(v, "backend", &backend, errp) &&
         visit_type_str(v, "owner", &owner, errp) &&
         visit_type_str(v, "action", &action, errp) &&
         visit_type_int64(v, "duration-us", &us, errp) &&
         visit_check_struct(v, errp);
    visit_end_struct(v, NULL);
    return ok;
}

typedef struct VisitLedger {
    Visitor *v;
    bool ok;
    Error **errp;
} VisitLedger;

static void visit_frontend(const char *name, const char *backend,
                           XenHandoffOwner owner, void *opaque)
{
    VisitLedger *visit = opaque;
    Connection c = { (char *)name, (char *)backend, owner_names[owner], "", 0 };

    visit->ok = visit->ok && visit_one(visit->v, &c, visit->errp);
}

void xen_handoff_report_visit(const XenHandoffReport *r,
                              XenHandoffLedger *ledger, Visitor *v,
                              const char *name, Error **errp)
{
    VisitLedger visit = { v, true, errp };

    if (!visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    if (ledger) {
        xen_handoff_ledger_foreach(ledger, visit_frontend, &visit);
    }
    for (guint i = 0; r->connections && i < r->connections->len && visit.ok;
         i++) {
        visit.ok = visit_one(v, g_ptr_array_index(r->connections, i), errp);
    }
    if (visit.ok) {
        visit_check_list(v, errp);
    }
    visit_end_list(v, NULL);
}

/*
 * Xen firmware handoff: what it reports, in the log, over QMP and in xenstore
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-fw-handoff.h"
#include "qapi/qapi-events-xen-fw-handoff.h"
#include "qapi/qapi-visit-xen-fw-handoff.h"
#include "qapi/util.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus-helper.h"
#include "hw/xen/xen_fw_handoff.h"
#include "xen_fw_handoff_report.h"
#include "xen_fw_handoff_xenstore.h"
#include "trace.h"

/*
 * While a backend has a page mapped, Xen answers whoever maps its reference
 * with that page, also when the OS has granted another by then.
 */
#define MAY_LACK "the guest may lack this device and others that get its " \
                 "grant references"

/* Roughly what QEMU writes before our text */
#define LINE_OVERHEAD 64

/* The ledger's, without XEN_FW_HANDOFF_NONE, which has no connection */
static const XenFwHandoffOwner owners[] = {
    [XEN_FW_HANDOFF_FIRMWARE] = XEN_FW_HANDOFF_OWNER_FIRMWARE,
    [XEN_FW_HANDOFF_OS] = XEN_FW_HANDOFF_OWNER_OS,
    [XEN_FW_HANDOFF_OS_CHANGED] = XEN_FW_HANDOFF_OWNER_OS_CHANGED,
    [XEN_FW_HANDOFF_UNKNOWN] = XEN_FW_HANDOFF_OWNER_UNKNOWN,
};

/*
 * The log is a file of dom0's that nothing else bounds, and each reset of the
 * guest adds to it: a guest must not fill dom0's disk.
 */
static bool may_say(XenFwHandoffReport *r, size_t len)
{
    if (r->said >= XEN_FW_HANDOFF_LOG_MAX) {
        return false;
    }
    r->said += len + LINE_OVERHEAD;
    if (r->said >= XEN_FW_HANDOFF_LOG_MAX) {
        warn_report(XEN_FW_HANDOFF_LOG "the log has reached %d KiB, no more is "
                                       "logged: see \"info xen-fw-handoff\"",
                    XEN_FW_HANDOFF_LOG_MAX / 1024);
        return false;
    }
    return true;
}

static G_GNUC_PRINTF(3, 0)
void say(XenFwHandoffReport *r,
         void (*report)(const char *fmt, ...) G_GNUC_PRINTF(1, 2),
         const char *fmt, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(fmt, ap);

    if (may_say(r, strlen(text))) {
        report(XEN_FW_HANDOFF_LOG "%s", text);
    }
}

void xen_fw_handoff_say(XenFwHandoffReport *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(r, info_report, fmt, ap);
    va_end(ap);
}

void xen_fw_handoff_warn(XenFwHandoffReport *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(r, warn_report, fmt, ap);
    va_end(ap);
}

static XenFwHandoffConnection *connection_new(const char *frontend,
                                              const char *backend,
                                              XenFwHandoffLedgerOwner owner)
{
    XenFwHandoffConnection *c = g_new0(XenFwHandoffConnection, 1);

    c->frontend = g_strdup(frontend);
    c->backend = g_strdup(backend);
    c->owner = owners[owner];
    return c;
}

static void add_connection(XenFwHandoffReport *r, XenFwHandoffConnection *c,
                           XenFwHandoffResult result)
{
    XenFwHandoffCounts *now = &r->now;
    uint32_t *const counters[] = {
        [XEN_FW_HANDOFF_RESULT_HANDED_OFF] = &now->handed_off,
        [XEN_FW_HANDOFF_RESULT_TIMED_OUT] = &now->timed_out,
        [XEN_FW_HANDOFF_RESULT_FAILED] = &now->failed,
        [XEN_FW_HANDOFF_RESULT_SKIPPED] = &now->skipped,
    };

    ++*counters[result];
    c->has_result = true;
    c->result = result;
    trace_xen_fw_handoff_result(c->frontend, c->backend ?: "",
                                XenFwHandoffOwner_str(c->owner),
                                XenFwHandoffResult_str(result),
                                c->duration_us);
    QAPI_LIST_APPEND(r->tail, c);
}

void xen_fw_handoff_report_reset(XenFwHandoffReport *r)
{
    g_free(r->announcement);
    qapi_free_XenFwHandoffConnectionList(r->connections);
    *r = (XenFwHandoffReport) {
        .said = r->said,
        .untold = r->untold,
        .tail = &r->connections,
    };
}

void xen_fw_handoff_report_task(XenFwHandoffReport *r,
                                const XenFwHandoffTask *task)
{
    XenFwHandoffConnection *c =
        connection_new(task->name, task->backend, XEN_FW_HANDOFF_FIRMWARE);
    XenFwHandoffResult result = XEN_FW_HANDOFF_RESULT_HANDED_OFF;
    double ms = task->us / 1000.0;

    switch (task->result) {
    case XEN_FW_HANDOFF_DONE:
        xen_fw_handoff_say(r, "%s: handed off in %.1f ms: %s is in %s",
                           task->name, ms, task->backend,
                           xen_fw_handoff_state_name(task->backend_state));
        break;
    case XEN_FW_HANDOFF_BACKEND_GONE:
        xen_fw_handoff_say(r, "%s: handed off in %.1f ms: %s is gone",
                           task->name, ms, task->backend);
        break;
    case XEN_FW_HANDOFF_TIMED_OUT:
        result = XEN_FW_HANDOFF_RESULT_TIMED_OUT;
        if (task->busy) {
            xen_fw_handoff_warn(
                r,
                "%s: timed out after %.1f ms: %s has requests "
                "in flight; check the storage behind it, " MAY_LACK,
                task->name, ms, task->backend);
            break;
        }
        xen_fw_handoff_warn(
            r,
            "%s: timed out after %.1f ms: %s is stuck in %s "
            "instead of %s; check the backend's domain, " MAY_LACK,
            task->name, ms, task->backend,
            xen_fw_handoff_state_name(task->backend_state),
            xen_fw_handoff_state_name(task->waiting_for));
        break;
    case XEN_FW_HANDOFF_CLAIMED_BY_OS:
        result = XEN_FW_HANDOFF_RESULT_SKIPPED;
        c->owner = XEN_FW_HANDOFF_OWNER_OS_CHANGED;
        xen_fw_handoff_say(r,
                           "%s: skipped after %.1f ms: the OS took it over "
                           "meanwhile",
                           task->name, ms);
        break;
    case XEN_FW_HANDOFF_FAILED:
        result = XEN_FW_HANDOFF_RESULT_FAILED;
        xen_fw_handoff_warn(r, "%s: failed after %.1f ms: %s; " MAY_LACK,
                            task->name, ms, error_get_pretty(task->error));
        break;
    case XEN_FW_HANDOFF_PENDING:
        g_assert_not_reached();
    }
    c->has_duration_us = true;
    c->duration_us = task->us;
    add_connection(r, c, result);
}

static const char *why_skipped(const XenFwHandoffConnection *c)
{
    switch (c->owner) {
    case XEN_FW_HANDOFF_OWNER_OS:
        return "the OS connected it";
    case XEN_FW_HANDOFF_OWNER_OS_CHANGED:
        return "it has changed since the OS started";
    case XEN_FW_HANDOFF_OWNER_UNKNOWN:
        return "owner unknown";
    default:
        return "no backend confirms the path it gives";
    }
}

void xen_fw_handoff_report_skipped(XenFwHandoffReport *r, const char *name,
                                   enum xenbus_state state,
                                   XenFwHandoffLedgerOwner owner)
{
    XenFwHandoffConnection *c = connection_new(name, NULL, owner);

    xen_fw_handoff_say(r, "%s: skipped in state %s: %s", name,
                       xen_fw_handoff_state_name(state), why_skipped(c));
    add_connection(r, c, XEN_FW_HANDOFF_RESULT_SKIPPED);
}

void xen_fw_handoff_report_grants(XenFwHandoffReport *r,
                                  const XenFwHandoffGrantCount *count)
{
    r->now.grants_cleared = count->cleared;
    r->now.grants_in_use = count->in_use;
}

void xen_fw_handoff_report_begin(XenFwHandoffReport *r)
{
    r->now = (XenFwHandoffCounts) { 0 };
    r->since = g_get_monotonic_time();
}

void xen_fw_handoff_report_done(XenFwHandoffReport *r)
{
    XenFwHandoffCounts *now = &r->now, *total = &r->total;
    XenFwHandoffEvent event = {
        .announcement = r->announcement,
        .duration_us = g_get_monotonic_time() - r->since,
    };

    *qapi_XenFwHandoffEvent_base(&event) = *now;
    total->handed_off += now->handed_off;
    total->timed_out += now->timed_out;
    total->failed += now->failed;
    total->skipped += now->skipped;
    total->grants_cleared += now->grants_cleared;
    total->grants_in_use += now->grants_in_use;
    r->last_duration_us = event.duration_us;
    /* For grep, as is "announced by" */
    xen_fw_handoff_say(r,
                       "done in %.1f ms: %u handed off, %u timed out, "
                       "%u failed, %u skipped, %u grants cleared, %u in use",
                       r->last_duration_us / 1000.0, now->handed_off,
                       now->timed_out, now->failed, now->skipped,
                       now->grants_cleared, now->grants_in_use);
    qapi_event_send_xen_fw_handoff(&event);
}

static void list_connected(const char *name, const char *backend,
                           XenFwHandoffLedgerOwner owner, void *opaque)
{
    XenFwHandoffConnectionList ***tail = opaque;

    QAPI_LIST_APPEND(*tail, connection_new(name, *backend ? backend : NULL,
                                           owner));
}

XenFwHandoffInfo *xen_fw_handoff_report_info(const XenFwHandoffReport *r,
                                             XenFwHandoffState state,
                                             XenFwHandoffLedger *ledger)
{
    XenFwHandoffInfo *info = g_new(XenFwHandoffInfo, 1);
    XenFwHandoffConnectionList **tail = &info->connections;

    *info = (XenFwHandoffInfo) {
        .state = state,
        .announcement = g_strdup(r->announcement),
        .last_duration_us = r->last_duration_us,
    };
    *qapi_XenFwHandoffInfo_base(info) = r->total;
    if (ledger) {
        xen_fw_handoff_ledger_foreach(ledger, list_connected, &tail);
    }
    *tail = QAPI_CLONE(XenFwHandoffConnectionList, r->connections);
    return info;
}

void xen_fw_handoff_report_state(XenFwHandoffReport *r, XenFwHandoffState state,
                                 struct qemu_xs_handle *armed)
{
    struct qemu_xs_handle *xsh = armed ?: qemu_xen_xs_open();
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {
        { "handed-off", r->total.handed_off },
        { "timed-out", r->total.timed_out },
        { "failed", r->total.failed },
        { "skipped", r->total.skipped },
    };
    g_autofree char *node = g_strdup_printf("device-model/%u/fw-handoff",
                                            xen_domid);
    Error *err = NULL;

    if (!xsh) {
        error_setg_errno(&err, errno, "cannot open xenstore");
    }
    /* A guest waits for the handoff's end, when all the rest is told */
    if (state != XEN_FW_HANDOFF_STATE_HANDING_OFF) {
        for (size_t i = 0; i < ARRAY_SIZE(counts) && !err; i++) {
            xs_node_printf(xsh, XBT_NULL, node, counts[i].key, &err, "%u",
                           counts[i].value);
        }
        if (!err) {
            xs_node_printf(xsh, XBT_NULL, node, "announcement", &err, "%s",
                           r->announcement ?: "");
        }
    }
    if (!err) {
        /* Last: when a watch on it fires, all else is up to date */
        xs_node_printf(xsh, XBT_NULL, node, "state", &err, "%s",
                       XenFwHandoffState_str(state));
    }
    if (err && armed) {
        /* perhaps it is this connection that is lost */
        error_free(err);
        xen_fw_handoff_report_state(r, state, NULL);
        return;
    }
    if (err && !r->untold) {
        xen_fw_handoff_warn(r, "the toolstack is not told: %s",
                            error_get_pretty(err));
    }
    r->untold = err;
    error_free(err);
    if (!armed && xsh) {
        qemu_xen_xs_close(xsh);
    }
}

/* --- info xen-fw-handoff ------------------------------------------------- */

static void print_connection(Monitor *mon, const XenFwHandoffConnection *c)
{
    double ms = c->duration_us / 1000.0;
    const char *backend = c->backend ?: "an unknown backend";

    monitor_printf(mon, "  %s: ", c->frontend);
    if (!c->has_result) {
        monitor_printf(mon, "connected to %s, owner: %s\n", backend,
                       XenFwHandoffOwner_str(c->owner));
        return;
    }
    switch (c->result) {
    case XEN_FW_HANDOFF_RESULT_HANDED_OFF:
        monitor_printf(mon, "handed off in %.1f ms\n", ms);
        break;
    case XEN_FW_HANDOFF_RESULT_TIMED_OUT:
        monitor_printf(mon, "TIMED OUT after %.1f ms: %s did not let go.\n"
                       "    Check the kernel log of the backend's domain and "
                       "the storage or network\n"
                       "    behind it.  The guest may lack this device and "
                       "others.  When the backend is\n"
                       "    well again, reboot the guest, or detach and attach "
                       "the device.\n", ms, backend);
        break;
    case XEN_FW_HANDOFF_RESULT_FAILED:
        monitor_printf(mon, "FAILED after %.1f ms: it could not be "
                       "restored in xenstore, QEMU's log\n"
                       "    says why.  The guest may lack this device and "
                       "others: reboot it.\n", ms);
        break;
    case XEN_FW_HANDOFF_RESULT_SKIPPED:
        monitor_printf(mon, "skipped: %s\n", why_skipped(c));
        break;
    default:
        g_assert_not_reached();
    }
}

static void hmp_info_xen_fw_handoff(Monitor *mon, const QDict *qdict)
{
    static const char *const states[] = {
        [XEN_FW_HANDOFF_STATE_INERT] = "cannot work, QEMU's log says why",
        [XEN_FW_HANDOFF_STATE_ARMED] = "waits for the OS to announce itself",
        [XEN_FW_HANDOFF_STATE_HANDING_OFF] = "closes what the firmware left",
        [XEN_FW_HANDOFF_STATE_DONE] = "nothing more happens until a reboot",
    };
    Error *err = NULL;
    g_autoptr(XenFwHandoffInfo) info = qmp_query_xen_fw_handoff(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "State:        %s (%s)\n",
                   XenFwHandoffState_str(info->state), states[info->state]);
    monitor_printf(mon, "Announced by: %s\n", info->announcement ?: "-");
    monitor_printf(mon, "Frontends:    %u handed off, %u timed out, %u failed, "
                   "%u skipped\n", info->handed_off, info->timed_out,
                   info->failed, info->skipped);
    monitor_printf(mon, "Grants:       %u cleared, %u still in use\n",
                   info->grants_cleared, info->grants_in_use);
    monitor_printf(mon, "Last handoff: %.1f ms\n",
                   info->last_duration_us / 1000.0);
    for (XenFwHandoffConnectionList *l = info->connections; l; l = l->next) {
        print_connection(mon, l->value);
    }
}

static void xen_fw_handoff_report_register(void)
{
    monitor_register_hmp("xen-fw-handoff", true, hmp_info_xen_fw_handoff);
}

type_init(xen_fw_handoff_report_register)

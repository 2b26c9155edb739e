/*
 * Xen firmware handoff
 *
 * Firmware of a Xen HVM guest that drives PV disks or NICs never knows which
 * call was its last, so it leaves its connections open.  Every OS with PV
 * drivers announces itself by writing to the I/O ports of xen-platform.  This
 * device hears of those writes first.  It holds the announcing vCPU, but not
 * QEMU, until the backends have released what the firmware has left.
 *
 * Whose a connection is, the ledger knows (xen_fw_handoff_ledger.c); how a
 * backend is made to let go, the teardown (xen_fw_handoff_teardown.c).  A write
 * to port 0x10 takes this way: platform_written(), announce(), begin_handoff()
 * and, when the teardown is done, end_handoff() and handoff_over().
 * docs/specs/xen-fw-handoff.rst says what the guest can rely on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/ratelimit.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-fw-handoff.h"
#include "hw/i386/xen_platform.h"
#include "hw/qdev-properties.h"
#include "hw/resettable.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus-helper.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/interface/hvm/params.h"
#include "hw/xen/xen_fw_handoff.h"
#include "xen_fw_handoff_grants.h"
#include "hw/xen/xen_fw_handoff_ledger.h"
#include "xen_fw_handoff_report.h"
#include "xen_fw_handoff_xenstore.h"
#include "xen_fw_handoff_teardown.h"
#include "migration/vmstate.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/system.h"
#include "trace.h"

/* xen-platform's ports */
#define PLATFORM_PORT    0x10
#define PLATFORM_UNPLUG  0    /* word: unplug mask; dword: build number */
#define PLATFORM_PRODUCT 2    /* word: product number; byte: driver's log */

/* What SUSE's xen-kmp and VMDP used before those: bytes in its BAR 0 */
#define BAR_UNPLUG_ALL   4    /* 1 */
#define BAR_UNPLUG_SOME  8    /* 1: disks, 2: NICs; all else is a log byte */

/*
 * How often to check for an OS that writes to no port.  Most take longer from
 * setting HVM_PARAM_CALLBACK_IRQ to connecting their first frontend; where one
 * is quicker, its frontends are its own and are skipped.
 */
#define POLL_PARAM_MS 10

/*
 * How long the guest can make us look at its frontends: us per second in the
 * long run, in slices of so many ms, and ms for one look at a frontend that has
 * more than XEN_FW_HANDOFF_USUAL_KEYS.  An ordinary frontend
 * takes half a millisecond, as which each look counts at least, and firmware
 * connects each once.  However fast a guest writes, and however busy that keeps
 * xenstored, QEMU's main loop has time for others.
 */
#define LOOK_US_PER_S 100000
#define LOOK_SLICE_MS 100
#define LOOK_MIN_US 500
#define LOOK_MAX_MS 20

/* A vCPU stands still for as long: cap it */
#define MAX_TIMEOUT_MS 60000

/*
 * A firmware asks for a teardown when it is done with its devices, perhaps once
 * per driver.  Cap it: each request costs a teardown.
 */
#define MAX_REQUESTS 16

/* QEMU stands still while the guest's connection to xenstore is reset */
#define MAX_XENSTORE_RESET_MS 1000

/*
 * How many of the guest's writes are looked at after the announcement, for what
 * else the OS says of itself.  Later ones cost nothing.
 */
#define MAX_FOLLOW_UPS 4096

OBJECT_DECLARE_SIMPLE_TYPE(XenFwHandoff, XEN_FW_HANDOFF)

/* How an OS announces itself */
typedef enum Kind {
    KIND_PRODUCT,
    KIND_BUILD,
    KIND_UNPLUG,
    KIND_LOG,
    KIND_BAR,
    KIND_CALLBACK,
    KIND_NONE,
} Kind;

struct XenFwHandoff {
    DeviceState parent_obj;

    /* properties */
    uint32_t timeout_ms;
    bool scrub_grants;

    XenFwHandoffState state;
    /* latched by the first announcement since reset, and migrated */
    bool done;

    Notifier machine_done, written, callback, exit;
    QEMUBH *restricted;         /* arms once QEMU is */
    QEMUBH *over;               /* what follows a handoff */
    bool listening;             /* "written" is on xen-platform's list */

    /* while armed: from reset to the announcement */
    XenFwHandoffXs store;
    struct qemu_xs_watch *watch;
    XenFwHandoffLedger *ledger;
    GHashTable *logged;         /* frontends whose connection was logged */
    GHashTable *changed;        /* directories that are to be looked at */
    QEMUTimer *look_timer;      /* runs while they have to wait */
    bool lost;                  /* the connection to xenstore */
    RateLimit look_limit;
    XenFwHandoffTable table;
    XenFwHandoffGrants *grants; /* as last seen without an OS */
    uint8_t seeded;             /* the toolstack's, by reference */
    QEMUTimer *param_timer;     /* runs while the firmware is connected */
    unsigned int requests;      /* of the firmware */
    bool restored;              /* decide once the guest goes on */

    /* while handing off */
    XenFwHandoffOs os;          /* as it began */
    bool announced;             /* by an OS; else the firmware asked for it */
    bool xenstore_reset;        /* to be ended */
    GPtrArray *tasks;           /* of XenFwHandoffTask */
    GHashTable *backend_domids; /* a set: where the guest has backends */
    XenFwHandoffTeardown *teardown;
    GQueue held;                /* of HeldWrite: what vCPUs wait with */

    /* what is reported */
    uint32_t followed;          /* by which kinds, after the announcement */
    unsigned int follow_ups;    /* writes since then */
    XenFwHandoffReport report;
};

/* --- looking at the guest ------------------------------------------------ */

static XenFwHandoffOs read_os(Error **errp)
{
    uint64_t value;
    int rc = xen_guest_ops->hvm_param_get(HVM_PARAM_CALLBACK_IRQ, &value);

    if (rc < 0) {
        error_setg_errno(errp, -rc, "cannot read HVM_PARAM_CALLBACK_IRQ");
        return XEN_FW_HANDOFF_OS_UNKNOWN;
    }
    return value ? XEN_FW_HANDOFF_OS_PRESENT : XEN_FW_HANDOFF_OS_ABSENT;
}

/*
 * If no OS is present after the table was read, all its entries are the
 * firmware's.  Returns whether one is.
 */
static XenFwHandoffOs record_grants(XenFwHandoff *s)
{
    g_autoptr(XenFwHandoffGrants) grants =
        s->scrub_grants ? xen_fw_handoff_grants_record(&s->table, s->grants)
                        : NULL;
    XenFwHandoffOs os = read_os(NULL);

    if (os == XEN_FW_HANDOFF_OS_ABSENT && grants) {
        g_clear_pointer(&s->grants, g_array_unref);
        s->grants = g_steal_pointer(&grants);
    }
    return os;
}

static void set_state(XenFwHandoff *s, XenFwHandoffState state)
{
    trace_xen_fw_handoff_state(XenFwHandoffState_str(s->state),
                               XenFwHandoffState_str(state));
    s->state = state;
}

/* For the toolstack; where possible, not while the guest waits */
static void publish(XenFwHandoff *s)
{
    xen_fw_handoff_report_state(&s->report, s->state, s->store.xsh);
}

/* --- the ledger's watch -------------------------------------------------- */

static void schedule_poll(XenFwHandoff *s)
{
    trace_xen_fw_handoff_poll(POLL_PARAM_MS);
    timer_mod(s->param_timer,
              qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + POLL_PARAM_MS);
}

static void frontend_changed(const char *name, void *opaque)
{
    XenFwHandoff *s = opaque;
    XenFwHandoffSnapshot *seen = xen_fw_handoff_read_frontend(
        &s->store, name, s->ledger, XEN_FW_HANDOFF_READ_WATCH);
    enum xenbus_state state = seen->state;
    bool connected = state == XenbusStateInitialised ||
                     state == XenbusStateConnected;
    XenFwHandoffLedgerOwner owner;
    XenFwHandoffOs os;
    bool poll;

    if (connected) {
        xen_fw_handoff_table_refresh(&s->table, NULL);
    }
    os = connected ? record_grants(s) : read_os(NULL);
    trace_xen_fw_handoff_saw(name, xen_fw_handoff_state_name(state), os);
    owner = xen_fw_handoff_ledger_update(s->ledger, name, seen, os);
    if (owner == XEN_FW_HANDOFF_FIRMWARE && connected &&
        g_hash_table_add(s->logged, g_strdup(name))) {
        xen_fw_handoff_say(&s->report, "%s: connected by the firmware", name);
    }
    /* also if the OS has touched the last one before the parameter was read */
    poll = xen_fw_handoff_ledger_connections(s->ledger) ||
           (os == XEN_FW_HANDOFF_OS_PRESENT &&
            xen_fw_handoff_ledger_ever_connected(s->ledger));
    if (!poll) {
        timer_del(s->param_timer);
    } else if (!xen_guest_ops->add_callback_notifier &&
               !timer_pending(s->param_timer)) {
        schedule_poll(s);
    }
}

/*
 * If oxenstored sends a list of names that is longer than libxenstore accepts,
 * the connection ends without notice.  A guest can have such names.
 */
static bool xenstore_is_lost(XenFwHandoff *s)
{
    char *value = xs_node_read(s->store.xsh, XBT_NULL, NULL, NULL, "%s",
                               s->store.root);

    free(value);
    return !value && errno != ENOENT && errno != EACCES;
}

/*
 * During a handoff it is the OS, if one runs, that may take a frontend over.
 * All else can wait for the end.
 */
static bool may_look(const XenFwHandoff *s)
{
    return s->state == XEN_FW_HANDOFF_STATE_ARMED ||
           (s->state == XEN_FW_HANDOFF_STATE_HANDING_OFF && s->teardown &&
            s->os == XEN_FW_HANDOFF_OS_PRESENT);
}

/* @dir: "vbd/51712", or "vbd" or "" if it has perhaps gone */
static void look_at(XenFwHandoff *s, const char *dir)
{
    g_autofree char *path = g_strdup_printf("%s%s%s", s->store.root,
                                            *dir ? "/" : "", dir);
    unsigned int n;
    char **keys;

    if (s->teardown) {
        xen_fw_handoff_teardown_frontend_changed(s->teardown, dir);
        return;
    }
    keys = qemu_xen_xs_directory(s->store.xsh, XBT_NULL, path, &n);
    free(keys);
    if (!keys && errno == ENOENT) {
        xen_fw_handoff_ledger_remove(s->ledger, dir);
    } else if (!keys && xenstore_is_lost(s)) {
        s->lost = true;
    } else if (strchr(dir, '/')) {
        frontend_changed(dir, s);
    }
}

/* All that have changed; if @limited, as many as may be looked at now */
static void look_at_changed(XenFwHandoff *s, bool limited)
{
    while (g_hash_table_size(s->changed) && !s->lost) {
        g_autofree char *dir = NULL;
        int64_t start = get_clock(), us, delay;
        GHashTableIter iter;

        g_hash_table_iter_init(&iter, s->changed);
        g_hash_table_iter_next(&iter, (gpointer *)&dir, NULL);
        g_hash_table_iter_steal(&iter);
        s->store.until = limited ? start + LOOK_MAX_MS * SCALE_MS : 0;
        look_at(s, dir);
        s->store.until = 0;
        us = MAX((get_clock() - start) / SCALE_US, LOOK_MIN_US);
        delay = ratelimit_calculate_delay(&s->look_limit, us);
        if (limited && delay) {
            timer_mod(s->look_timer,
                      qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + delay);
            return;
        }
    }
    if (s->lost) {
        /* not from a callback of the watch that is to be ended */
        timer_mod(s->look_timer, 0);
    }
}

/*
 * Something below device/ has changed.  The guest can make this happen as often
 * as it likes, so it costs nothing while there has been enough to look at: the
 * directories wait together for their turn, each of them once.
 */
static void device_changed(void *opaque, const char *path)
{
    XenFwHandoff *s = opaque;
    const char *below = path;
    g_auto(GStrv) part = NULL;
    g_autofree char *name = NULL;

    if (!strstart(path, s->store.root, &below) || (*below && *below++ != '/')) {
        return;
    }
    part = g_strsplit(below, "/", 4); /* class, id, key */
    if (g_strv_length(part) >= 2 &&
        !xen_fw_handoff_is_frontend(part[0], part[1])) {
        return;
    }
    if (g_strv_length(part) < 3) {
        name = g_strdup(below);
    } else {
        name = g_strdup_printf("%s/%s", part[0], part[1]);
        if (strcmp(part[2], "state") &&
            xen_fw_handoff_ledger_has(s->ledger, name)) {
            return;
        }
    }
    if (g_hash_table_size(s->changed) >= XEN_FW_HANDOFF_MAX_FRONTENDS) {
        return;
    }
    g_hash_table_add(s->changed, g_steal_pointer(&name));
    if (!timer_pending(s->look_timer) && may_look(s)) {
        look_at_changed(s, true);
    }
}

static void disarm(XenFwHandoff *s)
{
    timer_del(s->param_timer);
    timer_del(s->look_timer);
    if (s->watch) {
        trace_xen_fw_handoff_unwatch(s->store.root);
        xs_node_unwatch(s->store.xsh, s->watch);
        s->watch = NULL;
    }
    g_clear_pointer(&s->store.xsh, qemu_xen_xs_close);
    g_clear_pointer(&s->store.root, g_free);
    g_clear_pointer(&s->ledger, xen_fw_handoff_ledger_free);
    g_clear_pointer(&s->logged, g_hash_table_unref);
    g_clear_pointer(&s->changed, g_hash_table_unref);
    g_clear_pointer(&s->grants, g_array_unref);
    xen_fw_handoff_table_unmap(&s->table);
}

/* Everything that a handoff will need, read once: the guest has not run yet */
static bool try_arm(XenFwHandoff *s, const char *domain, Error **errp)
{
    ERRP_GUARD();

    s->store.xsh = qemu_xen_xs_open();
    if (!s->store.xsh && xen_domid_restrict) {
        /* not an error: the same configuration may serve both kinds */
        error_setg(errp, "-xen-domid-restrict (dm_restrict=1) takes xenstore "
                   "away, and there is no xenstore-filter in its place");
        return false;
    }
    if (!s->store.xsh) {
        error_setg_errno(errp, errno, "cannot open xenstore");
        return false;
    }
    if (read_os(errp) == XEN_FW_HANDOFF_OS_UNKNOWN) {
        return false;
    }
    trace_xen_fw_handoff_watch(s->store.root);
    s->watch = xs_node_watch(s->store.xsh, domain, "device", device_changed,
                             s, errp);
    /* Now, not at the watch's first event */
    return s->watch && xen_fw_handoff_for_each_frontend(
                           &s->store, frontend_changed, s, errp);
}

static void look_again(void *opaque)
{
    XenFwHandoff *s = opaque;

    if (!may_look(s)) {
        return;                 /* end_handoff() comes back to it */
    }
    if (!s->lost) {
        look_at_changed(s, true);
    } else if (s->state == XEN_FW_HANDOFF_STATE_ARMED) {
        xen_fw_handoff_warn(&s->report,
                            "inert, connections of the firmware will "
                            "stay: the connection to xenstore is lost");
        disarm(s);
        set_state(s, XEN_FW_HANDOFF_STATE_INERT);
        publish(s);
    }
}

static void arm(XenFwHandoff *s)
{
    Error *err = NULL;
    g_autofree char *domain = g_strdup_printf("/local/domain/%u", xen_domid);

    s->requests = 0;
    s->lost = false;
    s->store.root = g_strdup_printf("%s/device", domain);
    s->ledger = xen_fw_handoff_ledger_new();
    s->logged = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    s->changed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!try_arm(s, domain, &err)) {
        bool tell = s->store.xsh || !s->restricted;

        xen_fw_handoff_warn(&s->report,
                            "inert, connections of the firmware will stay: %s",
                            error_get_pretty(err));
        error_free(err);
        set_state(s, XEN_FW_HANDOFF_STATE_INERT);
        if (tell) {
            publish(s);
        }
        disarm(s);
        return;
    }
    set_state(s, XEN_FW_HANDOFF_STATE_ARMED);
    publish(s);
    xen_fw_handoff_say(&s->report, "armed for domain %u", xen_domid);
    if (s->scrub_grants && !xen_fw_handoff_table_refresh(&s->table, &err)) {
        xen_fw_handoff_warn(&s->report,
                            "grants: those of the firmware will stay: %s",
                            error_get_pretty(err));
        g_clear_pointer(&err, error_free);
    }
    s->seeded = xen_fw_handoff_grants_seeded(&s->table);
    trace_xen_fw_handoff_tell(domain, XEN_FW_HANDOFF_FEATURE);
    xs_node_printf(s->store.xsh, XBT_NULL, domain, XEN_FW_HANDOFF_FEATURE,
                   &err, "1");
    if (err) {
        xen_fw_handoff_warn(&s->report, "the firmware is not told: %s",
                            error_get_pretty(err));
        error_free(err);
    }
}

/* --- the handoff --------------------------------------------------------- */

static void add_task(const char *name, void *opaque)
{
    XenFwHandoff *s = opaque;
    g_autoptr(XenFwHandoffSnapshot) seen =
        xen_fw_handoff_read_frontend(&s->store, name, s->ledger,
                                     s->os == XEN_FW_HANDOFF_OS_ABSENT
                                         ? XEN_FW_HANDOFF_READ_FIRMWARE
                                         : XEN_FW_HANDOFF_READ_OS);
    g_autoptr(GHashTable) rings =
        xen_fw_handoff_ledger_rings(s->ledger, name, seen);
    GHashTable *keys = xen_fw_handoff_ledger_toolstack_keys(s->ledger, name);
    XenFwHandoffLedgerOwner owner;
    XenFwHandoffTask *task;
    uint16_t domid;

    if (seen->backend && xen_fw_handoff_backend_domid(seen->backend, &domid)) {
        g_hash_table_add(s->backend_domids, GUINT_TO_POINTER(domid));
    }

    seen->ring_in_use = g_hash_table_size(rings) &&
                        xen_fw_handoff_table_refresh(&s->table, NULL) &&
                        xen_fw_handoff_rings_in_use(&s->table, rings);
    owner = xen_fw_handoff_ledger_owner(s->ledger, name, seen, s->os);
    if (owner == XEN_FW_HANDOFF_NONE) {
        return;
    }
    if (owner != XEN_FW_HANDOFF_FIRMWARE || !seen->backend) {
        xen_fw_handoff_report_skipped(&s->report, name, seen->state, owner);
        return;
    }
    task = g_new0(XenFwHandoffTask, 1);
    task->name = g_strdup(name);
    task->frontend = g_strdup_printf("%s/%s", s->store.root, name);
    task->backend = g_steal_pointer(&seen->backend);
    task->keys = keys ? g_hash_table_ref(keys) : NULL;
    task->rings = g_steal_pointer(&rings);
    if (s->os == XEN_FW_HANDOFF_OS_PRESENT) {
        task->seen = g_steal_pointer(&seen);
    }
    g_ptr_array_add(s->tasks, task);
}

/*
 * Revoke the grants by which backends could map the firmware's pages again.
 * Entries for a domain with a backend of this guest are the firmware's if they
 * were there without an OS.  Other vCPUs went on while the backends closed, so
 * check again that there still is none.
 */
static void scrub_grants(XenFwHandoff *s)
{
    XenFwHandoffGrantCount count = { 0 };
    XenFwHandoffOs os = s->os;
    Error *err = NULL;

    if (!s->scrub_grants) {
        return;
    }
    if (!xen_fw_handoff_table_refresh(&s->table, &err)) {
        xen_fw_handoff_warn(&s->report,
                            "grants: those of the firmware are left: %s",
                            error_get_pretty(err));
        error_free(err);
        return;
    }
    if (os == XEN_FW_HANDOFF_OS_ABSENT) {
        os = record_grants(s);
    }
    if (os == XEN_FW_HANDOFF_OS_UNKNOWN || !s->grants) {
        return;
    }
    xen_fw_handoff_grants_clear(&s->table, s->backend_domids, s->grants,
                                s->seeded, &count);
    xen_fw_handoff_report_grants(&s->report, &count);
}

/*
 * The firmware's xenstore connection is a connection, too: its watches fire
 * when we write, and what it does not read any more fills a ring that the OS
 * expects to be empty.
 */
static void reset_xenstore(XenFwHandoff *s, int64_t until)
{
    int rc = xen_guest_ops->xenstore_reset(until);

    trace_xen_fw_handoff_reset_xenstore(rc);
    if (rc < 0) {
        xen_fw_handoff_warn(&s->report,
                            "xenstore: the firmware's watches stay, "
                            "the guest's ring may overflow: %s",
                            strerror(-rc));
    }
}

static void end_xenstore_reset(XenFwHandoff *s)
{
    if (s->xenstore_reset && xen_guest_ops->xenstore_reset_end) {
        xen_guest_ops->xenstore_reset_end();
    }
    s->xenstore_reset = false;
}

/* Is there anything of the firmware's, or was there in this life? */
static bool had_firmware(XenFwHandoff *s)
{
    return s->tasks->len || xen_fw_handoff_ledger_ever_connected(s->ledger);
}

/* Free what there is of a handoff, done or not */
static void drop_handoff(XenFwHandoff *s)
{
    end_xenstore_reset(s);
    g_clear_pointer(&s->teardown, xen_fw_handoff_teardown_free);
    g_clear_pointer(&s->tasks, g_ptr_array_unref);
    g_clear_pointer(&s->backend_domids, g_hash_table_unref);
}

static void end_handoff(void *opaque)
{
    XenFwHandoff *s = opaque;

    if (s->state != XEN_FW_HANDOFF_STATE_HANDING_OFF) {
        return;                 /* a backend's event before handoff_over() */
    }
    for (guint i = 0; i < s->tasks->len; i++) {
        xen_fw_handoff_report_task(&s->report, g_ptr_array_index(s->tasks, i));
    }
    if (had_firmware(s)) {
        scrub_grants(s);
    }
    end_xenstore_reset(s);
    xen_fw_handoff_report_done(&s->report);
    if (s->announced) {
        set_state(s, XEN_FW_HANDOFF_STATE_DONE);
    } else {
        drop_handoff(s);
        set_state(s, XEN_FW_HANDOFF_STATE_ARMED);
        timer_mod(s->look_timer, 0);
    }
    qemu_bh_schedule(s->over);
}

static void begin_handoff(XenFwHandoff *s, bool announced)
{
    int64_t start = get_clock(), spent_ms;
    Error *err = NULL;

    set_state(s, XEN_FW_HANDOFF_STATE_HANDING_OFF);
    xen_fw_handoff_report_begin(&s->report);
    s->announced = announced;
    s->tasks = g_ptr_array_new_with_free_func(
        (GDestroyNotify)xen_fw_handoff_task_free);
    s->backend_domids = g_hash_table_new(NULL, NULL);
    s->os = read_os(&err);
    if (err) {
        xen_fw_handoff_warn(&s->report, "every connection is skipped: %s",
                            error_get_pretty(err));
        g_clear_pointer(&err, error_free);
    }
    if (s->os == XEN_FW_HANDOFF_OS_PRESENT) {
        /* what waits for its turn to be looked at may be the OS's doing */
        look_at_changed(s, false);
    }
    if (!xen_fw_handoff_for_each_frontend(&s->store, add_task, s, &err)) {
        xen_fw_handoff_warn(&s->report,
                            "connections of the firmware will stay: %s",
                            error_get_pretty(err));
        error_free(err);
        s->report.now.failed++;
    }
    /*
     * A firmware that asks for a teardown reads on, and an OS has its own.  One
     * that has closed its devices may have left its watches.
     */
    if (announced && s->os == XEN_FW_HANDOFF_OS_ABSENT && had_firmware(s) &&
        xen_guest_ops->xenstore_reset) {
        s->xenstore_reset = true;
        reset_xenstore(s, start + MIN(s->timeout_ms / 4, MAX_XENSTORE_RESET_MS)
                                      * (int64_t)SCALE_MS);
    }
    if (!s->tasks->len) {
        end_handoff(s);
        return;
    }
    spent_ms = (get_clock() - start) / SCALE_MS;
    s->teardown = xen_fw_handoff_teardown_start(
        &s->store, &s->table, s->tasks,
        s->timeout_ms - MIN(spent_ms, s->timeout_ms), end_handoff, s);
    publish(s);
}

/* --- the announcement ---------------------------------------------------- */

/* Product numbers, from Xen's docs/misc/hvm-emulated-unplug and pvdrivers.h */
static const char *product_name(uint16_t product)
{
    switch (product) {
    case 1:
        return "Citrix Windows";
    case 2:
        return "GPLPV Windows";
    case 3:
        return "Linux";
    case 4:
        return "XenServer 7.0 Windows";
    case 5:
        return "XenServer 7.2 Windows";
    case 0xffff:
        return "experimental";
    default:
        return "not registered";
    }
}

/*
 * What a write to xen-platform's ports announces, if anything.  A byte to
 * PLATFORM_UNPLUG is nothing: it sets the platform's flags, and BIOSes do it.
 */
static Kind port_announces(hwaddr addr, unsigned size)
{
    if (addr == PLATFORM_PRODUCT && size == 2) {
        return KIND_PRODUCT;
    }
    if (addr == PLATFORM_UNPLUG && size == 4) {
        return KIND_BUILD;
    }
    if (addr == PLATFORM_UNPLUG && size == 2) {
        return KIND_UNPLUG;
    }
    if (addr == PLATFORM_PRODUCT && size == 1) {
        return KIND_LOG;
    }
    return KIND_NONE;
}

static Kind bar_announces(hwaddr addr, uint64_t val)
{
    bool announces = (addr == BAR_UNPLUG_ALL && val == 1) ||
                     (addr == BAR_UNPLUG_SOME && (val == 1 || val == 2));

    return announces ? KIND_BAR : KIND_NONE;
}

static char *describe(Kind kind, hwaddr addr, unsigned int val)
{
    switch (kind) {
    case KIND_PRODUCT:
        return g_strdup_printf("product number %u (%s) at port 0x12", val,
                               product_name(val));
    case KIND_BUILD:
        return g_strdup_printf("build number %u at port 0x10", val);
    case KIND_UNPLUG:
        return g_strdup_printf("unplug mask 0x%x at port 0x10", val);
    case KIND_LOG:
        return g_strdup("a driver's log line at port 0x12");
    case KIND_BAR:
        return g_strdup_printf("unplug request %u at BAR 0 + %u", val,
                               (unsigned int)addr);
    case KIND_CALLBACK:
        return g_strdup("HVM_PARAM_CALLBACK_IRQ");
    case KIND_NONE:
        break;
    }
    g_assert_not_reached();
}

/*
 * The guest announces its PV drivers.  Only the first time since reset counts;
 * later ones are only logged, once per kind.
 */
static void announce(XenFwHandoff *s, Kind kind, hwaddr addr, uint32_t val)
{
    g_autofree char *what = NULL;

    if (!s->done) {
        s->done = true;
        if (s->store.xsh) {
            what = describe(kind, addr, val);
            trace_xen_fw_handoff_announced(what);
            xen_fw_handoff_say(&s->report, "announced by %s", what);
            s->report.announcement = g_steal_pointer(&what);
            s->followed = BIT(kind) | BIT(KIND_LOG) | BIT(KIND_CALLBACK);
            begin_handoff(s, true);
        }
    } else if (s->report.announcement && !(s->followed & BIT(kind))) {
        s->followed |= BIT(kind);
        what = describe(kind, addr, val);
        xen_fw_handoff_say(&s->report, "followed by %s", what);
    }
}

/*
 * Firmware that knows when it is done asks for its teardown.  An OS cannot: its
 * connections are never torn down, so its vCPU is not held either.
 */
static void firmware_request(XenFwHandoff *s)
{
    if (s->done || !s->store.xsh || s->requests > MAX_REQUESTS) {
        return;
    }
    trace_xen_fw_handoff_request(s->requests);
    if (s->requests++ == MAX_REQUESTS) {
        xen_fw_handoff_warn(&s->report,
                            "the firmware has asked for %u teardowns, "
                            "no more are done",
                            MAX_REQUESTS);
    } else if (read_os(NULL) != XEN_FW_HANDOFF_OS_ABSENT) {
        xen_fw_handoff_say(&s->report,
                           "the firmware's request is ignored: an OS "
                           "is running");
    } else {
        xen_fw_handoff_say(&s->report, "the firmware asks for a teardown");
        begin_handoff(s, false);
    }
}

/* --- vCPUs that wait ------------------------------------------------------ */

/* A write that waits for the end of a handoff, or HVM_PARAM_CALLBACK_IRQ */
typedef struct HeldWrite {
    Kind kind;
    XenPlatformWrite w;
    bool taken;                 /* it was this one that began the handoff */
} HeldWrite;

static void take_write(XenFwHandoff *s, Kind kind, const XenPlatformWrite *w)
{
    if (kind == KIND_PRODUCT && w->val == XEN_FW_HANDOFF_PRODUCT) {
        firmware_request(s);
    } else {
        announce(s, kind, w->addr, w->val);
    }
}

static void held_write_free(HeldWrite *held)
{
    if (held->w.platform) {
        object_unref(held->w.platform);
    }
    g_free(held);
}

/* A handoff is under way, or what it has held is not done yet */
static bool is_holding(XenFwHandoff *s)
{
    return s->state == XEN_FW_HANDOFF_STATE_HANDING_OFF ||
           !g_queue_is_empty(&s->held);
}

/* The handoff begins with this write, or was under way when it came */
static bool take_or_hold(XenFwHandoff *s, Kind kind, const XenPlatformWrite *w)
{
    bool taken = !is_holding(s);
    HeldWrite *held;

    if (taken) {
        take_write(s, kind, w);
    }
    if (!is_holding(s) || !xen_guest_ops->vcpu_hold()) {
        return false;
    }
    held = g_new(HeldWrite, 1);
    *held = (HeldWrite) { kind, *w, taken };
    if (w->platform) {
        object_ref(w->platform); /* the guest may eject it */
    }
    g_queue_push_tail(&s->held, held);
    return true;
}

/* In the order in which they came.  One may begin a handoff of its own. */
static void let_go(XenFwHandoff *s)
{
    HeldWrite *held;

    while (s->state != XEN_FW_HANDOFF_STATE_HANDING_OFF &&
           (held = g_queue_peek_head(&s->held))) {
        if (!held->taken) {
            held->taken = true;
            take_write(s, held->kind, &held->w);
            continue;
        }
        g_queue_pop_head(&s->held);
        if (held->w.platform && DEVICE(held->w.platform)->realized) {
            xen_platform_act(&held->w);
        }
        held_write_free(held);
    }
    if (s->state != XEN_FW_HANDOFF_STATE_HANDING_OFF) {
        xen_guest_ops->vcpu_release();
    }
}

/*
 * In a bottom half that nobody polls for: a handoff may end while a disk
 * drains, and the unplug that it has held may free that disk.  For what comes
 * after let_go() the guest does not wait.
 */
static void handoff_over(void *opaque)
{
    XenFwHandoff *s = opaque;

    let_go(s);
    if (s->state == XEN_FW_HANDOFF_STATE_HANDING_OFF || !s->store.xsh) {
        return;
    }
    publish(s);
    if (s->state == XEN_FW_HANDOFF_STATE_DONE) {
        drop_handoff(s);
        disarm(s);
    }
}

/* Before xen-platform acts: its unplug meets PV disks at rest */
static void platform_written(Notifier *n, void *data)
{
    XenFwHandoff *s = container_of(n, XenFwHandoff, written);
    XenPlatformWrite *w = data;
    Kind kind = w->bar ? bar_announces(w->addr, w->val)
                       : port_announces(w->addr, w->size);

    if (kind == KIND_NONE) {
        return;
    }
    if (kind != KIND_LOG || !s->done) {
        trace_xen_fw_handoff_write(w->bar ? "BAR 0" : "port",
                                   w->bar ? w->addr : w->addr + PLATFORM_PORT,
                                   w->val, w->size);
    }
    w->deferred = take_or_hold(s, kind, w);
    if (s->state == XEN_FW_HANDOFF_STATE_DONE &&
        ++s->follow_ups > MAX_FOLLOW_UPS) {
        notifier_remove(&s->written);
        s->listening = false;
    }
}

static void listen_to_guest(XenFwHandoff *s)
{
    if (!s->listening) {
        xen_platform_add_write_notifier(&s->written);
        s->listening = true;
    }
}

/*
 * A guest that writes to no port (a kernel before the protocol, or Linux with
 * xen_emul_unplug=never) sets the parameter before it looks for its devices.
 * Xen does not notify QEMU, so poll.  The guest is not held, so the ledger has
 * to decide while the OS runs.
 */
static void poll_param(void *opaque)
{
    XenFwHandoff *s = opaque;

    if (record_grants(s) == XEN_FW_HANDOFF_OS_PRESENT &&
        s->state != XEN_FW_HANDOFF_STATE_HANDING_OFF) {
        announce(s, KIND_CALLBACK, 0, 0);
    } else {
        schedule_poll(s);
    }
}

/*
 * QEMU's own Xen notifies us, and the vCPU is held as with a port write: the
 * parameter gets set, but no further instruction runs.  What was granted before
 * it is set is the firmware's.
 */
static void callback_set(Notifier *n, void *data)
{
    XenFwHandoff *s = container_of(n, XenFwHandoff, callback);
    const XenPlatformWrite none = { NULL };

    if (s->state == XEN_FW_HANDOFF_STATE_ARMED) {
        xen_fw_handoff_table_refresh(&s->table, NULL);
        record_grants(s);
    }
    take_or_hold(s, KIND_CALLBACK, &none);
}

/* --- the device ---------------------------------------------------------- */

/* All devices exist, in whatever order they were given */
static void xen_fw_handoff_machine_done(Notifier *n, void *data)
{
    XenFwHandoff *s = container_of(n, XenFwHandoff, machine_done);

    if (!object_resolve_path_type("", TYPE_XEN_PLATFORM, NULL)) {
        warn_report(XEN_FW_HANDOFF_LOG "inert, no announcement can be seen: "
                    "the machine has no xen-platform device, set "
                    "xen_platform_pci=1 in the guest's configuration");
        set_state(s, XEN_FW_HANDOFF_STATE_INERT);
        publish(s);
        return;
    }
    s->written.notify = platform_written;
    listen_to_guest(s);
}

/*
 * Unless it was saved armed, what is restored was handed off before.  A domain
 * of Xen's that reboots is made anew, but before it ends its QEMU is reset: the
 * parameter says that this is its OS still.
 */
static void begin_life(void *opaque)
{
    XenFwHandoff *s = opaque;

    s->done |= read_os(NULL) == XEN_FW_HANDOFF_OS_PRESENT;
    if (s->done) {
        set_state(s, XEN_FW_HANDOFF_STATE_DONE);
    } else if (!s->restored && !s->store.root) {
        arm(s);
    }
}

/*
 * In the last phase: QEMU's own Xen clears HVM_PARAM_CALLBACK_IRQ in the one
 * before, and what is seen when arming is the firmware's only if it is 0.
 */
static void xen_fw_handoff_reset_exit(Object *obj, ResetType type)
{
    XenFwHandoff *s = XEN_FW_HANDOFF(obj);

    /* S3 resume is a reset to the machine, the OS lives on */
    if (type == RESET_TYPE_WAKEUP || !s->written.notify) {
        return;
    }
    qemu_bh_cancel(s->over);
    /* vCPUs that are held are reset, and what they wrote is void */
    drop_handoff(s);
    g_queue_clear_full(&s->held, (GDestroyNotify)held_write_free);
    xen_guest_ops->vcpu_release();
    disarm(s);
    xen_fw_handoff_report_reset(&s->report);
    s->followed = 0;
    s->follow_ups = 0;
    listen_to_guest(s);
    s->restored = type == RESET_TYPE_SNAPSHOT_LOAD ||
                  runstate_check(RUN_STATE_INMIGRATE);
    s->done = s->restored;
    if (s->restricted) {
        /* what is opened before the restriction is useless behind it */
        qemu_bh_schedule(s->restricted);
    } else {
        begin_life(s);
    }
}

/*
 * Code that stops the guest may be about to save it, and what a vCPU is held
 * for cannot be saved half done.  On a real Xen the toolstack waits for the
 * vCPU; here the end can be waited for, as with requests in flight.
 */
static void finish_handoffs(XenFwHandoff *s)
{
    do {
        while (s->state == XEN_FW_HANDOFF_STATE_HANDING_OFF) {
            aio_poll(qemu_get_aio_context(), true);
        }
        let_go(s);
    } while (s->state == XEN_FW_HANDOFF_STATE_HANDING_OFF);
}

/*
 * A guest that was saved while its firmware ran still has to announce its OS.
 * HVM_PARAM_CALLBACK_IRQ alone does not show that: Xen's toolstack does not
 * save it, and an OS announces itself anew before it sets it again.
 */
static void xen_fw_handoff_vm_state(void *opaque, bool running, RunState state)
{
    XenFwHandoff *s = opaque;

    if (!running && xen_guest_ops->events_in_drain) {
        finish_handoffs(s);
    }
    if (!running || !s->restored) {
        return;
    }
    s->restored = false;
    s->done = s->done || read_os(NULL) != XEN_FW_HANDOFF_OS_ABSENT;
    if (s->done) {
        xen_fw_handoff_say(&s->report, "not armed: the guest is restored, its "
                                       "connections are its OS's");
        publish(s);
    } else {
        arm(s);
    }
}

/*
 * A memory test, DOS, an OS without PV drivers: for whoever wonders why nothing
 * was handed off.  Nothing is published, since libxl may have removed the node.
 * A guest that was saved goes on elsewhere.
 */
static void xen_fw_handoff_at_exit(Notifier *n, void *data)
{
    XenFwHandoff *s = container_of(n, XenFwHandoff, exit);

    if (s->state == XEN_FW_HANDOFF_STATE_ARMED &&
        runstate_check(RUN_STATE_SHUTDOWN)) {
        xen_fw_handoff_say(&s->report,
                           "no OS has announced itself, connections of the "
                           "firmware that end with the guest: %u",
                           xen_fw_handoff_ledger_connections(s->ledger));
    }
}

/*
 * To close a connection, libxenstore cancels a thread.  glibc loads libgcc_s.so
 * for the first thread that ends like that, and aborts if there is none in the
 * chroot: let one end before.
 */
static void *end_thread(void *opaque)
{
    qemu_thread_exit(NULL);
    return NULL;
}

static void prepare_for_chroot(void)
{
    QemuThread thread;

    qemu_thread_create(&thread, "libgcc", end_thread, NULL,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);
}

/* Without it, as from a machine without the device: not armed */
static const VMStateDescription vmstate_xen_fw_handoff = {
    .name = TYPE_XEN_FW_HANDOFF,
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(done, XenFwHandoff),
        VMSTATE_END_OF_LIST()
    },
};

static void xen_fw_handoff_realize(DeviceState *dev, Error **errp)
{
    XenFwHandoff *s = XEN_FW_HANDOFF(dev);
    bool ambiguous = false;

    object_resolve_path_type("", TYPE_XEN_FW_HANDOFF, &ambiguous);
    if (ambiguous) {
        error_setg(errp, "at most one %s device is permitted",
                   TYPE_XEN_FW_HANDOFF);
        return;
    }
    if (!xen_guest_ops) {
        error_setg(errp, "%s works for HVM guests of Xen only: remove it, "
                   "start the guest with Xen's toolstack, or give it QEMU's "
                   "own Xen with -accel kvm,xen-version=0x40011",
                   TYPE_XEN_FW_HANDOFF);
        return;
    }
    if (s->timeout_ms > MAX_TIMEOUT_MS) {
        error_setg(errp, "timeout-ms=%u exceeds the maximum of %u",
                   s->timeout_ms, MAX_TIMEOUT_MS);
        return;
    }
    s->param_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, poll_param, s);
    s->look_timer = timer_new_ns(QEMU_CLOCK_REALTIME, look_again, s);
    ratelimit_init(&s->look_limit);
    ratelimit_set_speed(&s->look_limit, LOOK_US_PER_S,
                        LOOK_SLICE_MS * SCALE_MS);
    s->over = aio_bh_new(iohandler_get_aio_context(), handoff_over, s);
    if (xen_domid_restrict) {
        prepare_for_chroot();
        /* it waits for the main loop, when QEMU is in its chroot */
        s->restricted = aio_bh_new(iohandler_get_aio_context(), begin_life, s);
    }
    if (xen_guest_ops->add_callback_notifier) {
        s->callback.notify = callback_set;
        xen_guest_ops->add_callback_notifier(&s->callback);
    }
    s->machine_done.notify = xen_fw_handoff_machine_done;
    qemu_add_machine_init_done_notifier(&s->machine_done);
    s->exit.notify = xen_fw_handoff_at_exit;
    qemu_add_exit_notifier(&s->exit);
    qemu_add_vm_change_state_handler(xen_fw_handoff_vm_state, s);
    /* It is on no bus that would reset it */
    qemu_register_resettable(OBJECT(s));
}

XenFwHandoffInfo *qmp_query_xen_fw_handoff(Error **errp)
{
    Object *obj = object_resolve_path_type("", TYPE_XEN_FW_HANDOFF, NULL);
    XenFwHandoff *s;

    if (!obj) {
        error_setg(errp, "this machine has no %s device", TYPE_XEN_FW_HANDOFF);
        return NULL;
    }
    s = XEN_FW_HANDOFF(obj);
    /* Who asks gets to know what is so now */
    if (s->state == XEN_FW_HANDOFF_STATE_ARMED) {
        look_at_changed(s, false);
    }
    return xen_fw_handoff_report_info(
        &s->report, s->state,
        s->state == XEN_FW_HANDOFF_STATE_DONE ? NULL : s->ledger);
}

static const Property xen_fw_handoff_properties[] = {
    DEFINE_PROP_UINT32("timeout-ms", XenFwHandoff, timeout_ms, 2000),
    DEFINE_PROP_BOOL("scrub-grants", XenFwHandoff, scrub_grants, true),
};

static void xen_fw_handoff_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    dc->desc = "Xen firmware-to-OS handoff of PV devices";
    dc->realize = xen_fw_handoff_realize;
    dc->vmsd = &vmstate_xen_fw_handoff;
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    rc->phases.exit = xen_fw_handoff_reset_exit;
    device_class_set_props(dc, xen_fw_handoff_properties);
    object_class_property_set_description(klass, "timeout-ms",
        "How long a handoff may take, in milliseconds, without time in which "
        "QEMU stands still");
    object_class_property_set_description(klass, "scrub-grants",
        "Clear the firmware's entries in the grant table");
}

static const TypeInfo xen_fw_handoff_types[] = {
    {
        .name = TYPE_XEN_FW_HANDOFF,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(XenFwHandoff),
        .class_init = xen_fw_handoff_class_init,
    },
};

DEFINE_TYPES(xen_fw_handoff_types)

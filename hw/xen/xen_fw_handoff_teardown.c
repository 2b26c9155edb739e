/*
 * Xen firmware handoff: leading backends back to InitWait
 *
 * What each backend needs before it lets go of the guest's pages is not
 * written down in Xen's headers.  Linux blkback frees them when the frontend
 * is Closed, netback when it leaves Connected, scsiback when the frontend is
 * Closing, and the first two go to InitWait only from Closed, when the frontend
 * is Initialising again.  So a frontend walks Closing, where its backend needs
 * it, Closed, Initialising, and each step waits for the backend to follow: a
 * watch reads the present value, a state that is overwritten at once was never
 * seen.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "qemu/main-loop.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/xen-bus-helper.h"
#include "xen_fw_handoff_xenstore.h"
#include "xen_fw_handoff_teardown.h"
#include "trace.h"

/* How often to ask a backend again that has requests under way */
#define BUSY_MS 5

/* The guest can make every transaction fail by writing all the time */
#define MAX_TRANSACTIONS 8

/* Time reserved for restoring one frontend when its backend did not follow */
#define RESTORE_US 1000

/* How often to look whether the main loop stands still, and what is late */
#define BEAT_MS 50
#define LATE_MS 50

static const struct {
    enum xenbus_state frontend; /* write this */
    enum xenbus_state backend;  /* wait for that */
} steps[] = {
    { XenbusStateClosing, XenbusStateClosing },
    { XenbusStateClosed, XenbusStateClosed },
    { XenbusStateInitialising, XenbusStateInitWait },
};

struct XenFwHandoffTeardown {
    const XenFwHandoffXs *store;
    XenFwHandoffTable *table;
    GPtrArray *tasks;
    uint32_t timeout_ms;
    XenFwHandoffTeardownFn *done;
    void *opaque;

    unsigned int pending;       /* tasks that have not ended */
    GHashTable *by_backend;     /* tasks, by the backend's directory */
    GHashTable *watches;        /* directory to its qemu_xs_watch */
    QEMUTimer timer;
    int64_t start, deadline;    /* ns, on the timer's clock */
    int64_t wake;               /* when the timer should come, 0: at once */
    int64_t alive;              /* when we were last asked to do something */
    int64_t stood_still;        /* ns that the deadline has not been given */
    bool advanced;              /* a task has, since the timer last came */
    int64_t ask_at;             /* again, a busy backend; 0: there is none */
};

static int64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

void xen_fw_handoff_task_free(XenFwHandoffTask *task)
{
    g_free(task->name);
    g_free(task->frontend);
    g_free(task->backend);
    g_clear_pointer(&task->keys, g_hash_table_unref);
    g_hash_table_unref(task->rings);
    xen_fw_handoff_snapshot_free(task->seen);
    error_free(task->error);
    g_free(task);
}

static bool is_pending(const XenFwHandoffTask *task)
{
    return task->result == XEN_FW_HANDOFF_PENDING;
}

/* --- the frontend --------------------------------------------------------- */

/*
 * If an OS runs meanwhile: has it taken the frontend?  It may have reset and
 * connected it since it was seen, so that the state is the same again.  Later
 * on the state is what we wrote, and any other is the OS's doing.
 */
static bool is_claimed(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                       xs_transaction_t tid, enum xenbus_state state)
{
    XenFwHandoffXs store = *t->store;
    g_autoptr(XenFwHandoffSnapshot) now = NULL;

    if (!task->seen) {
        return task->frontend_state != XenbusStateUnknown &&
               task->frontend_state != state;
    }
    store.tid = tid;
    now = xen_fw_handoff_read_frontend(&store, task->name, NULL,
                                       XEN_FW_HANDOFF_READ_OS);
    return !xen_fw_handoff_snapshot_equal(task->seen, now);
}

/*
 * May the frontend still be written to?  Not if the domain is being destroyed:
 * what we write would stay for ever.
 */
static void check_frontend(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                           xs_transaction_t tid, Error **errp)
{
    enum xenbus_state state;
    int rc = xen_fw_handoff_read_state(t->store->xsh, tid, task->frontend,
                                       &state);
    unsigned int n;
    char **keys;

    if (rc == -ENOENT) {
        keys = qemu_xen_xs_directory(t->store->xsh, tid, task->frontend, &n);
        if (!keys && errno == ENOENT) {
            task->result = XEN_FW_HANDOFF_BACKEND_GONE;
            return;
        }
        free(keys); /* one block, the strings included */
    } else if (rc < 0 && rc != -EINVAL) {
        error_setg_errno(errp, -rc, "cannot read '%s/state'", task->frontend);
        return;
    }
    if (is_claimed(t, task, tid, state)) {
        task->result = XEN_FW_HANDOFF_CLAIMED_BY_OS;
    }
}

static void remove_keys(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                        xs_transaction_t tid, Error **errp)
{
    ERRP_GUARD();
    unsigned int n = 0;
    char **keys = qemu_xen_xs_directory(t->store->xsh, tid, task->frontend, &n);

    if (!keys) {
        error_setg_errno(errp, errno, "cannot list '%s'", task->frontend);
    }
    for (unsigned int i = 0; i < n && !*errp; i++) {
        if (strcmp(keys[i], "state") &&
            !g_hash_table_contains(task->keys, keys[i])) {
            g_autofree char *path = g_strdup_printf("%s/%s", task->frontend,
                                                    keys[i]);

            trace_xen_fw_handoff_remove(path);
            xs_node_destroy(t->store->xsh, tid, path, errp);
        }
    }
    free(keys);
}

/* One attempt; returns false if another writer came in between */
static bool try_write_state(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                            enum xenbus_state state, bool restore, Error **errp)
{
    ERRP_GUARD();
    xs_transaction_t tid = qemu_xen_xs_transaction_start(t->store->xsh);
    bool commit;

    if (tid == XBT_NULL) {
        error_setg_errno(errp, errno, "cannot start a xenstore transaction");
        return true;
    }
    check_frontend(t, task, tid, errp);
    if (!*errp && is_pending(task) && restore && task->keys) {
        remove_keys(t, task, tid, errp);
    }
    if (!*errp && is_pending(task)) {
        trace_xen_fw_handoff_frontend_state(task->name,
                                            xen_fw_handoff_state_name(state));
        xs_node_printf(t->store->xsh, tid, task->frontend, "state", errp, "%u",
                       state);
    }
    commit = !*errp && is_pending(task);
    if (!qemu_xen_xs_transaction_end(t->store->xsh, tid, !commit) && commit) {
        if (errno == EAGAIN) {
            return false;
        }
        error_setg_errno(errp, errno, "cannot end a xenstore transaction");
    } else if (commit && (task->seen || task->frontend_state)) {
        task->frontend_state = state;
        g_clear_pointer(&task->seen, xen_fw_handoff_snapshot_free);
    }
    return true;
}

/*
 * Always in a transaction that has seen what it replaces: a frontend that has
 * meanwhile been taken by an OS, or has gone, ends the task and nothing is
 * written.  With @restore, keys that the toolstack did not write go as well.
 */
static void write_state(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                        enum xenbus_state state, bool restore, Error **errp)
{
    for (int i = 0; i < MAX_TRANSACTIONS; i++) {
        if (try_write_state(t, task, state, restore, errp)) {
            return;
        }
    }
    error_setg(errp, "the guest kept writing to '%s', %s", task->frontend,
               restore ? "its keys are left there" : "its state is left");
}

/*
 * The frontend as the toolstack made it.  In one transaction: neither the OS
 * nor a backend sees Initialising together with a ring of the firmware.
 */
static void restore_frontend(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    write_state(t, task, XenbusStateInitialising, true, &task->error);
    /* Whatever it was, the OS may still be able to use a frontend at rest */
    if (task->error && is_pending(task)) {
        write_state(t, task, XenbusStateInitialising, false, NULL);
    }
}

/* --- one task ------------------------------------------------------------- */

/*
 * A task that was CLAIMED_BY_OS or found its frontend GONE has ended as that,
 * one with an error has FAILED
 */
static void finish(XenFwHandoffTeardown *t, XenFwHandoffTask *task,
                   XenFwHandoffTaskResult result)
{
    if (is_pending(task)) {
        task->result = task->error ? XEN_FW_HANDOFF_FAILED : result;
    }
    task->us = (now() - t->start) / SCALE_US;
    t->pending--;
}

static bool is_type(const char *backend, const char *type)
{
    g_autofree char *part = g_strdup_printf("/backend/%s/", type);

    return strstr(backend, part);
}

/*
 * Closed alone is enough for these in Linux, FreeBSD, NetBSD and QEMU, and it
 * spares up to a fifth of the wait.  Linux scsiback needs Closing, as others
 * may.
 */
static bool needs_closing(const char *backend)
{
    return !is_type(backend, "vbd") && !is_type(backend, "qdisk") &&
           !is_type(backend, "vif");
}

/*
 * Some backends do not return to InitWait: Linux scsiback by itself never, and
 * none that the toolstack is about to remove ("online" is 0).
 */
static bool stays_closed(XenFwHandoffTeardown *t, const char *backend)
{
    unsigned int online;

    return is_type(backend, "vscsi") ||
           (xs_node_scanf(t->store->xsh, XBT_NULL, backend, "online", NULL,
                          "%u", &online) == 1 && !online);
}

/* Write what the task's step says; a failure ends the task */
static void write_step(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    enum xenbus_state state = steps[task->step].frontend;
    bool arrived = false;

    task->waiting_for = steps[task->step].backend;
    if (state == XenbusStateInitialising) {
        /* it is Closed already, and will write nothing that could be awaited */
        arrived = stays_closed(t, task->backend);
        restore_frontend(t, task);
    } else {
        write_state(t, task, state, false, &task->error);
    }
    if (task->error || !is_pending(task) || arrived) {
        finish(t, task, XEN_FW_HANDOFF_DONE);
    }
}

bool xen_fw_handoff_rings_in_use(const XenFwHandoffTable *table,
                                 GHashTable *rings)
{
    GHashTableIter iter;
    gpointer ref;

    g_hash_table_iter_init(&iter, rings);
    while (g_hash_table_iter_next(&iter, &ref, NULL)) {
        if (GPOINTER_TO_UINT(ref) >= XEN_FW_HANDOFF_FIRST_GRANT &&
            xen_fw_handoff_table_in_use(table, GPOINTER_TO_UINT(ref))) {
            return true;
        }
    }
    return false;
}

/*
 * Linux blkback goes to Closed even while requests are under way, and keeps the
 * rings and their pages then (xen_blkif_disconnect() returns -EBUSY, which
 * nobody looks at); so does tapback.  They try again whenever the frontend's
 * state is written.  Which of the keys a backend has believed is its affair: as
 * long as any ring is in use, it is not done.
 */
static bool holds_rings(XenFwHandoffTeardown *t, const XenFwHandoffTask *task)
{
    return steps[task->step].frontend == XenbusStateClosed &&
           xen_fw_handoff_table_refresh(t->table, NULL) &&
           xen_fw_handoff_rings_in_use(t->table, task->rings);
}

/* A backend may be ahead of us: blkback goes from Closing to Closed at once */
static bool backend_followed(const XenFwHandoffTask *task)
{
    return task->backend_state == task->waiting_for ||
           (task->waiting_for == XenbusStateClosing &&
            task->backend_state == XenbusStateClosed);
}

/* Read what the backend does, and go on with the task if it has followed */
static void advance(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    int rc = xen_fw_handoff_read_state(t->store->xsh, XBT_NULL, task->backend,
                                       &task->backend_state);

    if (rc == -ENOENT) {
        restore_frontend(t, task);
        finish(t, task, XEN_FW_HANDOFF_BACKEND_GONE);
        return;
    }
    if (!backend_followed(task)) {
        task->busy = false;
        return;
    }
    trace_xen_fw_handoff_backend_state(
        task->backend, xen_fw_handoff_state_name(task->backend_state));
    task->busy = holds_rings(t, task);
    if (task->busy) {
        trace_xen_fw_handoff_busy(task->backend);
        t->ask_at = t->ask_at ?: now() + BUSY_MS * SCALE_MS;
        return;
    }
    t->advanced = true;
    if (++task->step == ARRAY_SIZE(steps)) {
        finish(t, task, XEN_FW_HANDOFF_DONE);
    } else {
        write_step(t, task);
    }
}

static void give_up(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    trace_xen_fw_handoff_hanging(task->backend,
                                 xen_fw_handoff_state_name(task->waiting_for));
    if (steps[task->step].frontend != XenbusStateInitialising) {
        restore_frontend(t, task);
    }
    finish(t, task, XEN_FW_HANDOFF_TIMED_OUT);
}

/* --- all of them ---------------------------------------------------------- */

/* When waiting ends: restoring the frontends that are left takes time, too */
static int64_t waits_until(const XenFwHandoffTeardown *t)
{
    int64_t reserve = t->pending * (int64_t)RESTORE_US * SCALE_US;

    return t->deadline - MIN(reserve, t->timeout_ms * (int64_t)SCALE_MS / 2);
}

/* We should have been asked earlier: QEMU stood still, perhaps all the time */
static void note_standstill(XenFwHandoffTeardown *t)
{
    if (t->wake && now() - t->wake > LATE_MS * SCALE_MS) {
        t->stood_still += now() - t->alive;
    }
    t->alive = now();
}

/*
 * The end is reported from the timer, too: done() frees the teardown, and may
 * close the handle whose watch we are called from.
 */
static void schedule(XenFwHandoffTeardown *t)
{
    note_standstill(t);
    t->wake = 0;
    if (t->pending) {
        t->wake = MIN(waits_until(t), t->alive + BEAT_MS * SCALE_MS);
        t->wake = t->ask_at ? MIN(t->wake, t->ask_at) : t->wake;
    }
    timer_mod(&t->timer, t->wake);
}

/* Those with a backend in that directory */
static void advance_all(XenFwHandoffTeardown *t, const char *dir)
{
    for (guint i = 0; i < t->tasks->len; i++) {
        XenFwHandoffTask *task = g_ptr_array_index(t->tasks, i);

        if (is_pending(task) && g_str_has_prefix(task->backend, dir)) {
            advance(t, task);
        }
    }
}

static void backend_changed(void *opaque, const char *path)
{
    XenFwHandoffTeardown *t = opaque;
    g_autofree char *backend =
        g_str_has_suffix(path, "/state") ? g_path_get_dirname(path)
                                         : g_strdup(path); /* is it gone? */
    XenFwHandoffTask *task = g_hash_table_lookup(t->by_backend, backend);

    if (task && is_pending(task)) {
        advance(t, task);
    }
    /* The first event of a watch, or the directory is gone with all in it */
    if (g_hash_table_contains(t->watches, path)) {
        advance_all(t, path);
    }
    schedule(t);
}

void xen_fw_handoff_teardown_frontend_changed(XenFwHandoffTeardown *t,
                                              const char *name)
{
    for (guint i = 0; i < t->tasks->len; i++) {
        XenFwHandoffTask *task = g_ptr_array_index(t->tasks, i);

        if (is_pending(task) && !strcmp(task->name, name)) {
            check_frontend(t, task, XBT_NULL, NULL);
            if (!is_pending(task)) {
                finish(t, task, task->result);
                schedule(t);
            }
        }
    }
}

/* A backend that was asked again and is still busy */
static void ask_again(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    advance(t, task);
    if (is_pending(task) && task->busy) {
        write_step(t, task);
    }
}

static void teardown_timer(void *opaque)
{
    XenFwHandoffTeardown *t = opaque;

    note_standstill(t);
    /* What backends have done meanwhile may not have been heard of yet */
    if (now() >= waits_until(t)) {
        advance_all(t, "");
    }
    /* That ends: a task has few steps */
    if (t->advanced) {
        t->deadline += t->stood_still;
        t->stood_still = 0;
        t->advanced = false;
    }
    t->ask_at = 0;
    for (guint i = 0; i < t->tasks->len; i++) {
        XenFwHandoffTask *task = g_ptr_array_index(t->tasks, i);

        if (is_pending(task) && now() >= waits_until(t)) {
            give_up(t, task);
        } else if (is_pending(task) && task->busy) {
            ask_again(t, task);
        }
    }
    if (t->pending) {
        schedule(t);
    } else {
        t->done(t->opaque);
    }
}

/* One watch for all backends of a kind, "/local/domain/0/backend/vbd/5" */
static bool watch_backend(XenFwHandoffTeardown *t, XenFwHandoffTask *task)
{
    g_autofree char *dir = g_path_get_dirname(task->backend);
    struct qemu_xs_watch *watch;

    if (g_hash_table_contains(t->watches, dir)) {
        return true;
    }
    watch = xs_node_watch(t->store->xsh, "", dir, backend_changed, t,
                          &task->error);
    if (watch) {
        g_hash_table_insert(t->watches, g_steal_pointer(&dir), watch);
    }
    return watch;
}

XenFwHandoffTeardown *xen_fw_handoff_teardown_start(
    const XenFwHandoffXs *store, XenFwHandoffTable *table, GPtrArray *tasks,
    uint32_t timeout_ms, XenFwHandoffTeardownFn *done, void *opaque)
{
    XenFwHandoffTeardown *t = g_new0(XenFwHandoffTeardown, 1);

    t->store = store;
    t->table = table;
    t->tasks = g_ptr_array_ref(tasks);
    t->timeout_ms = timeout_ms;
    t->done = done;
    t->opaque = opaque;
    t->pending = tasks->len;
    t->by_backend = g_hash_table_new(g_str_hash, g_str_equal);
    t->watches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    /*
     * The timer comes where events do, or a drain would use up our time without
     * them.  Code that waits for the end may poll no context but this one.
     */
    if (xen_guest_ops->events_in_drain) {
        aio_timer_init(qemu_get_aio_context(), &t->timer, QEMU_CLOCK_REALTIME,
                       SCALE_NS, teardown_timer, t);
    } else {
        timer_init_ns(&t->timer, QEMU_CLOCK_REALTIME, teardown_timer, t);
    }
    t->start = now();
    t->deadline = t->start + timeout_ms * (int64_t)SCALE_MS;

    for (guint i = 0; i < tasks->len; i++) {
        XenFwHandoffTask *task = g_ptr_array_index(tasks, i);

        g_hash_table_insert(t->by_backend, task->backend, task);
        task->step = needs_closing(task->backend) ? 0 : 1;
        if (watch_backend(t, task)) {
            write_step(t, task);
        } else {
            write_state(t, task, XenbusStateInitialising, true, NULL);
            finish(t, task, XEN_FW_HANDOFF_FAILED);
        }
    }
    schedule(t);
    return t;
}

void xen_fw_handoff_teardown_free(XenFwHandoffTeardown *t)
{
    GHashTableIter iter;
    gpointer watch;

    if (!t) {
        return;
    }
    g_hash_table_iter_init(&iter, t->watches);
    while (g_hash_table_iter_next(&iter, NULL, &watch)) {
        xs_node_unwatch(t->store->xsh, watch);
    }
    timer_del(&t->timer);
    g_hash_table_unref(t->watches);
    g_hash_table_unref(t->by_backend);
    g_ptr_array_unref(t->tasks);
    g_free(t);
}

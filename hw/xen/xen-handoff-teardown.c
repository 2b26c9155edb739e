/*
 * Xen firmware handoff: leading backends back to InitWait
 *
 * What each backend needs before it lets go of the guest's pages is not
 * written down in Xen's headers.  Linux blkback frees them when the frontend
 * is Closed, netback when it leaves Connected, and both go to InitWait only
 * from Closed, when the frontend is Initialising again.  So every frontend
 * walks Closing, Closed, Initialising, and each step waits for the backend to
 * follow: a watch reads the present value, a state that is overwritten at once
 * was never seen.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "hw/xen/xen-bus-helper.h"
#include "xen-handoff-grants.h"
#include "xen-handoff-store.h"
#include "xen-handoff-teardown.h"
#include "trace.h"

/*
 * How often to look at the backends of other processes without having been
 * told: where nobody tells, and should an event get lost.
 */
#define POLL_US 500
#define LOOK_MS 50

/* How often to ask a backend again that has requests under way */
#define BUSY_MS 5

/* The guest can make every transaction fail by writing all the time */
#define MAX_TRANSACTIONS 8

/* What restore_frontend() costs, in writes of a state; netback's keys: 12 */
#define RESTORE_COST 4

static const struct {
    enum xenbus_state frontend; /* write this */
    enum xenbus_state backend;  /* wait for that */
} steps[] = {
    { XenbusStateClosing, XenbusStateClosing },
    { XenbusStateClosed, XenbusStateClosed },
    { XenbusStateInitialising, XenbusStateInitWait },
};

/*
 * Some backends do not return to InitWait: Linux scsiback by itself never, and
 * none that the toolstack is about to remove ("online" is 0).
 */
static bool stays_closed(struct qemu_xs_handle *xsh, const char *backend)
{
    unsigned int online;

    return strstr(backend, "/backend/vscsi/") ||
           (xs_node_scanf(xsh, XBT_NULL, backend, "online", NULL, "%u",
                          &online) == 1 && !online);
}

void xen_handoff_task_free(XenHandoffTask *task)
{
    g_free(task->name);
    g_free(task->frontend);
    g_free(task->backend);
    if (task->local) {
        object_unref(OBJECT(task->local));
    }
    g_hash_table_unref(task->rings);
    error_free(task->error);
    g_free(task);
}

static bool is_running(const XenHandoffTask *task)
{
    return task->result == XEN_HANDOFF_RUNNING;
}

/*
 * May the frontend still be written to?  Not if the domain is being destroyed:
 * what we write would stay for ever.  And where an OS runs while we work, a
 * state that is not the one that we know is the OS's word: it resets the
 * frontend itself, or connects it.
 */
static void check_frontend(struct qemu_xs_handle *xsh, XenHandoffTask *task,
                           xs_transaction_t tid, Error **errp)
{
    enum xenbus_state state = xen_handoff_read_state(xsh, tid, task->frontend);
    unsigned int n;
    char **keys;

    if (state == XenbusStateUnknown && errno == ENOENT) {
        keys = qemu_xen_xs_directory(xsh, tid, task->frontend, &n);
        if (!keys && errno == ENOENT) {
            task->result = XEN_HANDOFF_GONE;
            return;
        }
        free(keys); /* one block, the strings included */
    } else if (state == XenbusStateUnknown && errno != EINVAL) {
        error_setg_errno(errp, errno, "cannot read '%s/state'", task->frontend);
        return;
    }
    if (task->frontend_state != XenbusStateUnknown &&
        task->frontend_state != state) {
        task->result = XEN_HANDOFF_TAKEN;
    }
}

static void remove_keys(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                        XenHandoffTask *task, xs_transaction_t tid,
                        Error **errp)
{
    ERRP_GUARD();
    unsigned int n = 0;
    char **keys = qemu_xen_xs_directory(xsh, tid, task->frontend, &n);

    if (!keys) {
        error_setg_errno(errp, errno, "cannot list '%s'", task->frontend);
    }
    for (unsigned int i = 0; i < n && !*errp; i++) {
        if (strcmp(keys[i], "state") &&
            !xen_handoff_ledger_toolstack_wrote(ledger, task->name, keys[i])) {
            g_autofree char *path = g_strdup_printf("%s/%s", task->frontend,
                                                    keys[i]);

            trace_xen_fw_handoff_remove(path);
            xs_node_destroy(xsh, tid, path, errp);
        }
    }
    free(keys);
}

/* One attempt; returns false if another writer came in between */
static bool try_write_state(struct qemu_xs_handle *xsh,
                            XenHandoffLedger *ledger, XenHandoffTask *task,
                            enum xenbus_state state, Error **errp)
{
    ERRP_GUARD();
    xs_transaction_t tid = qemu_xen_xs_transaction_start(xsh);
    bool commit;

    if (tid == XBT_NULL) {
        error_setg_errno(errp, errno, "cannot start a xenstore transaction");
        return true;
    }
    check_frontend(xsh, task, tid, errp);
    if (!*errp && is_running(task) && ledger) {
        remove_keys(xsh, ledger, task, tid, errp);
    }
    if (!*errp && is_running(task)) {
        trace_xen_fw_handoff_frontend_state(task->name,
                                            xen_handoff_state_name(state));
        xs_node_printf(xsh, tid, task->frontend, "state", errp, "%u", state);
    }
    commit = !*errp && is_running(task);
    if (!qemu_xen_xs_transaction_end(xsh, tid, !commit) && commit) {
        if (errno == EAGAIN) {
            return false;
        }
        error_setg_errno(errp, errno, "cannot end a xenstore transaction");
    } else if (commit && task->frontend_state != XenbusStateUnknown) {
        task->frontend_state = state;
    }
    return true;
}

/*
 * Always in a transaction that has seen what it replaces: a frontend that has
 * meanwhile been taken by an OS, or has gone, ends the task and nothing is
 * written.  With @ledger, what the toolstack did not write goes as well.
 */
static void write_state(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                        XenHandoffTask *task, enum xenbus_state state,
                        Error **errp)
{
    for (int i = 0; i < MAX_TRANSACTIONS; i++) {
        if (try_write_state(xsh, ledger, task, state, errp)) {
            return;
        }
    }
    error_setg(errp, "the guest kept writing to '%s', %s", task->frontend,
               ledger ? "its keys are left there" : "its state is left");
}

/*
 * The frontend as the toolstack made it.  In one transaction: neither the OS
 * nor a backend sees Initialising together with a ring of the firmware.
 */
static void restore_frontend(struct qemu_xs_handle *xsh,
                             XenHandoffLedger *ledger, XenHandoffTask *task,
                             Error **errp)
{
    ERRP_GUARD();

    write_state(xsh, ledger, task, XenbusStateInitialising, errp);
    /* Whatever it was, the OS may still be able to use a frontend at rest */
    if (*errp && is_running(task)) {
        write_state(xsh, NULL, task, XenbusStateInitialising, NULL);
    }
}

/* A task that was TAKEN or found its frontend GONE has ended as that */
static void finish(XenHandoffTask *task, XenHandoffResult result, int64_t start)
{
    if (is_running(task)) {
        task->result = task->error ? XEN_HANDOFF_FAILED : result;
    }
    task->us = (get_clock() - start) / SCALE_US;
}

/* What the backend would do for @state; returns false if that was its end */
static bool local_step(XenHandoffTask *task, enum xenbus_state state)
{
    XenDevice *xendev = task->local;
    XenDeviceClass *xendev_class = XEN_DEVICE_GET_CLASS(xendev);

    /* An administrator's device_del may come true while a disk drains */
    if (DEVICE(xendev)->realized && !task->error &&
        xendev_class->frontend_changed) {
        xendev_class->frontend_changed(xendev, state, &task->error);
    }
    return DEVICE(xendev)->realized;
}

/*
 * What the backend would do by itself, one watch event after the other.
 *
 * "state" is written first: whatever runs while a disk drains reads a frontend
 * at rest and does not connect it again.  The watch events of our own writes
 * come when all is done and find nothing to do.
 */
static void teardown_local(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                           XenHandoffTask *task)
{
    XenDevice *xendev = task->local;
    int64_t start = get_clock();
    bool alive;

    trace_xen_fw_handoff_local(task->name);
    /* Should that fail, the next one tells; the disk is closed all the same */
    write_state(xsh, NULL, task, XenbusStateInitialising, NULL);
    if (!is_running(task)) {
        finish(task, task->result, start);
        return;
    }
    alive = local_step(task, XenbusStateClosing) &&
            local_step(task, XenbusStateClosed);
    if (!task->error) {
        restore_frontend(xsh, ledger, task, &task->error);
    }
    if (!alive) {
        finish(task, XEN_HANDOFF_GONE, start);
        return;
    }
    xendev->frontend_state = XenbusStateInitialising;
    /* also if the OS has been quick: it waits for InitWait */
    if (!task->error && xendev->backend_online) {
        xen_device_backend_set_state(xendev, XenbusStateInitWait);
    }
    task->backend_state = xendev->backend_state;
    trace_xen_fw_handoff_backend_state(
        task->backend, xen_handoff_state_name(task->backend_state));
    finish(task, XEN_HANDOFF_DONE, start);
}

/* --- waiting for backends of other processes ------------------------------ */

/*
 * Of a handle of its own: no other watch of this process has its turn while the
 * vCPU stands in its port write.
 */
typedef struct Waiting {
    struct qemu_xs_handle *xsh; /* NULL: nobody tells, so look and sleep */
    GHashTable *watches;        /* directory to its qemu_xs_watch */
    GHashTable *running;        /* set of tasks */
    GHashTable *by_backend;     /* the same, by the backend's directory */
    GPtrArray *moved;           /* tasks whose backend may have moved */
    int64_t heard;              /* when anything was last known of all */
    int64_t asked;              /* when those with requests were */
    XenHandoffTable *table;     /* the guest's */
} Waiting;

static void backend_changed(void *opaque, const char *path)
{
    Waiting *w = opaque;
    g_autofree char *backend =
        g_str_has_suffix(path, "/state") ? g_path_get_dirname(path)
                                         : g_strdup(path); /* is it gone? */
    XenHandoffTask *task = g_hash_table_lookup(w->by_backend, backend);

    if (task) {
        g_ptr_array_add(w->moved, task);
    }
}

static void stop_telling(Waiting *w)
{
    GHashTableIter iter;
    gpointer watch;

    g_hash_table_iter_init(&iter, w->watches);
    while (g_hash_table_iter_next(&iter, NULL, &watch)) {
        xs_node_unwatch(w->xsh, watch);
        g_hash_table_iter_remove(&iter);
    }
    g_clear_pointer(&w->xsh, qemu_xen_xs_close);
}

/* One watch for all backends of a kind, "/local/domain/0/backend/vbd/5" */
static void watch_backend(Waiting *w, const char *backend)
{
    g_autofree char *dir = g_path_get_dirname(backend);
    struct qemu_xs_watch *watch;

    if (!w->xsh || g_hash_table_contains(w->watches, dir)) {
        return;
    }
    watch = xs_node_watch(w->xsh, "", dir, backend_changed, w, NULL);
    if (watch) {
        g_hash_table_insert(w->watches, g_steal_pointer(&dir), watch);
    } else {
        stop_telling(w);
    }
}

static void waiting_init(Waiting *w, XenHandoffTable *table, GPtrArray *tasks)
{
    w->watches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    w->running = g_hash_table_new(NULL, NULL);
    w->by_backend = g_hash_table_new(g_str_hash, g_str_equal);
    w->moved = g_ptr_array_new();
    w->heard = w->asked = get_clock();
    w->xsh = NULL;
    w->table = table;
    for (guint i = 0; i < tasks->len; i++) {
        XenHandoffTask *task = g_ptr_array_index(tasks, i);

        if (!task->local) {
            g_hash_table_add(w->running, task);
            g_hash_table_insert(w->by_backend, task->backend, task);
        }
    }
    if (g_hash_table_size(w->running) && qemu_xen_xs_can_wait()) {
        w->xsh = qemu_xen_xs_open();
    }
}

static void waiting_destroy(Waiting *w)
{
    stop_telling(w);
    g_ptr_array_unref(w->moved);
    g_hash_table_unref(w->by_backend);
    g_hash_table_unref(w->running);
    g_hash_table_unref(w->watches);
}

/* All that run, or those alone whose backends have requests under way */
static bool look_at(Waiting *w, bool busy)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, w->running);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        XenHandoffTask *task = key;

        if (!busy || task->busy) {
            g_ptr_array_add(w->moved, task);
        }
    }
    return w->moved->len;
}

/* Until a backend may have moved, or @ns have passed: into @w->moved */
static void wait_for_backends(Waiting *w, int64_t ns)
{
    bool told = false;

    g_ptr_array_set_size(w->moved, 0);
    if (look_at(w, true)) {
        ns = MIN(ns, BUSY_MS * SCALE_MS);
        g_ptr_array_set_size(w->moved, 0);
    }
    if (w->xsh) {
        told = qemu_xen_xs_wait(w->xsh, MIN(ns, LOOK_MS * SCALE_MS));
    } else {
        g_usleep(POLL_US);
    }
    if (!w->xsh || get_clock() >= w->heard + LOOK_MS * SCALE_MS) {
        look_at(w, false);
        told = true;
    } else if (get_clock() >= w->asked + BUSY_MS * SCALE_MS) {
        look_at(w, true);
        w->asked = get_clock();
    }
    if (told) {
        w->heard = get_clock();
    }
}

/* --- leading them -------------------------------------------------------- */

/* Write what the task's step says; a failure ends the task */
static void remote_write(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                         XenHandoffTask *task, int64_t start)
{
    enum xenbus_state state = steps[task->step].frontend;

    task->waiting_for = steps[task->step].backend;
    if (state == XenbusStateInitialising) {
        if (stays_closed(xsh, task->backend)) {
            task->waiting_for = XenbusStateClosed;
        }
        restore_frontend(xsh, ledger, task, &task->error);
    } else {
        write_state(xsh, NULL, task, state, &task->error);
    }
    if (task->error || !is_running(task)) {
        finish(task, XEN_HANDOFF_FAILED, start);
    }
}

bool xen_handoff_rings_in_use(const XenHandoffTable *table, GHashTable *rings)
{
    GHashTableIter iter;
    gpointer ref;

    g_hash_table_iter_init(&iter, rings);
    while (g_hash_table_iter_next(&iter, &ref, NULL)) {
        if (GPOINTER_TO_UINT(ref) >= XEN_HANDOFF_FIRST_GRANT &&
            xen_handoff_table_in_use(table, GPOINTER_TO_UINT(ref))) {
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
static bool holds_rings(Waiting *w, const XenHandoffTask *task)
{
    return xen_handoff_table_refresh(w->table, NULL) &&
           xen_handoff_rings_in_use(w->table, task->rings);
}

/* A backend may be ahead of us: blkback goes from Closing to Closed at once */
static bool backend_followed(XenHandoffTask *task)
{
    return task->backend_state == task->waiting_for ||
           (task->waiting_for == XenbusStateClosing &&
            task->backend_state == XenbusStateClosed);
}

/* See whether the backend has moved, and go on with the task */
static void remote_advance(Waiting *w, struct qemu_xs_handle *xsh,
                           XenHandoffLedger *ledger, XenHandoffTask *task,
                           int64_t start)
{
    task->backend_state = xen_handoff_read_state(xsh, XBT_NULL,
                                                 task->backend);
    if (task->backend_state == XenbusStateUnknown && errno == ENOENT) {
        restore_frontend(xsh, ledger, task, &task->error);
        finish(task, XEN_HANDOFF_GONE, start);
        return;
    }
    if (!backend_followed(task)) {
        return;
    }
    trace_xen_fw_handoff_backend_state(
        task->backend, xen_handoff_state_name(task->backend_state));
    task->busy = steps[task->step].frontend == XenbusStateClosed &&
                 holds_rings(w, task);
    if (task->busy) {
        trace_xen_fw_handoff_busy(task->backend);
        remote_write(xsh, ledger, task, start);
        return;
    }
    if (++task->step == ARRAY_SIZE(steps)) {
        finish(task, XEN_HANDOFF_DONE, start);
    } else {
        remote_write(xsh, ledger, task, start);
    }
}

static void remote_give_up(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                           XenHandoffTask *task, int64_t start)
{
    trace_xen_fw_handoff_hanging(task->backend,
                                 xen_handoff_state_name(task->waiting_for));
    if (steps[task->step].frontend != XenbusStateInitialising) {
        restore_frontend(xsh, ledger, task, &task->error);
    }
    finish(task, XEN_HANDOFF_HANGING, start);
}

/* A task that has ended waits for nobody */
static void remote_settle(Waiting *w, XenHandoffTask *task)
{
    if (!is_running(task)) {
        g_hash_table_remove(w->running, task);
    }
}

/*
 * How long to go on waiting, in ns; 0 or less: not any longer.
 *
 * Giving up costs time, too: as long as so many frontends may have to be
 * restored, at @cost ns each, the waiting ends so much earlier.  At least half
 * of the time is waited, though.
 */
static int64_t time_left(const Waiting *w, int64_t deadline, int64_t cost,
                         uint32_t timeout_ms)
{
    int64_t running = g_hash_table_size(w->running);
    int64_t reserve = MIN(running * cost, (int64_t)timeout_ms * SCALE_MS / 2);

    return running ? deadline - reserve - get_clock() : 0;
}

void xen_handoff_teardown(struct qemu_xs_handle *xsh, XenHandoffLedger *ledger,
                          XenHandoffTable *table, GPtrArray *tasks,
                          uint32_t timeout_ms)
{
    int64_t start = get_clock();
    int64_t deadline = start + (int64_t)timeout_ms * SCALE_MS;
    int64_t local, left, cost = 0;
    GHashTableIter iter;
    gpointer key;
    Waiting w;

    waiting_init(&w, table, tasks);
    /* The others work while we do */
    for (guint i = 0; i < tasks->len; i++) {
        XenHandoffTask *task = g_ptr_array_index(tasks, i);

        if (!task->local) {
            watch_backend(&w, task->backend);
            remote_write(xsh, ledger, task, start);
            remote_settle(&w, task);
        }
    }
    local = get_clock();
    if (g_hash_table_size(w.running)) {
        cost = (local - start) / g_hash_table_size(w.running) * RESTORE_COST;
    }
    for (guint i = 0; i < tasks->len; i++) {
        XenHandoffTask *task = g_ptr_array_index(tasks, i);

        if (task->local) {
            teardown_local(xsh, ledger, task);
        }
    }

    /* The bound is for those who may hang: a disk's drain is not in it */
    deadline += get_clock() - local;
    while ((left = time_left(&w, deadline, cost, timeout_ms)) > 0) {
        wait_for_backends(&w, left);
        for (guint i = 0; i < w.moved->len &&
                          time_left(&w, deadline, cost, timeout_ms) > 0; i++) {
            XenHandoffTask *task = g_ptr_array_index(w.moved, i);

            if (is_running(task)) {
                remote_advance(&w, xsh, ledger, task, start);
                remote_settle(&w, task);
            }
        }
    }
    g_hash_table_iter_init(&iter, w.running);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        remote_give_up(xsh, ledger, key, start);
    }
    waiting_destroy(&w);
}

/*
 * Xen loopback: backends of other domains, by the rules of Linux's
 *
 * They connect and disconnect as blkback, netback and scsiback do, or fail to
 * in a way that the test has chosen, but move no data.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/xen/xen.h"
#include "hw/xen/interface/io/xenbus.h"
#include "xen_loopback.h"

typedef enum LoKind { BLKBACK, NETBACK, SCSIBACK } LoKind;

static const char *const kind_names[] = {
    [BLKBACK] = "vbd", [NETBACK] = "vif", [SCSIBACK] = "vscsi",
};

#define MAX_QUEUES 16

typedef struct LoBackend {
    LoKind kind;
    unsigned int domid;
    int64_t delay_ns;
    char *fault;
    char *frontend, *backend;

    int64_t due;                /* when it looks at the frontend */
    GList *in_due;              /* its place among those, NULL: no need to */
    int state;
    unsigned int refused;       /* times it has said to be busy */
    xengnttab_handle *xgt;
    GPtrArray *ports;
} LoBackend;

static bool has_fault(LoBackend *b, const char *fault)
{
    return !g_strcmp0(b->fault, fault);
}

static void set_state(LoBackend *b, int state)
{
    char value[] = { '0' + state, '\0' };

    b->state = state;
    lo_put_str(b->domid, value, "%s/state", b->backend);
}

static void map_ring(LoBackend *b, int ref)
{
    uint32_t ref32 = ref;

    if (ref >= 0) {
        QEMU_LOCK_GUARD(&lo->lock);
        lo_map_for(b->xgt, b->domid, 1, &ref32, PROT_READ | PROT_WRITE);
    }
}

static void bind_port(LoBackend *b, int port)
{
    xenevtchn_handle *xc;

    if (port < 0) {
        return;
    }
    xc = lo_evtchn_open();
    if (lo_evtchn_bind(xc, lo->domid, port) < 0) {
        lo_evtchn_close(xc);
        return;
    }
    g_ptr_array_add(b->ports, xc);
}

static void connect_queue(LoBackend *b, const char *dir)
{
    static const char *const ref[] = { "ring-ref", "tx-ring-ref",
                                       "rx-ring-ref" };
    static const char *const port[] = { "event-channel", "event-channel-tx",
                                        "event-channel-rx" };

    for (size_t i = 0; i < ARRAY_SIZE(ref); i++) {
        map_ring(b, lo_get_number("%s/%s", dir, ref[i]));
        bind_port(b, lo_get_number("%s/%s", dir, port[i]));
    }
}

/* With "ring-page-order" there, "ring-ref" is not even read: connect_ring() */
static void blkback_connect_queue(LoBackend *b, const char *dir)
{
    int order = lo_get_number("%s/ring-page-order", b->frontend);

    if (order < 0) {
        connect_queue(b, dir);
        return;
    }
    for (int i = 0; i < 1 << MIN(order, 4); i++) {
        map_ring(b, lo_get_number("%s/ring-ref%d", dir, i));
    }
    bind_port(b, lo_get_number("%s/event-channel", dir));
}

static void connect_backend(LoBackend *b)
{
    void (*connect)(LoBackend *b, const char *dir) =
        b->kind == NETBACK ? connect_queue : blkback_connect_queue;
    int queues = lo_get_number("%s/multi-queue-num-queues", b->frontend);

    b->xgt = lo_gnttab_open();
    b->ports = g_ptr_array_new_with_free_func((GDestroyNotify)lo_evtchn_close);
    if (queues < 1) {
        connect(b, b->frontend);
    }
    for (int i = 0; i < MIN(queues, MAX_QUEUES); i++) {
        g_autofree char *dir = g_strdup_printf("%s/queue-%d", b->frontend, i);

        connect(b, dir);
    }
    set_state(b, XenbusStateConnected);
}

static void disconnect_backend(LoBackend *b)
{
    if (b->xgt) {
        lo_gnttab_close(b->xgt);
        b->xgt = NULL;
        g_clear_pointer(&b->ports, g_ptr_array_unref);
    }
}

/* Linux: drivers/block/xen-blkback/xenbus.c, frontend_changed() */
static void blkback_changed(LoBackend *b, int frontend)
{
    switch (frontend) {
    case XenbusStateInitialising:
        if (b->state == XenbusStateClosed) {
            set_state(b, XenbusStateInitWait);
        }
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        if (b->state != XenbusStateConnected) {
            disconnect_backend(b);
            connect_backend(b);
        }
        break;
    case XenbusStateClosing:
        set_state(b, XenbusStateClosing);
        break;
    case XenbusStateClosed:
        /* xen_blkif_disconnect() returns -EBUSY, nobody looks at it */
        if (has_fault(b, "stuck") ||
            (has_fault(b, "busy") && b->refused++ < 3)) {
            set_state(b, XenbusStateClosed);
            break;
        }
        disconnect_backend(b);
        set_state(b, XenbusStateClosed);
        break;
    }
}

/* Linux: drivers/net/xen-netback/xenbus.c, frontend_changed() */
static void netback_changed(LoBackend *b, int frontend)
{
    if (frontend != XenbusStateConnected &&
        frontend != XenbusStateInitialised) {
        disconnect_backend(b);
    }
    switch (frontend) {
    case XenbusStateInitialising:
        set_state(b, XenbusStateInitWait);
        break;
    case XenbusStateConnected:
        if (b->state != XenbusStateConnected) {
            connect_backend(b);
        }
        break;
    case XenbusStateClosing:
    case XenbusStateClosed:
        set_state(b, frontend);
        break;
    }
}

/* Linux: drivers/xen/xen-scsiback.c, scsiback_frontend_changed() */
static void scsiback_changed(LoBackend *b, int frontend)
{
    switch (frontend) {
    case XenbusStateInitialised:
        /* not only when Connected: Closed does not let go of the ring */
        if (!b->xgt) {
            connect_backend(b);
        }
        break;
    case XenbusStateClosing:
        disconnect_backend(b);
        set_state(b, XenbusStateClosing);
        break;
    case XenbusStateClosed:
        set_state(b, XenbusStateClosed);
        break;
    }
}

static void run_backend(LoBackend *b)
{
    int state = lo_get_number("%s/state", b->frontend);
    bool leaving = state == XenbusStateClosing || state == XenbusStateClosed;
    g_autofree char *hang = g_strdup_printf("hang-%d", state);
    g_autofree char *dying = g_strdup_printf("dying-%d", state);

    if (has_fault(b, hang)) {
        return;
    }
    if (has_fault(b, dying)) {
        g_autofree char *domain = g_strdup_printf("/local/domain/%u",
                                                  lo->domid);

        /* the toolstack is done with the guest, this domain still is not */
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, domain);
    }
    if (leaving && has_fault(b, "skip")) {
        disconnect_backend(b);
        set_state(b, XenbusStateClosed);
    } else if (leaving && has_fault(b, "gone")) {
        disconnect_backend(b);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, b->backend);
    } else if (leaving && has_fault(b, "destroyed")) {
        disconnect_backend(b);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, b->backend);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, b->frontend);
    } else if (leaving && has_fault(b, "unknown")) {
        lo_put_str(b->domid, "0", "%s/state", b->backend);
    } else if (leaving && has_fault(b, "garbage")) {
        lo_put_str(b->domid, "4294967302", "%s/state", b->backend);
    } else if (state == XenbusStateClosed && has_fault(b, "offline")) {
        disconnect_backend(b);
        lo_put_str(DOM0, "0", "%s/online", b->backend);
        set_state(b, XenbusStateClosed);
    } else if (!has_fault(b, "offline") ||
               lo_get_number("%s/online", b->backend) == 1) {
        static void (*const changed[])(LoBackend *b, int frontend) = {
            [BLKBACK] = blkback_changed,
            [NETBACK] = netback_changed,
            [SCSIBACK] = scsiback_changed,
        };

        changed[b->kind](b, state);
    }
}

static void drop_due(LoBackend *b)
{
    if (b->in_due) {
        g_queue_delete_link(&lo->due, b->in_due);
        b->in_due = NULL;
    }
}

/*
 * Where QEMU waits for a backend without returning to its main loop, nothing
 * else runs: backends get their turn whenever QEMU looks at xenstore, and from
 * a timer when it does not.
 */
void lo_backends_run(void *opaque)
{
    LoBackend *b;

    while ((b = g_queue_peek_head(&lo->due)) && b->due <= get_clock()) {
        drop_due(b);
        run_backend(b);
    }
    if (b) {
        /* another one may be due later */
        timer_mod_ns(lo->backend_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                     MAX(b->due - get_clock(), 0));
    }
}

static void frontend_changed(void *opaque, const char *path,
                             const char *token)
{
    LoBackend *b = opaque;
    GList *l;

    drop_due(b);
    b->due = get_clock() + b->delay_ns;
    /* most are as slow as the others and go last */
    l = lo->due.tail;
    while (l && ((LoBackend *)l->data)->due > b->due) {
        l = l->prev;
    }
    g_queue_insert_after(&lo->due, l, b);
    b->in_due = l ? l->next : lo->due.head;
    /* another one may be due earlier */
    timer_mod_anticipate_ns(lo->backend_timer,
                            qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                            b->delay_ns);
}

void lo_backend_new(const char *class, const char *id, char **options,
                    Error **errp)
{
    LoBackend *b;
    const char *type = class;
    g_autofree char *state = NULL, *domid = NULL, *libxl = NULL;
    unsigned int us;
    size_t kind = 0;

    while (strcmp(kind_names[kind], class)) {
        if (++kind == ARRAY_SIZE(kind_names)) {
            error_setg(errp, "no backend of type '%s'", class);
            return;
        }
    }
    b = g_new0(LoBackend, 1);
    b->kind = kind;
    for (; *options; options++) {
        if (g_str_has_prefix(*options, "fault=")) {
            b->fault = g_strdup(*options + strlen("fault="));
        } else if (g_str_has_prefix(*options, "type=")) {
            /* tapback is as blkback, but for its name */
            type = *options + strlen("type=");
        } else if (sscanf(*options, "delay-us=%u", &us) == 1) {
            b->delay_ns = us * (int64_t)SCALE_US;
        } else if (sscanf(*options, "domain=%u", &b->domid) != 1) {
            error_setg(errp, "bad option '%s'", *options);
            g_free(b->fault);
            g_free(b);
            return;
        }
    }
    domid = g_strdup_printf("%u", b->domid);
    b->frontend = g_strdup_printf("/local/domain/%u/device/%s/%s", lo->domid,
                                  class, id);
    b->backend = g_strdup_printf("/local/domain/%u/backend/%s/%u/%s", b->domid,
                                 type, lo->domid, id);
    libxl = g_strdup_printf("/libxl/%u/device/%s/%s", lo->domid, class, id);

    lo_make(b->domid, lo->domid, XS_PERM_READ, XBT_NULL, b->backend);
    lo_put_str(DOM0, b->frontend, "%s/frontend", b->backend);
    lo_put_str(DOM0, "1", "%s/online", b->backend);
    lo_make(lo->domid, b->domid, XS_PERM_READ, XBT_NULL, b->frontend);
    lo_put_str(DOM0, b->backend, "%s/backend", b->frontend);
    lo_put_str(DOM0, domid, "%s/backend-id", b->frontend);
    lo_put_str(DOM0, id, kind == NETBACK ? "%s/handle" : "%s/virtual-device",
               b->frontend);
    lo_put_str(DOM0, b->backend, "%s/backend", libxl);
    lo_put_str(DOM0, b->frontend, "%s/frontend", libxl);
    set_state(b, XenbusStateInitWait);
    lo_put_str(DOM0, "1", "%s/state", b->frontend);
    g_queue_push_tail(&lo->backends, b);

    state = g_strdup_printf("%s/state", b->frontend);
    xs_impl_watch(lo->xs, DOM0, state, NULL, frontend_changed, b);
}

/* As the toolstack: the directories go, and with them what the backend had */
static void unplug(LoBackend *b, const char *class, const char *id)
{
    g_autofree char *state = g_strdup_printf("%s/state", b->frontend);
    g_autofree char *libxl = g_strdup_printf("/libxl/%u/device/%s/%s",
                                             lo->domid, class, id);

    xs_impl_unwatch(lo->xs, DOM0, state, NULL, frontend_changed, b);
    disconnect_backend(b);
    drop_due(b);
    g_queue_remove(&lo->backends, b);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, b->frontend);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, b->backend);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, libxl);
    g_free(b->fault);
    g_free(b->frontend);
    g_free(b->backend);
    g_free(b);
}

void lo_backend_unplug(const char *class, const char *id, Error **errp)
{
    g_autofree char *frontend = g_strdup_printf("/local/domain/%u/device/%s/%s",
                                                lo->domid, class, id);

    for (GList *l = lo->backends.head; l; l = l->next) {
        LoBackend *b = l->data;

        if (!strcmp(b->frontend, frontend)) {
            unplug(b, class, id);
            return;
        }
    }
    error_setg(errp, "no backend of '%s'", frontend);
}

/*
 * Xen loopback: Xen's operations without Xen, for tests
 *
 * QEMU's Xen backends reach Xen through tables of operations: event channels,
 * grants, xenstore.  This device fills them in within this process, so that
 * the real xen-disk, xen-net-device and xen-console run under the qtest
 * accelerator.  The test is the guest: it writes the grant table and the rings
 * in guest RAM and drives the rest through the property "command".
 *
 * What is kept as on a real Xen, since tests would pass otherwise that a real
 * guest fails: watch events arrive on the iohandler context, or, as with QEMU's
 * own Xen, on the main context, which polls while a disk drains; a grant's
 * frame is that of its first mapping until the last is gone; every mapping is
 * an mmap() of its own, so that a use after the unmap faults; a fresh event
 * channel is pending.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/notify.h"
#include "qemu/timer.h"
#include "block/block.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus.h"
#include "hw/xen/xen_fw_handoff.h"
#include "hw/xen/interface/grant_table.h"
#include "hw/xen/interface/hvm/params.h"
#include "system/qtest.h"
#include "system/reset.h"
#include "../kvm/xenstore_impl.h"

#define TYPE_XEN_LOOPBACK "xen-loopback"
OBJECT_DECLARE_SIMPLE_TYPE(XenLoopback, XEN_LOOPBACK)

#define DOM0        0
#define MAX_PORTS   4096
#define MAX_PARAMS  64
#define GNTTAB_BASE 0x100000
#define MAX_GRANTS  4096
#define GRANT_FRAMES (MAX_GRANTS * sizeof(grant_entry_v1_t) / XEN_PAGE_SIZE)

/* What QEMU asks of xenstore, to count it and to make it fail */
typedef enum LoXsOp {
    LO_XS_OPEN,
    LO_XS_WATCH,
    LO_XS_DIRECTORY,
    LO_XS_READ,
    LO_XS_WRITE,
    LO_XS_TRANSACTION,
    LO_XS_CAN_FAIL,             /* so far */
    LO_XS_UNWATCH = LO_XS_CAN_FAIL,
    LO_XS_CREATE,
    LO_XS_DESTROY,
    LO_XS_END,
    LO_XS_OPS,
} LoXsOp;

static const char *const op_names[LO_XS_OPS] = {
    [LO_XS_OPEN] = "open", [LO_XS_WATCH] = "watch",
    [LO_XS_DIRECTORY] = "directory", [LO_XS_READ] = "read",
    [LO_XS_WRITE] = "write", [LO_XS_TRANSACTION] = "transaction",
    [LO_XS_UNWATCH] = "unwatch", [LO_XS_CREATE] = "create",
    [LO_XS_DESTROY] = "destroy", [LO_XS_END] = "end",
};

/* What Xen keeps of a grant while it is in use ("active entry") */
typedef struct LoActive {
    uint32_t frame;
    unsigned int readers, writers;
} LoActive;

struct XenLoopback {
    DeviceState parent_obj;

    uint16_t domid;
    bool tells_callback;        /* before HVM_PARAM_CALLBACK_IRQ is set */
    bool real_xenstore;         /* libxenstore's, at $XENSTORED_PATH */
    bool drains_hear;           /* watch events arrive while a disk drains */
    char *result;               /* of the last command */

    /* a disk's IOThread uses grants and event channels, too */
    QemuMutex lock;
    uint8_t *ram;
    int ram_fd;
    uint64_t ram_size;
    LoActive active[MAX_GRANTS];
    struct xenevtchn_handle *ports[MAX_PORTS];
    unsigned int nr_maps, nr_ports;
    unsigned int hold_port;     /* whose next handler is to stand still */
    bool held;                  /* it does */

    /* main loop only */
    XenstoreImplState *xs;
    unsigned int nr_watches, nr_handles, nr_events;
    unsigned int nr_ops[LO_XS_OPS];
    GString *record;            /* of these operations, if they are recorded */
    int xs_fails[LO_XS_CAN_FAIL];  /* errno of those that fail */
    uint64_t param[MAX_PARAMS];
    bool param_fails[MAX_PARAMS];
    NotifierList callback_notifiers;
    unsigned int grant_version, grant_frames;   /* as dom0 is told */
    int grant_error;            /* errno of who maps the table, if it fails */
    unsigned int nr_grant_maps; /* so often it was mapped */
    unsigned int nr_resets;     /* of the guest's own connection to xenstore */
    int reset_error;            /* errno of that, if it fails */
    unsigned int nr_guest_events;   /* on that connection, not yet asked for */
    GArray *guest_transactions; /* of xs_transaction_t */
    GQueue remotes;             /* of LoRemote */
    GQueue due;                 /* those that are to look, the next one first */
    GQueue meddlers;            /* of LoMeddler */
    unsigned int nr_meddled;    /* so often they have done it */
    QEMUTimer *remote_timer;
};

static XenLoopback *lo;

/* --- event channels: local and remote port have the same number ----------- */

struct xenevtchn_handle {
    EventNotifier notifier;
    evtchn_port_t port;
};

static xenevtchn_handle *lo_evtchn_open(void)
{
    xenevtchn_handle *xc = g_new0(xenevtchn_handle, 1);

    if (event_notifier_init(&xc->notifier, false)) {
        g_free(xc);
        return NULL;
    }
    return xc;
}

static int lo_evtchn_unbind(xenevtchn_handle *xc, evtchn_port_t port)
{
    QEMU_LOCK_GUARD(&lo->lock);

    if (!port || xc->port != port) {
        errno = EINVAL;
        return -1;
    }
    lo->ports[port] = NULL;
    lo->nr_ports--;
    xc->port = 0;
    return 0;
}

static int lo_evtchn_close(xenevtchn_handle *xc)
{
    if (xc->port) {
        lo_evtchn_unbind(xc, xc->port);
    }
    event_notifier_cleanup(&xc->notifier);
    g_free(xc);
    return 0;
}

static int lo_evtchn_bind(xenevtchn_handle *xc, uint32_t domid,
                          evtchn_port_t port)
{
    QEMU_LOCK_GUARD(&lo->lock);

    if (domid != lo->domid || !port || port >= MAX_PORTS || lo->ports[port] ||
        xc->port) {
        errno = EINVAL;
        return -1;
    }
    lo->ports[port] = xc;
    lo->nr_ports++;
    xc->port = port;
    event_notifier_set(&xc->notifier);
    return port;
}

static int lo_evtchn_fd(xenevtchn_handle *xc)
{
    return event_notifier_get_fd(&xc->notifier);
}

static int lo_evtchn_notify(xenevtchn_handle *xc, evtchn_port_t port)
{
    QEMU_LOCK_GUARD(&lo->lock);

    if (!port || xc->port != port) {
        errno = EINVAL;
        return -1;
    }
    return 0;
}

static int lo_evtchn_unmask(xenevtchn_handle *xc, evtchn_port_t port)
{
    return 0;
}

/*
 * The IOThread stands still for half a second, or until the main thread has
 * taken away the ring that its handler is about to read
 */
static void lo_evtchn_hold(void)
{
    qatomic_set(&lo->held, true);
    for (int i = 0; i < 5000 && qatomic_read(&lo->nr_maps); i++) {
        g_usleep(100);
    }
    g_assert(qatomic_read(&lo->nr_maps));
}

static int lo_evtchn_pending(xenevtchn_handle *xc)
{
    evtchn_port_t port = xc->port;

    event_notifier_test_and_clear(&xc->notifier);
    if (port && port == qatomic_read(&lo->hold_port) && !bql_locked()) {
        qatomic_set(&lo->hold_port, 0);
        lo_evtchn_hold();
    }
    return port;
}

static struct evtchn_backend_ops lo_evtchn_ops = {
    .open = lo_evtchn_open,
    .bind_interdomain = lo_evtchn_bind,
    .unbind = lo_evtchn_unbind,
    .close = lo_evtchn_close,
    .get_fd = lo_evtchn_fd,
    .notify = lo_evtchn_notify,
    .unmask = lo_evtchn_unmask,
    .pending = lo_evtchn_pending,
};

/* --- grants: a version 1 table in guest RAM ------------------------------- */

typedef struct LoMap {
    uint32_t count;
    uint32_t *refs;
    bool writable;
} LoMap;

struct xengntdev_handle {
    GHashTable *maps;           /* address to LoMap */
};

static grant_entry_v1_t *lo_grant(uint32_t ref)
{
    return (grant_entry_v1_t *)(lo->ram + GNTTAB_BASE) + ref;
}

/* As Xen's map_grant_ref(); returns false with errno */
static bool lo_pin(uint32_t ref, uint16_t backend, bool writable,
                   uint32_t *frame)
{
    LoActive *active = ref < MAX_GRANTS ? &lo->active[ref] : NULL;
    grant_entry_v1_t *e;

    if (!active) {
        errno = EINVAL;
        return false;
    }
    e = lo_grant(ref);
    if (!active->readers) {
        active->frame = e->frame;
    }
    if ((e->flags & GTF_type_mask) != GTF_permit_access ||
        e->domid != backend || (writable && e->flags & GTF_readonly) ||
        active->frame >= lo->ram_size >> XEN_PAGE_SHIFT) {
        errno = EINVAL;
        return false;
    }
    active->readers++;
    active->writers += writable;
    qatomic_or(&e->flags, GTF_reading | (writable ? GTF_writing : 0));
    *frame = active->frame;
    return true;
}

static void lo_unpin(uint32_t ref, bool writable)
{
    LoActive *active = &lo->active[ref];

    active->writers -= writable;
    if (writable && !active->writers) {
        qatomic_and(&lo_grant(ref)->flags, ~GTF_writing);
    }
    if (!--active->readers) {
        qatomic_and(&lo_grant(ref)->flags, ~GTF_reading);
    }
}

static void lo_map_free(gpointer opaque)
{
    LoMap *map = opaque;

    g_free(map->refs);
    g_free(map);
}

static void *lo_map_for(xengnttab_handle *xgt, uint16_t backend,
                        uint32_t count, uint32_t *refs, int prot)
{
    bool writable = prot & PROT_WRITE;
    uint8_t *p = mmap(NULL, (size_t)count * XEN_PAGE_SIZE, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    LoMap *map;

    g_assert(p != MAP_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frame;

        if (!lo_pin(refs[i], backend, writable, &frame)) {
            while (i--) {
                lo_unpin(refs[i], writable);
            }
            munmap(p, (size_t)count * XEN_PAGE_SIZE);
            errno = EINVAL;
            return NULL;
        }
        g_assert(mmap(p + i * XEN_PAGE_SIZE, XEN_PAGE_SIZE, prot,
                      MAP_SHARED | MAP_FIXED, lo->ram_fd,
                      (off_t)frame << XEN_PAGE_SHIFT) != MAP_FAILED);
    }
    map = g_new(LoMap, 1);
    *map = (LoMap) { count, g_memdup2(refs, count * sizeof(*refs)), writable };
    g_hash_table_insert(xgt->maps, p, map);
    lo->nr_maps += count;
    return p;
}

static void *lo_gnttab_map(xengnttab_handle *xgt, uint32_t count,
                           uint32_t domid, uint32_t *refs, int prot)
{
    QEMU_LOCK_GUARD(&lo->lock);

    if (domid != lo->domid) {
        errno = EINVAL;
        return NULL;
    }
    return lo_map_for(xgt, DOM0, count, refs, prot);
}

static void lo_drop_map(xengnttab_handle *xgt, void *addr, LoMap *map)
{
    for (uint32_t i = 0; i < map->count; i++) {
        lo_unpin(map->refs[i], map->writable);
    }
    munmap(addr, (size_t)map->count * XEN_PAGE_SIZE);
    lo->nr_maps -= map->count;
}

static int lo_gnttab_unmap(xengnttab_handle *xgt, void *addr, uint32_t *refs,
                           uint32_t count)
{
    LoMap *map;
    QEMU_LOCK_GUARD(&lo->lock);

    map = g_hash_table_lookup(xgt->maps, addr);
    if (!map || map->count != count ||
        memcmp(map->refs, refs, count * sizeof(*refs))) {
        errno = EINVAL;
        return -1;
    }
    lo_drop_map(xgt, addr, map);
    g_hash_table_remove(xgt->maps, addr);
    return 0;
}

static int lo_gnttab_copy(xengnttab_handle *xgt, bool to_domain,
                          uint32_t domid, XenGrantCopySegment *segs,
                          uint32_t nr_segs, Error **errp)
{
    QEMU_LOCK_GUARD(&lo->lock);

    for (uint32_t i = 0; i < nr_segs; i++) {
        XenGrantCopySegment *s = &segs[i];
        uint32_t ref = to_domain ? s->dest.foreign.ref : s->source.foreign.ref;
        off_t offset = to_domain ? s->dest.foreign.offset
                                 : s->source.foreign.offset;
        uint32_t frame;
        uint8_t *page;

        if (domid != lo->domid || offset + s->len > XEN_PAGE_SIZE ||
            !lo_pin(ref, DOM0, to_domain, &frame)) {
            error_setg(errp, "bad grant %u", ref);
            return -EINVAL;
        }
        page = lo->ram + ((uint64_t)frame << XEN_PAGE_SHIFT);
        if (to_domain) {
            memcpy(page + offset, s->source.virt, s->len);
        } else {
            memcpy(s->dest.virt, page + offset, s->len);
        }
        lo_unpin(ref, to_domain);
    }
    return 0;
}

static xengnttab_handle *lo_gnttab_open(void)
{
    xengnttab_handle *xgt = g_new0(xengnttab_handle, 1);

    xgt->maps = g_hash_table_new_full(NULL, NULL, NULL, lo_map_free);
    return xgt;
}

static int lo_gnttab_close(xengnttab_handle *xgt)
{
    GHashTableIter iter;
    gpointer addr, map;

    WITH_QEMU_LOCK_GUARD(&lo->lock) {
        g_hash_table_iter_init(&iter, xgt->maps);
        while (g_hash_table_iter_next(&iter, &addr, &map)) {
            lo_drop_map(xgt, addr, map);
        }
    }
    g_hash_table_unref(xgt->maps);
    g_free(xgt);
    return 0;
}

static int lo_gnttab_set_max(xengnttab_handle *xgt, uint32_t nr)
{
    return 0;
}

static struct gnttab_backend_ops lo_gnttab_ops = {
    .features = XEN_GNTTAB_OP_FEATURE_MAP_MULTIPLE,
    .open = lo_gnttab_open,
    .close = lo_gnttab_close,
    .grant_copy = lo_gnttab_copy,
    .set_max_grants = lo_gnttab_set_max,
    .map_refs = lo_gnttab_map,
    .unmap = lo_gnttab_unmap,
};

/* --- foreign pages: guest RAM as it is ------------------------------------ */

static void *lo_foreignmem_map(uint32_t domid, void *addr, int prot,
                               size_t pages, xen_pfn_t *pfns, int *errs)
{
    if (domid != lo->domid || pages != 1 ||
        pfns[0] >= lo->ram_size >> XEN_PAGE_SHIFT) {
        errno = EINVAL;
        return NULL;
    }
    addr = mmap(NULL, XEN_PAGE_SIZE, prot, MAP_SHARED, lo->ram_fd,
                (off_t)pfns[0] << XEN_PAGE_SHIFT);
    return addr == MAP_FAILED ? NULL : addr;
}

static int lo_foreignmem_unmap(void *addr, size_t pages)
{
    return munmap(addr, pages * XEN_PAGE_SIZE);
}

static struct foreignmem_backend_ops lo_foreignmem_ops = {
    .map = lo_foreignmem_map,
    .unmap = lo_foreignmem_unmap,
};

/* --- xenstore, as dom0 or as the guest ------------------------------------ */

static int xs_put(unsigned int as, xs_transaction_t tid, const char *path,
                  const void *data, size_t len)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_byte_array_append(bytes, data, len);
    return xs_impl_write(lo->xs, as, tid, path, bytes);
}

static int xs_put_str(unsigned int as, const char *value, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
static int xs_put_str(unsigned int as, const char *value, const char *fmt, ...)
{
    g_autofree char *path = NULL;
    va_list ap;

    va_start(ap, fmt);
    path = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return xs_put(as, XBT_NULL, path, value, strlen(value));
}

/* malloc()ed, as libxenstore's */
static char *xs_get(xs_transaction_t tid, const char *path, unsigned int *len)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    int err = xs_impl_read(lo->xs, DOM0, tid, path, bytes);
    char *value;

    if (err) {
        errno = err;
        return NULL;
    }
    value = malloc(bytes->len + 1);
    if (bytes->len) {
        memcpy(value, bytes->data, bytes->len);
    }
    value[bytes->len] = '\0';
    if (len) {
        *len = bytes->len;
    }
    return value;
}

/* -1 if there is no such number */
static int xs_get_number(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static int xs_get_number(const char *fmt, ...)
{
    g_autofree char *path = NULL;
    va_list ap;
    char *value;
    int number = -1;

    va_start(ap, fmt);
    path = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    value = xs_get(XBT_NULL, path, NULL);
    if (value && qemu_strtoi(value, NULL, 10, &number)) {
        number = -1;
    }
    free(value);
    return number;
}

static int xs_make(unsigned int owner, unsigned int other, unsigned int perms,
                   xs_transaction_t tid, const char *path)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    GList *list = NULL;
    int err = xs_impl_read(lo->xs, DOM0, tid, path, bytes);

    if (err == ENOENT) {
        err = xs_impl_write(lo->xs, DOM0, tid, path, bytes);
    }
    if (!err) {
        list = g_list_append(list, xs_perm_as_string(XS_PERM_NONE, owner));
        list = g_list_append(list, xs_perm_as_string(perms, other));
        err = xs_impl_set_perms(lo->xs, DOM0, tid, path, list);
        g_list_free_full(list, g_free);
    }
    return err;
}

/* --- backends outside of this QEMU, by their real rules ------------------- */

typedef enum LoKind { BLKBACK, NETBACK, SCSIBACK } LoKind;

static const char *const kind_names[] = {
    [BLKBACK] = "vbd", [NETBACK] = "vif", [SCSIBACK] = "vscsi",
};

#define MAX_QUEUES 16

typedef struct LoRemote {
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
} LoRemote;

static bool remote_fault(LoRemote *r, const char *fault)
{
    return !g_strcmp0(r->fault, fault);
}

static void remote_state(LoRemote *r, int state)
{
    char value[] = { '0' + state, '\0' };

    r->state = state;
    xs_put_str(r->domid, value, "%s/state", r->backend);
}

static void remote_map(LoRemote *r, int ref)
{
    uint32_t ref32 = ref;

    if (ref >= 0) {
        QEMU_LOCK_GUARD(&lo->lock);
        lo_map_for(r->xgt, r->domid, 1, &ref32, PROT_READ | PROT_WRITE);
    }
}

static void remote_bind(LoRemote *r, int port)
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
    g_ptr_array_add(r->ports, xc);
}

static void remote_connect_queue(LoRemote *r, const char *dir)
{
    static const char *const ref[] = { "ring-ref", "tx-ring-ref",
                                       "rx-ring-ref" };
    static const char *const port[] = { "event-channel", "event-channel-tx",
                                        "event-channel-rx" };

    for (size_t i = 0; i < ARRAY_SIZE(ref); i++) {
        remote_map(r, xs_get_number("%s/%s", dir, ref[i]));
        remote_bind(r, xs_get_number("%s/%s", dir, port[i]));
    }
}

/* With "ring-page-order" there, "ring-ref" is not even read: connect_ring() */
static void blkback_connect_queue(LoRemote *r, const char *dir)
{
    int order = xs_get_number("%s/ring-page-order", r->frontend);

    if (order < 0) {
        remote_connect_queue(r, dir);
        return;
    }
    for (int i = 0; i < 1 << MIN(order, 4); i++) {
        remote_map(r, xs_get_number("%s/ring-ref%d", dir, i));
    }
    remote_bind(r, xs_get_number("%s/event-channel", dir));
}

static void remote_connect(LoRemote *r)
{
    void (*connect)(LoRemote *r, const char *dir) =
        r->kind == NETBACK ? remote_connect_queue : blkback_connect_queue;
    int queues = xs_get_number("%s/multi-queue-num-queues", r->frontend);

    r->xgt = lo_gnttab_open();
    r->ports = g_ptr_array_new_with_free_func((GDestroyNotify)lo_evtchn_close);
    if (queues < 1) {
        connect(r, r->frontend);
    }
    for (int i = 0; i < MIN(queues, MAX_QUEUES); i++) {
        g_autofree char *dir = g_strdup_printf("%s/queue-%d", r->frontend, i);

        connect(r, dir);
    }
    remote_state(r, XenbusStateConnected);
}

static void remote_disconnect(LoRemote *r)
{
    if (r->xgt) {
        lo_gnttab_close(r->xgt);
        r->xgt = NULL;
        g_clear_pointer(&r->ports, g_ptr_array_unref);
    }
}

/* Linux: drivers/block/xen-blkback/xenbus.c, frontend_changed() */
static void blkback_changed(LoRemote *r, int frontend)
{
    switch (frontend) {
    case XenbusStateInitialising:
        if (r->state == XenbusStateClosed) {
            remote_state(r, XenbusStateInitWait);
        }
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        if (r->state != XenbusStateConnected) {
            remote_disconnect(r);
            remote_connect(r);
        }
        break;
    case XenbusStateClosing:
        remote_state(r, XenbusStateClosing);
        break;
    case XenbusStateClosed:
        /* xen_blkif_disconnect() returns -EBUSY, nobody looks at it */
        if (remote_fault(r, "stuck") ||
            (remote_fault(r, "busy") && r->refused++ < 3)) {
            remote_state(r, XenbusStateClosed);
            break;
        }
        remote_disconnect(r);
        remote_state(r, XenbusStateClosed);
        break;
    }
}

/* Linux: drivers/net/xen-netback/xenbus.c, frontend_changed() */
static void netback_changed(LoRemote *r, int frontend)
{
    if (frontend != XenbusStateConnected &&
        frontend != XenbusStateInitialised) {
        remote_disconnect(r);
    }
    switch (frontend) {
    case XenbusStateInitialising:
        remote_state(r, XenbusStateInitWait);
        break;
    case XenbusStateConnected:
        if (r->state != XenbusStateConnected) {
            remote_connect(r);
        }
        break;
    case XenbusStateClosing:
    case XenbusStateClosed:
        remote_state(r, frontend);
        break;
    }
}

/* Linux: drivers/xen/xen-scsiback.c, scsiback_frontend_changed() */
static void scsiback_changed(LoRemote *r, int frontend)
{
    switch (frontend) {
    case XenbusStateInitialised:
        /* not only when Connected: Closed does not let go of the ring */
        if (!r->xgt) {
            remote_connect(r);
        }
        break;
    case XenbusStateClosing:
        remote_disconnect(r);
        remote_state(r, XenbusStateClosing);
        break;
    case XenbusStateClosed:
        remote_state(r, XenbusStateClosed);
        break;
    }
}

static void remote_changed(LoRemote *r)
{
    int state = xs_get_number("%s/state", r->frontend);
    g_autofree char *hang = g_strdup_printf("hang-%d", state);
    g_autofree char *dying = g_strdup_printf("dying-%d", state);

    if (remote_fault(r, hang)) {
        return;
    }
    if (remote_fault(r, dying)) {
        g_autofree char *domain = g_strdup_printf("/local/domain/%u",
                                                  lo->domid);

        /* the toolstack is done with the guest, this domain still is not */
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, domain);
    }
    if (state == XenbusStateClosing && remote_fault(r, "skip")) {
        remote_disconnect(r);
        remote_state(r, XenbusStateClosed);
    } else if (state == XenbusStateClosing && remote_fault(r, "gone")) {
        remote_disconnect(r);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->backend);
    } else if (state == XenbusStateClosing && remote_fault(r, "destroyed")) {
        remote_disconnect(r);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->backend);
        xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->frontend);
    } else if (state == XenbusStateClosing && remote_fault(r, "unknown")) {
        xs_put_str(r->domid, "0", "%s/state", r->backend);
    } else if (state == XenbusStateClosing && remote_fault(r, "garbage")) {
        xs_put_str(r->domid, "4294967302", "%s/state", r->backend);
    } else if (state == XenbusStateClosed && remote_fault(r, "offline")) {
        remote_disconnect(r);
        xs_put_str(DOM0, "0", "%s/online", r->backend);
        remote_state(r, XenbusStateClosed);
    } else if (!remote_fault(r, "offline") ||
               xs_get_number("%s/online", r->backend) == 1) {
        static void (*const changed[])(LoRemote *r, int frontend) = {
            [BLKBACK] = blkback_changed,
            [NETBACK] = netback_changed,
            [SCSIBACK] = scsiback_changed,
        };

        changed[r->kind](r, state);
    }
}

static void remote_rest(LoRemote *r)
{
    if (r->in_due) {
        g_queue_delete_link(&lo->due, r->in_due);
        r->in_due = NULL;
    }
}

/*
 * QEMU stands in its port write while it waits for a backend of another
 * process, so nothing else would run here: backends get their turn whenever
 * QEMU looks at xenstore, and from a timer when it does not.
 */
static void remotes_run(void *opaque)
{
    LoRemote *r;

    while ((r = g_queue_peek_head(&lo->due)) && r->due <= get_clock()) {
        remote_rest(r);
        remote_changed(r);
    }
    if (r) {
        /* another one may be due later */
        timer_mod_ns(lo->remote_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                     MAX(r->due - get_clock(), 0));
    }
}

static void remote_frontend_changed(void *opaque, const char *path,
                                    const char *token)
{
    LoRemote *r = opaque;

    GList *l;

    remote_rest(r);
    r->due = get_clock() + r->delay_ns;
    /* most are as slow as the others and go last */
    l = lo->due.tail;
    while (l && ((LoRemote *)l->data)->due > r->due) {
        l = l->prev;
    }
    g_queue_insert_after(&lo->due, l, r);
    r->in_due = l ? l->next : lo->due.head;
    /* another one may be due earlier */
    timer_mod_anticipate_ns(lo->remote_timer,
                            qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                            r->delay_ns);
}

static void remote_new(LoKind kind, const char *id, char **options,
                       Error **errp)
{
    LoRemote *r = g_new0(LoRemote, 1);
    const char *class = kind_names[kind], *type = class;
    g_autofree char *state = NULL, *domid = NULL, *libxl = NULL;
    unsigned int us;

    r->kind = kind;
    for (; *options; options++) {
        if (g_str_has_prefix(*options, "fault=")) {
            r->fault = g_strdup(*options + strlen("fault="));
        } else if (g_str_has_prefix(*options, "type=")) {
            /* tapback is as blkback, but for its name */
            type = *options + strlen("type=");
        } else if (sscanf(*options, "delay-us=%u", &us) == 1) {
            r->delay_ns = us * (int64_t)SCALE_US;
        } else if (sscanf(*options, "domain=%u", &r->domid) != 1) {
            error_setg(errp, "bad option '%s'", *options);
            g_free(r->fault);
            g_free(r);
            return;
        }
    }
    domid = g_strdup_printf("%u", r->domid);
    r->frontend = g_strdup_printf("/local/domain/%u/device/%s/%s", lo->domid,
                                  class, id);
    r->backend = g_strdup_printf("/local/domain/%u/backend/%s/%u/%s", r->domid,
                                 type, lo->domid, id);
    libxl = g_strdup_printf("/libxl/%u/device/%s/%s", lo->domid, class, id);

    xs_make(r->domid, lo->domid, XS_PERM_READ, XBT_NULL, r->backend);
    xs_put_str(DOM0, r->frontend, "%s/frontend", r->backend);
    xs_put_str(DOM0, "1", "%s/online", r->backend);
    xs_make(lo->domid, r->domid, XS_PERM_READ, XBT_NULL, r->frontend);
    xs_put_str(DOM0, r->backend, "%s/backend", r->frontend);
    xs_put_str(DOM0, domid, "%s/backend-id", r->frontend);
    xs_put_str(DOM0, id, kind == NETBACK ? "%s/handle" : "%s/virtual-device",
               r->frontend);
    xs_put_str(DOM0, r->backend, "%s/backend", libxl);
    xs_put_str(DOM0, r->frontend, "%s/frontend", libxl);
    remote_state(r, XenbusStateInitWait);
    xs_put_str(DOM0, "1", "%s/state", r->frontend);
    g_queue_push_tail(&lo->remotes, r);

    state = g_strdup_printf("%s/state", r->frontend);
    xs_impl_watch(lo->xs, DOM0, state, NULL, remote_frontend_changed, r);
}

/* As the toolstack: the directories go, and with them what the backend had */
static void remote_free(LoRemote *r, const char *type, const char *id)
{
    g_autofree char *state = g_strdup_printf("%s/state", r->frontend);
    g_autofree char *libxl = g_strdup_printf("/libxl/%u/device/%s/%s",
                                             lo->domid, type, id);

    xs_impl_unwatch(lo->xs, DOM0, state, NULL, remote_frontend_changed, r);
    remote_disconnect(r);
    remote_rest(r);
    g_queue_remove(&lo->remotes, r);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->frontend);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->backend);
    xs_impl_rm(lo->xs, DOM0, XBT_NULL, libxl);
    g_free(r->fault);
    g_free(r->frontend);
    g_free(r->backend);
    g_free(r);
}

/* --- a guest that writes while QEMU looks --------------------------------- */

typedef struct LoMeddler {
    unsigned int skip, left;    /* of the times that QEMU looks */
    char *trigger, *path, *value;
} LoMeddler;

static void meddle(const char *path)
{
    for (GList *l = lo->meddlers.head; l; l = l->next) {
        LoMeddler *m = l->data;

        if (!m->left || (strcmp(m->trigger, "*") && strcmp(m->trigger, path))) {
            continue;
        }
        if (m->skip) {
            m->skip--;
            continue;
        }
        m->left--;
        lo->nr_meddled++;
        if (!strcmp(m->path, "callback")) {
            lo->param[HVM_PARAM_CALLBACK_IRQ] = atoi(m->value);
        } else if (!strcmp(m->path, "rm")) {
            xs_impl_rm(lo->xs, DOM0, XBT_NULL, m->value);
        } else {
            xs_put_str(lo->domid, m->value, "%s", m->path);
        }
    }
}

/* --- xenstore operations -------------------------------------------------- */

struct qemu_xs_handle {
    EventNotifier notifier;
    GQueue events;              /* of LoEvent */
    bool delivering;            /* one, with drains-hear */
};

struct qemu_xs_watch {
    struct qemu_xs_handle *h;
    char *path;
    xs_watch_fn fn;
    void *opaque;
};

typedef struct LoEvent {
    struct qemu_xs_watch *watch; /* NULL: unwatched meanwhile */
    char *path;
} LoEvent;

static void lo_xs_event(EventNotifier *e)
{
    struct qemu_xs_handle *h = container_of(e, struct qemu_xs_handle, notifier);
    LoEvent *ev;

    if (h->delivering) {
        return; /* as be_watch_bh(); the notifier stays set */
    }
    event_notifier_test_and_clear(e);
    /* one at a time: a handler may close the handle of another */
    ev = g_queue_pop_head(&h->events);
    lo->nr_events -= ev != NULL;
    if (!g_queue_is_empty(&h->events)) {
        event_notifier_set(e);
    }
    if (ev) {
        if (ev->watch) {
            h->delivering = lo->drains_hear;
            ev->watch->fn(ev->watch->opaque, ev->path);
            h->delivering = false;
        }
        g_free(ev->path);
        g_free(ev);
    }
}

/* Deliver them all, as the handler of libxenstore's descriptor does */
static bool lo_xs_deliver(struct qemu_xs_handle *h)
{
    bool any = !g_queue_is_empty(&h->events);

    while (!g_queue_is_empty(&h->events) && !h->delivering) {
        lo_xs_event(&h->notifier);
    }
    return any;
}

static bool lo_xs_wait(struct qemu_xs_handle *h, int64_t ns)
{
    int64_t end = get_clock() + ns;

    while (!lo_xs_deliver(h)) {
        if (get_clock() >= end) {
            return false;
        }
        remotes_run(NULL);
        if (g_queue_is_empty(&h->events)) {
            g_usleep(100);
        }
    }
    return true;
}

/* Count and record; returns whether it has to fail, with errno */
static bool lo_xs_op(LoXsOp op, const char *path)
{
    lo->nr_ops[op]++;
    if (lo->record) {
        g_string_append_printf(lo->record, "%s %s\n", op_names[op], path);
    }
    errno = op < LO_XS_CAN_FAIL ? lo->xs_fails[op] : 0;
    return errno;
}

/*
 * On the iohandler context, where qemu_set_fd_handler() puts libxenstore's; or
 * on the main one, which is polled while a disk drains, as QEMU's own Xen does
 */
static void lo_xs_listen(struct qemu_xs_handle *h, EventNotifierHandler *fn)
{
    if (lo->drains_hear) {
        aio_set_event_notifier(qemu_get_aio_context(), &h->notifier, fn, NULL,
                               NULL);
    } else {
        event_notifier_set_handler(&h->notifier, fn);
    }
}

static struct qemu_xs_handle *lo_xs_open(void)
{
    struct qemu_xs_handle *h;

    if (lo_xs_op(LO_XS_OPEN, "")) {
        return NULL;
    }
    h = g_new0(struct qemu_xs_handle, 1);
    if (event_notifier_init(&h->notifier, false)) {
        g_free(h);
        return NULL;
    }
    g_queue_init(&h->events);
    lo_xs_listen(h, lo_xs_event);
    lo->nr_handles++;
    return h;
}

static void lo_xs_close(struct qemu_xs_handle *h)
{
    LoEvent *ev;

    lo_xs_listen(h, NULL);
    event_notifier_cleanup(&h->notifier);
    while ((ev = g_queue_pop_head(&h->events))) {
        lo->nr_events--;
        g_assert(!ev->watch);
        g_free(ev->path);
        g_free(ev);
    }
    g_free(h);
    lo->nr_handles--;
}

/*
 * Not within a transaction: in QEMU's store any write of anyone's makes it
 * fail, in xenstored only one to the same nodes.
 */
static void let_remotes_run(xs_transaction_t t)
{
    if (t == XBT_NULL) {
        remotes_run(NULL);
    }
}

static char *lo_xs_get_domain_path(struct qemu_xs_handle *h, unsigned int domid)
{
    return g_strdup_printf("/local/domain/%u", domid);
}

static char **lo_xs_directory(struct qemu_xs_handle *h, xs_transaction_t t,
                              const char *path, unsigned int *num)
{
    GList *items = NULL;
    int err;

    let_remotes_run(t);
    if (lo_xs_op(LO_XS_DIRECTORY, path)) {
        return NULL;
    }
    err = xs_impl_directory(lo->xs, DOM0, t, path, NULL, &items);
    meddle(path);
    if (err) {
        errno = err;
        return NULL;
    }
    return xs_impl_items_to_block(items, num);
}

static void *lo_xs_read(struct qemu_xs_handle *h, xs_transaction_t t,
                        const char *path, unsigned int *len)
{
    char *value;
    int err;

    let_remotes_run(t);
    if (lo_xs_op(LO_XS_READ, path)) {
        return NULL;
    }
    value = xs_get(t, path, len);
    err = errno;
    meddle(path);
    errno = err;
    return value;
}

static bool lo_xs_result(int err)
{
    errno = err;
    return !err;
}

static bool lo_xs_write(struct qemu_xs_handle *h, xs_transaction_t t,
                        const char *path, const void *data, unsigned int len)
{
    return !lo_xs_op(LO_XS_WRITE, path) &&
           lo_xs_result(xs_put(DOM0, t, path, data, len));
}

static bool lo_xs_create(struct qemu_xs_handle *h, xs_transaction_t t,
                         unsigned int owner, unsigned int domid,
                         unsigned int perms, const char *path)
{
    lo_xs_op(LO_XS_CREATE, path);
    return lo_xs_result(xs_make(owner, domid, perms, t, path));
}

static bool lo_xs_destroy(struct qemu_xs_handle *h, xs_transaction_t t,
                          const char *path)
{
    lo_xs_op(LO_XS_DESTROY, path);
    return lo_xs_result(xs_impl_rm(lo->xs, DOM0, t, path));
}

static void lo_xs_watch_event(void *opaque, const char *path, const char *token)
{
    struct qemu_xs_watch *w = opaque;
    LoEvent *ev = g_new(LoEvent, 1);

    *ev = (LoEvent) { w, g_strdup(path) };
    g_queue_push_tail(&w->h->events, ev);
    lo->nr_events++;
    event_notifier_set(&w->h->notifier);
}

static struct qemu_xs_watch *lo_xs_watch(struct qemu_xs_handle *h,
                                         const char *path, xs_watch_fn fn,
                                         void *opaque)
{
    struct qemu_xs_watch *w;

    if (lo_xs_op(LO_XS_WATCH, path)) {
        return NULL;
    }
    w = g_new(struct qemu_xs_watch, 1);
    *w = (struct qemu_xs_watch) { h, g_strdup(path), fn, opaque };
    if (!lo_xs_result(xs_impl_watch(lo->xs, DOM0, path, NULL,
                                    lo_xs_watch_event, w))) {
        g_free(w->path);
        g_free(w);
        return NULL;
    }
    lo->nr_watches++;
    return w;
}

static void lo_xs_unwatch(struct qemu_xs_handle *h, struct qemu_xs_watch *w)
{
    lo_xs_op(LO_XS_UNWATCH, w->path);
    lo_xs_result(xs_impl_unwatch(lo->xs, DOM0, w->path, NULL,
                                 lo_xs_watch_event, w));
    for (GList *l = h->events.head; l; l = l->next) {
        LoEvent *ev = l->data;

        if (ev->watch == w) {
            ev->watch = NULL;
        }
    }
    g_free(w->path);
    g_free(w);
    lo->nr_watches--;
}

static xs_transaction_t lo_xs_transaction_start(struct qemu_xs_handle *h)
{
    xs_transaction_t tid = XBT_NULL;

    if (lo_xs_op(LO_XS_TRANSACTION, "")) {
        return XBT_NULL;
    }
    lo_xs_result(xs_impl_transaction_start(lo->xs, DOM0, &tid));
    return tid;
}

static bool lo_xs_transaction_end(struct qemu_xs_handle *h, xs_transaction_t t,
                                  bool abort)
{
    lo_xs_op(LO_XS_END, abort ? "F" : "T");
    return lo_xs_result(xs_impl_transaction_end(lo->xs, DOM0, t, !abort));
}

static struct xenstore_backend_ops lo_xs_ops = {
    .open = lo_xs_open,
    .close = lo_xs_close,
    .get_domain_path = lo_xs_get_domain_path,
    .directory = lo_xs_directory,
    .read = lo_xs_read,
    .write = lo_xs_write,
    .create = lo_xs_create,
    .destroy = lo_xs_destroy,
    .watch = lo_xs_watch,
    .unwatch = lo_xs_unwatch,
    .transaction_start = lo_xs_transaction_start,
    .transaction_end = lo_xs_transaction_end,
    .wait = lo_xs_wait,
};

/* --- HVM parameters ------------------------------------------------------- */

static int lo_get_hvm_param(uint32_t index, uint64_t *value)
{
    if (index >= MAX_PARAMS || lo->param_fails[index]) {
        return -EPERM;
    }
    *value = lo->param[index];
    return 0;
}

static void lo_add_callback_notifier(Notifier *notifier)
{
    notifier_list_add(&lo->callback_notifiers, notifier);
}

/* --- the grant table as dom0 sees it -------------------------------------- */

static int lo_grant_table_size(unsigned int *version, unsigned int *frames)
{
    *version = lo->grant_version;
    *frames = lo->grant_frames;
    return 0; /* that can be told even where the table cannot be mapped */
}

static void *lo_map_grant_table(unsigned int frames)
{
    void *table;

    lo->nr_grant_maps++;
    if (lo->grant_error) {
        errno = lo->grant_error;
        return NULL;
    }
    if (!frames || frames > lo->grant_frames) {
        errno = EINVAL;
        return NULL;
    }
    table = mmap(NULL, frames * XEN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                 MAP_SHARED, lo->ram_fd, GNTTAB_BASE);
    return table == MAP_FAILED ? NULL : table;
}

static void lo_unmap_grant_table(void *table, unsigned int frames)
{
    munmap(table, frames * XEN_PAGE_SIZE);
}

/* --- the guest's own connection to xenstore ------------------------------- */

static void guest_event(void *opaque, const char *path, const char *token)
{
    lo->nr_guest_events++;
}

/* As xenstored does when it is told of a domain that it knows already */
static int lo_reset_xenstore(int64_t until)
{
    lo->nr_resets++;
    if (lo->reset_error) {
        return -lo->reset_error;
    }
    for (guint i = 0; i < lo->guest_transactions->len; i++) {
        xs_impl_transaction_end(lo->xs, lo->domid,
                                g_array_index(lo->guest_transactions,
                                              xs_transaction_t, i), false);
    }
    g_array_set_size(lo->guest_transactions, 0);
    return -xs_impl_reset_watches(lo->xs, lo->domid);
}

static const XenFwHandoffOps lo_handoff_ops = {
    .get_hvm_param = lo_get_hvm_param,
    .grant_table_size = lo_grant_table_size,
    .map_grant_table = lo_map_grant_table,
    .unmap_grant_table = lo_unmap_grant_table,
    .reset_xenstore = lo_reset_xenstore,
};

/* As in QEMU's own emulation of Xen, which sees the guest set the parameter */
static const XenFwHandoffOps lo_telling_ops = {
    .get_hvm_param = lo_get_hvm_param,
    .add_callback_notifier = lo_add_callback_notifier,
    .grant_table_size = lo_grant_table_size,
    .map_grant_table = lo_map_grant_table,
    .unmap_grant_table = lo_unmap_grant_table,
    .reset_xenstore = lo_reset_xenstore,
};

/* --- the test's commands -------------------------------------------------- */

static void cmd_errno(Error **errp, int err, const char *path)
{
    if (err) {
        error_setg_errno(errp, err, "%s", path);
    }
}

static void cmd_write(char **w, Error **errp)
{
    cmd_errno(errp, xs_put_str(DOM0, w[1], "%s", w[0]), w[0]);
}

static void cmd_guest_write(char **w, Error **errp)
{
    cmd_errno(errp, xs_put_str(lo->domid, w[1], "%s", w[0]), w[0]);
}

/* The same while all disks are drained, as a QMP command may do */
static void cmd_guest_write_drained(char **w, Error **errp)
{
    cmd_guest_write(w, errp);
    bdrv_drain_all();
}

static void cmd_read(char **w, Error **errp)
{
    char *value = xs_get(XBT_NULL, w[0], NULL);

    cmd_errno(errp, value ? 0 : errno, w[0]);
    lo->result = g_strdup(value);
    free(value);
}

static void cmd_ls(char **w, Error **errp)
{
    GList *items = NULL;
    GString *s = g_string_new("");

    cmd_errno(errp, xs_impl_directory(lo->xs, DOM0, XBT_NULL, w[0], NULL,
                                      &items), w[0]);
    for (GList *l = items; l; l = l->next) {
        g_string_append_printf(s, "%s%s", s->len ? " " : "", (char *)l->data);
    }
    g_list_free_full(items, g_free);
    lo->result = g_string_free(s, false);
}

static void cmd_rm(char **w, Error **errp)
{
    cmd_errno(errp, xs_impl_rm(lo->xs, DOM0, XBT_NULL, w[0]), w[0]);
}

static void cmd_send(char **w, Error **errp)
{
    unsigned int port = atoi(w[0]);
    QEMU_LOCK_GUARD(&lo->lock);

    if (port < MAX_PORTS && lo->ports[port]) {
        event_notifier_set(&lo->ports[port]->notifier);
    } else {
        error_setg(errp, "nobody is bound to port %u", port);
    }
}

/* As send, and the IOThread that is to handle it gets no further */
static void cmd_hold(char **w, Error **errp)
{
    ERRP_GUARD();

    qatomic_set(&lo->held, false);
    qatomic_set(&lo->hold_port, atoi(w[0]));
    cmd_send(w, errp);
    while (!*errp && !qatomic_read(&lo->held)) {
        g_usleep(100);
    }
}

static void cmd_param(char **w, Error **errp)
{
    unsigned int index = atoi(w[0]) % MAX_PARAMS;
    bool fails = !strcmp(w[1], "fail");
    uint64_t value = lo->param[index];

    if (!fails && qemu_strtou64(w[1], NULL, 0, &value)) {
        error_setg(errp, "no number: '%s'", w[1]);
        return;
    }
    if (!fails && index == HVM_PARAM_CALLBACK_IRQ && value) {
        notifier_list_notify(&lo->callback_notifiers, &value);
    }
    lo->param_fails[index] = fails;
    lo->param[index] = value;
}

static void cmd_grant_version(char **w, Error **errp)
{
    unsigned int version;

    if (qemu_strtoui(w[0], NULL, 0, &version) || version > 2) {
        error_setg(errp, "no version of a grant table: '%s'", w[0]);
        return;
    }
    lo->grant_version = version;
}

static void cmd_grant_frames(char **w, Error **errp)
{
    unsigned int frames;

    if (qemu_strtoui(w[0], NULL, 0, &frames) || frames > GRANT_FRAMES) {
        error_setg(errp, "no number of frames up to %zu: '%s'", GRANT_FRAMES,
                   w[0]);
        return;
    }
    lo->grant_frames = frames;
}

static void cmd_remote(char **w, Error **errp)
{
    g_auto(GStrv) options = g_strsplit(w[1], " ", 0);

    for (size_t kind = 0; kind < ARRAY_SIZE(kind_names); kind++) {
        if (!strcmp(w[0], kind_names[kind]) && options[0]) {
            remote_new(kind, options[0], options + 1, errp);
            return;
        }
    }
    error_setg(errp, "no backend of type '%s'", w[0]);
}

static void cmd_unplug(char **w, Error **errp)
{
    g_autofree char *frontend = g_strdup_printf("/local/domain/%u/device/%s/%s",
                                                lo->domid, w[0], w[1]);

    for (GList *l = lo->remotes.head; l; l = l->next) {
        LoRemote *r = l->data;

        if (!strcmp(r->frontend, frontend)) {
            remote_free(r, w[0], w[1]);
            return;
        }
    }
    error_setg(errp, "no backend of '%s'", frontend);
}

static void add_meddler(unsigned int skip, unsigned int left, const char *words,
                        Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(words, " ", 3);
    LoMeddler *m;

    if (g_strv_length(rest) != 3) {
        error_setg(errp, "meddle N TRIGGER|* PATH|callback|rm VALUE");
        return;
    }
    m = g_new(LoMeddler, 1);
    *m = (LoMeddler) { skip, left, g_strdup(rest[0]), g_strdup(rest[1]),
                       g_strdup(rest[2]) };
    g_queue_push_tail(&lo->meddlers, m);
}

/* Each of the first N times that QEMU looks at a path, do something */
static void cmd_meddle(char **w, Error **errp)
{
    add_meddler(0, atoi(w[0]), w[1], errp);
}

/* The Nth time alone */
static void cmd_meddle_nth(char **w, Error **errp)
{
    add_meddler(atoi(w[0]) - 1, 1, w[1], errp);
}

/* So many writes of the guest, before QEMU hears of the first */
static void cmd_flood(char **w, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);

    for (int i = atoi(w[0]); i > 0 && rest[1]; i--) {
        if (xs_put_str(lo->domid, rest[1], "%s", rest[0])) {
            error_setg(errp, "the guest cannot write '%s'", rest[0]);
            return;
        }
    }
}

static void cmd_guest_watch(char **w, Error **errp)
{
    cmd_errno(errp, xs_impl_watch(lo->xs, lo->domid, w[0], w[1], guest_event,
                                  NULL), w[0]);
}

/* How many there were since it was asked for them last */
static void cmd_guest_events(char **w, Error **errp)
{
    lo->result = g_strdup_printf("%u", lo->nr_guest_events);
    lo->nr_guest_events = 0;
}

static void cmd_guest_transaction(char **w, Error **errp)
{
    xs_transaction_t tid = XBT_NULL;

    cmd_errno(errp, xs_impl_transaction_start(lo->xs, lo->domid, &tid),
              "a transaction of the guest");
    if (tid != XBT_NULL) {
        g_array_append_val(lo->guest_transactions, tid);
        lo->result = g_strdup_printf("%u", tid);
    }
}

/* Read a node in a transaction: it fails if that has been ended */
static void cmd_guest_read(char **w, Error **errp)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    cmd_errno(errp, xs_impl_read(lo->xs, lo->domid, atoi(w[0]), w[1], bytes),
              w[1]);
    lo->result = g_strndup((char *)bytes->data, bytes->len);
}

/* Make the reset of the guest's connection fail with an errno; 0: no more */
static void cmd_reset_fail(char **w, Error **errp)
{
    lo->reset_error = atoi(w[0]);
}

/* The same for mapping the grant table */
static void cmd_grant_fail(char **w, Error **errp)
{
    lo->grant_error = atoi(w[0]);
}

/*
 * What another vCPU writes in so many ms, even while this one stands in its
 * port write: from the main context, where QEMU's own Xen has it from the guest
 */
typedef struct LoLater {
    QEMUTimer *timer;
    char *path, *value;
} LoLater;

static void later(void *opaque)
{
    LoLater *l = opaque;

    xs_put_str(lo->domid, l->value, "%s", l->path);
    timer_free(l->timer);
    g_free(l->path);
    g_free(l->value);
    g_free(l);
}

static void cmd_later(char **w, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);
    LoLater *l;

    if (!rest[0] || !rest[1]) {
        error_setg(errp, "later MS PATH VALUE");
        return;
    }
    l = g_new(LoLater, 1);
    *l = (LoLater) {
        aio_timer_new(qemu_get_aio_context(), QEMU_CLOCK_REALTIME, SCALE_MS,
                      later, l),
        g_strdup(rest[0]), g_strdup(rest[1])
    };
    timer_mod(l->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + atoi(w[0]));
}

/* Every entry in use, "ref:flags:domid:frame" */
static void cmd_grants(char **w, Error **errp)
{
    unsigned int frames = lo->grant_frames;
    unsigned int refs = frames * XEN_PAGE_SIZE / sizeof(grant_entry_v1_t);
    grant_entry_v1_t *table = lo_grant(0);
    GString *s = g_string_new("");

    for (unsigned int ref = 0; ref < refs; ref++) {
        if (table[ref].flags) {
            g_string_append_printf(s, "%s%u:%u:%u:%u", s->len ? " " : "", ref,
                                   table[ref].flags, table[ref].domid,
                                   table[ref].frame);
        }
    }
    lo->result = g_string_free(s, false);
}

/* Make QEMU's own requests fail with an errno, or succeed again with 0 */
static void cmd_xs_fail(char **w, Error **errp)
{
    bool known = false;

    for (size_t i = 0; i < LO_XS_CAN_FAIL; i++) {
        if (!strcmp(w[0], op_names[i]) || !strcmp(w[0], "all")) {
            lo->xs_fails[i] = atoi(w[1]);
            known = true;
        }
    }
    if (!known) {
        error_setg(errp, "no operation of xenstore: '%s'", w[0]);
    }
}

/* What QEMU has asked of xenstore so far: "open=1 watch=5 ..." */
static void cmd_ops(char **w, Error **errp)
{
    GString *s = g_string_new(lo->result);

    for (size_t i = 0; i < LO_XS_OPS; i++) {
        g_string_append_printf(s, "%s%s=%u", s->len ? " " : "", op_names[i],
                               lo->nr_ops[i]);
    }
    g_free(lo->result);
    lo->result = g_string_free(s, false);
}

/* "on": write down each of them from now on; "off": the result is the list */
static void cmd_record(char **w, Error **errp)
{
    if (lo->record) {
        lo->result = g_string_free(lo->record, false);
        lo->record = NULL;
    }
    if (!strcmp(w[0], "on")) {
        lo->record = g_string_new("");
    }
}

/*
 * So many writes of the guest to a port: far more than a test can send.  The
 * result is how long they have taken, and the operations of xenstore so far:
 * "ns=123456 open=1 watch=5 ..."
 */
static void cmd_out(char **w, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);
    unsigned int size = atoi(w[0]), port, count;
    int64_t start;

    if (g_strv_length(rest) != 2 || (size != 1 && size != 2 && size != 4) ||
        qemu_strtoui(rest[0], NULL, 0, &port)) {
        error_setg(errp, "out SIZE PORT COUNT");
        return;
    }
    count = atoi(rest[1]);
    start = get_clock();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = cpu_to_le32(i);

        address_space_write(&address_space_io, port, MEMTXATTRS_UNSPECIFIED,
                            &value, size);
    }
    lo->result = g_strdup_printf("ns=%" PRId64, get_clock() - start);
    cmd_ops(NULL, NULL);
    /* who meddles does so while QEMU stands in a write, or not at all */
    for (GList *l = lo->meddlers.head; l; l = l->next) {
        ((LoMeddler *)l->data)->left = 0;
    }
}

static void cmd_stat(char **w, Error **errp)
{
    unsigned int ops = 0;
    QEMU_LOCK_GUARD(&lo->lock);

    for (size_t i = 0; i < LO_XS_OPS; i++) {
        ops += lo->nr_ops[i];
    }
    lo->result = g_strdup_printf("maps=%u ports=%u watches=%u handles=%u "
                                 "events=%u ops=%u meddled=%u grant-maps=%u "
                                 "resets=%u", lo->nr_maps, lo->nr_ports,
                                 lo->nr_watches, lo->nr_handles, lo->nr_events,
                                 ops, lo->nr_meddled, lo->nr_grant_maps,
                                 lo->nr_resets);
}

static const struct {
    const char *name;
    int words;                  /* after the name; the last may have spaces */
    void (*run)(char **words, Error **errp);
} commands[] = {
    { "write", 2, cmd_write },
    { "guest-write", 2, cmd_guest_write },
    { "guest-write-drained", 2, cmd_guest_write_drained },
    { "read", 1, cmd_read },
    { "ls", 1, cmd_ls },
    { "rm", 1, cmd_rm },
    { "send", 1, cmd_send },
    { "hold", 1, cmd_hold },
    { "param", 2, cmd_param },
    { "remote", 2, cmd_remote },
    { "unplug", 2, cmd_unplug },
    { "meddle", 2, cmd_meddle },
    { "meddle-nth", 2, cmd_meddle_nth },
    { "flood", 2, cmd_flood },
    { "guest-watch", 2, cmd_guest_watch },
    { "guest-events", 0, cmd_guest_events },
    { "guest-transaction", 0, cmd_guest_transaction },
    { "guest-read", 2, cmd_guest_read },
    { "reset-fail", 1, cmd_reset_fail },
    { "later", 2, cmd_later },
    { "grants", 0, cmd_grants },
    { "grant-version", 1, cmd_grant_version },
    { "grant-frames", 1, cmd_grant_frames },
    { "grant-fail", 1, cmd_grant_fail },
    { "xs-fail", 2, cmd_xs_fail },
    { "ops", 0, cmd_ops },
    { "record", 1, cmd_record },
    { "out", 2, cmd_out },
    { "stat", 0, cmd_stat },
};

static void xen_loopback_set_command(Object *obj, const char *value,
                                     Error **errp)
{
    g_auto(GStrv) words = NULL;

    if (XEN_LOOPBACK(obj) != lo) {
        error_setg(errp, "%s is not realized", TYPE_XEN_LOOPBACK);
        return;
    }
    g_clear_pointer(&lo->result, g_free);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        size_t len = strlen(commands[i].name);

        if (strncmp(value, commands[i].name, len) ||
            (value[len] && value[len] != ' ')) {
            continue;
        }
        words = g_strsplit(value, " ", commands[i].words + 1);
        if (g_strv_length(words) == commands[i].words + 1) {
            commands[i].run(words + 1, errp);
            return;
        }
    }
    error_setg(errp, "no such command: '%s'", value);
}

static char *xen_loopback_get_command(Object *obj, Error **errp)
{
    return g_strdup(XEN_LOOPBACK(obj)->result ?: "");
}

/* --- the device ----------------------------------------------------------- */

static void xen_loopback_realize(DeviceState *dev, Error **errp)
{
    XenLoopback *s = XEN_LOOPBACK(dev);
    MemoryRegion *ram = current_machine->ram;

    if (!qtest_enabled()) {
        error_setg(errp, "%s is for tests only: use -accel qtest",
                   TYPE_XEN_LOOPBACK);
        return;
    }
    if (xen_mode != XEN_DISABLED || lo) {
        error_setg(errp, "Xen is already there");
        return;
    }
    xen_xenstore_ops = &lo_xs_ops;
    if (s->real_xenstore) {
#ifdef CONFIG_XEN
        setup_xen_backend_ops(); /* all but xenstore's are replaced below */
#else
        error_setg(errp, "this QEMU was built without libxenstore");
        return;
#endif
    }
    if (!ram || memory_region_get_fd(ram) < 0) {
        error_setg(errp, "guest RAM must be a memory-backend-memfd,share=on");
        return;
    }
    s->ram = memory_region_get_ram_ptr(ram);
    s->ram_fd = memory_region_get_fd(ram);
    s->ram_size = memory_region_size(ram);
    qemu_mutex_init(&s->lock);
    g_queue_init(&s->remotes);
    g_queue_init(&s->due);
    g_queue_init(&s->meddlers);
    notifier_list_init(&s->callback_notifiers);
    s->guest_transactions = g_array_new(false, false,
                                        sizeof(xs_transaction_t));
    s->grant_version = 1;
    s->grant_frames = GRANT_FRAMES;
    s->remote_timer = timer_new_ns(QEMU_CLOCK_REALTIME, remotes_run, NULL);
    lo = s;

    s->xs = xs_impl_create(s->domid);
    xs_put_str(DOM0, "0", "/local/domain/0/domid");
    for (const char *const *dir =
         (const char *const []) { "device", "data", NULL }; *dir; dir++) {
        g_autofree char *path = g_strdup_printf("/local/domain/%u/%s",
                                                s->domid, *dir);

        /* what libxl gives to the guest */
        xs_make(s->domid, DOM0, XS_PERM_READ, XBT_NULL, path);
    }

    xen_domid = s->domid;
    xen_mode = XEN_EMULATE;
    xen_evtchn_ops = &lo_evtchn_ops;
    xen_gnttab_ops = &lo_gnttab_ops;
    xen_foreignmem_ops = &lo_foreignmem_ops;
    xen_fw_handoff_ops = s->tells_callback ? &lo_telling_ops : &lo_handoff_ops;
    xen_bus_init();
    qemu_register_resettable(OBJECT(s)); /* it is on no bus */
}

/* As in QEMU's own emulation of Xen; a wakeup is no reset of the guest */
static void xen_loopback_reset_hold(Object *obj, ResetType type)
{
    if (XEN_LOOPBACK(obj) == lo && type == RESET_TYPE_COLD) {
        xen_bus_reset();
    }
}

static const Property xen_loopback_properties[] = {
    DEFINE_PROP_UINT16("domid", XenLoopback, domid, 7),
    DEFINE_PROP_BOOL("tells-callback", XenLoopback, tells_callback, false),
    DEFINE_PROP_BOOL("real-xenstore", XenLoopback, real_xenstore, false),
    DEFINE_PROP_BOOL("drains-hear", XenLoopback, drains_hear, false),
};

static void xen_loopback_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "Xen's operations without Xen, for tests";
    dc->realize = xen_loopback_realize;
    RESETTABLE_CLASS(klass)->phases.hold = xen_loopback_reset_hold;
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, xen_loopback_properties);
    object_class_property_add_str(klass, "command", xen_loopback_get_command,
                                  xen_loopback_set_command);
    object_class_property_set_description(klass, "command",
        "Set: run a command of the test.  Get: its result");
}

static const TypeInfo xen_loopback_types[] = {
    {
        .name = TYPE_XEN_LOOPBACK,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(XenLoopback),
        .class_init = xen_loopback_class_init,
    },
};

DEFINE_TYPES(xen_loopback_types)

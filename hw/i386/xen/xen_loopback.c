/*
 * Xen loopback: Xen's operations without Xen, for tests
 *
 * QEMU's Xen backends reach Xen through tables of operations: event channels,
 * grants, xenstore.  This device fills them in within this process, so that
 * the real xen-disk, xen-net-device and xen-console run under the qtest
 * accelerator.  The test is the guest: it writes the grant table and the rings
 * in guest RAM and drives the rest through commands of the qtest protocol.
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
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus.h"
#include "hw/xen/interface/hvm/params.h"
#include "system/qtest.h"
#include "system/reset.h"
#include "xen_loopback.h"

/* Where the guest has its grant table */
#define GNTTAB_BASE 0x100000

XenLoopback *lo;

const char *const lo_op_names[LO_XS_OPS] = {
    [LO_XS_OPEN] = "open", [LO_XS_WATCH] = "watch",
    [LO_XS_DIRECTORY] = "directory", [LO_XS_READ] = "read",
    [LO_XS_WRITE] = "write", [LO_XS_TRANSACTION] = "transaction",
    [LO_XS_UNWATCH] = "unwatch", [LO_XS_CREATE] = "create",
    [LO_XS_DESTROY] = "destroy", [LO_XS_END] = "end",
};

/* --- event channels: local and remote port have the same number ----------- */

xenevtchn_handle *lo_evtchn_open(void)
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

int lo_evtchn_close(xenevtchn_handle *xc)
{
    if (xc->port) {
        lo_evtchn_unbind(xc, xc->port);
    }
    event_notifier_cleanup(&xc->notifier);
    g_free(xc);
    return 0;
}

int lo_evtchn_bind(xenevtchn_handle *xc, uint32_t domid, evtchn_port_t port)
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

grant_entry_v1_t *lo_grant(uint32_t ref)
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

void *lo_map_for(xengnttab_handle *xgt, uint16_t backend, uint32_t count,
                 uint32_t *refs, int prot)
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

xengnttab_handle *lo_gnttab_open(void)
{
    xengnttab_handle *xgt = g_new0(xengnttab_handle, 1);

    xgt->maps = g_hash_table_new_full(NULL, NULL, NULL, lo_map_free);
    return xgt;
}

int lo_gnttab_close(xengnttab_handle *xgt)
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

static int lo_put(unsigned int as, xs_transaction_t tid, const char *path,
                  const void *data, size_t len)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_byte_array_append(bytes, data, len);
    return xs_impl_write(lo->xs, as, tid, path, bytes);
}

int lo_put_str(unsigned int as, const char *value, const char *fmt, ...)
{
    g_autofree char *path = NULL;
    va_list ap;

    va_start(ap, fmt);
    path = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return lo_put(as, XBT_NULL, path, value, strlen(value));
}

char *lo_get(xs_transaction_t tid, const char *path, unsigned int *len)
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

int lo_get_number(const char *fmt, ...)
{
    g_autofree char *path = NULL;
    va_list ap;
    char *value;
    int number = -1;

    va_start(ap, fmt);
    path = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    value = lo_get(XBT_NULL, path, NULL);
    if (value && qemu_strtoi(value, NULL, 10, &number)) {
        number = -1;
    }
    free(value);
    return number;
}

int lo_make(unsigned int owner, unsigned int other, unsigned int perms,
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

/* --- xenstore operations -------------------------------------------------- */

struct qemu_xs_handle {
    EventNotifier notifier;
    GQueue events;              /* of LoEvent */
    bool delivering;            /* one, with events-in-drain */
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

static void lo_deliver(LoEvent *ev)
{
    lo->nr_events--;
    if (ev->watch) {
        ev->watch->fn(ev->watch->opaque, ev->path);
    }
    g_free(ev->path);
    g_free(ev);
}

static void lo_xs_event(EventNotifier *e)
{
    struct qemu_xs_handle *h = container_of(e, struct qemu_xs_handle, notifier);
    LoEvent *ev;

    event_notifier_test_and_clear(e);
    /* one at a time: a handler may close the handle of another */
    ev = g_queue_pop_head(&h->events);
    if (!g_queue_is_empty(&h->events)) {
        event_notifier_set(e);
    }
    if (ev) {
        lo_deliver(ev);
    }
}

/* As be_watch_bh(): all that there are, and none while a callback polls */
static void lo_xs_event_in_drain(EventNotifier *e)
{
    struct qemu_xs_handle *h = container_of(e, struct qemu_xs_handle, notifier);
    LoEvent *ev;

    event_notifier_test_and_clear(e);
    if (h->delivering) {
        return;
    }
    h->delivering = true;
    while ((ev = g_queue_pop_head(&h->events))) {
        lo_deliver(ev);
    }
    h->delivering = false;
}

/* Count and record; returns whether it has to fail, with errno */
static bool lo_xs_op(LoXsOp op, const char *path)
{
    lo->nr_ops[op]++;
    if (lo->xs_us) {
        g_usleep(lo->xs_us);
    }
    if (lo->record) {
        g_string_append_printf(lo->record, "%s %s\n", lo_op_names[op], path);
    }
    errno = op < LO_XS_CAN_FAIL ? lo->xs_fails[op] : 0;
    return errno;
}

/*
 * On the iohandler context, where qemu_set_fd_handler() puts libxenstore's; or
 * on the main one, which is polled while a disk drains, as QEMU's own Xen does
 */
static void lo_xs_listen(struct qemu_xs_handle *h, bool listen)
{
    if (lo->events_in_drain) {
        aio_set_event_notifier(qemu_get_aio_context(), &h->notifier,
                               listen ? lo_xs_event_in_drain : NULL, NULL,
                               NULL);
    } else {
        event_notifier_set_handler(&h->notifier, listen ? lo_xs_event : NULL);
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
    lo_xs_listen(h, true);
    lo->nr_handles++;
    return h;
}

static void lo_xs_close(struct qemu_xs_handle *h)
{
    LoEvent *ev;

    g_assert(!h->delivering); /* whose callback may go on with the device */
    lo_xs_listen(h, false);
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
static void let_backends_run(xs_transaction_t t)
{
    if (t == XBT_NULL) {
        lo_backends_run(NULL);
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

    let_backends_run(t);
    if (lo_xs_op(LO_XS_DIRECTORY, path)) {
        return NULL;
    }
    err = xs_impl_directory(lo->xs, DOM0, t, path, NULL, &items);
    lo_race_write(path);
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

    let_backends_run(t);
    if (lo_xs_op(LO_XS_READ, path)) {
        return NULL;
    }
    value = lo_get(t, path, len);
    err = errno;
    lo_race_write(path);
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
           lo_xs_result(lo_put(DOM0, t, path, data, len));
}

static bool lo_xs_create(struct qemu_xs_handle *h, xs_transaction_t t,
                         unsigned int owner, unsigned int domid,
                         unsigned int perms, const char *path)
{
    lo_xs_op(LO_XS_CREATE, path);
    return lo_xs_result(lo_make(owner, domid, perms, t, path));
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
};

/* --- HVM parameters ------------------------------------------------------- */

static int lo_hvm_param_get(uint32_t index, uint64_t *value)
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

static void *lo_grant_table_map(unsigned int frames)
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

static void lo_grant_table_unmap(void *table, unsigned int frames)
{
    munmap(table, frames * XEN_PAGE_SIZE);
}

/* --- the guest's own connection to xenstore ------------------------------- */

/* As xenstored does when it is told of a domain that it knows already */
static int lo_xenstore_reset(int64_t until)
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

/* --- the vCPU ------------------------------------------------------------- */

/*
 * The test is the vCPU: it asks with the command "held" before it goes on with
 * what a guest would do next.
 */
static bool lo_vcpu_hold(void)
{
    lo->vcpu_held = true;
    return true;
}

static void lo_vcpu_release(void)
{
    lo->vcpu_held = false;
}

static struct guest_backend_ops lo_guest_ops = {
    .hvm_param_get = lo_hvm_param_get,
    .vcpu_hold = lo_vcpu_hold,
    .vcpu_release = lo_vcpu_release,
    .grant_table_size = lo_grant_table_size,
    .grant_table_map = lo_grant_table_map,
    .grant_table_unmap = lo_grant_table_unmap,
    .xenstore_reset = lo_xenstore_reset,
};

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
    g_queue_init(&s->backends);
    g_queue_init(&s->due);
    g_queue_init(&s->race_writes);
    notifier_list_init(&s->callback_notifiers);
    s->guest_transactions = g_array_new(false, false,
                                        sizeof(xs_transaction_t));
    s->grant_version = 1;
    s->grant_frames = GRANT_FRAMES;
    s->backend_timer = timer_new_ns(QEMU_CLOCK_REALTIME, lo_backends_run, NULL);
    lo = s;

    s->xs = xs_impl_create(s->domid);
    lo_put_str(DOM0, "0", "/local/domain/0/domid");
    for (const char *const *dir =
         (const char *const []) { "device", "data", NULL }; *dir; dir++) {
        g_autofree char *path = g_strdup_printf("/local/domain/%u/%s",
                                                s->domid, *dir);

        /* what libxl gives to the guest */
        lo_make(s->domid, DOM0, XS_PERM_READ, XBT_NULL, path);
    }

    xen_domid = s->domid;
    xen_mode = XEN_EMULATE;
    xen_evtchn_ops = &lo_evtchn_ops;
    xen_gnttab_ops = &lo_gnttab_ops;
    xen_foreignmem_ops = &lo_foreignmem_ops;
    if (s->callback_notifier) {
        /* QEMU's own Xen sees the guest set the parameter */
        lo_guest_ops.add_callback_notifier = lo_add_callback_notifier;
    }
    lo_guest_ops.events_in_drain = s->events_in_drain;
    xen_guest_ops = &lo_guest_ops;
    xen_bus_init();
    lo_commands_init();
    qemu_register_resettable(OBJECT(s)); /* it is on no bus */
}

/*
 * Of what QEMU's own Xen does at a reset, what the backends see; the rest is
 * the test's to do.  A wakeup is no reset of the guest.
 */
static void xen_loopback_reset_hold(Object *obj, ResetType type)
{
    if (XEN_LOOPBACK(obj) == lo && type == RESET_TYPE_COLD) {
        xen_bus_reset();
    }
}

static const Property xen_loopback_properties[] = {
    DEFINE_PROP_UINT16("domid", XenLoopback, domid, 7),
    DEFINE_PROP_BOOL("callback-notifier", XenLoopback, callback_notifier,
                     false),
    DEFINE_PROP_BOOL("real-xenstore", XenLoopback, real_xenstore, false),
    DEFINE_PROP_BOOL("events-in-drain", XenLoopback, events_in_drain, false),
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

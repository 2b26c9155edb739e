/*
 * Xen firmware handoff
 *
 * Firmware of a Xen HVM guest that drives PV disks or NICs cannot know when it
 * was called for the last time, and leaves its connections open.  Every OS
 * with PV drivers announces itself by writing to the I/O ports of xen-platform.
 * This device sees those writes first, and before the announcing vCPU goes on
 * it closes from this side what the firmware has left.
 *
 * Whose a connection is, the ledger knows (xen-handoff-ledger.c); how a backend
 * is made to let go, the teardown (xen-handoff-teardown.c).
 * docs/specs/xen-fw-handoff.txt says what the guest can rely on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "hw/qdev-properties.h"
#include "hw/resettable.h"
#include "hw/xen/xen.h"
#include "hw/xen/xen-bus-helper.h"
#include "hw/xen/interface/hvm/params.h"
#include "hw/xen/xen_fw_handoff.h"
#include "hw/xen/xen-handoff-ledger.h"
#include "hw/xen/xen-handoff-teardown.h"
#include "migration/vmstate.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/system.h"
#include "trace.h"

/* xen-platform's ports; our region is a child of its, offsets are relative */
#define PLATFORM_PORT    0x10
#define PLATFORM_UNPLUG  0    /* word: unplug mask; dword: build number */
#define PLATFORM_PRODUCT 2    /* word: product number; byte: driver's log */

/*
 * What SUSE's xen-kmp and VMDP used before those: bytes in BAR 0 of
 * xen-platform.  Our child region there begins at the first of them.
 */
#define BAR_UNPLUG_ALL   4    /* 1 */
#define BAR_UNPLUG_SOME  8    /* 1: disks, 2: NICs; all else is a log byte */
#define BAR_SIZE         (BAR_UNPLUG_SOME + 1 - BAR_UNPLUG_ALL)

/*
 * How often to look whether an OS has come up that does not write to any port.
 * An OS takes longer from setting HVM_PARAM_CALLBACK_IRQ to its first frontend.
 */
#define POLL_PARAM_MS 100

/* Nobody wants a vCPU to stand still for longer */
#define MAX_TIMEOUT_MS 60000

OBJECT_DECLARE_SIMPLE_TYPE(XenFwHandoff, XEN_FW_HANDOFF)

struct XenFwHandoff {
    DeviceState parent_obj;

    /* properties */
    uint32_t timeout_ms;

    /* latched by the first announcement since reset, and migrated */
    bool done;

    /* the ports, ours inside of xen-platform's */
    Notifier machine_done;
    MemoryRegion *fixed, *bar;
    MemoryRegion io, bar_io;

    /* while armed: from reset to the announcement */
    struct qemu_xs_handle *xsh;
    struct qemu_xs_watch *watch;
    char *root;                 /* the guest's device/ directory */
    XenHandoffLedger *ledger;
    GHashTable *told;           /* frontends whose connection was logged */
    QEMUTimer *param_timer;     /* runs while the firmware is connected */
};

const XenFwHandoffOps *xen_fw_handoff_ops;

/* --- looking at the guest ------------------------------------------------ */

static XenHandoffOs read_os(Error **errp)
{
    uint64_t value;
    int rc = xen_fw_handoff_ops
        ? xen_fw_handoff_ops->get_hvm_param(HVM_PARAM_CALLBACK_IRQ, &value)
        : -ENOSYS;

    if (rc < 0) {
        error_setg_errno(errp, -rc, "cannot read HVM_PARAM_CALLBACK_IRQ");
        return XEN_HANDOFF_OS_UNKNOWN;
    }
    return value ? XEN_HANDOFF_OS_PRESENT : XEN_HANDOFF_OS_ABSENT;
}

static void add_keys(XenFwHandoff *s, XenHandoffSighting *seen,
                     const char *name, const char *below)
{
    g_autofree char *dir = g_strdup_printf("%s/%s%s%s", s->root, name,
                                           *below ? "/" : "", below);
    unsigned int n = 0;
    char **keys = qemu_xen_xs_directory(s->xsh, XBT_NULL, dir, &n);

    for (unsigned int i = 0; i < n && !seen->too_much; i++) {
        g_autofree char *key = *below ? g_strdup_printf("%s/%s", below, keys[i])
                                      : g_strdup(keys[i]);
        char *value;

        if (!strcmp(key, "state")) {
            continue;
        }
        value = xs_node_read(s->xsh, XBT_NULL, NULL, NULL, "%s/%s/%s", s->root,
                             name, key);
        if (value && xen_handoff_sighting_add(seen, key, value) &&
            !*value && !*below) {
            add_keys(s, seen, name, key); /* "queue-0" is a directory */
        }
        free(value);
    }
    free(keys); /* one block, the strings included */
}

static XenHandoffSighting *look(XenFwHandoff *s, const char *name,
                                bool with_keys)
{
    g_autofree char *dir = g_strdup_printf("%s/%s", s->root, name);
    XenHandoffSighting *seen =
        xen_handoff_sighting_new(xen_handoff_read_state(s->xsh, XBT_NULL,
                                                        dir));

    if (with_keys && seen->state != XenbusStateUnknown) {
        add_keys(s, seen, name, "");
    }
    return seen;
}

/*
 * Call @fn for each frontend of the guest, for so many as the ledger takes.
 * device/pci belongs to the toolstack and to nobody's firmware.
 */
static void for_each_frontend(XenFwHandoff *s,
                              void (*fn)(XenFwHandoff *s, const char *name,
                                         void *opaque),
                              void *opaque)
{
    unsigned int n_class = 0, left = XEN_HANDOFF_MAX_FRONTENDS;
    char **class = qemu_xen_xs_directory(s->xsh, XBT_NULL, s->root, &n_class);

    for (unsigned int i = 0; i < n_class && left; i++) {
        g_autofree char *dir = g_strdup_printf("%s/%s", s->root, class[i]);
        unsigned int n = 0;
        char **id;

        if (!strcmp(class[i], "pci")) {
            continue;
        }
        id = qemu_xen_xs_directory(s->xsh, XBT_NULL, dir, &n);
        for (unsigned int j = 0; j < n && left; j++, left--) {
            g_autofree char *name = g_strdup_printf("%s/%s", class[i], id[j]);

            fn(s, name, opaque);
        }
        free(id);
    }
    free(class);
    if (!left) {
        qemu_log_mask(LOG_GUEST_ERROR, "%s: more than %d frontends, the rest "
                      "is not looked at\n", TYPE_XEN_FW_HANDOFF,
                      XEN_HANDOFF_MAX_FRONTENDS);
    }
}

/* --- the ledger's watch -------------------------------------------------- */

static void see_frontend(XenFwHandoff *s, const char *name, void *opaque)
{
    XenHandoffSighting *seen = look(s, name, true);
    enum xenbus_state state = seen->state;
    XenHandoffOs os = read_os(NULL);

    trace_xen_fw_handoff_saw(name, xen_handoff_state_name(state), os);
    if (xen_handoff_ledger_saw(s->ledger, name, seen, os) ==
        XEN_HANDOFF_FIRMWARE &&
        (state == XenbusStateInitialised || state == XenbusStateConnected) &&
        g_hash_table_add(s->told, g_strdup(name))) {
        info_report(XEN_FW_HANDOFF_LOG "%s: connected by the firmware", name);
    }
    if (!xen_handoff_ledger_connections(s->ledger)) {
        timer_del(s->param_timer);
    } else if (!timer_pending(s->param_timer)) {
        timer_mod(s->param_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + POLL_PARAM_MS);
    }
}

/*
 * Something below device/ has changed.  The guest can make this happen as often
 * as it likes, so that each event costs a few reads and no more.
 */
static void device_changed(void *opaque, const char *path)
{
    XenFwHandoff *s = opaque;
    const char *below = path;
    g_auto(GStrv) part = NULL;
    g_autofree char *name = NULL;

    if (!strstart(path, s->root, &below) || (*below && *below++ != '/')) {
        return;
    }
    part = g_strsplit(below, "/", 4); /* class, id, key */
    if (g_strv_length(part) < 3) {
        unsigned int n;
        char **dir = qemu_xen_xs_directory(s->xsh, XBT_NULL, path, &n);

        if (!dir && errno == ENOENT) {
            xen_handoff_ledger_gone(s->ledger, below);
        }
        free(dir);
        return;
    }
    name = g_strdup_printf("%s/%s", part[0], part[1]);
    if (strcmp(part[0], "pci") &&
        (!strcmp(part[2], "state") ||
         !xen_handoff_ledger_knows(s->ledger, name)) &&
        xen_handoff_ledger_wants(s->ledger, name)) {
        see_frontend(s, name, NULL);
    }
}

static void disarm(XenFwHandoff *s)
{
    timer_del(s->param_timer);
    if (s->watch) {
        xs_node_unwatch(s->xsh, s->watch);
        s->watch = NULL;
    }
    g_clear_pointer(&s->xsh, qemu_xen_xs_close);
    g_clear_pointer(&s->root, g_free);
    g_clear_pointer(&s->ledger, xen_handoff_ledger_free);
    g_clear_pointer(&s->told, g_hash_table_unref);
}

static void arm(XenFwHandoff *s)
{
    Error *err = NULL;
    g_autofree char *domain = g_strdup_printf("/local/domain/%u", xen_domid);

    s->root = g_strdup_printf("%s/device", domain);
    s->ledger = xen_handoff_ledger_new();
    s->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    s->xsh = qemu_xen_xs_open();
    if (!s->xsh) {
        error_setg_errno(&err, errno, "cannot open xenstore");
    } else {
        s->watch = xs_node_watch(s->xsh, domain, "device", device_changed, s,
                                 &err);
    }
    if (err) {
        warn_reportf_err(err, XEN_FW_HANDOFF_LOG
                         "inert, connections of the firmware will stay: ");
        disarm(s);
        return;
    }
    /* Now, not at the watch's first event: the guest has not run yet */
    for_each_frontend(s, see_frontend, NULL);
    info_report(XEN_FW_HANDOFF_LOG "armed for domain %u", xen_domid);
}

/* --- the handoff --------------------------------------------------------- */

/*
 * The backend of a frontend, if its path can be trusted: the guest may write
 * what it likes to its own directory, but neither to libxl's nor to that of
 * the backend.  Returns NULL if not; free() the path.
 */
static char *trusted_backend(XenFwHandoff *s, const char *name,
                             const char *frontend)
{
    char *backend = xs_node_read(s->xsh, XBT_NULL, NULL, NULL,
                                 "/libxl/%u/device/%s/backend", xen_domid,
                                 name);
    g_autofree char *domid = g_strdup_printf("%u", xen_domid);
    g_auto(GStrv) part = NULL;
    char *back;
    bool trusted;

    if (backend) {
        return backend;
    }
    backend = xs_node_read(s->xsh, XBT_NULL, NULL, NULL, "%s/backend",
                           frontend);
    if (!backend) {
        return NULL;
    }
    /* "/local/domain/<d>/backend/<type>/<domid>/<id>" that points back to us */
    part = g_strsplit(backend, "/", 9);
    trusted = g_strv_length(part) == 8 && !*part[0] &&
              !strcmp(part[1], "local") && !strcmp(part[2], "domain") &&
              !strcmp(part[4], "backend") && !strcmp(part[6], domid);
    if (trusted) {
        back = xs_node_read(s->xsh, XBT_NULL, NULL, NULL, "%s/frontend",
                            backend);
        trusted = !g_strcmp0(back, frontend);
        free(back);
    }
    if (!trusted) {
        free(backend);
        return NULL;
    }
    return backend;
}

/* The backends of this process, by the path of their frontend */
static GHashTable *local_backends(void)
{
    GHashTable *local = g_hash_table_new(g_str_hash, g_str_equal);
    Object *bus = object_resolve_path_type("", TYPE_XEN_BUS, NULL);
    BusChild *kid;

    if (bus) {
        QTAILQ_FOREACH(kid, &BUS(bus)->children, sibling) {
            XenDevice *xendev = XEN_DEVICE(kid->child);

            if (xendev->frontend_path && xendev->backend_path) {
                g_hash_table_insert(local, xendev->frontend_path, xendev);
            }
        }
    }
    return local;
}

typedef struct Collect {
    XenHandoffOs os;
    GHashTable *local;
    GPtrArray *tasks;
    unsigned int left_alone;
} Collect;

static void collect_frontend(XenFwHandoff *s, const char *name, void *opaque)
{
    Collect *c = opaque;
    g_autoptr(XenHandoffSighting) seen = NULL;
    g_autofree char *frontend = g_strdup_printf("%s/%s", s->root, name);
    const char *why = NULL;
    XenHandoffTask *task;
    XenDevice *local;
    char *backend;

    /* Only where the OS has run, what the firmware wrote has to be compared */
    seen = look(s, name, c->os == XEN_HANDOFF_OS_PRESENT);
    switch (xen_handoff_ledger_owner(s->ledger, name, seen, c->os)) {
    case XEN_HANDOFF_NOBODY:
        return;
    case XEN_HANDOFF_FIRMWARE:
        break;
    case XEN_HANDOFF_OS:
        why = "the OS connected it";
        break;
    case XEN_HANDOFF_OS_TOUCHED:
        why = "it has changed since the OS is running";
        break;
    case XEN_HANDOFF_IN_DOUBT:
        why = "nobody can tell whose it is";
        break;
    }

    local = g_hash_table_lookup(c->local, frontend);
    backend = why ? NULL
                  : local ? strdup(local->backend_path)
                          : trusted_backend(s, name, frontend);
    if (!why && !backend) {
        why = "it names no backend that confirms it";
    }
    if (why) {
        info_report(XEN_FW_HANDOFF_LOG "%s: left alone in state %s: %s", name,
                    xen_handoff_state_name(seen->state), why);
        c->left_alone++;
        return;
    }

    task = g_new0(XenHandoffTask, 1);
    task->name = g_strdup(name);
    task->frontend = g_steal_pointer(&frontend);
    task->backend = g_strdup(backend);
    task->local = local;
    if (c->os == XEN_HANDOFF_OS_PRESENT) {
        task->frontend_state = seen->state;
    }
    free(backend);
    g_ptr_array_add(c->tasks, task);
}

static void report_task(XenFwHandoff *s, const XenHandoffTask *task)
{
    double ms = task->us / 1000.0;

    switch (task->result) {
    case XEN_HANDOFF_DONE:
        info_report(XEN_FW_HANDOFF_LOG "%s: handed off in %.1f ms: %s is in %s",
                    task->name, ms, task->backend,
                    xen_handoff_state_name(task->backend_state));
        break;
    case XEN_HANDOFF_GONE:
        info_report(XEN_FW_HANDOFF_LOG "%s: handed off in %.1f ms: %s is gone",
                    task->name, ms, task->backend);
        break;
    case XEN_HANDOFF_HANGING:
        warn_report(XEN_FW_HANDOFF_LOG "%s: given up after %.1f ms: %s hangs "
                    "in %s, it should be in %s; look at the backend's domain, "
                    "the guest may lack this device", task->name, ms,
                    task->backend,
                    xen_handoff_state_name(task->backend_state),
                    xen_handoff_state_name(task->waiting_for));
        break;
    case XEN_HANDOFF_TAKEN:
        info_report(XEN_FW_HANDOFF_LOG "%s: left alone after %.1f ms: the OS "
                    "has taken it meanwhile", task->name, ms);
        break;
    case XEN_HANDOFF_FAILED:
        warn_report(XEN_FW_HANDOFF_LOG "%s: failed after %.1f ms: %s; "
                    "the guest may lack this device", task->name, ms,
                    error_get_pretty(task->error));
        break;
    case XEN_HANDOFF_RUNNING:
        g_assert_not_reached();
    }
}

static void handoff(XenFwHandoff *s)
{
    int64_t start = g_get_monotonic_time();
    g_autoptr(GPtrArray) tasks =
        g_ptr_array_new_with_free_func((GDestroyNotify)xen_handoff_task_free);
    g_autoptr(GHashTable) local = local_backends();
    unsigned int count[XEN_HANDOFF_FAILED + 1] = { 0 };
    Error *err = NULL;
    Collect c = { .os = read_os(&err), .local = local, .tasks = tasks };

    if (err) {
        warn_reportf_err(err, XEN_FW_HANDOFF_LOG
                         "every connection is left alone: ");
    }
    for_each_frontend(s, collect_frontend, &c);
    xen_handoff_teardown(s->xsh, s->ledger, tasks, s->timeout_ms);
    for (guint i = 0; i < tasks->len; i++) {
        const XenHandoffTask *task = g_ptr_array_index(tasks, i);

        report_task(s, task);
        count[task->result]++;
    }
    if (!tasks->len && !c.left_alone) {
        info_report(XEN_FW_HANDOFF_LOG "done: the firmware left nothing");
    } else {
        info_report(XEN_FW_HANDOFF_LOG "done in %.1f ms: %u handed off, "
                    "%u given up, %u failed, %u left alone",
                    (g_get_monotonic_time() - start) / 1000.0,
                    count[XEN_HANDOFF_DONE] + count[XEN_HANDOFF_GONE],
                    count[XEN_HANDOFF_HANGING], count[XEN_HANDOFF_FAILED],
                    c.left_alone + count[XEN_HANDOFF_TAKEN]);
    }
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
 * What a write to xen-platform's ports announces, NULL if nothing.  A byte to
 * PLATFORM_UNPLUG is none: it sets the platform's flags, and BIOSes do it.
 */
static char *announcement(hwaddr addr, uint64_t val, unsigned size)
{
    if (addr == PLATFORM_PRODUCT && size == 2) {
        return g_strdup_printf("product number %u (%s) at port 0x12",
                               (unsigned)val, product_name(val));
    }
    if (addr == PLATFORM_UNPLUG && size == 4) {
        return g_strdup_printf("build number %u at port 0x10", (unsigned)val);
    }
    if (addr == PLATFORM_UNPLUG && size == 2) {
        return g_strdup_printf("unplug mask 0x%x at port 0x10", (unsigned)val);
    }
    if (addr == PLATFORM_PRODUCT && size == 1) {
        return g_strdup("a driver's log line at port 0x12");
    }
    return NULL;
}

/* The first announcement since reset, whichever it is */
static void announce(XenFwHandoff *s, const char *what)
{
    s->done = true;
    if (s->xsh) {
        info_report(XEN_FW_HANDOFF_LOG "announced by %s", what);
        handoff(s);
        disarm(s);
    }
}

static MemTxResult handoff_io_read(void *opaque, hwaddr addr, uint64_t *val,
                                   unsigned size, MemTxAttrs attrs)
{
    XenFwHandoff *s = opaque;

    return memory_region_dispatch_read(s->fixed, addr, val,
                                       size_memop(size) | MO_LE, attrs);
}

static MemTxResult handoff_io_write(void *opaque, hwaddr addr, uint64_t val,
                                    unsigned size, MemTxAttrs attrs)
{
    XenFwHandoff *s = opaque;

    if (!s->done) {
        g_autofree char *what = announcement(addr, val, size);

        trace_xen_fw_handoff_write(addr + PLATFORM_PORT, val, size, !!what);
        if (what) {
            announce(s, what);
        }
    }
    /* Only now: the unplug of emulated disks meets PV disks at rest */
    return memory_region_dispatch_write(s->fixed, addr, val,
                                        size_memop(size) | MO_LE, attrs);
}

/* Exactly as permissive as xen-platform's own, so as to change nothing */
static const MemoryRegionOps handoff_io_ops = {
    .read_with_attrs = handoff_io_read,
    .write_with_attrs = handoff_io_write,
    .valid.unaligned = true,
    .impl = {
        .min_access_size = 1,
        .max_access_size = 4,
        .unaligned = true,
    },
    .endianness = DEVICE_LITTLE_ENDIAN,
};

static uint64_t handoff_bar_read(void *opaque, hwaddr addr, unsigned size)
{
    XenFwHandoff *s = opaque;
    uint64_t val = ~0ull;

    memory_region_dispatch_read(s->bar, addr + BAR_UNPLUG_ALL, &val, MO_8,
                                MEMTXATTRS_UNSPECIFIED);
    return val;
}

static void handoff_bar_write(void *opaque, hwaddr addr, uint64_t val,
                              unsigned size)
{
    XenFwHandoff *s = opaque;

    addr += BAR_UNPLUG_ALL;
    if (!s->done &&
        ((addr == BAR_UNPLUG_ALL && val == 1) ||
         (addr == BAR_UNPLUG_SOME && (val == 1 || val == 2)))) {
        g_autofree char *what =
            g_strdup_printf("unplug request %u at BAR 0 + %u", (unsigned)val,
                            (unsigned)addr);

        trace_xen_fw_handoff_write(addr, val, size, true);
        announce(s, what);
    }
    memory_region_dispatch_write(s->bar, addr, val, MO_8,
                                 MEMTXATTRS_UNSPECIFIED);
}

/* xen-platform's own takes bytes, too: a wider write comes in pieces */
static const MemoryRegionOps handoff_bar_ops = {
    .read = handoff_bar_read,
    .write = handoff_bar_write,
    .impl.min_access_size = 1,
    .impl.max_access_size = 1,
};

/*
 * A guest that writes to no port (a kernel before the protocol, or Linux with
 * xen_emul_unplug=never) sets the parameter before it looks for its devices.
 * Nobody tells QEMU, so look; nobody waits for us, so the ledger has to decide
 * with the OS running.
 */
static void poll_param(void *opaque)
{
    XenFwHandoff *s = opaque;

    if (read_os(NULL) == XEN_HANDOFF_OS_PRESENT) {
        announce(s, "HVM_PARAM_CALLBACK_IRQ");
    } else {
        timer_mod(s->param_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + POLL_PARAM_MS);
    }
}

/* --- the device ---------------------------------------------------------- */

/*
 * All devices exist, in whatever order they were given.  A child region is
 * drawn over its parent's own content (docs/devel/memory.rst).  It covers all
 * of it: at the border of a smaller one a wide access would be split into what
 * looks like an announcement.
 */
static void xen_fw_handoff_machine_done(Notifier *n, void *data)
{
    XenFwHandoff *s = container_of(n, XenFwHandoff, machine_done);
    Object *platform = object_resolve_path_type("", "xen-platform", NULL);
    Object *fixed = NULL, *bar = NULL;

    if (platform) {
        fixed = object_resolve_path_component(platform, "xen-fixed[0]");
        bar = object_resolve_path_component(platform, "xen-pci[0]");
    }
    if (!fixed || !bar) {
        warn_report(XEN_FW_HANDOFF_LOG "inert, no announcement can be seen: "
                    "the machine has no xen-platform device, set "
                    "xen_platform_pci=1 in the guest's configuration");
        return;
    }
    /* xen-platform can be unplugged, its regions must outlive that */
    object_ref(fixed);
    object_ref(bar);
    s->fixed = MEMORY_REGION(fixed);
    memory_region_init_io(&s->io, OBJECT(s), &handoff_io_ops, s,
                          TYPE_XEN_FW_HANDOFF, memory_region_size(s->fixed));
    memory_region_add_subregion(s->fixed, 0, &s->io);

    s->bar = MEMORY_REGION(bar);
    memory_region_init_io(&s->bar_io, OBJECT(s), &handoff_bar_ops, s,
                          TYPE_XEN_FW_HANDOFF "-bar", BAR_SIZE);
    memory_region_add_subregion(s->bar, BAR_UNPLUG_ALL, &s->bar_io);
}

static void xen_fw_handoff_reset_hold(Object *obj, ResetType type)
{
    XenFwHandoff *s = XEN_FW_HANDOFF(obj);

    /* S3 resume is a reset to the machine, the OS lives on */
    if (type == RESET_TYPE_WAKEUP || !s->fixed) {
        return;
    }
    disarm(s);
    /* What is restored has long been handed off, or never had to be */
    s->done = type == RESET_TYPE_SNAPSHOT_LOAD ||
              runstate_check(RUN_STATE_INMIGRATE);
    if (s->done) {
        info_report(XEN_FW_HANDOFF_LOG "not armed: the guest is restored, its "
                    "connections are its OS's");
    } else {
        arm(s);
    }
}

static int xen_fw_handoff_post_load(void *opaque, int version_id)
{
    XenFwHandoff *s = opaque;

    s->done = true;
    disarm(s);
    return 0;
}

static bool xen_fw_handoff_needed(void *opaque)
{
    return XEN_FW_HANDOFF(opaque)->done;
}

/* Not sent while armed: a machine without the device can then load it, too */
static const VMStateDescription vmstate_xen_fw_handoff = {
    .name = TYPE_XEN_FW_HANDOFF,
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = xen_fw_handoff_needed,
    .post_load = xen_fw_handoff_post_load,
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
    if (!xen_fw_handoff_ops) {
        error_setg(errp, "%s works for HVM guests of a real Xen only: remove "
                   "it, or start the guest with Xen's toolstack",
                   TYPE_XEN_FW_HANDOFF);
        return;
    }
    if (s->timeout_ms > MAX_TIMEOUT_MS) {
        error_setg(errp, "timeout-ms=%u is too long for a vCPU to stand still: "
                   "%u at most", s->timeout_ms, MAX_TIMEOUT_MS);
        return;
    }
    s->param_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, poll_param, s);
    if (xen_domid_restrict) {
        /* not an error: the same configuration may serve both kinds */
        warn_report(XEN_FW_HANDOFF_LOG "inert, connections of the firmware "
                    "will stay: -xen-domid-restrict (dm_restrict=1) takes "
                    "xenstore away");
        return;
    }
    s->machine_done.notify = xen_fw_handoff_machine_done;
    qemu_add_machine_init_done_notifier(&s->machine_done);
    /* It is on no bus that would reset it */
    qemu_register_resettable(OBJECT(s));
}

static const Property xen_fw_handoff_properties[] = {
    DEFINE_PROP_UINT32("timeout-ms", XenFwHandoff, timeout_ms, 2000),
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
    rc->phases.hold = xen_fw_handoff_reset_hold;
    device_class_set_props(dc, xen_fw_handoff_properties);
    object_class_property_set_description(klass, "timeout-ms",
        "How long the handoff waits for the backends of other processes, "
        "in milliseconds, all together");
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

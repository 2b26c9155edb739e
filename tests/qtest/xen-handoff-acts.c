/*
 * Fuzzing the Xen firmware handoff: ports and xenstore with a live OS
 *
 * A round is a sequence of acts: a firmware connects devices and leaves them
 * open, a guest writes nonsense to xenstore and to the ports, dom0 plugs and
 * unplugs, the machine is reset.  At some point of most rounds an OS comes up,
 * connects a disk, grants some pages and keeps all that.  Whatever happens from
 * then on may not touch it, what the device tells has to be what it did, which
 * may take little of xenstore, and when all is closed nothing may be left.
 *
 * What is done depends on the numbers that are drawn alone, never on what QEMU
 * made of those before.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "libqos/xen-frontend.h"
#include "libqos/xen-handoff.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "xen-handoff-acts.h"

#define ACT_SECONDS   20        /* an act that takes longer hangs */
#define ACT_OPS       20000     /* of xenstore, that one act may take */
#define TIMEOUT_MS    500       /* the device's */
#define HELD_MS       (TIMEOUT_MS + 50) /* a vCPU at most */
#define SETTLE_MS     10000     /* what is closed must be closed by then */
#define GLANCE_MS     5         /* who connects to garbage waits so long */
#define BAR0          0xc000    /* where we map xen-platform's BAR 0 */
#define RING_SLOTS    32        /* of a disk's ring of one page */
#define REQUEST       0x4657    /* the firmware's, as a product number */
#define TEARDOWNS     16        /* that a firmware may ask for per reset */
#define FIRST_GRANT   8         /* that the guest's drivers give away */
#define TOOLSTACK     5         /* of those below, the first are not theirs */
#define FRAME_GRANTS  (QXEN_PAGE_SIZE / sizeof(grant_entry_v1_t))
#define ALL_FRAMES    (QXEN_GRANTS / FRAME_GRANTS)

typedef struct Device {
    const char *name;
    bool local, plugged;
    bool trusted;               /* dom0 says where its backend is */
    uint16_t domid;             /* of its backend */
    /* as the toolstack made it */
    char *frontend, *backend;
    char **keys, **values;
    char *fresh;                /* all of these */
} Device;

enum { XVDA, XVDB, XVDC, VIF0, CONSOLE1, VBD2000, VBD2001, VBD2002, VIF1, VIF2,
       VSCSI0, DEVICES };

#define FIRST_REMOTE   VBD2000
#define FIRST_UNPLUGGY VBD2001  /* those before are there from the start */

static const char *const device_name[DEVICES] = {
    [XVDA] = "vbd/51712", [XVDB] = "vbd/51728", [XVDC] = "vbd/51744",
    [VIF0] = "vif/0", [CONSOLE1] = "console/1",
    [VBD2000] = "vbd/2000", [VBD2001] = "vbd/2001", [VBD2002] = "vbd/2002",
    [VIF1] = "vif/1", [VIF2] = "vif/2", [VSCSI0] = "vscsi/0",
};

/* An entry of the grant table that is not the firmware's */
typedef struct Kept {
    uint32_t ref;
    grant_entry_v1_t entry;
} Kept;

enum { HANDED_OFF, TIMED_OUT, FAILED, SKIPPED, GRANTS_CLEARED, GRANTS_IN_USE,
       DURATION, COUNTERS };

#define RESULTS (SKIPPED + 1)   /* the first ones are what became of them */

/* What the device tells of itself */
typedef struct Told {
    char *state, *announcement;
    int64_t counter[COUNTERS];
} Told;

struct Fuzz {
    const FuzzSetup *setup;
    bool inside;                /* QEMU is this process: its disks are zeros */
    QTestState *qts;
    QXenGuest *g;
    char *disk[2];              /* files, or NULL */
    int wire[2];
    Device device[DEVICES];
    QXenPage blank[4];          /* what is no ring but can be mapped as one */
    bool tame;                  /* nobody writes nonsense to local devices */

    const char *param;
    unsigned int asked;         /* teardowns since the last reset */
    unsigned int grant_version, grant_frames;
    bool fault, faulted;        /* xenstore fails now, or did since the reset */
    unsigned int slow_us;       /* that each request to it takes */
    Told was, is;               /* before an act and now */
    grant_entry_v1_t *grants;   /* before an act */
    GArray *kept;               /* of Kept */

    unsigned int os_device;     /* which one the OS will have */
    bool os_up;
    size_t os_since;            /* entries of "connections" from before it */
    QXenVbd *os;
    char *os_keys;
};

const FuzzSetup fuzz_setups[FUZZ_SETUPS] = {
    { "xen-fw-handoff", "Xen firmware handoff, with an OS" },
    { "xen-fw-handoff-told", "the same where Xen tells QEMU of the OS, and "
      "all grants are kept", .callback_notifier = true, .keep_grants = true },
};

/* --- what to say when it fails -------------------------------------------- */

bool fuzz_verbose;
char fuzz_doing[256];
static unsigned int act;

static void G_GNUC_PRINTF(1, 2) tell(const char *fmt, ...)
{
    size_t n = snprintf(fuzz_doing, sizeof(fuzz_doing), "%u: ", act);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fuzz_doing + n, sizeof(fuzz_doing) - n, fmt, ap);
    va_end(ap);
    if (fuzz_verbose) {
        printf("# %s\n", fuzz_doing);
        fflush(stdout);
    }
}

/* --- drawing -------------------------------------------------------------- */

/* Of bytes that have ended all numbers are 0 */
static unsigned int below(Draw *r, unsigned int n)
{
    unsigned int number = 0;

    if (r->rand) {
        return g_rand_int_range(r->rand, 0, n);
    }
    for (unsigned int most = n - 1; most && r->left; most >>= 8, r->left--) {
        number = number << 8 | *r->data++;
    }
    return number % n;
}

static bool has_ended(const Draw *r)
{
    return !r->rand && !r->left;
}

static bool percent(Draw *r, unsigned int p)
{
    return below(r, 100) < p;
}

#define one_of(r, array) ((array)[below(r, ARRAY_SIZE(array))])

static bool is_os(Fuzz *f, const Device *d)
{
    return f->os_up && d == &f->device[f->os_device];
}

/* Never the OS's */
static Device *any_device(Fuzz *f, Draw *r)
{
    unsigned int i = below(r, DEVICES);

    if (is_os(f, &f->device[i])) {
        i = (i + 1) % DEVICES;
    }
    return &f->device[i];
}

/* --- xenstore, whether or not it works ------------------------------------ */

static char *read_key(Fuzz *f, const char *dir, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/%s", dir, key);

    return qxen_read(f->g, path);
}

static void set_state(Fuzz *f, const Device *d, XenbusState state)
{
    qxen_try(f->g, "guest-write %s/state %d", d->frontend, state);
}

/* Wait for one of two states, but not for ever; returns whether it came */
static bool wait_for(Fuzz *f, const char *path, XenbusState a, XenbusState b,
                     unsigned int ms)
{
    int64_t end = g_get_monotonic_time() + ms * 1000;
    XenbusState is;

    while ((is = qxen_state(f->g, path)) != a && is != b) {
        if (g_get_monotonic_time() > end) {
            return false;
        }
        qxen_pause();
    }
    return true;
}

/* --- devices -------------------------------------------------------------- */

static void remember(Fuzz *f, Device *d)
{
    unsigned int n;

    d->backend = read_key(f, d->frontend, "backend");
    d->keys = qxen_ls(f->g, d->frontend);
    n = g_strv_length(d->keys);
    d->values = g_new0(char *, n + 1);
    for (unsigned int i = 0; i < n; i++) {
        d->values[i] = read_key(f, d->frontend, d->keys[i]);
    }
    d->fresh = qxen_keys_and_values(f->g, d->frontend);
    d->plugged = d->trusted = true;
}

static void forget(Device *d)
{
    g_clear_pointer(&d->backend, g_free);
    g_clear_pointer(&d->keys, g_strfreev);
    g_clear_pointer(&d->values, g_strfreev);
    g_clear_pointer(&d->fresh, g_free);
    d->plugged = false;
}

static void plug(Fuzz *f, Device *d, const char *options)
{
    qxen_backend_new(f->g, d->name, options);
    d->domid = strcmp(options, "domain=3") ? 0 : 3;
    remember(f, d);
}

static void unplug(Fuzz *f, Device *d)
{
    g_auto(GStrv) part = g_strsplit(d->name, "/", 2);

    qxen_cmd(f->g, "unplug %s %s", part[0], part[1]);
    forget(d);
}

/* Whether the frontend still says where its backend is */
static bool intact(Fuzz *f, const Device *d)
{
    for (char **key = d->keys; *key; key++) {
        if (g_str_has_prefix(*key, "backend")) {
            g_autofree char *is = read_key(f, d->frontend, *key);

            if (g_strcmp0(is, d->values[key - d->keys])) {
                return false;
            }
        }
    }
    return true;
}

static void clean_keys(Fuzz *f, const Device *d)
{
    g_auto(GStrv) is = NULL;

    qxen_try(f->g, "write %s/state 6", d->frontend);
    is = qxen_ls(f->g, d->frontend);
    for (char **key = is; *key; key++) {
        if (strcmp(*key, "state")) {
            qxen_try(f->g, "rm %s/%s", d->frontend, *key);
        }
    }
    for (unsigned int i = 0; d->keys[i]; i++) {
        g_autofree char *value = read_key(f, d->frontend, d->keys[i]);

        if (strcmp(d->keys[i], "state") && g_strcmp0(value, d->values[i])) {
            qxen_try(f->g, "write %s/%s %s", d->frontend, d->keys[i],
                     d->values[i]);
        }
    }
}

/* As an OS does that does not trust what it finds; returns false if it fails */
static bool close_device(Fuzz *f, const Device *d, unsigned int ms)
{
    set_state(f, d, XenbusStateClosing);
    wait_for(f, d->backend, XenbusStateClosing, XenbusStateClosed, ms);
    set_state(f, d, XenbusStateClosed);
    wait_for(f, d->backend, XenbusStateClosed, XenbusStateClosed, ms);
    clean_keys(f, d);
    set_state(f, d, XenbusStateInitialising);
    return wait_for(f, d->backend, XenbusStateInitWait,
                    d == &f->device[VSCSI0] ? XenbusStateClosed
                                            : XenbusStateInitWait, ms);
}

/* --- what the device tells, and what it does to the grant table ----------- */

static const char *const counter_name[COUNTERS] = {
    [HANDED_OFF] = "handed-off", [TIMED_OUT] = "timed-out",
    [FAILED] = "failed", [SKIPPED] = "skipped",
    [GRANTS_CLEARED] = "grants-cleared", [GRANTS_IN_USE] = "grants-in-use",
    [DURATION] = "last-duration-us",
};

/* The index of @name, which must be one of @names */
static size_t index_of(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(name, names[i])) {
            return i;
        }
    }
    g_error("'%s' is none of %s, ...", name, names[0]);
}

static bool is_armed(const Told *told)
{
    return !strcmp(told->state, "armed");
}

static int64_t sum_of_results(const Told *told)
{
    int64_t sum = 0;

    for (size_t i = 0; i < RESULTS; i++) {
        sum += told->counter[i];
    }
    return sum;
}

/* The counters count what is listed, and none of it was done to the OS */
static void check_connections(Fuzz *f, const QDict *info)
{
    static const char *const owners[] = {
        "firmware", "os", "os-changed", "unknown",
    };
    int64_t count[RESULTS] = { 0 }, before_os = f->os_since;
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "connections"), e) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(e));
        const char *frontend = qdict_get_str(dict, "frontend");
        const char *result = qdict_get_try_str(dict, "result");
        size_t index;

        index_of(qdict_get_str(dict, "owner"), owners, ARRAY_SIZE(owners));
        g_assert_nonnull(strchr(frontend, '/'));
        if (!result) {
            g_assert_true(is_armed(&f->is));
            continue;
        }
        index = index_of(result, counter_name, RESULTS);
        g_assert_true(qdict_haskey(dict, "duration-us") == (index != SKIPPED) ||
                      !strcmp(qdict_get_str(dict, "owner"), "os-changed"));
        count[index]++;
        if (before_os) {
            before_os--;
        } else if (f->os_up && index != SKIPPED &&
                   !strcmp(frontend, f->device[f->os_device].name)) {
            g_error("%s is the OS's and was %s", frontend, result);
        }
    }
    for (size_t i = 0; i < RESULTS; i++) {
        /* what could not even be listed has failed, too */
        if (f->is.counter[i] != count[i] &&
            !(f->faulted && i == FAILED && f->is.counter[i] > count[i])) {
            g_error("%" PRId64 " %s, but %" PRId64 " are listed",
                    f->is.counter[i], counter_name[i], count[i]);
        }
    }
}

static void look_now(Fuzz *f)
{
    static const char *const states[] = { "inert", "armed", "done" };
    QDict *info;
    Told *is = &f->is;

    info = qxen_handoff_query(f->qts);
    if (!strcmp(qdict_get_str(info, "state"), "handing-off")) {
        qobject_unref(info);
        qxen_handoff_await(f->qts);
        info = qxen_handoff_query(f->qts);
    }
    g_free(is->state);
    g_free(is->announcement);
    is->state = g_strdup(qdict_get_str(info, "state"));
    is->announcement = g_strdup(qdict_get_try_str(info, "announcement"));
    index_of(is->state, states, ARRAY_SIZE(states));
    g_assert_true(!strcmp(is->state, "done") == !!is->announcement);
    for (size_t i = 0; i < COUNTERS; i++) {
        is->counter[i] = qdict_get_int(info, counter_name[i]);
    }
    g_assert_true(is->counter[DURATION] || f->faulted || !sum_of_results(is));
    check_connections(f, info);
    qobject_unref(info);
}

static void keep_grant(Fuzz *f, uint32_t ref)
{
    Kept kept = { ref, qxen_grant_read(f->g, ref) };

    g_array_append_val(f->kept, kept);
}

/* Whether a backend uses it or not, which changes by itself */
static bool same_grant(grant_entry_v1_t a, grant_entry_v1_t b)
{
    return !((a.flags ^ b.flags) & ~(GTF_reading | GTF_writing)) &&
           a.domid == b.domid && a.frame == b.frame;
}

static void assert_kept(Fuzz *f)
{
    for (guint i = 0; i < f->kept->len; i++) {
        const Kept *kept = &g_array_index(f->kept, Kept, i);

        if (!same_grant(kept->entry, qxen_grant_read(f->g, kept->ref))) {
            g_error("grant %u is not the firmware's and has changed",
                    kept->ref);
        }
    }
}

static bool permits(const grant_entry_v1_t *e)
{
    return (e->flags & GTF_type_mask) == GTF_permit_access;
}

/* Whether the device has to find a backend in that domain; maybe it does so */
static bool has_backend(Fuzz *f, uint16_t domid)
{
    for (unsigned int i = 0; i < DEVICES; i++) {
        const Device *d = &f->device[i];

        if (d->plugged && d->trusted && d->domid == domid &&
            qxen_exists(f->g, d->frontend)) {
            return true;
        }
    }
    return false;
}

static unsigned int count_frontends(Fuzz *f)
{
    g_auto(GStrv) classes = qxen_ls(f->g, "/local/domain/7/device");
    unsigned int n = 0;

    for (char **class = classes; *class; class++) {
        g_autofree char *path = g_strdup_printf(QXEN_DEVICES "%s", *class);
        g_auto(GStrv) ids = qxen_ls(f->g, path);

        n += g_strv_length(ids);
    }
    return n;
}

/* Of the table nothing changes but what the device may clear and says it did */
static void check_grants(Fuzz *f, const int64_t *n, bool scrubs)
{
    unsigned int end = f->grant_version > 1 ? 0
                                            : f->grant_frames * FRAME_GRANTS;
    bool sure[] = { [0] = scrubs && has_backend(f, 0),
                    [3] = scrubs && has_backend(f, 3) };
    g_autofree grant_entry_v1_t *table = qxen_grant_table(f->g);
    unsigned int cleared = 0, left = 0, used = f->g->refs.next;

    /* nothing was ever granted there */
    g_assert_false(memcmp(table + used, f->grants + used,
                          (QXEN_GRANTS - used) * sizeof(*table)));
    for (unsigned int ref = 0; ref < used; ref++) {
        const grant_entry_v1_t *was = &f->grants[ref], *is = &table[ref];

        if (ref >= FIRST_GRANT && ref < end && permits(is) &&
            is->domid < ARRAY_SIZE(sure) && sure[is->domid]) {
            left++;
        }
        if (same_grant(*was, *is)) {
            continue;
        }
        if (ref < TOOLSTACK || ref >= end || f->setup->keep_grants ||
            !permits(was) ||
            (was->domid != 0 && was->domid != 3) || is->flags || is->domid ||
            is->frame) {
            g_error("grant %u was %04x for domain %u, is %04x for domain %u",
                    ref, was->flags, was->domid, is->flags, is->domid);
        }
        cleared++;
    }
    g_assert_cmpint(cleared, ==, n[GRANTS_CLEARED]);
    g_assert_cmpint(left, <=, n[GRANTS_IN_USE]);
    assert_kept(f);
}

/* At most one handoff has been between two looks, and only if it was armed */
static void check_effect(Fuzz *f)
{
    bool absent = !strcmp(f->param, "0"), unknown = !strcmp(f->param, "fail");
    int64_t n[COUNTERS], done;

    for (size_t i = 0; i < COUNTERS; i++) {
        n[i] = f->is.counter[i] - f->was.counter[i];
        if (i != DURATION && n[i] < 0) {
            g_error("%s goes backwards", counter_name[i]);
        }
    }
    if (!is_armed(&f->was) &&
        (strcmp(f->was.state, f->is.state) ||
         g_strcmp0(f->was.announcement, f->is.announcement) || n[DURATION] ||
         sum_of_results(&f->was) != sum_of_results(&f->is) ||
         n[GRANTS_CLEARED] || n[GRANTS_IN_USE])) {
        g_error("it was %s and has done something", f->was.state);
    }
    done = n[HANDED_OFF] + n[TIMED_OUT];
    if (done + n[SKIPPED]) {
        g_assert_cmpint(done + n[SKIPPED], <=, count_frontends(f));
    }
    if (unknown) {
        g_assert_cmpint(done, ==, 0);
    }
    check_grants(f, n, !f->setup->keep_grants && absent && !f->fault &&
                       done);
}

/* These two are around all that may announce an OS, or ask for a teardown */
static void look_before(Fuzz *f)
{
    g_free(f->was.state);
    g_free(f->was.announcement);
    f->was = f->is;
    f->was.state = g_strdup(f->is.state);
    f->was.announcement = g_strdup(f->is.announcement);
    g_free(f->grants);
    f->grants = qxen_grant_table(f->g);
}

static void look_after(Fuzz *f)
{
    look_now(f);
    check_effect(f);
}

static bool param_fails(const Fuzz *f)
{
    return !strcmp(f->param, "fail");
}

static void assert_told_state(Fuzz *f, const char *want)
{
    g_assert_cmpstr(f->is.state, ==, want);
}

static void assert_as_reset(Fuzz *f)
{
    look_now(f);
    for (size_t i = 0; i < COUNTERS; i++) {
        g_assert_cmpint(f->is.counter[i], ==, 0);
    }
    if (!f->fault) {
        assert_told_state(f, param_fails(f) ? "inert" : "armed");
    }
}

static void access_port(Fuzz *f, bool write, unsigned int addr,
                        unsigned int size, uint32_t value)
{
    int64_t start = g_get_monotonic_time();

    if (write) {
        qxen_out(f->qts, size, addr, value);
        /* the clock of a test that shares its machine says nothing */
        if (f->inside && !f->slow_us) {
            g_assert_cmpint(g_get_monotonic_time() - start, <=, HELD_MS * 1000);
        }
    } else if (size == 1) {
        qtest_inb(f->qts, addr);
    } else if (size == 2) {
        qtest_inw(f->qts, addr);
    } else {
        qtest_inl(f->qts, addr);
    }
}

/* A firmware asks for its teardown; an OS, and one that cannot stop, in vain */
static void ask(Fuzz *f)
{
    bool heeded;

    look_before(f);
    heeded = is_armed(&f->was) && f->asked < TEARDOWNS &&
             !strcmp(f->param, "0");
    f->asked += is_armed(&f->was);
    access_port(f, true, 0x12, 2, REQUEST);
    look_after(f);
    assert_told_state(f, f->was.state);
    for (size_t i = 0; i < COUNTERS && !heeded; i++) {
        g_assert_cmpint(f->is.counter[i], ==, f->was.counter[i]);
    }
}

/* --- acts: a firmware or any other driver --------------------------------- */

static void connect_vbd(Fuzz *f, const Device *d, const QXenConnect *how,
                        unsigned int requests, bool finish)
{
    QXenVbd *vbd = qxen_vbd_connect(f->g, d->name, how);

    if (finish) {
        wait_for(f, d->backend, XenbusStateConnected, XenbusStateConnected,
                 GLANCE_MS);
        set_state(f, d, XenbusStateConnected);
    }
    for (unsigned int i = 0; i < requests; i++) {
        qxen_vbd_submit(vbd, d == &f->device[XVDC] && i & 1, i, 8, NULL);
    }
    qxen_vbd_abandon(vbd);
}

static void connect_any(Fuzz *f, const Device *d, unsigned int order,
                        bool persistent, unsigned int queues,
                        unsigned int requests, bool finish)
{
    const QXenConnect how = {
        .ring_order = order, .persistent = persistent, .queues = queues,
        .over = true, .no_wait = true,
    };

    if (g_str_has_prefix(d->name, "vif")) {
        QXenVif *vif = qxen_vif_connect(f->g, d->name, &how);

        qxen_vif_post(vif, requests);
        qxen_vif_abandon(vif);
    } else if (g_str_has_prefix(d->name, "console")) {
        qxen_console_abandon(qxen_console_connect(f->g, d->name, &how));
    } else {
        connect_vbd(f, d, &how, d->local ? requests : 0, finish);
    }
    if (finish) {
        wait_for(f, d->backend, XenbusStateConnected, XenbusStateConnected,
                 GLANCE_MS);
    }
}

static void connect_device(Fuzz *f, Draw *r, const Device *d)
{
    unsigned int order = below(r, 4) ? 0 : below(r, 3);
    unsigned int queues = d == &f->device[VIF0] ? 0 : below(r, 5);
    unsigned int requests = below(r, 1 + (below(r, 4) ? 5 : RING_SLOTS));
    bool persistent = percent(r, 30), finish = percent(r, 75);

    if (!d->plugged) {
        return;
    }
    tell("connect %s order=%u queues=%u requests=%u persistent=%d finish=%d",
         d->name, order, queues, requests, persistent, finish);
    if (intact(f, d)) {
        connect_any(f, d, order, persistent, queues, requests, finish);
    }
}

static void act_connect(Fuzz *f, Draw *r)
{
    connect_device(f, r, any_device(f, r));
}

static void act_close(Fuzz *f, Draw *r)
{
    Device *d = any_device(f, r);

    if (d->plugged) {
        tell("close %s", d->name);
        close_device(f, d, GLANCE_MS);
    }
}

/* A device that stops halfway, or does it all without waiting */
static void act_states(Fuzz *f, Draw *r)
{
    Device *d = any_device(f, r);
    unsigned int n = 1 + below(r, 5);

    for (unsigned int i = 0; i < n; i++) {
        XenbusState state = 1 + below(r, 6);

        tell("state %s %d", d->name, state);
        if (d->plugged) {
            set_state(f, d, state);
        }
    }
}

/* --- acts: nonsense in xenstore ------------------------------------------- */

static const char *const values[] = {
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "04", "+4", "-1",
    "4 ", " 4", "4x", "4.0", "0x4", "", " ", "four", "4294967295",
    "4294967296", "4294967299", "4294967300", "18446744073709551620",
    "99999999999999999999999999", "2147483648", "%s%n%d", "\\x00\\x04",
    "\"'<>&", "/", "//", "state", "..", "../51712", "/libxl/7/device/vbd/51712",
    "/local/domain/0/backend/qdisk/7/51712",
    "/local/domain/0/backend/qdisk/7/51728",
    "/local/domain/0/backend/vbd/7/2000", "/local/domain/0/backend/vbd/7/2001",
    "/local/domain/0/backend/vif/7/1", "/local/domain/0/backend/vbd/8/2000",
    "/local/domain/3/backend/vbd/7/2000", "/local/domain/0/backend/vbd/7",
    "/local/domain/7/device/vbd/2001", "/local/domain/7/device/vbd/51712",
    "/local/domain/7/backend/vbd/7/2001", "local/domain/0/backend/vbd/7/2000",
    "/local/domain/0/backend/vbd/7/2000/", "x86_64-abi", "x86_32-abi",
};

static const char *const keys[] = {
    "backend", "backend", "backend-id", "ring-ref", "ring-ref0", "ring-ref1",
    "ring-page-order", "event-channel", "event-channel-tx", "event-channel-rx",
    "tx-ring-ref", "rx-ring-ref", "multi-queue-num-queues", "queue-0",
    "queue-0/tx-ring-ref", "queue-0/event-channel", "queue-1/rx-ring-ref",
    "queue-1/event-channel", "queue-17/state", "protocol", "port", "type",
    "feature-persistent", "request-rx-copy", "handle", "mac", "a/b/c/d",
    "state/state", "backend/state", "online", "frontend", "virtual-device",
    "xyzzy", "a.b@c-d_e",
};

static const char *const bogus[] = {
    "vbd/51713", "vbd/5171", "vbd/517120", "vbd/0", "vbd/x", "vbd/-1",
    "vbd/4294967299", "vbd", "vif/9", "vif/00", "console/0", "console/2",
    "pci/0", "vscsi/7", "vkbd/0", "nonsense/1", "nonsense/1/2", "a/b/c/d",
    "9pfs/0", "suspend", "vbd/2000x",
};

static char *any_value(Fuzz *f, Draw *r)
{
    static const unsigned int lengths[] = { 255, 256, 257, 1024, 2048, 4000 };
    unsigned int kind = below(r, 100);
    char random[12] = "";

    if (kind < 60) {
        return g_strdup(one_of(r, values));
    } else if (kind < 75) {
        return g_strnfill(one_of(r, lengths), '!' + below(r, 94));
    } else if (kind < 90) {
        return g_strdup_printf("%u", f->blank[below(r, 4)].ref);
    }
    for (size_t i = 0; i < sizeof(random) - 1; i++) {
        random[i] = ' ' + below(r, 95);
    }
    return g_strdup(random);
}

/* Where nonsense goes: to @d or, since there is no @d, to a bogus frontend */
static char *any_dir(Fuzz *f, Draw *r)
{
    Device *d = any_device(f, r);
    const char *name = one_of(r, bogus);
    bool use = percent(r, 75);

    return use && !(f->tame && d->local) ? g_strdup(d->frontend)
                                         : g_strdup_printf(QXEN_DEVICES "%s",
                                                           name);
}

static char *any_path(Fuzz *f, Draw *r)
{
    g_autofree char *dir = any_dir(f, r);
    const char *key = one_of(r, keys);

    return g_strdup_printf("%s/%s", dir, percent(r, 40) ? "state" : key);
}

static void act_write(Fuzz *f, Draw *r)
{
    g_autofree char *path = any_path(f, r);
    g_autofree char *value = any_value(f, r);

    tell("guest-write %s '%.40s'", path, value);
    qxen_try(f->g, "guest-write %s %s", path, value);
}

/* A frontend that is none, with a state and what else one needs */
static void act_bogus(Fuzz *f, Draw *r)
{
    const char *name = one_of(r, bogus);
    unsigned int state = below(r, 10), n = below(r, 4);

    tell("bogus %s in state %u with %u keys", name, state, n);
    for (unsigned int i = 0; i < n; i++) {
        const char *key = one_of(r, keys);
        g_autofree char *value = any_value(f, r);

        qxen_try(f->g, "guest-write " QXEN_DEVICES "%s/%s %s", name, key,
                 value);
    }
    qxen_try(f->g, "guest-write " QXEN_DEVICES "%s/state %u", name, state);
}

/* Somebody writes while QEMU reads */
static void act_race_write(Fuzz *f, Draw *r)
{
    static const char *const triggers[] = {
        "state", "backend", "ring-ref", "event-channel", "protocol",
    };
    const Device *d = &f->device[below(r, DEVICES)];
    const char *key = one_of(r, triggers);
    bool at_backend = percent(r, 30);
    unsigned int n = 1 + below(r, 10);
    g_autofree char *path = any_path(f, r);
    g_autofree char *value = any_value(f, r);

    if (!d->plugged) {
        return;
    }
    /* it lives on, maybe until an OS has this device */
    if (g_str_has_prefix(path, f->device[f->os_device].frontend)) {
        return;
    }
    tell("race-write %u at %s/%s: %s '%.40s'", n, at_backend ? d->backend
                                                         : d->frontend,
         at_backend ? "state" : key, path, value);
    qxen_try(f->g, "race-write %u %s/%s %s %s", n,
             at_backend ? d->backend : d->frontend,
             at_backend ? "state" : key, path, value);
}

static void act_remove(Fuzz *f, Draw *r)
{
    g_autofree char *dir = any_dir(f, r);
    const char *key = one_of(r, keys);
    bool whole = percent(r, 20);

    tell("rm %s %s", dir, whole ? "" : key);
    if (whole) {
        /* "vbd" has the OS's disk in it */
        if (!g_str_has_suffix(dir, "/vbd")) {
            qxen_try(f->g, "rm %s", dir);
        }
    } else {
        qxen_try(f->g, "rm %s/%s", dir, key);
    }
}

/* --- acts: dom0 ----------------------------------------------------------- */

static const char *const remote_options[] = {
    "", "", "", "delay-us=100", "delay-us=2000", "delay-us=20000",
    "delay-us=200000", "domain=3", "fault=hang-1", "type=vbd3 fault=hang-5",
    "type=vbd3 fault=hang-6", "fault=hang-6", "fault=hang-4",
    "type=vbd3 fault=skip", "fault=gone", "fault=offline", "fault=unknown",
    "fault=garbage",
};

static void act_plug(Fuzz *f, Draw *r)
{
    Device *d = &f->device[FIRST_UNPLUGGY + below(r, DEVICES - FIRST_UNPLUGGY)];
    const char *options = one_of(r, remote_options);
    bool replug = percent(r, 60);

    if (d->plugged) {
        tell("unplug %s", d->name);
        unplug(f, d);
    }
    if (replug) {
        tell("plug %s %s", d->name, options);
        /* what a guest wrote there meanwhile */
        qxen_try(f->g, "rm %s", d->frontend);
        plug(f, d, options);
    }
}

static void act_libxl(Fuzz *f, Draw *r)
{
    Device *d = any_device(f, r);

    tell("rm /libxl/7/device/%s", d->name);
    d->trusted = false;
    qxen_try(f->g, "rm /libxl/7/device/%s", d->name);
}

static void act_offline(Fuzz *f, Draw *r)
{
    Device *d = &f->device[FIRST_UNPLUGGY + below(r, DEVICES - FIRST_UNPLUGGY)];
    static const char *const online[] = { "0", "1", "", "x", "-1" };
    const char *value = one_of(r, online);

    if (d->plugged) {
        tell("%s online '%s'", d->backend, value);
        qxen_try(f->g, "write %s/online %s", d->backend, value);
    }
}

/* A driver domain's or dom0's: it owns the directory of its backend */
static void act_backend(Fuzz *f, Draw *r)
{
    static const char *const backend_keys[] = {
        "state", "state", "state", "online", "frontend", "frontend-id",
        "hotplug-status", "state/state", "feature-persistent",
    };
    Device *d = &f->device[FIRST_REMOTE + below(r, DEVICES - FIRST_REMOTE)];
    const char *key = one_of(r, backend_keys);
    bool whole = percent(r, 5);
    g_autofree char *value = any_value(f, r);

    if (!d->plugged || d == &f->device[f->os_device]) {
        return;
    }
    if (whole) {
        tell("rm %s", d->backend);
        qxen_try(f->g, "rm %s", d->backend);
    } else {
        tell("write %s/%s '%.40s'", d->backend, key, value);
        qxen_try(f->g, "write %s/%s %s", d->backend, key, value);
    }
}

static void act_frame(Fuzz *f, Draw *r)
{
    char frame[1500] = { 0 };
    unsigned int len = 1 + below(r, sizeof(frame));

    tell("a frame of %u bytes", len);
    if (send(f->wire[0], frame, len, MSG_DONTWAIT) < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
    }
    while (recv(f->wire[0], frame, sizeof(frame), MSG_DONTWAIT) > 0) {
        /* nobody is interested */
    }
}

/* --- acts: ports, parameter, clock, reset --------------------------------- */

static const uint32_t numbers[] = {
    0, 1, 2, 3, 4, 5, 7, 8, 0x10, 0x49d2, 'X', '\n', 0x80, 0xff, 0xffff,
    0x10000, 0x10001, 0x30000, 0x1000000, 0xffffffff, 0x80000000, REQUEST,
    REQUEST << 16,
};

static void act_port(Fuzz *f, Draw *r)
{
    unsigned int addr = 0x0c + below(r, 0x22 - 0x0c + 1);
    unsigned int size = 1 << below(r, 3);
    uint32_t value = one_of(r, numbers);
    bool write = percent(r, 70);

    tell("%s port 0x%x, %u bytes, 0x%x", write ? "write" : "read", addr, size,
         value);
    if (write && addr == 0x12 && size == 2 && value == REQUEST) {
        ask(f);
    } else {
        look_before(f);
        access_port(f, write, addr, size, value);
        look_after(f);
    }
}

static void act_bar(Fuzz *f, Draw *r)
{
    unsigned int offset = percent(r, 80) ? below(r, 12) : below(r, 0x100);
    unsigned int size = 1 << below(r, 3);
    uint32_t value = one_of(r, numbers);
    bool write = percent(r, 70);

    tell("%s BAR 0 + 0x%x, %u bytes, 0x%x", write ? "write" : "read", offset,
         size, value);
    look_before(f);
    access_port(f, write, BAR0 + offset, size, value);
    look_after(f);
}

static void act_log(Fuzz *f, Draw *r)
{
    unsigned int n = 1 + below(r, 40);

    tell("%u bytes of log", n);
    look_before(f);
    for (unsigned int i = 0; i < n; i++) {
        access_port(f, true, 0x12, 1, i + 1 < n ? 'a' + i : '\n');
    }
    look_after(f);
}

static const struct {
    unsigned int addr, size;
    uint32_t value;
} ways[] = {
    { 0x12, 2, 3 }, { 0x10, 4, 1 }, { 0x10, 2, 7 }, { 0x12, 1, 'X' },
    { BAR0 + 4, 1, 1 }, { BAR0 + 4, 4, 1 }, { BAR0 + 8, 1, 1 },
    { BAR0 + 8, 1, 2 }, { BAR0 + 8, 4, 2 },
};

#define BY_CALLBACK ARRAY_SIZE(ways)
#define BY_REQUEST  (BY_CALLBACK + 1)

static void announce(Fuzz *f, unsigned int how)
{
    look_before(f);
    if (how < BY_CALLBACK) {
        access_port(f, true, ways[how].addr, ways[how].size, ways[how].value);
    } else {
        /* by the parameter alone: its timer */
        qtest_clock_step(f->qts, 200 * SCALE_MS);
    }
    look_after(f);
    if (how < BY_CALLBACK && is_armed(&f->was)) {
        assert_told_state(f, "done");
    }
}

static void act_announce(Fuzz *f, Draw *r)
{
    unsigned int how = below(r, BY_CALLBACK + 1);

    tell("announce %u", how);
    announce(f, how);
}

static void act_ask(Fuzz *f, Draw *r)
{
    unsigned int n = 1 + (percent(r, 10) ? below(r, 2 * TEARDOWNS) : 0);

    tell("ask for %u teardowns", n);
    while (n--) {
        ask(f);
    }
}

/* Where QEMU emulates Xen, this announces before the parameter is set */
static void set_param(Fuzz *f, const char *value)
{
    bool tells = f->setup->callback_notifier && strcmp(value, "0") &&
                 strcmp(value, "fail");

    look_before(f);
    qxen_param(f->g, value);
    look_after(f);
    if (tells && is_armed(&f->was)) {
        assert_told_state(f, "done");
    }
    f->param = value;
}

static void act_param(Fuzz *f, Draw *r)
{
    static const char *const before_os[] = { "0", "0", "0", "1", "fail" };
    static const char *const with_os[] = { "1", "2", "0x200000000000000b",
                                           "fail", "fail", "fail" };
    const char *before = one_of(r, before_os), *with = one_of(r, with_os);

    tell("param %s", f->os_up ? with : before);
    set_param(f, f->os_up ? with : before);
}

static void act_clock(Fuzz *f, Draw *r)
{
    unsigned int ms = 1 + below(r, 1000);

    tell("clock %u ms", ms);
    look_before(f);
    qtest_clock_step(f->qts, (int64_t)ms * SCALE_MS);
    look_after(f);
}

/* What is under way goes on */
static void act_wait(Fuzz *f, Draw *r)
{
    unsigned int n = 1 + below(r, 16);

    tell("wait %u times", n);
    while (n--) {
        qxen_pause();
    }
}

static void map_bar(Fuzz *f)
{
    uint32_t config = 1u << 31 | QXEN_PLATFORM_SLOT << 11;

    qtest_outl(f->qts, 0xcf8, config | 0x10);
    qtest_outl(f->qts, 0xcfc, BAR0);
    qtest_outl(f->qts, 0xcf8, config | 0x04);
    qtest_outw(f->qts, 0xcfc, 1);
}

static void reset(Fuzz *f)
{
    if (!param_fails(f)) {
        /* it is the next guest's, or QEMU's own Xen clears it */
        qxen_param(f->g, "0");
        f->param = "0";
    }
    qtest_system_reset(f->qts);
    map_bar(f);
    f->asked = 0;
    f->faulted = f->fault;
    assert_as_reset(f);
}

static void act_reset(Fuzz *f, Draw *r)
{
    if (!f->os_up) {
        tell("reset");
        reset(f);
    }
}

/*
 * xenstore fails for a while.  Not when it is read: QEMU's backends take that
 * for a frontend that is gone.
 */
static void act_fault(Fuzz *f, Draw *r)
{
    static const char *const ops[] = {
        "open", "watch", "directory", "write", "transaction",
    };
    static const int errors[] = { EIO, EACCES, ENOSPC, EAGAIN, EINTR };
    unsigned int op = below(r, ARRAY_SIZE(ops)), how = below(r, BY_REQUEST + 3);
    int error = one_of(r, errors);

    if (f->os_up) {
        return;
    }
    tell("%s fails with %d, then act %u", ops[op], error, how);
    qxen_cmd(f->g, "xs-fail %s %d", ops[op], error);
    f->fault = f->faulted = true;
    if (how < BY_REQUEST) {
        announce(f, how);
    } else if (how == BY_REQUEST) {
        ask(f);
    } else {
        reset(f);
        /* a watch, or what is there: without it, it cannot know */
        assert_told_state(f, op < 3 || param_fails(f) ? "inert" : "armed");
    }
    qxen_cmd(f->g, "xs-fail %s 0", ops[op]);
    f->fault = false;
}

/* xenstore takes its time: a vCPU is held longer, and less is looked at */
static void act_slow(Fuzz *f, Draw *r)
{
    static const unsigned int us[] = { 100, 500, 2000 };
    unsigned int how = below(r, BY_REQUEST + 3);

    f->slow_us = one_of(r, us);
    tell("each request takes %u us, then act %u", f->slow_us, how);
    qxen_cmd(f->g, "xs-slow %u", f->slow_us);
    if (how < BY_REQUEST) {
        announce(f, how);
    } else if (how == BY_REQUEST) {
        ask(f);
    } else {
        act_connect(f, r);
    }
    qxen_cmd(f->g, "xs-slow 0");
    f->slow_us = 0;
}

static void act_grant(Fuzz *f, Draw *r)
{
    static const uint16_t flags[] = {
        GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly,
        GTF_permit_access | GTF_sub_page, GTF_permit_access | GTF_reading,
        GTF_accept_transfer, GTF_transitive, GTF_invalid, 0xfffc, 0xffff,
    };
    static const uint16_t domids[] = { 0, 0, 0, 3, 5, QXEN_DOMID, 0x7ff0 };
    unsigned int n = 1 + below(r, 6), blank = below(r, ARRAY_SIZE(f->blank));
    bool again = percent(r, 50);

    tell("grant %u pages", n);
    while (n--) {
        QXenPage page = qxen_page_new(f->g, 0, false);
        grant_entry_v1_t e = {
            .flags = one_of(r, flags), .domid = one_of(r, domids),
            .frame = page.addr / QXEN_PAGE_SIZE,
        };

        qxen_grant_write(f->g, page.ref, e);
        if (f->os_up) {
            keep_grant(f, page.ref);
        }
    }
    if (again) {
        qxen_grant_write(f->g, f->blank[blank].ref, (grant_entry_v1_t) {
            .flags = GTF_permit_access,
            .frame = f->blank[blank].addr / QXEN_PAGE_SIZE,
        });
    }
}

/* What dom0 is told of the guest's grant table */
static void act_grant_table(Fuzz *f, Draw *r)
{
    static const unsigned int versions[] = { 0, 1, 1, 1, 2 };
    static const unsigned int frames[] = { ALL_FRAMES, ALL_FRAMES, 7, 1, 0 };

    f->grant_version = one_of(r, versions);
    f->grant_frames = one_of(r, frames);
    tell("grant table of version %u, %u frames", f->grant_version,
         f->grant_frames);
    qxen_cmd(f->g, "grant-version %u", f->grant_version);
    qxen_cmd(f->g, "grant-frames %u", f->grant_frames);
}

/* At any moment */
static void act_query(Fuzz *f, Draw *r)
{
    tell("look");
    look_before(f);
    look_after(f);
}

static void assert_state(Fuzz *f, const char *path, XenbusState want)
{
    XenbusState is = qxen_state(f->g, path);

    if (is != want) {
        g_error("%s is in state %d, it should be in %d", path, is, want);
    }
}

/* What it is for, without any nonsense: local devices are as new afterwards */
static void act_handoff(Fuzz *f, Draw *r)
{
    unsigned int how = below(r, BY_REQUEST + 1), n = 1 + below(r, 4);

    if (f->os_up || !f->tame ||
        (how == BY_CALLBACK && !f->setup->callback_notifier)) {
        return;
    }
    tell("all closed, reset, param 0");
    set_param(f, "0");
    for (unsigned int i = 0; i < DEVICES; i++) {
        if (i < FIRST_UNPLUGGY) {
            close_device(f, &f->device[i], SETTLE_MS);
        } else if (f->device[i].plugged) {
            unplug(f, &f->device[i]);
        }
    }
    reset(f);
    for (unsigned int i = 0; i < n; i++) {
        connect_device(f, r, &f->device[below(r, FIRST_REMOTE)]);
    }
    tell("hand off, announced by %u", how);
    if (how == BY_REQUEST) {
        ask(f);
    } else if (how == BY_CALLBACK) {
        set_param(f, "1");
    } else {
        announce(f, how);
    }
    for (unsigned int i = 0; i < FIRST_REMOTE; i++) {
        Device *d = &f->device[i];
        g_autofree char *want = g_strjoinv(" ", d->keys);
        g_auto(GStrv) is = qxen_ls(f->g, d->frontend);
        g_autofree char *has = g_strjoinv(" ", is);

        assert_state(f, d->frontend, XenbusStateInitialising);
        assert_state(f, d->backend, XenbusStateInitWait);
        g_assert_cmpstr(has, ==, want);
    }
    g_assert_cmpuint(qxen_stat(f->g, "maps"), ==, 0);
    g_assert_cmpuint(qxen_stat(f->g, "ports"), ==, 0);
}

/* --- the OS --------------------------------------------------------------- */

static void check_os(Fuzz *f, unsigned int sector, bool thoroughly)
{
    const Device *d = &f->device[f->os_device];
    g_autofree char *is = NULL;

    assert_state(f, d->frontend, XenbusStateConnected);
    assert_state(f, d->backend, XenbusStateConnected);
    if (!thoroughly) {
        return;
    }
    is = qxen_keys_and_values(f->g, d->frontend);
    g_assert_cmpstr(is, ==, f->os_keys);
    for (unsigned int i = 0; i < f->os->ring.pages; i++) {
        if (!(qxen_grant_flags(f->g, f->os->ring.page[i].ref) & GTF_writing)) {
            g_error("the ring of %s is not mapped", d->name);
        }
    }
    assert_kept(f);
    if (d->local) {
        g_autofree char *want = f->inside ? g_strdup("")
                                          : g_strdup_printf("sector %u",
                                                            sector);
        char buf[QXEN_SECTOR_SIZE];

        qxen_vbd_read(f->os, sector, 1, buf);
        g_assert_cmpstr(buf, ==, want);
    }
}

/* What the device tells of this disk from now on must be that it left it */
static void os_takes_over(Fuzz *f)
{
    f->os_since = sum_of_results(&f->is);
    f->os_up = true;
    for (unsigned int i = 0; i < 4; i++) {
        keep_grant(f, qxen_page_new(f->g, i & 1 ? 3 : 0, i & 2).ref);
    }
}

/*
 * From now on the device is the OS's alone.  Either it closes what it finds and
 * connects, or it writes a key to the firmware's connection, which makes it the
 * OS's as well.
 */
static void act_os(Fuzz *f, Draw *r)
{
    Device *d = &f->device[f->os_device];
    unsigned int how = below(r, BY_CALLBACK + 1), when = below(r, 8);
    bool adopt = percent(r, 25), armed = adopt || percent(r, 70);
    const QXenConnect connect = {
        .ring_order = below(r, 3), .persistent = percent(r, 30),
        .over = true, .no_wait = true,
    };

    if (f->os_up) {
        return;
    }
    /* before the OS could adopt it, it would be gone */
    adopt &= !f->setup->callback_notifier;
    tell("an OS with %s comes up, announced by %u at %u, adopt=%d armed=%d",
         d->name, how, when, adopt, armed);
    if (armed) {
        set_param(f, "0");
        if (adopt && !close_device(f, d, SETTLE_MS)) {
            g_error("%s cannot be closed", d->name);
        }
        reset(f);
    }
    if (adopt) {
        f->os = qxen_vbd_connect(f->g, d->name, &connect);
        qxen_wait_state(f->g, d->backend, XenbusStateConnected);
        set_state(f, d, XenbusStateConnected);
    } else if (when == 0) {
        announce(f, how);
    }
    set_param(f, "1");
    if (adopt) {
        qxen_cmd(f->g, "guest-write %s/os-was-here 1", d->frontend);
        os_takes_over(f);
    } else {
        if (when == 1) {
            announce(f, how);
        }
        if (!close_device(f, d, SETTLE_MS)) {
            g_error("%s cannot be closed", d->name);
        }
        os_takes_over(f);
        f->os = qxen_vbd_connect(f->g, d->name, &connect);
        if (when == 2) {
            announce(f, how);
        }
        qxen_wait_state(f->g, d->backend, XenbusStateConnected);
        set_state(f, d, XenbusStateConnected);
    }
    f->os_keys = qxen_keys_and_values(f->g, d->frontend);
    for (unsigned int i = 0; i < f->os->ring.pages; i++) {
        keep_grant(f, f->os->ring.page[i].ref);
    }
    if (when == 3) {
        announce(f, how);
    }
    check_os(f, 0, true);
}

static const struct {
    unsigned int weight;
    void (*run)(Fuzz *f, Draw *r);
} possible[] = {
    { 22, act_connect },
    { 6, act_close },
    { 8, act_states },
    { 22, act_write },
    { 4, act_bogus },
    { 4, act_race_write },
    { 3, act_remove },
    { 5, act_plug },
    { 1, act_libxl },
    { 1, act_offline },
    { 2, act_frame },
    { 6, act_port },
    { 4, act_bar },
    { 2, act_log },
    { 6, act_announce },
    { 4, act_param },
    { 3, act_clock },
    { 2, act_reset },
    { 3, act_handoff },
    { 4, act_ask },
    { 3, act_grant },
    { 1, act_grant_table },
    { 2, act_fault },
    { 2, act_slow },
    { 2, act_query },
    { 2, act_backend },
    { 2, act_wait },
    { 2, act_os },
};

static void random_act(Fuzz *f, Draw *r)
{
    unsigned int sum = 0, n;

    for (size_t i = 0; i < ARRAY_SIZE(possible); i++) {
        sum += possible[i].weight;
    }
    n = below(r, sum);
    for (size_t i = 0; i < ARRAY_SIZE(possible); i++) {
        if (n < possible[i].weight) {
            possible[i].run(f, r);
            return;
        }
        n -= possible[i].weight;
    }
    g_assert_not_reached();
}

/* --- a round -------------------------------------------------------------- */

/* Zeros, without a thread that reads them, or a file */
static char *blockdev(const char *node, const char *file)
{
    return file ? g_strdup_printf("-blockdev driver=file,filename=%s,"
                                  "node-name=%s,read-only=on", file, node)
                : g_strdup_printf("-blockdev driver=null-co,size=1048576,"
                                  "read-zeroes=on,node-name=%s,read-only=on",
                                  node);
}

static char *device_args(Fuzz *f)
{
    g_autofree char *d0 = blockdev("d0", f->disk[0]);
    g_autofree char *d1 = blockdev("d1", f->disk[1]);

    return g_strdup_printf(
        QXEN_HANDOFF ",timeout-ms=%d,scrub-grants=%s "
        "-global xen-platform.guest-log=on "
        "-global xen-loopback.callback-notifier=%s "
        "%s -device xen-disk,drive=d0,vdev=xvda "
        "%s %s -device xen-disk,drive=d1,vdev=xvdb%s "
        "-blockdev driver=null-co,size=1048576,latency-ns=2000000,node-name=d2 "
        "-device xen-disk,drive=d2,vdev=xvdc "
        "-netdev dgram,id=n0,local.type=fd,local.str=%d "
        "-device xen-net-device,netdev=n0,idx=0,mac=02:00:00:00:00:01 "
        "-chardev null,id=c1 -device xen-console,chardev=c1,idx=1",
        TIMEOUT_MS, f->setup->keep_grants ? "off" : "on",
        f->setup->callback_notifier ? "on" : "off", d0, d1,
        f->inside ? "" : "-object iothread,id=io0",
        f->inside ? "" : ",iothread=io0", f->wire[1]);
}

Fuzz *fuzz_new(const FuzzSetup *setup, bool inside)
{
    Fuzz *f = g_new0(Fuzz, 1);

    f->setup = setup;
    f->inside = inside;
    f->kept = g_array_new(false, false, sizeof(Kept));
    if (inside) {
        f->g = qxen_guest_new();
    } else {
        f->disk[0] = qxen_temp_disk();
        f->disk[1] = qxen_temp_disk();
    }
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM, 0, f->wire), ==, 0);
    return f;
}

char *fuzz_args(Fuzz *f)
{
    g_autofree char *machine = qxen_guest_args(f->g);
    g_autofree char *devices = device_args(f);

    return g_strconcat(machine, devices, NULL);
}

/* Of the table of a guest that has not run yet, the toolstack has a part */
static void grant(Fuzz *f, uint32_t ref)
{
    qxen_grant_write(f->g, ref, (grant_entry_v1_t) {
        .flags = GTF_permit_access, .frame = 0xfe000 + ref,
    });
}

static void renew(Fuzz *f)
{
    qxen_guest_forget(f->g);
    g_array_set_size(f->kept, 0);
    for (uint32_t ref = 0; ref < TOOLSTACK; ref++) {
        grant(f, ref);
        keep_grant(f, ref);
    }
    reset(f);
}

void fuzz_start(Fuzz *f, QTestState *qts)
{
    if (qts) {
        qxen_guest_start(f->g, qts);
        unlink(f->g->bios);
    } else {
        g_autofree char *devices = device_args(f);

        f->g = qxen_machine_start("%s", devices);
    }
    f->qts = f->g->qts;
    for (unsigned int i = 0; i < DEVICES; i++) {
        Device *d = &f->device[i];

        d->name = device_name[i];
        d->frontend = g_strdup_printf(QXEN_DEVICES "%s", d->name);
        d->local = i < FIRST_REMOTE;
        if (d->local) {
            remember(f, d);
        }
    }
    f->param = "0";
    f->grant_version = 1;
    f->grant_frames = ALL_FRAMES;
    renew(f);
}

static void begin(Fuzz *f, Draw *r)
{
    static const unsigned int os_devices[] = {
        XVDA, XVDB, XVDA, XVDB, VBD2000,
    };

    f->tame = percent(r, 25);
    f->os_device = one_of(r, os_devices);
    f->os_since = 0;
    for (unsigned int i = 0; i < FIRST_REMOTE; i++) {
        f->device[i].trusted = true;
    }
    for (uint32_t ref = TOOLSTACK; ref < FIRST_GRANT; ref++) {
        grant(f, ref);
    }
    for (unsigned int i = 0; i < ARRAY_SIZE(f->blank); i++) {
        f->blank[i] = qxen_page_new(f->g, 0, false);
    }
    plug(f, &f->device[VBD2000], "delay-us=50");
}

/* Whether it is one of ours, or with an @id of "" the class of one */
static bool is_local(const char *class, const char *id)
{
    g_autofree char *name = g_strdup_printf("%s/%s", class, id);

    for (unsigned int i = 0; i < FIRST_REMOTE; i++) {
        if (*id ? !strcmp(device_name[i], name)
                : g_str_has_prefix(device_name[i], name)) {
            return true;
        }
    }
    return false;
}

/* All that a guest has written beside its own devices */
static void remove_nonsense(Fuzz *f)
{
    g_auto(GStrv) classes = qxen_ls(f->g, "/local/domain/7/device");

    for (char **class = classes; *class; class++) {
        g_autofree char *dir = g_strdup_printf(QXEN_DEVICES "%s", *class);
        g_auto(GStrv) ids = qxen_ls(f->g, dir);

        if (!is_local(*class, "")) {
            qxen_cmd(f->g, "rm %s", dir);
            continue;
        }
        for (char **id = ids; *id; id++) {
            if (!is_local(*class, *id)) {
                qxen_cmd(f->g, "rm %s/%s", dir, *id);
            }
        }
    }
}

static bool is_fresh(Fuzz *f, const Device *d)
{
    g_autofree char *is = NULL;

    if (!qxen_exists(f->g, d->frontend) ||
        qxen_state(f->g, d->backend) != XenbusStateInitWait) {
        return false;
    }
    is = qxen_keys_and_values(f->g, d->frontend);
    return !strcmp(is, d->fresh);
}

static bool close_all(Fuzz *f)
{
    bool closed = true;

    for (unsigned int i = 0; i < FIRST_REMOTE; i++) {
        closed &= is_fresh(f, &f->device[i]) ||
                  close_device(f, &f->device[i], 1000);
    }
    return closed;
}

static bool is_as_before(Fuzz *f, QXenOpen *is)
{
    *is = qxen_open(f->g);
    return is->maps == f->g->at_start.maps &&
           is->ports == f->g->at_start.ports &&
           is->watches == f->g->at_start.watches &&
           is->handles == f->g->at_start.handles;
}

/* All that the guest has is closed, all that dom0 plugged is unplugged */
static void end(Fuzz *f)
{
    int64_t until;
    QXenOpen is;

    if (f->os) {
        check_os(f, 1, true);
        qxen_vbd_close(f->os);
        f->os = NULL;
        f->os_up = false;
        g_clear_pointer(&f->os_keys, g_free);
        /* its ring is granted no more */
        g_array_set_size(f->kept, TOOLSTACK);
    }
    set_param(f, "0");
    qxen_cmd(f->g, "race-end");
    for (unsigned int i = FIRST_REMOTE; i < DEVICES; i++) {
        if (f->device[i].plugged) {
            unplug(f, &f->device[i]);
        }
    }
    remove_nonsense(f);
    f->grant_version = 1;
    f->grant_frames = ALL_FRAMES;
    qxen_cmd(f->g, "grant-version 1");
    qxen_cmd(f->g, "grant-frames %zu", ALL_FRAMES);
    until = g_get_monotonic_time() + SETTLE_MS * 1000;
    while (!close_all(f) && g_get_monotonic_time() < until) {
        qxen_pause();
    }
    renew(f);
    do {
        if (is_as_before(f, &is)) {
            return;
        }
        qxen_pause();
    } while (g_get_monotonic_time() < until);
    is_as_before(f, &is);
    g_error("left over: maps=%u ports=%u watches=%u handles=%u, at the start: "
            "maps=%u ports=%u watches=%u handles=%u", is.maps, is.ports,
            is.watches, is.handles, f->g->at_start.maps, f->g->at_start.ports,
            f->g->at_start.watches, f->g->at_start.handles);
}

/* Where QEMU is this process, libFuzzer has that signal */
static void in_time(Fuzz *f)
{
    if (!f->inside) {
        alarm(ACT_SECONDS);
    }
}

unsigned int fuzz_round(Fuzz *f, Draw *r, unsigned int acts)
{
    act = 0;
    tell("start");
    in_time(f);
    begin(f, r);
    while (act < acts && !has_ended(r)) {
        unsigned int ops = qxen_stat(f->g, "ops");

        act++;
        in_time(f);
        random_act(f, r);
        g_assert_cmpuint(qxen_stat(f->g, "ops") - ops, <=, ACT_OPS);
        if (f->os_up) {
            bool thoroughly = percent(r, 25);

            check_os(f, below(r, QXEN_DISK_SECTORS), thoroughly);
        }
    }
    tell("end");
    in_time(f);
    end(f);
    if (!f->inside) {
        alarm(0);
    }
    return act;
}

const char *fuzz_log(Fuzz *f)
{
    return f->g ? f->g->log : NULL;
}

void fuzz_free(Fuzz *f)
{
    qxen_machine_stop(f->g);
    for (unsigned int i = 0; i < DEVICES; i++) {
        forget(&f->device[i]);
        g_free(f->device[i].frontend);
    }
    for (unsigned int i = 0; i < 2; i++) {
        unlink(f->disk[i]);
        g_free(f->disk[i]);
        close(f->wire[i]);
    }
    g_array_unref(f->kept);
    g_free(f->was.state);
    g_free(f->was.announcement);
    g_free(f->is.state);
    g_free(f->is.announcement);
    g_free(f->grants);
    g_free(f);
}

/*
 * libqos: the guest's side of Xen's PV devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "hw/xen/xen.h"
#include "hw/block/xen_blkif.h"
#include "hw/xen/interface/hvm/params.h"
#include "hw/xen/interface/io/console.h"
#include "hw/xen/interface/io/netif.h"
#include "xen-frontend.h"

/* Where xen-loopback looks for them, and how many there are */
#define GRANT_TABLE 0x100000
#define PORTS       4096

/* Xen keeps the first ones for the toolstack */
#define FIRST_REF   8
/* 2 to 64 MiB: nothing else is there without a BIOS that runs */
#define FIRST_FRAME 0x200
#define END_FRAME   0x4000

/* The OS's data, in pages that were the firmware's */
#define OS_PATTERN  0xa5

/*
 * But not in the head of what may be a ring: a backend that has not let go
 * would find requests without end in it, and QEMU never return to the test.
 */
#define RING_HEAD   64

#define QDISKS      "/local/domain/0/backend/qdisk/7/"

#define TIMEOUT_MS  10000
#define POLL_US     200

/* --- files of a test ------------------------------------------------------ */

char *qxen_temp_file(const char *name, size_t size)
{
    g_autofree char *template = g_strdup_printf("xen-qtest-%s-XXXXXX", name);
    char *path = NULL;
    int fd = g_file_open_tmp(template, &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    close(fd);
    return path;
}

char *qxen_temp_disk(void)
{
    char *path = qxen_temp_file("disk", 1 << 20);
    FILE *disk = fopen(path, "r+");

    g_assert_nonnull(disk);
    for (int sector = 0; sector < QXEN_DISK_SECTORS; sector++) {
        g_assert_cmpint(fseek(disk, sector * QXEN_SECTOR_SIZE, SEEK_SET), ==,
                        0);
        fprintf(disk, "sector %d", sector);
    }
    fclose(disk);
    return path;
}

/* --- waiting ------------------------------------------------------------- */

void (*qxen_turn)(bool wait);

static void turn(bool wait)
{
    if (qxen_turn) {
        qxen_turn(wait);
    }
}

void qxen_pause(void)
{
    if (qxen_turn) {
        qxen_turn(true);
    } else {
        g_usleep(POLL_US);
    }
}

/* Pause a little; returns false if @start was too long ago */
static bool pause_since(int64_t start)
{
    qxen_pause();
    return g_get_monotonic_time() - start < TIMEOUT_MS * 1000;
}

static unsigned int to_number(const char *value)
{
    unsigned int number;

    if (qemu_strtoui(value, NULL, 10, &number)) {
        g_error("'%s' is not a number", value);
    }
    return number;
}

/* --- the loopback's commands --------------------------------------------- */

/* Returns whether it succeeded; @result is its result or why it was refused */
static bool run(QXenGuest *g, const char *command, char **result)
{
    g_autofree char *encoded =
        g_uri_escape_string(command, " " G_URI_RESERVED_CHARS_ALLOWED_IN_PATH,
                            false);
    g_autofree char *reply = NULL;
    bool ok = qtest_command(g->qts, &reply, "xen-loopback %s", encoded);

    *result = g_uri_unescape_string(reply, NULL);
    return ok;
}

bool qxen_try(QXenGuest *g, const char *fmt, ...)
{
    g_autofree char *command = NULL;
    g_autofree char *result = NULL;
    va_list ap;
    bool ok;

    va_start(ap, fmt);
    command = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    ok = run(g, command, &result);
    turn(false);
    return ok;
}

static char *must_run(QXenGuest *g, const char *command)
{
    char *result;

    if (!run(g, command, &result)) {
        g_error("xen-loopback refuses '%s': %s", command, result);
    }
    return result;
}

void qxen_cmd(QXenGuest *g, const char *fmt, ...)
{
    g_autofree char *command = NULL;
    va_list ap;

    va_start(ap, fmt);
    command = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_free(must_run(g, command));
    turn(false);
}

char *qxen_ask(QXenGuest *g, const char *fmt, ...)
{
    g_autofree char *command = NULL;
    va_list ap;

    va_start(ap, fmt);
    command = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return must_run(g, command);
}

/* The number of @name in @stats, the loopback's answer to "stat" */
static unsigned int stat_of(const char *stats, const char *name)
{
    g_auto(GStrv) item = g_strsplit(stats, " ", 0);
    size_t len = strlen(name);

    for (char **i = item; *i; i++) {
        if (!strncmp(*i, name, len) && (*i)[len] == '=') {
            return to_number(*i + len + 1);
        }
    }
    g_error("xen-loopback does not count '%s': '%s'", name, stats);
}

unsigned int qxen_stat(QXenGuest *g, const char *name)
{
    g_autofree char *stats = qxen_ask(g, "stat");

    return stat_of(stats, name);
}

void qxen_settle(QXenGuest *g)
{
    int64_t start = g_get_monotonic_time();
    unsigned int events, least = UINT_MAX;

    while ((events = qxen_stat(g, "events"))) {
        if (events < least) {
            least = events;
            start = g_get_monotonic_time();
        } else if (!pause_since(start)) {
            g_error("%u events of watches do not arrive within %d ms", events,
                    TIMEOUT_MS);
        }
    }
}

QXenOpen qxen_open(QXenGuest *g)
{
    g_autofree char *stats = qxen_ask(g, "stat");

    return (QXenOpen) {
        .maps = stat_of(stats, "maps"),
        .ports = stat_of(stats, "ports"),
        .watches = stat_of(stats, "watches"),
        .handles = stat_of(stats, "handles"),
    };
}

void qxen_assert_closed(QXenGuest *g)
{
    QXenOpen is = qxen_open(g);

    g_assert_cmpuint(is.maps, ==, g->at_start.maps);
    g_assert_cmpuint(is.ports, ==, g->at_start.ports);
    g_assert_cmpuint(is.watches, ==, g->at_start.watches);
    g_assert_cmpuint(is.handles, ==, g->at_start.handles);
    qxen_assert_untouched(g);
}

void qxen_param(QXenGuest *g, const char *value)
{
    qxen_cmd(g, "param %d %s", HVM_PARAM_CALLBACK_IRQ, value);
    qxen_await_vcpu(g->qts);
}

void qxen_be_os(QXenGuest *g)
{
    qxen_settle(g);
    qxen_param(g, "1");
}

/* --- what the guest has to give away ------------------------------------- */

static void pool_init(QXenPool *pool, uint32_t first, uint32_t end)
{
    pool->next = first;
    pool->end = end;
    g_queue_init(&pool->returned);
}

/* New ones first: what was used late is noticed best if it is left alone */
static uint32_t pool_get(QXenPool *pool)
{
    if (pool->next < pool->end) {
        return pool->next++;
    }
    g_assert_false(g_queue_is_empty(&pool->returned));
    return GPOINTER_TO_UINT(g_queue_pop_head(&pool->returned));
}

static void pool_put(QXenPool *pool, uint32_t number)
{
    g_queue_push_tail(&pool->returned, GUINT_TO_POINTER(number));
}

static void own_all(QXenGuest *g)
{
    g_queue_clear(&g->frames.returned);
    g_queue_clear(&g->refs.returned);
    g_queue_clear(&g->ports.returned);
    pool_init(&g->frames, FIRST_FRAME, END_FRAME);
    pool_init(&g->refs, FIRST_REF, QXEN_GRANTS);
    pool_init(&g->ports, 1, PORTS);
}

QXenGuest *qxen_guest_new(void)
{
    QXenGuest *g = g_new0(QXenGuest, 1);

    g->bios = qxen_temp_file("bios", 64 * 1024);
    g->taken_over = g_byte_array_new();
    own_all(g);
    return g;
}

void qxen_guest_forget(QXenGuest *g)
{
    own_all(g);
    qtest_memset(g->qts, GRANT_TABLE, 0,
                 QXEN_GRANTS * sizeof(grant_entry_v1_t));
}

char *qxen_guest_args(QXenGuest *g)
{
    return g_strdup_printf(
        "-machine pc,memory-backend=ram -m 64 -nodefaults -bios %s "
        "-object memory-backend-memfd,id=ram,size=64M,share=on "
        "-device xen-loopback -device xen-platform,addr=%d ",
        g->bios, QXEN_PLATFORM_SLOT);
}

void qxen_guest_start(QXenGuest *g, QTestState *qts)
{
    g->qts = qts;
    g->at_start = qxen_open(g);
}

QXenGuest *qxen_machine_start(const char *fmt, ...)
{
    QXenGuest *g = qxen_guest_new();
    g_autofree char *machine = qxen_guest_args(g);
    g_autofree char *args = NULL;
    va_list ap;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g->log = qxen_temp_file("log", 0);
    g->disk = qxen_temp_disk();
    qxen_guest_start(g, qtest_initf(
        "%s -blockdev driver=file,filename=%s,node-name=disk %s 2>%s",
        machine, g->disk, args, g->log));
    return g;
}

void qxen_machine_stop(QXenGuest *g)
{
    qtest_quit(g->qts);
    unlink(g->log);
    unlink(g->bios);
    unlink(g->disk);
    g_free(g->log);
    g_free(g->bios);
    g_free(g->disk);
    g_queue_clear(&g->frames.returned);
    g_queue_clear(&g->refs.returned);
    g_queue_clear(&g->ports.returned);
    g_byte_array_unref(g->taken_over);
    g_free(g);
}

char *qxen_log(QXenGuest *g)
{
    char *text;

    g_assert_true(g_file_get_contents(g->log, &text, NULL, NULL));
    return text;
}

bool qxen_vcpu_held(QTestState *qts)
{
    g_autofree char *held = NULL;

    g_assert_true(qtest_command(qts, &held, "xen-loopback vcpu-held"));
    return *held != '0';
}

void qxen_await_vcpu(QTestState *qts)
{
    while (qxen_vcpu_held(qts)) {
        turn(true); /* another process has had one */
    }
}

void qxen_out(QTestState *qts, unsigned int size, uint16_t port, uint32_t value)
{
    qxen_out_begin(qts, size, port, value);
    qxen_await_vcpu(qts);
}

void qxen_out_begin(QTestState *qts, unsigned int size, uint16_t port,
                    uint32_t value)
{
    switch (size) {
    case 1:
        qtest_outb(qts, port, value);
        break;
    case 2:
        qtest_outw(qts, port, value);
        break;
    case 4:
        qtest_outl(qts, port, value);
        break;
    default:
        g_assert_not_reached();
    }
}

void qxen_take_over(QXenGuest *g)
{
    uint32_t used = g->frames.next;
    size_t size = (size_t)(used - FIRST_FRAME) * QXEN_PAGE_SIZE;

    g_queue_clear(&g->frames.returned);
    g_queue_clear(&g->refs.returned);
    pool_init(&g->frames, used, END_FRAME);
    pool_init(&g->refs, FIRST_REF, QXEN_GRANTS);
    for (uint32_t frame = FIRST_FRAME; frame < used; frame++) {
        qtest_memset(g->qts, (uint64_t)frame * QXEN_PAGE_SIZE + RING_HEAD,
                     OS_PATTERN, QXEN_PAGE_SIZE - RING_HEAD);
    }
    g_byte_array_set_size(g->taken_over, size);
    for (size_t i = 0; i < size; i += QXEN_PAGE_SIZE) {
        qtest_bufread(g->qts, FIRST_FRAME * QXEN_PAGE_SIZE + i,
                      g->taken_over->data + i, QXEN_PAGE_SIZE);
    }
}

void qxen_assert_untouched(QXenGuest *g)
{
    for (size_t i = 0; i < g->taken_over->len; i += QXEN_PAGE_SIZE) {
        uint64_t addr = FIRST_FRAME * QXEN_PAGE_SIZE + i;
        uint8_t page[QXEN_PAGE_SIZE];

        qtest_bufread(g->qts, addr, page, sizeof(page));
        for (size_t j = 0; j < sizeof(page); j++) {
            if (page[j] != g->taken_over->data[i + j]) {
                g_error("somebody wrote 0x%02x to the OS's memory at 0x%"
                        PRIx64, page[j], addr + j);
            }
        }
    }
}

/* --- grants and event channels ------------------------------------------- */

static uint64_t grant_entry(uint32_t ref)
{
    return GRANT_TABLE + ref * sizeof(struct grant_entry_v1);
}

void qxen_grant_write(QXenGuest *g, uint32_t ref, grant_entry_v1_t entry)
{
    uint64_t at = grant_entry(ref);

    /* the flags last, they make it valid */
    qtest_writel(g->qts, at + offsetof(grant_entry_v1_t, frame), entry.frame);
    qtest_writew(g->qts, at + offsetof(grant_entry_v1_t, domid), entry.domid);
    qtest_writew(g->qts, at + offsetof(grant_entry_v1_t, flags), entry.flags);
}

uint32_t qxen_grant(QXenGuest *g, uint64_t addr, uint16_t domid, bool readonly)
{
    uint32_t ref = pool_get(&g->refs);

    qxen_grant_write(g, ref, (grant_entry_v1_t) {
        .flags = GTF_permit_access | (readonly ? GTF_readonly : 0),
        .domid = domid,
        .frame = addr / QXEN_PAGE_SIZE,
    });
    return ref;
}

static grant_entry_v1_t from_le(grant_entry_v1_t e)
{
    return (grant_entry_v1_t) {
        .flags = le16_to_cpu(e.flags), .domid = le16_to_cpu(e.domid),
        .frame = le32_to_cpu(e.frame),
    };
}

grant_entry_v1_t qxen_grant_read(QXenGuest *g, uint32_t ref)
{
    grant_entry_v1_t entry;

    qtest_bufread(g->qts, grant_entry(ref), &entry, sizeof(entry));
    return from_le(entry);
}

grant_entry_v1_t *qxen_grant_table(QXenGuest *g)
{
    grant_entry_v1_t *table = g_new(grant_entry_v1_t, QXEN_GRANTS);

    qtest_bufread(g->qts, GRANT_TABLE, table, QXEN_GRANTS * sizeof(*table));
    for (unsigned int ref = 0; ref < QXEN_GRANTS; ref++) {
        table[ref] = from_le(table[ref]);
    }
    return table;
}

uint16_t qxen_grant_flags(QXenGuest *g, uint32_t ref)
{
    return qtest_readw(g->qts, grant_entry(ref) +
                       offsetof(struct grant_entry_v1, flags));
}

void qxen_grant_end(QXenGuest *g, uint32_t ref)
{
    int64_t start = g_get_monotonic_time();
    uint16_t flags;

    while ((flags = qxen_grant_flags(g, ref)) & (GTF_reading | GTF_writing)) {
        if (!pause_since(start)) {
            g_error("grant %u is still in use after %d ms, its flags are 0x%x",
                    ref, TIMEOUT_MS, flags);
        }
    }
    qtest_writew(g->qts, grant_entry(ref) +
                 offsetof(struct grant_entry_v1, flags), GTF_invalid);
    pool_put(&g->refs, ref);
}

QXenPage qxen_page_new(QXenGuest *g, uint16_t domid, bool readonly)
{
    QXenPage page = {
        .addr = (uint64_t)pool_get(&g->frames) * QXEN_PAGE_SIZE,
    };

    qtest_memset(g->qts, page.addr, 0, QXEN_PAGE_SIZE);
    page.ref = qxen_grant(g, page.addr, domid, readonly);
    return page;
}

void qxen_page_free(QXenGuest *g, QXenPage page)
{
    qxen_grant_end(g, page.ref);
    pool_put(&g->frames, page.addr / QXEN_PAGE_SIZE);
}

/* --- xenstore ------------------------------------------------------------ */

void qxen_write(QXenGuest *g, const char *path, const char *fmt, ...)
{
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qxen_cmd(g, "write %s %s", path, value);
}

void qxen_guest_write(QXenGuest *g, const char *path, const char *fmt, ...)
{
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qxen_cmd(g, "%s %s %s", g->no_quota ? "write" : "guest-write", path, value);
}

char *qxen_read(QXenGuest *g, const char *path)
{
    g_autofree char *command = g_strdup_printf("read %s", path);
    char *value;

    if (!run(g, command, &value)) {
        g_clear_pointer(&value, g_free);
    }
    return value;
}

bool qxen_exists(QXenGuest *g, const char *path)
{
    return qxen_try(g, "read %s", path);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **qxen_ls(QXenGuest *g, const char *path)
{
    g_autofree char *result = qxen_ask(g, "ls %s", path);
    char **names = g_strsplit(result, " ", 0);

    qsort(names, g_strv_length(names), sizeof(*names), compare_names);
    return names;
}

char *qxen_keys(QXenGuest *g, const char *path)
{
    return qxen_ask(g, "leaves 0 %s", path);
}

char *qxen_keys_and_values(QXenGuest *g, const char *path)
{
    return qxen_ask(g, "leaves 1 %s", path);
}

void qxen_assert_keys(QXenGuest *g, const char *path, const char *keys)
{
    g_autofree char *is = qxen_keys(g, path);

    g_assert_cmpstr(is, ==, keys);
}

XenbusState qxen_state(QXenGuest *g, const char *path)
{
    g_autofree char *node = g_strdup_printf("%s/state", path);
    g_autofree char *value = qxen_read(g, node);
    unsigned int state;

    if (!value || qemu_strtoui(value, NULL, 10, &state) ||
        state > XenbusStateReconfigured) {
        return XenbusStateUnknown;
    }
    return state;
}

static void wait_states(QXenGuest *g, const char *path, XenbusState state,
                        XenbusState or_state)
{
    int64_t start = g_get_monotonic_time();
    XenbusState is;

    while ((is = qxen_state(g, path)) != state && is != or_state) {
        if (!pause_since(start)) {
            g_error("%s is in state %d after %d ms, it should be in %d",
                    path, is, TIMEOUT_MS, state);
        }
    }
}

void qxen_wait_state(QXenGuest *g, const char *path, XenbusState state)
{
    wait_states(g, path, state, state);
}

char *qxen_backend_path(QXenGuest *g, const char *name)
{
    g_autofree char *key = g_strdup_printf(QXEN_DEVICES "%s/backend", name);

    return qxen_read(g, key);
}

char *qxen_frontend_keys(QXenGuest *g, const char *name)
{
    g_autofree char *path = g_strdup_printf(QXEN_DEVICES "%s", name);

    return qxen_keys(g, path);
}

void qxen_set_key(QXenGuest *g, const char *name, const char *key,
                  const char *value)
{
    g_autofree char *path = g_strdup_printf(QXEN_DEVICES "%s/%s", name, key);

    qxen_guest_write(g, path, "%s", value);
}

void qxen_assert_states(QXenGuest *g, const char *name, XenbusState frontend,
                        XenbusState backend)
{
    g_autofree char *fe = g_strdup_printf(QXEN_DEVICES "%s", name);
    g_autofree char *be = qxen_backend_path(g, name);

    g_assert_cmpint(qxen_state(g, fe), ==, frontend);
    g_assert_cmpint(qxen_state(g, be), ==, backend);
}

void qxen_assert_fresh(QXenGuest *g, const char *name, const char *keys)
{
    g_autofree char *path = g_strdup_printf(QXEN_DEVICES "%s", name);

    qxen_assert_states(g, name, XenbusStateInitialising, XenbusStateInitWait);
    qxen_assert_keys(g, path, keys);
}

void qxen_backend_new(QXenGuest *g, const char *name, const char *options)
{
    g_auto(GStrv) part = g_strsplit(name, "/", 2);

    qxen_cmd(g, "backend %s %s%s%s", part[0], part[1], *options ? " " : "",
             options);
}

/* --- what all frontends have in common ----------------------------------- */

static const QXenConnect as_usual;

static char *fe_read(QXenFrontend *fe, const char *key)
{
    g_autofree char *node = g_strdup_printf("%s/%s", fe->path, key);
    char *value = qxen_read(fe->guest, node);

    if (!value) {
        g_error("%s does not exist", node);
    }
    return value;
}

static void fe_write(QXenFrontend *fe, const char *key, const char *value)
{
    g_autofree char *node = g_strdup_printf("%s/%s", fe->path, key);

    qxen_guest_write(fe->guest, node, "%s", value);
    g_ptr_array_add(fe->keys, g_strdup(key));
}

static void fe_write_number(QXenFrontend *fe, const char *key, uint32_t number)
{
    g_autofree char *value = g_strdup_printf("%u", number);

    fe_write(fe, key, value);
}

static void fe_state(QXenFrontend *fe, XenbusState state)
{
    g_autofree char *node = g_strdup_printf("%s/state", fe->path);

    qxen_guest_write(fe->guest, node, "%d", state);
}

static void fe_init(QXenFrontend *fe, QXenGuest *g, const char *name,
                    const QXenConnect *how)
{
    g_autofree char *domid = NULL;

    fe->guest = g;
    fe->path = g_strdup_printf(QXEN_DEVICES "%s", name);
    fe->backend = fe_read(fe, "backend");
    domid = fe_read(fe, "backend-id");
    fe->backend_domid = to_number(domid);
    fe->port = pool_get(&g->ports);
    fe->keys = g_ptr_array_new_with_free_func(g_free);
    if (!how->over) {
        qxen_wait_state(g, fe->backend, XenbusStateInitWait);
    }
}

static void fe_abandon(QXenFrontend *fe)
{
    g_free(fe->path);
    g_free(fe->backend);
    g_ptr_array_unref(fe->keys);
}

static void fe_close(QXenFrontend *fe)
{
    fe_state(fe, XenbusStateClosing);
    wait_states(fe->guest, fe->backend, XenbusStateClosing, XenbusStateClosed);
    fe_state(fe, XenbusStateClosed);
    qxen_wait_state(fe->guest, fe->backend, XenbusStateClosed);
    for (guint i = 0; i < fe->keys->len; i++) {
        qxen_cmd(fe->guest, "rm %s/%s", fe->path,
                 (char *)g_ptr_array_index(fe->keys, i));
    }
    fe_state(fe, XenbusStateInitialising);
    /* scsiback stays where it is */
    if (!g_str_has_prefix(fe->path, QXEN_DEVICES "vscsi/")) {
        qxen_wait_state(fe->guest, fe->backend, XenbusStateInitWait);
    }
    pool_put(&fe->guest->ports, fe->port);
}

/* Nobody may be bound to it: then nothing happens, as in Xen */
static void fe_notify(QXenFrontend *fe, uint32_t port)
{
    qxen_try(fe->guest, "send %u", port);
}

/* --- rings, of whatever kind: the heads of all are alike ------------------ */

#define SRING(field) offsetof(struct netif_tx_sring, field)

static uint64_t ring_addr(QXenRing *ring, size_t offset)
{
    return ring->page[offset / QXEN_PAGE_SIZE].addr + offset % QXEN_PAGE_SIZE;
}

/* Where in the ring an entry is; it may lie in two pages, none of its fields */
static size_t ring_entry(QXenRing *ring, uint32_t index)
{
    return SRING(ring) + index % ring->slots * ring->entry_size;
}

static void ring_init(QXenRing *ring, QXenFrontend *fe, unsigned int order,
                      size_t entry_size, unsigned int slots)
{
    g_assert_cmpuint(order, <=, QXEN_MAX_RING_ORDER);
    *ring = (QXenRing) {
        .pages = 1 << order,
        .slots = slots,
        .entry_size = entry_size,
    };
    for (unsigned int i = 0; i < ring->pages; i++) {
        ring->page[i] = qxen_page_new(fe->guest, fe->backend_domid, false);
    }
    qtest_writel(fe->guest->qts, ring_addr(ring, SRING(req_event)), 1);
    qtest_writel(fe->guest->qts, ring_addr(ring, SRING(rsp_event)), 1);
}

static void ring_free(QXenRing *ring, QXenFrontend *fe)
{
    for (unsigned int i = 0; i < ring->pages; i++) {
        qxen_page_free(fe->guest, ring->page[i]);
    }
}

/* Where to write the next request */
static size_t ring_next(QXenRing *ring)
{
    g_assert_cmpuint(ring->req_prod - ring->rsp_cons, <, ring->slots);
    return ring_entry(ring, ring->req_prod++);
}

static void ring_push(QXenRing *ring, QXenFrontend *fe, uint32_t port)
{
    qtest_writel(fe->guest->qts, ring_addr(ring, SRING(req_prod)),
                 ring->req_prod);
    fe_notify(fe, port);
}

static uint32_t ring_responses(QXenRing *ring, QXenFrontend *fe)
{
    return qtest_readl(fe->guest->qts, ring_addr(ring, SRING(rsp_prod)));
}

/* Wait for the next response; returns where it is */
static size_t ring_response(QXenRing *ring, QXenFrontend *fe)
{
    int64_t start = g_get_monotonic_time();

    while (ring_responses(ring, fe) == ring->rsp_cons) {
        if (!pause_since(start)) {
            g_error("%s does not respond within %d ms, responses so far: %u",
                    fe->backend, TIMEOUT_MS, ring->rsp_cons);
        }
    }
    ring->rsp_cons++;
    qtest_writel(fe->guest->qts, ring_addr(ring, SRING(rsp_event)),
                 ring->rsp_cons + 1);
    return ring_entry(ring, ring->rsp_cons - 1);
}

/* --- disks --------------------------------------------------------------- */

void qxen_disk_plug(QXenGuest *g, const char *id, const char *vdev,
                    const char *image)
{
    g_autofree char *fe = g_strdup_printf(QXEN_DEVICES "vbd/%s", id);
    g_autofree char *be = g_strdup_printf(QDISKS "%s", id);
    const struct {
        const char *dir, *key, *value;
    } nodes[] = {
        { fe, "backend", be },
        { fe, "backend-id", "0" },
        { fe, "virtual-device", id },
        { fe, "device-type", "disk" },
        { fe, "state", "1" },
        { be, "frontend", fe },
        { be, "frontend-id", "7" },
        { be, "dev", vdev },
        { be, "device-type", "disk" },
        { be, "mode", "w" },
        { be, "params", image },
        { be, "online", "1" },
        { be, "state", "1" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", nodes[i].dir,
                                                nodes[i].key);

        qxen_write(g, path, "%s", nodes[i].value);
    }
    qxen_wait_state(g, be, XenbusStateInitWait);
}

void qxen_disk_unplug(QXenGuest *g, const char *id)
{
    g_autofree char *be = g_strdup_printf(QDISKS "%s", id);
    g_autofree char *online = g_strdup_printf("%s/online", be);

    qxen_write(g, online, "0");
    qxen_wait_state(g, be, XenbusStateUnknown);
    g_assert_false(qxen_exists(g, be));
}

static void vbd_write_keys(QXenVbd *vbd, const QXenConnect *how)
{
    if (how->ring_order) {
        fe_write_number(&vbd->fe, "ring-page-order", how->ring_order);
        for (unsigned int i = 0; i < vbd->ring.pages; i++) {
            g_autofree char *key = g_strdup_printf("ring-ref%u", i);

            fe_write_number(&vbd->fe, key, vbd->ring.page[i].ref);
        }
    } else {
        fe_write_number(&vbd->fe, "ring-ref", vbd->ring.page[0].ref);
    }
    fe_write_number(&vbd->fe, "event-channel", vbd->fe.port);
    fe_write(&vbd->fe, "protocol", XEN_IO_PROTO_ABI_X86_64);
    if (how->persistent) {
        fe_write_number(&vbd->fe, "feature-persistent", 1);
    }
}

QXenVbd *qxen_vbd_connect(QXenGuest *g, const char *name,
                          const QXenConnect *how)
{
    QXenVbd *vbd = g_new0(QXenVbd, 1);

    how = how ?: &as_usual;
    fe_init(&vbd->fe, g, name, how);
    ring_init(&vbd->ring, &vbd->fe, how->ring_order,
              sizeof(union blkif_x86_64_sring_entry),
              __CONST_RING_SIZE(blkif_x86_64,
                                QXEN_PAGE_SIZE << how->ring_order));
    g_assert_cmpuint(vbd->ring.slots, <=, QXEN_MAX_VBD_REQUESTS);
    vbd_write_keys(vbd, how);
    fe_state(&vbd->fe, XenbusStateInitialised);
    if (!how->no_wait) {
        qxen_wait_state(g, vbd->fe.backend, XenbusStateConnected);
        fe_state(&vbd->fe, XenbusStateConnected);
    }
    return vbd;
}

/* in each id: what is where a response has no field, before the status */
#define PADDING 0x5a

static QXenVbdRequest *vbd_new_request(QXenVbd *vbd)
{
    for (unsigned int i = 0; i < vbd->ring.slots; i++) {
        if (!vbd->request[i].id) {
            /* never again the same: a late response would be noticed */
            vbd->request[i].id = ++vbd->fe.guest->requests << 16 |
                                 PADDING << 8 | i;
            return &vbd->request[i];
        }
    }
    g_error("%s: all requests are in flight", vbd->fe.path);
}

#define BLKIF_REQ(field) offsetof(struct blkif_x86_64_request, field)
#define BLKIF_RSP(field) offsetof(struct blkif_x86_64_response, field)
#define PADDING_AT       (BLKIF_RSP(operation) + sizeof(uint8_t))

QXenVbdRequest *qxen_vbd_submit(QXenVbd *vbd, bool write, uint64_t sector,
                                unsigned int count, const void *buf)
{
    QXenGuest *g = vbd->fe.guest;
    QTestState *qts = g->qts;
    QXenRing *ring = &vbd->ring;
    QXenVbdRequest *r = vbd_new_request(vbd);
    size_t at = ring_next(ring);

    g_assert_cmpuint(count, >=, 1);
    g_assert_cmpuint(count, <=, QXEN_PAGE_SIZE / QXEN_SECTOR_SIZE);
    r->write = write;
    r->bytes = count * QXEN_SECTOR_SIZE;
    /* what is written has only to be read by the backend */
    r->page = qxen_page_new(g, vbd->fe.backend_domid, write);
    if (write && buf) {
        qtest_bufwrite(qts, r->page.addr, buf, r->bytes);
    }

    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(operation)),
                 !write ? BLKIF_OP_READ :
                 vbd->flush ? BLKIF_OP_FLUSH_DISKCACHE : BLKIF_OP_WRITE);
    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(nr_segments)), 1);
    qtest_writew(qts, ring_addr(ring, at + BLKIF_REQ(handle)), 0);
    qtest_writeq(qts, ring_addr(ring, at + BLKIF_REQ(id)), r->id);
    qtest_writeq(qts, ring_addr(ring, at + BLKIF_REQ(sector_number)), sector);
    qtest_writel(qts, ring_addr(ring, at + BLKIF_REQ(seg[0].gref)),
                 r->page.ref);
    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(seg[0].first_sect)), 0);
    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(seg[0].last_sect)),
                 count - 1);
    ring_push(ring, &vbd->fe, vbd->fe.port);
    return r;
}

/* Take the next response, whichever request it answers */
static void vbd_response(QXenVbd *vbd)
{
    QTestState *qts = vbd->fe.guest->qts;
    QXenRing *ring = &vbd->ring;
    size_t at = ring_response(ring, &vbd->fe);
    uint64_t id = qtest_readq(qts, ring_addr(ring, at + BLKIF_RSP(id)));
    int16_t status = qtest_readw(qts,
                                 ring_addr(ring, at + BLKIF_RSP(status)));
    QXenVbdRequest *r;

    g_assert_cmpuint((uint8_t)id, <, ring->slots);
    r = &vbd->request[(uint8_t)id];
    g_assert_cmphex(id, ==, r->id);
    g_assert_false(r->done);
    g_assert_cmpint(status, ==, BLKIF_RSP_OKAY);
    /* a whole struct would have some of QEMU's memory there, as in XSA-216 */
    g_assert_cmphex(qtest_readb(qts, ring_addr(ring, at + PADDING_AT)), ==,
                    PADDING);
    r->done = true;
}

bool qxen_vbd_discard(QXenVbd *vbd, uint64_t sector, uint64_t count)
{
    QTestState *qts = vbd->fe.guest->qts;
    QXenRing *ring = &vbd->ring;
    size_t at = ring_next(ring);
    size_t nr = offsetof(struct blkif_x86_64_request_discard, nr_sectors);

    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(operation)),
                 BLKIF_OP_DISCARD);
    qtest_writeb(qts, ring_addr(ring, at + BLKIF_REQ(nr_segments)), 0);
    qtest_writeq(qts, ring_addr(ring, at + BLKIF_REQ(sector_number)), sector);
    qtest_writeq(qts, ring_addr(ring, at + nr), count);
    ring_push(ring, &vbd->fe, vbd->fe.port);
    at = ring_response(ring, &vbd->fe);
    return qtest_readw(qts, ring_addr(ring, at + BLKIF_RSP(status))) ==
           BLKIF_RSP_OKAY;
}

void qxen_vbd_wait(QXenVbd *vbd, QXenVbdRequest *request, void *buf)
{
    QXenGuest *g = vbd->fe.guest;

    while (!request->done) {
        vbd_response(vbd);
    }
    if (!request->write && buf) {
        qtest_bufread(g->qts, request->page.addr, buf, request->bytes);
    }
    qxen_page_free(g, request->page);
    *request = (QXenVbdRequest) { 0 };
}

uint32_t qxen_vbd_responses(QXenVbd *vbd)
{
    return ring_responses(&vbd->ring, &vbd->fe);
}

void qxen_vbd_read(QXenVbd *vbd, uint64_t sector, unsigned int count, void *buf)
{
    qxen_vbd_wait(vbd, qxen_vbd_submit(vbd, false, sector, count, NULL), buf);
}

void qxen_vbd_assert_reads(QXenVbd *vbd, unsigned int sector)
{
    g_autofree char *want = g_strdup_printf("sector %u", sector);
    char buf[QXEN_SECTOR_SIZE];

    qxen_vbd_read(vbd, sector, 1, buf);
    g_assert_cmpstr(buf, ==, want);
}

void qxen_vbd_close(QXenVbd *vbd)
{
    fe_close(&vbd->fe);
    for (unsigned int i = 0; i < vbd->ring.slots; i++) {
        if (vbd->request[i].id) {
            qxen_page_free(vbd->fe.guest, vbd->request[i].page);
        }
    }
    ring_free(&vbd->ring, &vbd->fe);
    qxen_vbd_abandon(vbd);
}

void qxen_vbd_abandon(QXenVbd *vbd)
{
    fe_abandon(&vbd->fe);
    g_free(vbd);
}

/* --- NICs ---------------------------------------------------------------- */

static void vif_write_queue(QXenVif *vif, unsigned int index, bool directory)
{
    QXenVifQueue *queue = &vif->queue[index];
    const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        { "tx-ring-ref", queue->tx.page[0].ref },
        { "rx-ring-ref", queue->rx.page[0].ref },
        { "event-channel", queue->port },
    };

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        g_autofree char *key = directory
            ? g_strdup_printf("queue-%u/%s", index, keys[i].key)
            : g_strdup(keys[i].key);

        fe_write_number(&vif->fe, key, keys[i].value);
    }
    if (directory) {
        g_ptr_array_add(vif->fe.keys, g_strdup_printf("queue-%u", index));
    }
}

QXenVif *qxen_vif_connect(QXenGuest *g, const char *name,
                          const QXenConnect *how)
{
    QXenVif *vif = g_new0(QXenVif, 1);

    how = how ?: &as_usual;
    g_assert_cmpuint(how->queues, <=, QXEN_MAX_VIF_QUEUES);
    fe_init(&vif->fe, g, name, how);
    vif->queues = MAX(how->queues, 1);
    if (how->queues) {
        fe_write_number(&vif->fe, "multi-queue-num-queues", how->queues);
    }
    for (unsigned int i = 0; i < vif->queues; i++) {
        QXenVifQueue *queue = &vif->queue[i];

        queue->port = i ? pool_get(&g->ports) : vif->fe.port;
        ring_init(&queue->tx, &vif->fe, 0, sizeof(union netif_tx_sring_entry),
                  __CONST_RING_SIZE(netif_tx, QXEN_PAGE_SIZE));
        ring_init(&queue->rx, &vif->fe, 0, sizeof(union netif_rx_sring_entry),
                  __CONST_RING_SIZE(netif_rx, QXEN_PAGE_SIZE));
        vif_write_queue(vif, i, how->queues);
    }
    fe_write_number(&vif->fe, "request-rx-copy", 1);
    fe_write_number(&vif->fe, "feature-rx-notify", 1);
    fe_state(&vif->fe, XenbusStateConnected);
    if (!how->no_wait) {
        qxen_wait_state(g, vif->fe.backend, XenbusStateConnected);
    }
    return vif;
}

void qxen_vif_post(QXenVif *vif, unsigned int count)
{
    QTestState *qts = vif->fe.guest->qts;
    QXenRing *ring = &vif->queue[0].rx;

    g_assert_cmpuint(ring->slots, <=, QXEN_MAX_VIF_BUFFERS);
    for (; count; count--) {
        size_t at = ring_next(ring);
        uint16_t id = (ring->req_prod - 1) % ring->slots;
        QXenPage page = qxen_page_new(vif->fe.guest, vif->fe.backend_domid,
                                      false);

        vif->buffer[id] = page;
        qtest_writew(qts, ring_addr(ring, at +
                                    offsetof(struct netif_rx_request, id)), id);
        qtest_writel(qts, ring_addr(ring, at +
                                    offsetof(struct netif_rx_request, gref)),
                     page.ref);
    }
    ring_push(ring, &vif->fe, vif->queue[0].port);
}

#define NETIF_TX_REQ(field) offsetof(struct netif_tx_request, field)
#define NETIF_TX_RSP(field) offsetof(struct netif_tx_response, field)
#define NETIF_RX_RSP(field) offsetof(struct netif_rx_response, field)

void qxen_vif_send(QXenVif *vif, const void *frame, size_t size)
{
    QTestState *qts = vif->fe.guest->qts;
    QXenRing *ring = &vif->queue[0].tx;
    size_t at = ring_next(ring);
    uint16_t id = ring->req_prod;
    QXenPage page = qxen_page_new(vif->fe.guest, vif->fe.backend_domid, true);

    g_assert_cmpuint(size, <=, QXEN_PAGE_SIZE);
    qtest_bufwrite(qts, page.addr, frame, size);
    qtest_writel(qts, ring_addr(ring, at + NETIF_TX_REQ(gref)), page.ref);
    qtest_writew(qts, ring_addr(ring, at + NETIF_TX_REQ(offset)), 0);
    qtest_writew(qts, ring_addr(ring, at + NETIF_TX_REQ(flags)), 0);
    qtest_writew(qts, ring_addr(ring, at + NETIF_TX_REQ(id)), id);
    qtest_writew(qts, ring_addr(ring, at + NETIF_TX_REQ(size)), size);
    ring_push(ring, &vif->fe, vif->queue[0].port);

    at = ring_response(ring, &vif->fe);
    g_assert_cmpuint(qtest_readw(qts, ring_addr(ring, at + NETIF_TX_RSP(id))),
                     ==, id);
    g_assert_cmpint((int16_t)qtest_readw(qts, ring_addr(ring, at +
                                                     NETIF_TX_RSP(status))),
                    ==, NETIF_RSP_OKAY);
    qxen_page_free(vif->fe.guest, page);
}

size_t qxen_vif_receive(QXenVif *vif, void *frame, size_t size)
{
    QTestState *qts = vif->fe.guest->qts;
    QXenRing *ring = &vif->queue[0].rx;
    size_t at = ring_response(ring, &vif->fe);
    uint16_t id = qtest_readw(qts, ring_addr(ring, at + NETIF_RX_RSP(id)));
    uint16_t offset = qtest_readw(qts,
                                  ring_addr(ring, at + NETIF_RX_RSP(offset)));
    int16_t status = qtest_readw(qts,
                                 ring_addr(ring, at + NETIF_RX_RSP(status)));

    g_assert_cmpuint(id, <, ring->slots);
    g_assert_cmphex(vif->buffer[id].addr, !=, 0);
    g_assert_cmpint(status, >, 0);
    g_assert_cmpuint(offset + status, <=, QXEN_PAGE_SIZE);
    g_assert_cmpuint(status, <=, size);
    qtest_bufread(qts, vif->buffer[id].addr + offset, frame, status);
    qxen_page_free(vif->fe.guest, vif->buffer[id]);
    vif->buffer[id].addr = 0;
    return status;
}

size_t qxen_wire_receive(int fd, void *frame, size_t size)
{
    GPollFD pfd = { .fd = fd, .events = G_IO_IN };
    ssize_t len;

    if (g_poll(&pfd, 1, TIMEOUT_MS) != 1) {
        g_error("no frame came out of QEMU within %d ms", TIMEOUT_MS);
    }
    len = recv(fd, frame, size, 0);
    g_assert_cmpint(len, >, 0);
    return len;
}

void qxen_vif_exchange(QXenVif *vif, int fd)
{
    const uint8_t sent[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                               2, 0, 0, 0, 0, 1, 0x88, 0xb5, 'h', 'i' };
    uint8_t got[2048];

    qxen_vif_post(vif, 8);
    qxen_vif_send(vif, sent, sizeof(sent));
    g_assert_cmpmem(got, qxen_wire_receive(fd, got, sizeof(got)),
                    sent, sizeof(sent));
    g_assert_cmpint(send(fd, sent, sizeof(sent), 0), ==, sizeof(sent));
    g_assert_cmpmem(got, qxen_vif_receive(vif, got, sizeof(got)),
                    sent, sizeof(sent));
}

void qxen_vif_close(QXenVif *vif)
{
    QXenGuest *g = vif->fe.guest;

    fe_close(&vif->fe);
    for (size_t i = 0; i < ARRAY_SIZE(vif->buffer); i++) {
        if (vif->buffer[i].addr) {
            qxen_page_free(g, vif->buffer[i]);
        }
    }
    for (unsigned int i = 0; i < vif->queues; i++) {
        ring_free(&vif->queue[i].tx, &vif->fe);
        ring_free(&vif->queue[i].rx, &vif->fe);
        if (i) {
            pool_put(&g->ports, vif->queue[i].port);
        }
    }
    qxen_vif_abandon(vif);
}

void qxen_vif_abandon(QXenVif *vif)
{
    fe_abandon(&vif->fe);
    g_free(vif);
}

/* --- consoles ------------------------------------------------------------ */

#define CONSOLE(field)      offsetof(struct xencons_interface, field)
#define CONSOLE_SIZE(field) sizeof_field(struct xencons_interface, field)

QXenConsole *qxen_console_connect(QXenGuest *g, const char *name,
                                  const QXenConnect *how)
{
    QXenConsole *con = g_new0(QXenConsole, 1);

    how = how ?: &as_usual;
    fe_init(&con->fe, g, name, how);
    con->page = qxen_page_new(g, con->fe.backend_domid, false);
    fe_write_number(&con->fe, "ring-ref", con->page.ref);
    fe_write_number(&con->fe, "port", con->fe.port);
    fe_state(&con->fe, XenbusStateInitialised);
    if (!how->no_wait) {
        qxen_wait_state(g, con->fe.backend, XenbusStateConnected);
        fe_state(&con->fe, XenbusStateConnected);
    }
    return con;
}

void qxen_console_write(QXenConsole *con, const char *data, size_t size)
{
    QTestState *qts = con->fe.guest->qts;
    uint32_t prod = qtest_readl(qts, con->page.addr + CONSOLE(out_prod));
    int64_t start = g_get_monotonic_time();

    g_assert_cmpuint(size, <=, CONSOLE_SIZE(out));
    for (size_t i = 0; i < size; i++, prod++) {
        qtest_writeb(qts, con->page.addr + CONSOLE(out) +
                     prod % CONSOLE_SIZE(out), data[i]);
    }
    qtest_writel(qts, con->page.addr + CONSOLE(out_prod), prod);
    fe_notify(&con->fe, con->fe.port);
    while (qtest_readl(qts, con->page.addr + CONSOLE(out_cons)) != prod) {
        if (!pause_since(start)) {
            g_error("%s does not take its output within %d ms",
                    con->fe.backend, TIMEOUT_MS);
        }
    }
}

void qxen_console_close(QXenConsole *con)
{
    fe_close(&con->fe);
    qxen_page_free(con->fe.guest, con->page);
    qxen_console_abandon(con);
}

void qxen_console_abandon(QXenConsole *con)
{
    fe_abandon(&con->fe);
    g_free(con);
}

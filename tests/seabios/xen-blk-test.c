/*
 * SeaBIOS's driver of Xen PV disks on a Xen that may lie: xenbus.c and
 * xen-blk.c as they are, hypercalls, a xenstored and backends that do what they
 * are told, among it what none should.  Each test is a process of its own: the
 * driver begins anew, and one that crashes takes no other with it.
 *
 *   xen-blk-test                              the stories, as TAP
 *   xen-blk-test --fuzz --seed N --rounds N   everything at random
 *   xen-blk-test --replay FILE...             inputs of xen-blk-fuzz
 *
 * With LIBFUZZER defined it is xen-blk-fuzz instead, where libFuzzer's bytes
 * say what is so, all in one process: see make fuzz-deep.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#undef NULL
#undef offsetof
#undef __always_inline

#include "types.h"
#include "block.h"
#include "fw/xen.h"
#include "hw/pci_ids.h"
#include "hw/pcidevice.h"
#include "hw/xen-blk.h"
#include "std/disk.h"
#include "std/optionrom.h"
#include "boot.h"

#define PAGE 4096u
#define PER_PAGE (PAGE / sizeof(struct grant_entry_v1))
#define SECTOR 512
#define SECTORS 240         /* ASan keeps no memory of larger disks */

#ifndef LIBFUZZER
#define FAIL() exit(1)
#else
#define FAIL() abort()
#endif

#define check(what) do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            FAIL(); \
        } \
    } while (0)

/* --- what a test tells the world to be like ------------------------------- */

enum answer {
    RIGHT, REVERSED, ONE_BY_ONE, ERROR, WRONG_ID, TWICE, AHEAD, NEVER, GONE,
    STOLEN, SCRIBBLE, ANSWERS
};

static struct {
    bool silent, deaf, gibberish;   /* xenstored */
    unsigned piece;                 /* bytes that it writes at once, if any */
    bool noise;                     /* watch events and old replies before */
    bool flood;                     /* nothing but watch events, at once */
    bool lies;                      /* its replies are anything */
    bool no_platform, no_memory, other_hd;
    enum answer answer;             /* of the backends */
    u32 gone_at;                    /* ms, when they are closed, if ever */
    int emulated;                   /* number of a drive of this driver */
    u8 driver;
    bool medium;                    /* in each CD of the stories of boot.c */
} world = { .emulated = -1, .driver = DTYPE_ATA };

static u32 now;                     /* ms */
static unsigned pace = 1;           /* ms that yield() takes */
static unsigned seed = 1;
static const u8 *input;             /* libFuzzer's bytes; else at random */
static size_t input_left;

/* Of an input that has ended all numbers are 0 */
static u32 random_number(unsigned bytes)
{
    u32 number = 0;

    if (!input) {
        return rand_r(&seed) * 2u;
    }
    for (; bytes && input_left; bytes--, input_left--) {
        number = number << 8 | *input++;
    }
    return number;
}

static unsigned random_below(unsigned n)
{
    return input ? random_number(n <= 256 ? 1 : n <= 65536 ? 2 : 4) % n
                 : rand_r(&seed) % n;
}

static void scribble_on(void *data, unsigned size)
{
    unsigned i;

    if (input) {
        seed = random_number(2);
    }
    for (i = 0; i < size; i++) {
        ((u8 *)data)[i] = rand_r(&seed);
    }
}

/* What a round has allocated, since in one process it is to be freed */
static void *allocated[1024];
static unsigned n_allocated;

static void *allocate(unsigned align, unsigned size)
{
    check(n_allocated < ARRAY_SIZE(allocated));
    return allocated[n_allocated++] = memalign(align, size);
}

/* --- xenstore ------------------------------------------------------------- */

static struct { char path[128], value[160]; } store[512];
static unsigned keys;

static char *find(const char *path)
{
    unsigned i;

    for (i = 0; i < keys; i++) {
        if (!strcmp(store[i].path, path)) {
            return store[i].value;
        }
    }
    return NULL;
}

static void put(const char *value, const char *fmt, ...)
{
    char path[128], *old;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    old = find(path);
    if (!old) {
        check(keys < ARRAY_SIZE(store));
        strcpy(store[keys].path, path);
        old = store[keys++].value;
    }
    snprintf(old, sizeof(store[0].value), "%s", value);
}

static const char *get(const char *fmt, ...)
{
    char path[128];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    return find(path) ?: "";
}

static void lose(const char *path)
{
    char *value = find(path);

    check(value);
    strcpy(value - sizeof(store[0].path), "lost");
}

static struct xenstore_domain_interface *ring;
static char request[8192], reply[65536];
static unsigned requested, requests, replied, reply_size;
static bool written;                /* backends have not looked since then */

static void add_reply(const struct xsd_sockmsg *msg, const void *data)
{
    memmove(reply, reply + replied, reply_size - replied);
    reply_size -= replied;
    replied = 0;
    check(reply_size + sizeof(*msg) + msg->len <= sizeof(reply));
    memcpy(reply + reply_size, msg, sizeof(*msg));
    memcpy(reply + reply_size + sizeof(*msg), data, msg->len);
    reply_size += sizeof(*msg) + msg->len;
}

static void answer_request(struct xsd_sockmsg msg, char *data)
{
    static char names[16384];
    struct xsd_sockmsg noise = msg;
    char *value, *name;
    unsigned i, len = 0;

    requests++;
    if (world.noise) {
        noise.type = XS_WATCH_EVENT;
        noise.req_id = 0;
        noise.len = 12;
        add_reply(&noise, "device\0token");
        noise = msg;
        noise.req_id -= 1;
        noise.len = 3;
        add_reply(&noise, "old");
    }
    if (world.gibberish) {
        msg.len = 1u << 20;
        memcpy(reply, &msg, sizeof(msg));
        reply_size = sizeof(msg) + 8192;
        replied = 0;
        return;
    }
    data[msg.len] = '\0';
    value = find(data);
    switch (msg.type) {
    case XS_READ:
        name = value;
        len = value ? strlen(value) : 0;
        break;
    case XS_WRITE:
        put(data + strlen(data) + 1, "%s", data);
        written = true;
        name = "OK";
        len = 3;
        break;
    case XS_DIRECTORY:
        for (i = 0; i < keys; i++) {
            unsigned at = strlen(data);
            if (!strncmp(store[i].path, data, at) && store[i].path[at] == '/' &&
                strstr(store[i].path, "/backend-id")) {
                len += sprintf(names + len, "%.*s",
                               (int)strcspn(store[i].path + at + 1, "/"),
                               store[i].path + at + 1) + 1;
            }
        }
        name = names;
        break;
    default:
        check(!"a request that is none");
    }
    if (!name) {
        msg.type = 16;          /* XS_ERROR */
        name = "ENOENT";
        len = 7;
    }
    msg.len = len;
    if (world.lies && !random_below(8)) {
        static char lie[XENSTORE_PAYLOAD_MAX];

        switch (random_below(4)) {
        case 0:
            msg.type = random_number(4);
            break;
        case 1:
            msg.req_id = random_number(4);
            break;
        case 2:
            ring->rsp_prod = random_number(4);
            return;
        default:
            break;
        }
        msg.len = random_below(random_below(4) ? 24 : sizeof(lie) + 1);
        if (msg.len < 24) {
            for (len = 0; len < msg.len; len++) {
                lie[len] = random_number(1);
            }
        } else {
            scribble_on(lie, msg.len);
        }
        name = lie;
    }
    add_reply(&msg, name);
}

/* It looks when it is notified, and waits for that where it had no room */
static bool notified;

static void xenstored(void)
{
    struct xsd_sockmsg msg;
    unsigned n;

    if (!notified || (world.silent && world.deaf)) {
        return;
    }
    check(ring->req_prod - ring->req_cons <= XENSTORE_RING_SIZE);
    check(world.lies || ring->rsp_prod - ring->rsp_cons <= XENSTORE_RING_SIZE);
    while (!world.deaf && ring->req_cons != ring->req_prod) {
        check(requested < sizeof(request) - 1);
        request[requested++] = ring->req[ring->req_cons++ % XENSTORE_RING_SIZE];
        memcpy(&msg, request, sizeof(msg));
        if (requested >= sizeof(msg) && requested == sizeof(msg) + msg.len) {
            requested = 0;
            answer_request(msg, request + sizeof(msg));
        }
    }
    for (n = world.piece ?: -1u; n && !world.silent && replied < reply_size &&
         ring->rsp_prod - ring->rsp_cons < XENSTORE_RING_SIZE; n--) {
        ring->rsp[ring->rsp_prod++ % XENSTORE_RING_SIZE] = reply[replied++];
    }
    notified = replied < reply_size &&
               ring->rsp_prod - ring->rsp_cons < XENSTORE_RING_SIZE;
}

#ifndef LIBFUZZER            /* which has one of its own */
/* What another CPU does while the driver is at work */
void __sanitizer_cov_trace_pc(void)
{
    static unsigned calls;

    if (world.flood) {
        ring->rsp_prod = ring->rsp_cons + XENSTORE_RING_SIZE;
        now += !(++calls % 1000);
        check(now < 11000);
    }
}
#endif

/* --- backends ------------------------------------------------------------- */

enum behaviour { CONNECTS, HANGS, HALF_WAY };

static struct grant_entry_v1 *grants;

static struct disk {
    u32 vdev, port, cons;
    enum behaviour does;
    bool connected, read_only;
    char fe[40], be[64];
    struct blkif_sring *ring;
    u8 *data;
    struct blkif_response left[2 * BLKIF_RING];
    unsigned responses, served;
} disks[64];
static unsigned n_disks, drives;
static struct { struct drive_s *drive; bool cd; } drive[64];

static void *granted(u32 gref)
{
    check(gref >= GNTTAB_NR_RESERVED_ENTRIES && gref < PER_PAGE);
    check(grants[gref].flags == GTF_permit_access);
    check(world.lies || grants[gref].domid == 3);
    return (void *)(grants[gref].frame * PAGE);
}

static struct disk *add_disk_as(u32 vdev, enum behaviour does, const char *type)
{
    struct disk *d = &disks[n_disks++];
    char text[16];

    *d = (struct disk){ .vdev = vdev, .does = does };
    d->data = allocate(SECTOR, SECTORS * SECTOR);
    memset(d->data, 0, SECTORS * SECTOR);
    sprintf(d->fe, "device/vbd/%u", vdev);
    sprintf(d->be, "/local/domain/3/backend/vbd/5/%u", vdev);
    sprintf(text, "%u", vdev);
    put(text, "%s/virtual-device", d->fe);
    put("3", "%s/backend-id", d->fe);
    put(type, "%s/device-type", d->fe);
    put("1", "%s/state", d->fe);
    put(d->be, "%s/backend", d->fe);
    put("2", "%s/state", d->be);
    sprintf(text, "%u", SECTORS);
    put(text, "%s/sectors", d->be);
    put("512", "%s/sector-size", d->be);
    put("0", "%s/info", d->be);
    return d;
}

static struct disk *add_disk(u32 n)
{
    return add_disk_as(n < 16 ? (202 << 8) + (n << 4) : (1 << 28) + (n << 8),
                       CONNECTS, "disk");
}

static void connect_backends(void)
{
    struct disk *d;

    for (d = disks; d < disks + n_disks; d++) {
        if (d->connected || d->does == HANGS ||
            atoi(get("%s/state", d->fe)) != 3) {
            continue;
        }
        d->connected = true;
        if (d->does == HALF_WAY) {
            continue;
        }
        check(!strcmp(get("%s/protocol", d->fe), "x86_32-abi"));
        d->ring = granted(atoi(get("%s/ring-ref", d->fe)));
        d->port = atoi(get("%s/event-channel", d->fe));
        put("4", "%s/state", d->be);
    }
}

static void serve(struct disk *d)
{
    while (d->cons != d->ring->req_prod) {
        struct blkif_request req = d->ring->ring[d->cons++ % BLKIF_RING].req;
        struct blkif_response rsp = { .id = req.id };
        u64 sector = req.sector_number;
        unsigned i;

        check(req.nr_segments &&
              req.nr_segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST);
        check(d->responses < ARRAY_SIZE(d->left));
        for (i = 0; i < req.nr_segments; i++) {
            unsigned from = req.seg[i].first_sect;
            unsigned n = req.seg[i].last_sect - from + 1;
            u8 *page = granted(req.seg[i].gref) + from * SECTOR;
            u8 *data = d->data + sector * SECTOR;

            check(from <= req.seg[i].last_sect && req.seg[i].last_sect < 8);
            if (sector + n > SECTORS || world.answer == ERROR) {
                rsp.status = -1;
            } else if (req.operation == BLKIF_OP_READ) {
                memcpy(page, data, n * SECTOR);
            } else {
                check(!d->read_only);
                memcpy(data, page, n * SECTOR);
            }
            sector += n;
        }
        d->left[d->responses++] = rsp;
    }
}

static void respond(struct disk *d)
{
    unsigned n = d->responses, i, how_many = n;

    if (!n || world.answer == NEVER || world.answer == GONE ||
        world.answer == STOLEN) {
        return;
    }
    how_many = world.answer == ONE_BY_ONE ? 1 : n;
    for (i = 0; i < how_many; i++) {
        unsigned from = world.answer == REVERSED ? n - 1 - i : i;
        struct blkif_response rsp = d->left[from];

        if (world.answer == WRONG_ID) {
            rsp.id += 1 + random_below(1u << 30);
        } else if (world.answer == TWICE) {
            rsp = d->left[0];
        }
        d->ring->ring[d->ring->rsp_prod % BLKIF_RING].rsp = rsp;
        d->ring->rsp_prod++;
    }
    if (world.answer == AHEAD) {
        d->ring->rsp_prod += 1 + random_below(5000);
    } else if (world.answer == SCRIBBLE) {
        scribble_on(d->ring, PAGE);
    }
    memmove(d->left, d->left + how_many, (n - how_many) * sizeof(d->left[0]));
    d->responses -= how_many;
}

/* --- hypercalls ----------------------------------------------------------- */

/* each is 32 bytes, as the driver expects them in a page: number, ebx, ecx */
asm(".text\n"
    ".balign 32\n"
    "hypercalls:\n"
    ".set number, 0\n"
    ".rept 40\n"
    ".balign 32\n"
    "  pushl %edx; pushl %ecx; pushl %ebx; pushl $number\n"
    "  call hypercall\n"
    "  addl $4, %esp; popl %ebx; popl %ecx; popl %edx\n"
    "  ret\n"
    ".set number, number + 1\n"
    ".endr\n");
unsigned long xen_hypercall_page;

enum { STORE_PORT = 7, FIRST_PORT = 10, REMOTE = 100 };
static u32 ports = FIRST_PORT;

int __attribute__((used, force_align_arg_pointer))
hypercall(u32 number, u32 command, void *arg)
{
    struct disk *d;

    switch (number) {
    case __HYPERVISOR_sched_op:
        check(command == SCHEDOP_yield);
        return 0;
    case __HYPERVISOR_memory_op: {
        struct xen_add_to_physmap *a = arg;
        check(command == XENMEM_add_to_physmap && a->domid == DOMID_SELF);
        check(a->space == XENMAPSPACE_grant_table && !a->idx);
        check(a->gpfn == (u32)grants / PAGE);
        return 0;
    }
    case __HYPERVISOR_hvm_op: {
        struct xen_hvm_param *p = arg;
        check(command == HVMOP_get_param && p->domid == DOMID_SELF);
        p->value = p->index == HVM_PARAM_STORE_PFN ? (u32)ring / PAGE
                                                   : STORE_PORT;
        return 0;
    }
    case __HYPERVISOR_event_channel_op:
        if (command == EVTCHNOP_alloc_unbound) {
            struct evtchn_alloc_unbound *a = arg;
            check(a->dom == DOMID_SELF);
            check(world.lies || a->remote_dom == 3);
            a->port = ports++;
            return 0;
        }
        if (command == EVTCHNOP_status) {
            struct evtchn_status *s = arg;
            s->status = world.answer == GONE ? 1 : EVTCHNSTAT_interdomain;
            s->interdomain.dom = world.answer == STOLEN ? 4 : 3;
            s->interdomain.port = REMOTE + s->port;
            return 0;
        }
        check(command == EVTCHNOP_send);
        if (*(u32 *)arg == STORE_PORT) {
            notified = true;
            xenstored();
        }
        for (d = disks; d < disks + n_disks; d++) {
            if (d->ring && d->port == *(u32 *)arg) {
                serve(d);
            }
        }
        return 0;
    }
    check(!"a hypercall that is none");
    return -1;
}

/* --- SeaBIOS -------------------------------------------------------------- */

struct zone_s {
    int none;
} ZoneLow, ZoneHigh, ZoneFSeg, ZoneTmpLow, ZoneTmpHigh;
struct hlist_head PCIDevices;

void xen_hypercall_setup(void)
{
    asm("movl $hypercalls, %0" : "=r"(xen_hypercall_page));
}

u32 timer_calc(u32 ms) { return now + ms; }
int timer_check(u32 end) { return (s32)(now - end) > 0; }
void wait_threads(void) { }
u32 pci_config_readl(u16 bdf, u32 addr) { return (u32)grants | 8; }
int default_process_op(struct disk_op_s *op) { return DISK_RET_SUCCESS; }
int boot_without_hd(void) { return world.other_hd; }
void screen(const char *fmt, ...) { }
void __dprintf(const char *fmt, ...) { }
char *znprintf(size_t size, const char *fmt, ...) { return "disk"; }
void __warn_noalloc(int line, const char *name) { }

void yield(void)
{
    struct disk *d;
    unsigned i;

    now += pace;
    if (world.gone_at && now >= world.gone_at) {
        world.answer = GONE;
    }
    for (i = 0; i < pace; i++) {
        xenstored();
    }
    if (written) {
        written = false;
        connect_backends();
    }
    for (d = disks; d < disks + n_disks; d++) {
        if (d->ring) {
            respond(d);
        }
    }
}

void *_malloc(struct zone_s *zone, u32 size, u32 align)
{
    return world.no_memory && zone == &ZoneHigh ? NULL : allocate(align, size);
}

void seabios_free(void *data)
{
    unsigned i;

    for (i = 0; data && i < PER_PAGE; i++) {
        check(!grants[i].flags || grants[i].frame != (u32)data / PAGE);
    }
    for (i = 0; data && i < n_allocated; i++) {
        if (allocated[i] == data) {
            allocated[i] = NULL;
        }
    }
    free(data);
}

int boot_has_drive(u8 type, u32 n)
{
    return type == world.driver && world.emulated >= 0 &&
           (n == (u32)-1 || n == world.emulated);
}

void boot_add_hd(struct drive_s *d, const char *desc, int prio)
{
    drive[drives++].drive = d;
}

void boot_add_cd(struct drive_s *d, const char *desc, int prio)
{
    drive[drives].cd = true;
    drive[drives++].drive = d;
}

/* For boot.c, which has a list of its own of what there is */
u8 PlatformRunningOn;
char *cdrom_media_info(struct drive_s *d) { return world.medium ? "CD" : NULL; }
void map_hd_drive(struct drive_s *d) { drive[drives++].drive = d; }
void map_cd_drive(struct drive_s *d) { }
void map_floppy_drive(struct drive_s *d) { }
void call_bcv(u16 seg, u16 ip) { }

/* --- words of the stories ------------------------------------------------- */

/* No two words are the same; drawn once, since most inputs read few of them */
static u32 pattern[SECTORS * SECTOR / 4];

static void draw_pattern(void)
{
    u32 i;

    for (i = 0; i < ARRAY_SIZE(pattern); i++) {
        pattern[i] = i * 0x9e3779b1u;
    }
}

static void begin(void)
{
    static struct pci_device platform = {
        .vendor = PCI_VENDOR_ID_XEN, .device = PCI_DEVICE_ID_XEN_PLATFORM
    };

    ring = allocate(PAGE, PAGE);
    grants = allocate(PAGE, PAGE);
    memset(ring, 0, PAGE);
    memset(grants, 0, PAGE);
    hlist_add_head(&platform.node, &PCIDevices);
    put("1", "control/platform-feature-fw-handoff");
}

static void boot(void)
{
    if (world.no_platform) {
        PCIDevices.first = NULL;
    }
    xen_blk_setup();
    /* once for xenstore, once for backends; or nearly that for each answer */
    check(now < 11000 ||
          (world.lies && now <= (5000 + pace) * (requests + 1)));
}

static unsigned granted_entries(void)
{
    unsigned i, n = 0;

    for (i = 0; i < PER_PAGE; i++) {
        n += !!grants[i].flags;
    }
    return n;
}

static u8 buffer[66 * 1024];
#define AT 513              /* an odd place with a guard around it */

static int transfer(unsigned i, int command, u64 lba, unsigned count)
{
    struct disk_op_s op = {
        .drive_fl = drive[i].drive, .command = command, .lba = lba,
        .count = count, .buf_fl = buffer + AT
    };
    unsigned size = count * drive[i].drive->blksize;
    u32 start = now;
    int ret;

    check(AT + size < sizeof(buffer));
    buffer[AT - 1] = buffer[AT + size] = 0xa5;
    ret = xen_blk_process_op(&op);
    check(now - start <= 32000 + 10 * pace);
    check(op.count == (ret ? 0 : count));
    check(buffer[AT - 1] == 0xa5 && buffer[AT + size] == 0xa5);
    return ret;
}

static void fill(struct disk *d)
{
    u32 i;

    memcpy(d->data, pattern, sizeof(pattern));
    for (i = 0; i < SECTORS; i++) {
        u32 *word = (u32 *)(d->data + i * SECTOR);

        word[0] += d->vdev;
        word[SECTOR / 4 - 1] += d->vdev;
    }
}

static bool same(struct disk *d, u64 sector, unsigned n)
{
    return !memcmp(buffer + AT, d->data + sector * SECTOR, n * SECTOR);
}

static struct disk *one_disk(void)
{
    struct disk *d = add_disk(4);

    fill(d);
    boot();
    check(drives == 1 && drive[0].drive->sectors == SECTORS);
    return d;
}

static void boot_without_trace(void)
{
    struct disk *d = add_disk(4);

    boot();
    check(!drives && !granted_entries());
    check(!strcmp(get("%s/state", d->fe), "1"));
}

/* --- stories -------------------------------------------------------------- */

static void connects(void)
{
    struct disk *d = one_disk();
    unsigned i;

    check(granted_entries() == 17);
    for (i = PER_PAGE - 17; i < PER_PAGE; i++) {
        check(grants[i].flags == GTF_permit_access);
    }
    check(!strcmp(get("%s/state", d->fe), "4"));
}

static void many(void)
{
    unsigned i;

    for (i = 0; i < 40; i++) {
        add_disk(39 - i);
    }
    boot();
    /* so many grants are there; those with the lowest numbers are served */
    check(drives == 29 && granted_entries() <= PER_PAGE - 8);
    for (i = 0; i < drives; i++) {
        check(drive[i].drive->cntl_id == i);
    }
}

static void names(void)
{
    add_disk_as(768, CONNECTS, "disk");             /* hda */
    add_disk_as(22 << 8 | 64, CONNECTS, "disk");    /* hdd */
    add_disk_as(8 << 8 | 16, CONNECTS, "disk");     /* sdb */
    add_disk_as((1 << 28) + (300 << 8), CONNECTS, "disk");
    add_disk_as((202 << 8) + 1, CONNECTS, "disk");  /* xvda1 is a partition */
    add_disk_as(77 << 8, CONNECTS, "disk");         /* no disk at all */
    boot();
    check(drives == 4);
    check(drive[0].drive->cntl_id == 0 && drive[1].drive->cntl_id == 1);
    check(drive[2].drive->cntl_id == 3 && drive[3].drive->cntl_id == 300);
}

static void twin(void)
{
    world.emulated = 0;
    add_disk(0);
    add_disk(4);
    boot();
    check(drives == 1 && drive[0].drive->cntl_id == 4);
    check(granted_entries() == 17);
    check(!strcmp(get("device/vbd/51712/state"), "1"));
}

/*
 * A drive of this driver is number 2: that is xvdc, but only if both are disks
 * or both are CDs
 */
static void beside(u8 driver, bool emulated_cd)
{
    world.emulated = 2;
    world.driver = driver;
    add_disk_as((202 << 8) + 32, CONNECTS, emulated_cd ? "cdrom" : "disk");
    add_disk_as(22 << 8, CONNECTS, emulated_cd ? "disk" : "cdrom");
    boot();
    check(drives == 1 && drive[0].cd == !emulated_cd);
    check(!strcmp(get("device/vbd/51744/state"), "1"));
}

static void beside_ata(void) { beside(DTYPE_ATA, false); }
static void beside_ata_cd(void) { beside(DTYPE_ATA_ATAPI, true); }
static void beside_ahci(void) { beside(DTYPE_AHCI, false); }
static void beside_ahci_cd(void) { beside(DTYPE_AHCI_ATAPI, true); }

/* SeaBIOS does not number those of the LSI controller */
static void beside_lsi(void)
{
    world.emulated = 77;
    world.driver = DTYPE_LSI_SCSI;
    add_disk_as(8 << 8, CONNECTS, "disk");          /* sda */
    add_disk(0);
    boot();
    check(drives == 1 && granted_entries() == 17);
    check(!strcmp(get("device/vbd/2048/state"), "1"));
}

static void no_key(void)
{
    lose("control/platform-feature-fw-handoff");
    add_disk(5);
    add_disk(4);
    boot();
    check(drives == 1 && drive[0].drive->cntl_id == 4);
    check(granted_entries() == 17);
    check(!strcmp(get("device/vbd/51792/state"), "1"));
}

static void no_key_not_needed(void)
{
    lose("control/platform-feature-fw-handoff");
    world.other_hd = true;
    boot_without_trace();
}

static void in_use(void)
{
    struct disk *d = add_disk(4);

    put("4", "%s/state", d->fe);
    boot();
    check(!drives && !granted_entries());
}

static void cd(void)
{
    struct disk *d = add_disk_as((202 << 8) + 80, CONNECTS, "cdrom");

    fill(d);
    boot();
    check(drives == 1 && drive[0].cd && drive[0].drive->blksize == 2048);
    check(drive[0].drive->sectors == SECTORS / 4);
    check(!transfer(0, CMD_READ, 3, 32) && same(d, 12, 128));
    check(transfer(0, CMD_WRITE, 3, 1) == DISK_RET_EWRITEPROTECT);
}

static void read_only(void)
{
    struct disk *d = add_disk(4);

    d->read_only = true;
    put("4", "%s/info", d->be);
    boot();
    check(transfer(0, CMD_WRITE, 3, 1) == DISK_RET_EWRITEPROTECT);
}

static void hangs(void)
{
    add_disk(4);
    add_disk(5)->does = HANGS;
    add_disk(6)->does = HALF_WAY;
    add_disk(7);
    boot();
    check(drives == 2 && now >= 5000 && now < 5500);
    check(!transfer(0, CMD_READ, 0, 1) && !transfer(1, CMD_READ, 0, 1));
    check(!strcmp(get("%s/state", disks[1].fe), "6"));
    check(!strcmp(get("%s/state", disks[2].fe), "6"));
}

static void bad_keys(void)
{
    static const char *const values[] = {
        "", "x", "-1", "512 ", "99999999999999999999", "0x200",
        "123456789012345678901234567890", "4096", "0"
    };
    unsigned i;
    struct disk *d;

    for (i = 0; i < ARRAY_SIZE(values); i++) {
        d = add_disk(i);
        put(values[i], "%s/sector-size", d->be);
    }
    d = add_disk(i++);
    put("many", "%s/sectors", d->be);
    d = add_disk(i++);
    put("", "%s/info", d->be);
    d = add_disk(i++);
    put("65539", "%s/backend-id", d->fe);   /* 3, if it is cut */
    d = add_disk(i++);
    put("1x", "%s/state", d->fe);
    d = add_disk(i++);
    put("dvd and more", "%s/device-type", d->fe);
    d = add_disk(i++);
    d->be[0] = '\0';
    put("/local/domain/3/none", "%s/backend", d->fe);
    boot();
    check(!drives);
    for (d = disks; d < disks + n_disks; d++) {
        /* as the toolstack made it, or given up */
        check(strchr("16", *get("%s/state", d->fe)));
    }
}

static void no_platform(void)
{
    world.no_platform = true;
    boot_without_trace();
}

static void no_memory(void)
{
    world.no_memory = true;
    boot_without_trace();
}

static void grants_in_use(void)
{
    unsigned i;

    for (i = 0; i < PER_PAGE; i += 2) {
        grants[i] = (struct grant_entry_v1){ GTF_permit_access, 9, 0x1234 };
    }
    one_disk();
    for (i = 0; i < PER_PAGE; i += 2) {
        check(grants[i].domid == 9 && grants[i].frame == 0x1234);
    }
    check(!transfer(0, CMD_READ, 0, 128));
}

static void store_pieces(void)
{
    world.noise = true;
    world.piece = 7;
    one_disk();
}

static void store_wraps(void)
{
    ring->req_prod = ring->req_cons = 0xffffffe0u;
    ring->rsp_prod = ring->rsp_cons = 0xfffffff1u;
    world.noise = true;
    one_disk();
    check(ring->req_prod < 0x10000 && ring->rsp_prod < 0x10000);
}

static void store_silent(void)
{
    world.silent = true;
    boot_without_trace();
}

static void store_deaf(void)
{
    world.deaf = true;
    ring->req_prod = 1020;
    boot_without_trace();
}

/* old messages fill the ring, so that there is no room for the first reply */
static void store_full(void)
{
    struct xsd_sockmsg old = { .type = XS_READ, .req_id = 999 };

    for (; ring->rsp_prod < XENSTORE_RING_SIZE; ring->rsp_prod += sizeof(old)) {
        memcpy(ring->rsp + ring->rsp_prod, &old, sizeof(old));
    }
    one_disk();
}

static void store_mad(void)
{
    ring->rsp_prod = 1u << 31;
    world.silent = world.deaf = true;
    boot_without_trace();
    check(!ring->rsp_cons);
}

static void store_gibberish(void)
{
    world.gibberish = true;
    boot_without_trace();
}

/* xenstored is as fast as the driver, the ring is never empty */
static void store_flood(void)
{
    struct xsd_sockmsg event = { .type = XS_WATCH_EVENT };
    unsigned i;

    for (i = 0; i < XENSTORE_RING_SIZE; i += sizeof(event)) {
        memcpy(ring->rsp + i, &event, sizeof(event));
    }
    world.silent = world.flood = true;
    boot_without_trace();
    check(now >= 5000 && now < 5010);
}

static void sizes(void)
{
    struct disk *d = one_disk();
    unsigned n;

    for (n = 1; n <= 128; n++) {
        world.answer = n % 3;   /* RIGHT, REVERSED, ONE_BY_ONE */
        check(!transfer(0, CMD_READ, n / 2, n) && same(d, n / 2, n));
        memset(buffer + AT, n, n * SECTOR);
        check(!transfer(0, CMD_WRITE, 40 + n / 2, n) &&
              same(d, 40 + n / 2, n));
        check(!transfer(0, CMD_READ, 29, 128) && same(d, 29, 128));
    }
    check(transfer(0, CMD_READ, 0, 129) == DISK_RET_EPARAM);
    check(transfer(0, CMD_READ, 0, 0) == DISK_RET_EPARAM);
    check(transfer(0, CMD_READ, SECTORS - 1, 2) == DISK_RET_EBADTRACK);
    check(!transfer(0, CMD_READ, SECTORS - 1, 1) && same(d, SECTORS - 1, 1));
}

static void error(void)
{
    struct disk *d = one_disk();

    world.answer = ERROR;
    check(transfer(0, CMD_READ, 0, 128) == DISK_RET_EBADTRACK);
    world.answer = RIGHT;
    check(!transfer(0, CMD_READ, 0, 128) && same(d, 0, 128));
}

/* dead: it fails at once, and never touches what the backend may have */
static void is_dead(struct disk *d, u32 took)
{
    u32 start = now;

    check(transfer(0, CMD_READ, 0, 128) == DISK_RET_ETIMEOUT);
    check(now - start <= took);
    check(!mprotect(d->ring, 17 * PAGE, PROT_NONE));
    start = now;
    check(transfer(0, CMD_READ, 0, 1) == DISK_RET_ETIMEOUT);
    check(transfer(0, CMD_WRITE, 0, 1) == DISK_RET_ETIMEOUT);
    check(transfer(0, CMD_ISREADY, 0, 1) == DISK_RET_ETIMEOUT);
    check(now == start);
    check(!mprotect(d->ring, 17 * PAGE, PROT_READ | PROT_WRITE));
}

static void answered(enum answer answer, u32 took)
{
    struct disk *d = one_disk();

    check(!transfer(0, CMD_READ, 0, 128));
    world.answer = answer;
    is_dead(d, took);
    world.answer = RIGHT;   /* too late */
    yield();
    is_dead(d, 0);
}

static void wrong_id(void) { answered(WRONG_ID, 5); }
static void twice(void) { answered(TWICE, 5); }
static void ahead(void) { answered(AHEAD, 5); }
static void never(void) { answered(NEVER, 32010); }
static void gone(void) { answered(GONE, 0); }
static void stolen(void) { answered(STOLEN, 0); }

/* the backend is closed while a request is under way */
static void gone_meanwhile(void)
{
    struct disk *d = one_disk();

    world.answer = NEVER;
    world.gone_at = now + 500;
    is_dead(d, 1510);
}

static void scribble(void)
{
    struct disk *d = one_disk();
    int ret;

    world.answer = SCRIBBLE;
    ret = transfer(0, CMD_READ, 0, 128);
    check(!ret || ret == DISK_RET_ETIMEOUT || ret == DISK_RET_EBADTRACK);
    check(ret || same(d, 0, 128));
}

static void index_wraps(void)
{
    struct disk *d = one_disk();
    u32 i;

    for (i = 0; i < 3 * BLKIF_RING; i++) {
        check(!transfer(0, CMD_READ, i, 100) && same(d, i, 100));
    }
}

static void boots(bool without_hd)
{
    check(!!real_boot_without_hd() == without_hd);
}

static struct drive_s other[2];
#define BEHIND 200          /* hard disks, which are at 103 */

/* What QEMU's own Xen has, too, and hard disks come before the network */
static void boot_nothing(void)
{
    boots(false);
    real_boot_add_cd(&other[0], "an empty CD", -1);
    real_boot_add_bcv(0xc800, OPTION_ROM_INITVECTOR, 0, -1);
    real_boot_add_bev(0xc900, 0x50, 0, -1);
    real_boot_add_floppy(&other[1], "floppy", BEHIND);
    boots(false);
}

static void boot_hd(void)
{
    real_boot_add_hd(&other[0], "disk", BEHIND);
    boots(true);
}

static void boot_rom_of_a_disk(void)
{
    real_boot_add_bcv(0xc800, 0x50, 0, BEHIND);
    boots(true);
}

static void boot_cd(void)
{
    world.medium = true;
    real_boot_add_cd(&other[0], "a CD", BEHIND);
    boots(true);
}

static void boot_floppy(void)
{
    real_boot_add_floppy(&other[0], "floppy", -1);
    boots(true);
}

static void boot_network(void)
{
    real_boot_add_bev(0xc900, 0x50, 0, 1);
    boots(true);
}

/* Drives of the same priority: 0x80 is what it was without this driver */
static void boot_order(void)
{
    static struct drive_s all[] = {
        { .type = DTYPE_XEN_BLK }, { .type = DTYPE_ATA },
        { .type = DTYPE_USB }, { .type = DTYPE_LSI_SCSI },
        { .type = DTYPE_MEGASAS }, { .type = DTYPE_NVME },
    };
    unsigned i, n = ARRAY_SIZE(all);

    for (i = 0; i < n; i++) {
        real_boot_add_hd(&all[i], "disk", -1);
    }
    real_bcv_prepboot();
    check(drives == n);
    for (i = 0; i < n; i++) {
        check(drive[i].drive == &all[(i + 1) % n]);
    }
}

static const struct {
    void (*function)(void);
    const char *text;
} stories[] = {
    { connects, "connect/one" },
    { many, "connect/more-than-grants" },
    { names, "connect/names" },
    { twin, "connect/twin" },
    { beside_ata, "connect/beside-ata" },
    { beside_ata_cd, "connect/beside-ata-cd" },
    { beside_ahci, "connect/beside-ahci" },
    { beside_ahci_cd, "connect/beside-ahci-cd" },
    { beside_lsi, "connect/beside-lsi" },
    { no_key, "connect/no-key" },
    { no_key_not_needed, "connect/no-key-not-needed" },
    { in_use, "connect/in-use" },
    { cd, "connect/cd" },
    { read_only, "connect/read-only" },
    { hangs, "connect/backends-that-hang" },
    { bad_keys, "connect/bad-keys" },
    { no_platform, "connect/no-platform" },
    { no_memory, "connect/no-memory" },
    { grants_in_use, "connect/grants-in-use" },
    { store_pieces, "xenstore/pieces-and-noise" },
    { store_wraps, "xenstore/wraps" },
    { store_silent, "xenstore/silent" },
    { store_deaf, "xenstore/deaf" },
    { store_gibberish, "xenstore/gibberish" },
    { store_full, "xenstore/full-of-old-messages" },
    { store_flood, "xenstore/flood-of-watch-events" },
    { store_mad, "xenstore/indices-that-make-no-sense" },
    { sizes, "request/sizes" },
    { error, "request/error" },
    { wrong_id, "request/wrong-id" },
    { twice, "request/answered-twice" },
    { ahead, "request/index-ahead" },
    { never, "request/never-answered" },
    { gone, "request/backend-gone" },
    { stolen, "request/port-of-another-domain" },
    { gone_meanwhile, "request/backend-gone-meanwhile" },
    { scribble, "request/ring-overwritten" },
    { index_wraps, "request/ring-wraps" },
    { boot_nothing, "boot/nothing-that-counts" },
    { boot_hd, "boot/disk" },
    { boot_rom_of_a_disk, "boot/option-rom-of-a-disk" },
    { boot_cd, "boot/cd-behind-disks" },
    { boot_floppy, "boot/floppy-before-disks" },
    { boot_network, "boot/network-before-disks" },
    { boot_order, "boot/order-of-disks" },
};

/* --- fuzz ----------------------------------------------------------------- */

static void fuzz_round(void)
{
    static const char *const keys[] = {
        "state", "sectors", "sector-size", "info"
    }, *const vdevs[] = {
        "768", "5696", "2064", "268512256", /* hda, hdd, sdb, the 300th */
        "51713", "19712", "xvda",           /* a partition, and none */
    };
    unsigned n = 1 + random_below(5), first = random_below(8), i, r;
    bool renamed = false;

    world.noise = random_below(2);
    world.piece = random_below(3) ? 0 : 1 + random_below(50);
    world.silent = !random_below(20);
    world.gibberish = !random_below(20);
    world.lies = input && !random_below(2);
    world.other_hd = random_below(2);
    world.emulated = random_below(8);
    world.no_memory = !random_below(20);
    ring->req_prod = ring->req_cons = random_number(4);
    ring->rsp_prod = ring->rsp_cons = random_number(4);
    if (random_below(2)) {
        lose("control/platform-feature-fw-handoff");
    }
    for (i = 0; i < n; i++) {
        struct disk *d = add_disk(first + i);

        fill(d);
        d->does = random_below(3) ? CONNECTS : random_below(3);
        if (!random_below(6)) {
            put(random_below(2) ? "6" : "garbage", "%s/%s", d->be,
                keys[random_below(4)]);
        }
        if (!random_below(8)) {
            put("cdrom", "%s/device-type", d->fe);
        }
        if (!random_below(8)) {
            put(vdevs[random_below(ARRAY_SIZE(vdevs))], "%s/virtual-device",
                d->fe);
            renamed = true;
        }
    }
    boot();
    for (r = 0; drives && r < 40 && (!input || input_left); r++) {
        struct disk *d;
        unsigned count = random_below(128), lba = random_below(SECTORS), scale;
        int command = random_below(3) ? CMD_READ : CMD_WRITE, ret;

        i = random_below(drives);
        scale = drive[i].drive->blksize / SECTOR;
        count = 1 + count / scale;
        lba /= scale;
        world.answer = random_below(random_below(3) ? 3 : ANSWERS);
        ret = transfer(i, command, lba, count);
        if (world.lies || renamed) {
            continue;       /* also of the disks' names and sizes */
        }
        d = &disks[drive[i].drive->cntl_id - first];
        check(ret || world.answer >= SCRIBBLE ||
              same(d, lba * scale, count * scale));
        check(ret != DISK_RET_EBADTRACK || world.answer == SCRIBBLE ||
              world.answer == ERROR || (lba + count) * scale > SECTORS);
    }
}

static void give(const u8 *data, size_t size)
{
    input = data;
    input_left = size;
    pace = 100;
}

#ifdef LIBFUZZER
static u8 *first_data, *first_bss;

/* Not memcpy(): ASan has red zones between variables */
static void copy(void *to, const void *from, size_t n)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static u8 *copy_of(const u8 *from, const u8 *to)
{
    u8 *data = malloc(to - from);

    copy(data, from, to - from);
    return data;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    draw_pattern();
    first_data = copy_of(__start_fuzzed_data, __stop_fuzzed_data);
    first_bss = copy_of(__start_fuzzed_bss, __stop_fuzzed_bss);
    return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    u8 *keep_data = first_data, *keep_bss = first_bss;
    unsigned i;

    give(data, size);
    begin();
    fuzz_round();
    for (i = 0; i < n_allocated; i++) {
        free(allocated[i]);
    }
    /* the driver begins anew */
    copy(__start_fuzzed_data, keep_data,
         __stop_fuzzed_data - __start_fuzzed_data);
    copy(__start_fuzzed_bss, keep_bss, __stop_fuzzed_bss - __start_fuzzed_bss);
    first_data = keep_data;
    first_bss = keep_bss;
    return 0;
}
#else
static bool passes(void (*function)(void))
{
    pid_t child = fork();
    int status;

    if (!child) {
        alarm(60);
        begin();
        function();
        exit(0);
    }
    return waitpid(child, &status, 0) == child && !status;
}

static const char *file;

static void replay(void)
{
    static u8 bytes[4096];
    FILE *f = fopen(file, "r");

    check(f);
    give(bytes, fread(bytes, 1, sizeof(bytes), f));
    fclose(f);
    fuzz_round();
}

static int replay_all(char **files)
{
    unsigned n;

    for (n = 0; (file = files[n]); n++) {
        if (!passes(replay)) {
            printf("not ok 1 /seabios/replay: %s\n", file);
            return 1;
        }
    }
    printf("1..1\nok 1 /seabios/replay: %u inputs\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned i, rounds = 1000, failed = 0;
    bool fuzz = false;

    draw_pattern();
    if (argc > 1 && !strcmp(argv[1], "--replay")) {
        return replay_all(argv + 2);
    }

    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--fuzz")) {
            fuzz = true;
        } else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            seed = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--rounds") && i + 1 < argc) {
            rounds = atoi(argv[++i]);
        } else {
            fprintf(stderr, "usage: %s [--fuzz] [--seed N] [--rounds N] | "
                    "--replay FILE...\n", argv[0]);
            return 2;
        }
    }
    if (!fuzz) {
        printf("1..%u\n", (unsigned)ARRAY_SIZE(stories));
        for (i = 0; i < ARRAY_SIZE(stories); i++) {
            fflush(stdout);
            if (passes(stories[i].function)) {
                printf("ok %u /seabios/%s\n", i + 1, stories[i].text);
            } else {
                printf("not ok %u /seabios/%s\n", i + 1, stories[i].text);
                failed++;
            }
        }
        return !!failed;
    }
    for (i = 0; i < rounds; i++, seed++) {
        if (!passes(fuzz_round)) {
            printf("fuzz: round --seed %u --rounds 1 fails\n", seed);
            return 1;
        }
    }
    printf("1..1\nok 1 /seabios/fuzz: %u rounds\n", rounds);
    return 0;
}
#endif

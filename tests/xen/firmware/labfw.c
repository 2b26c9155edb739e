/*
 * Firmware with PV drivers and, in the same option ROM, a simple operating
 * system: the two parties of a hand-off, small enough to be told what to do.
 *
 * The firmware connects the devices it is told to, uses them and leaves them
 * Connected, as a BIOS with a PV disk driver or a SAN-booted iPXE does.  The
 * OS announces its PV drivers and attaches devices as if nobody had used them
 * before: it writes state 1, waits for the backend's InitWait and connects,
 * with the same grant references but with pages of its own.  It proves every
 * device with data.
 *
 * Options, read from xenstore (lab/...; "none" or nothing for no device):
 *   firmware    devices that the firmware connects: "vbd/51712 vif/0"
 *   os          "1": be an OS; else return to the BIOS, which boots one
 *   order       what the OS does, step by step (see step() below); without it
 *               as Linux does
 *   early       devices that the OS attaches before it announces itself
 *   late        devices that it attaches after that
 *   picky       "1": the OS ignores a device that is not at state 1
 *   gref        first grant reference (8, the first Linux uses, too); those
 *               from 512 on are in further pages of the grant table
 *   early-gref  first grant reference for the early devices; without it they
 *               use gref and the late ones go on where they end
 *   persistent  "1": negotiate blkif's persistent grants
 *   ring-order  the firmware's disks have rings of 2^ring-order pages
 *   queues      the firmware's NICs have so many queues (1)
 *   close       "1": the firmware closes its devices when it has used them
 *   request     "1": the firmware asks for its teardown, if it may
 *   gates       points where to wait until lab/go names them: "firmware",
 *               "closed", "asked", "early", "announced", "done"; data/lab-at
 *               says where we are
 *   shutdown    how the OS ends: 1 reboots, 5 is a soft reset, after which we
 *               begin anew
 *   complete    "1" once all of these are there: nobody tells dom0 that a
 *               domain restarts, so that we have to wait for dom0
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define PAGE_SIZE 4096u
#define DOMID_SELF 0x7ff0
#define mb() __asm__ volatile("lock; addl $0, (%%esp)" ::: "memory")

/* TSC cycles: 2 or 3 seconds until we give up, some ms between two looks */
#define PATIENCE 6000000000ull
#define MOMENT 20000000u

/* --- memory and text ------------------------------------------------------ */

void *memset(void *dest, int c, size_t n)
{
    u8 *p = dest;

    while (n--) {
        *p++ = c;
    }
    return dest;
}

void *memcpy(void *dest, const void *src, size_t n)
{
    u8 *p = dest;
    const u8 *q = src;

    while (n--) {
        *p++ = *q++;
    }
    return dest;
}

static u32 length(const char *s)
{
    u32 n = 0;

    while (s[n]) {
        n++;
    }
    return n;
}

static bool starts_with(const void *text, const char *with)
{
    const char *s = text;

    while (*with && *s == *with) {
        s++;
        with++;
    }
    return !*with;
}

/* whether @word is one of the words of @list */
static bool listed(const char *list, const char *word)
{
    while (*list) {
        if (starts_with(list, word) &&
            (list[length(word)] == ' ' || !list[length(word)])) {
            return true;
        }
        while (*list && *list++ != ' ') {
        }
    }
    return false;
}

static u32 number(const char *s)
{
    u32 v = 0;

    while (*s >= '0' && *s <= '9') {
        v = v * 10 + *s++ - '0';
    }
    return v;
}

/* %s and %u are all there is; @size is trusted to be enough for a '\0' */
static void vformat(char *out, size_t size, const char *fmt, va_list ap)
{
    char *end = out + size - 1, digits[12], *p;
    const char *s;
    u32 v;

    for (; *fmt && out < end; fmt++) {
        if (*fmt != '%') {
            *out++ = *fmt;
            continue;
        }
        if (*++fmt == 's') {
            s = va_arg(ap, const char *);
        } else {
            v = va_arg(ap, u32);
            p = digits + sizeof(digits) - 1;
            *p = 0;
            do {
                *--p = '0' + v % 10;
            } while (v /= 10);
            s = p;
        }
        while (*s && out < end) {
            *out++ = *s++;
        }
    }
    *out = 0;
}

__attribute__((format(printf, 3, 4)))
static void format(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vformat(out, size, fmt, ap);
    va_end(ap);
}

/* --- the machine ---------------------------------------------------------- */

static void outb(u16 port, u8 v)
{
    __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port));
}

static void outw(u16 port, u16 v)
{
    __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(port));
}

static void outl(u16 port, u32 v)
{
    __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(port));
}

static u8 inb(u16 port)
{
    u8 v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static u16 inw(u16 port)
{
    u16 v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static u32 inl(u16 port)
{
    u32 v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static u64 tsc(void)
{
    u64 v;

    __asm__ volatile("rdtsc" : "=A"(v));
    return v;
}

static const char *who = "PVFW";    /* whose lines these are: PVFW or PVOS */

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)
{
    char text[256], line[272], *p;
    va_list ap;

    va_start(ap, fmt);
    vformat(text, sizeof(text), fmt, ap);
    va_end(ap);
    format(line, sizeof(line), "%s: %s\r\n", who, text);
    for (p = line; *p; p++) {
        while (!(inb(0x3fd) & 0x20)) {
        }
        outb(0x3f8, *p);
    }
}

/* --- hypercalls ----------------------------------------------------------- */

enum {
    MEMORY_OP = 12,
    SCHED_OP = 29,
    EVENT_CHANNEL_OP = 32,
    HVM_OP = 34,
};

enum {
    HVM_PARAM_CALLBACK_IRQ = 0,
    HVM_PARAM_STORE_PFN = 1,
    HVM_PARAM_STORE_EVTCHN = 2,
};

extern u8 hypercall_page[], pool[], pool_end[];

static long hypercall(int nr, u32 op, void *arg)
{
    long ret;
    u32 clobbered[2];

    __asm__ volatile("call *%[entry]"
                     : "=a"(ret), "=b"(clobbered[0]), "=c"(clobbered[1])
                     : [entry] "S"(hypercall_page + nr * 32), "1"(op), "2"(arg)
                     : "edx", "edi", "memory");
    return ret;
}

static void yield(void)
{
    hypercall(SCHED_OP, 0, NULL);
}

/* dom0 has the only other processor time, and something better to do */
static void relax(void)
{
    u64 start = tsc();

    while (tsc() - start < MOMENT) {
        yield();
    }
}

static u64 hvm_param(bool set, u32 index, u64 value)
{
    struct {
        u16 domid;
        u32 index;
        u64 value;
    } arg = { DOMID_SELF, index, value };

    if (hypercall(HVM_OP, set ? 0 : 1, &arg)) {
        say("HVM parameter %u failed", index);
    }
    return arg.value;
}

static void notify(u32 port)
{
    hypercall(EVENT_CHANNEL_OP, 4, &port);
}

static u32 alloc_event_channel(u16 remote)
{
    struct {
        u16 dom, remote;
        u32 port;
    } arg = { DOMID_SELF, remote, 0 };

    if (hypercall(EVENT_CHANNEL_OP, 6, &arg)) {
        say("no event channel");
    }
    return arg.port;
}

static void close_event_channel(u32 port)
{
    hypercall(EVENT_CHANNEL_OP, 3, &port);
}

/* find Xen and fill the hypercall page */
static bool find_xen(void)
{
    u32 leaf, a, b, c, d;

    for (leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
        __asm__ volatile("cpuid"
                         : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf));
        if (b == 0x566e6558 && c == 0x65584d4d && d == 0x4d4d566e) {
            __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d)
                                     : "a"(leaf + 2));
            __asm__ volatile("wrmsr"
                             :: "c"(b), "a"((u32)hypercall_page), "d"(0));
            return true;
        }
    }
    say("not on Xen");
    return false;
}

/* --- xenstore ------------------------------------------------------------- */

enum {
    XS_READ = 2,
    XS_WRITE = 11,
    XS_RM = 13,
    XS_WATCH_EVENT = 15,
    XS_ERROR = 16,
};

#define XS_RING 1024u

static struct {
    char req[XS_RING], rsp[XS_RING];
    volatile u32 req_cons, req_prod, rsp_cons, rsp_prod;
} *store;
static u32 store_port;

static void store_send(const void *data, u32 n)
{
    const char *p = data;

    while (n--) {
        while (store->req_prod - store->req_cons == XS_RING) {
            notify(store_port);
            yield();
        }
        store->req[store->req_prod % XS_RING] = *p++;
        mb();
        store->req_prod++;
    }
}

static void store_receive(void *data, u32 n)
{
    char *p = data;

    while (n--) {
        while (store->rsp_prod == store->rsp_cons) {
            yield();
        }
        mb();
        *p++ = store->rsp[store->rsp_cons % XS_RING];
        mb();
        store->rsp_cons++;
    }
}

/* the reply, or NULL for an error; it is valid until the next call */
static const char *store_call(u32 type, const char *path, const char *value)
{
    static char reply[4097];
    u32 header[4] = { type, 1, 0, length(path) + 1 };

    if (value) {
        header[3] += length(value);
    }
    store_send(header, sizeof(header));
    store_send(path, length(path) + 1);
    if (value) {
        store_send(value, length(value));
    }
    notify(store_port);
    do {
        store_receive(header, sizeof(header));
        store_receive(reply, header[3]);
        reply[header[3]] = 0;
    } while (header[0] == XS_WATCH_EVENT);
    notify(store_port);
    return header[0] == XS_ERROR ? NULL : reply;
}

/* @out becomes "" where there is no such key */
static void store_read(const char *dir, const char *key, char *out, u32 size)
{
    char path[160];
    const char *value;

    format(path, sizeof(path), "%s/%s", dir, key);
    value = store_call(XS_READ, path, NULL);
    format(out, size, "%s", value ? value : "");
}

static u32 store_number(const char *dir, const char *key)
{
    char value[32];

    store_read(dir, key, value, sizeof(value));
    return number(value);
}

static void store_write(const char *dir, const char *key, const char *value)
{
    char path[160];

    format(path, sizeof(path), "%s/%s", dir, key);
    if (!store_call(XS_WRITE, path, value)) {
        say("cannot write %s", path);
    }
}

static void store_write_number(const char *dir, const char *key, u32 value)
{
    char text[12];

    format(text, sizeof(text), "%u", value);
    store_write(dir, key, text);
}

static bool option(const char *name)
{
    char value[32];

    store_read("lab", name, value, sizeof(value));
    return starts_with(value, "1");
}

/* Tell dom0 that we are at @point, and let it look if it wants to. */
static void point(const char *name)
{
    char gates[64], go[32];

    say("at %s", name);
    store_write("data", "lab-at", name);
    store_read("lab", "gates", gates, sizeof(gates));
    while (listed(gates, name)) {
        store_read("lab", "go", go, sizeof(go));
        if (listed(go, name)) {
            break;
        }
        relax();
    }
}

/* --- grants --------------------------------------------------------------- */

static volatile struct {
    u16 flags, domid;
    u32 frame;
} *grant_table;
static u32 grant_frames;
static u32 next_gref;

#define FRAME_GRANTS (PAGE_SIZE / 8)

/*
 * Never given back, so that firmware and OS have different ones.  Those of one
 * call follow each other.
 */
static void *new_pages(u32 n)
{
    static u32 used;
    u8 *page = pool + PAGE_SIZE * used;

    used += n;
    if (page + PAGE_SIZE * n > pool_end) {
        say("out of memory");
        for (;;) {
            __asm__ volatile("cli; hlt");
        }
    }
    memset(page, 0, PAGE_SIZE * n);
    return page;
}

static void *new_page(void)
{
    return new_pages(1);
}

/* where BAR @n of the platform device is, 0 without one */
static u32 platform_bar(u32 n)
{
    u32 devfn;

    for (devfn = 0; devfn < 256; devfn++) {
        outl(0xcf8, 0x80000000 | devfn << 8);
        if (inl(0xcfc) == 0x00015853) {
            outl(0xcf8, 0x80000010 | devfn << 8 | n << 2);
            return inl(0xcfc) & ~15u;
        }
    }
    return 0;
}

/* map the grant table where everybody does, in the platform device's BAR 1 */
static bool map_grant_frame(void)
{
    struct {
        u16 domid, size;
        u32 space, index, gpfn;
    } arg = { DOMID_SELF, 0, 1, grant_frames, 0 };
    u32 bar = platform_bar(1);

    arg.gpfn = bar / PAGE_SIZE + grant_frames;
    if (!bar || hypercall(MEMORY_OP, 7, &arg)) {
        say("no grant table");
        return false;
    }
    grant_table = (void *)bar;
    grant_frames++;
    return true;
}

static u32 grant(u16 domid, volatile void *page)
{
    while (next_gref >= grant_frames * FRAME_GRANTS && map_grant_frame()) {
    }
    grant_table[next_gref].domid = domid;
    grant_table[next_gref].frame = (u32)page / PAGE_SIZE;
    mb();
    grant_table[next_gref].flags = 1;   /* permit access */
    return next_gref++;
}

/* take back all from @gref on; returns how many a backend still uses */
static u32 revoke(u32 gref)
{
    u32 in_use = 0;

    for (; gref < next_gref; gref++) {
        if (grant_table[gref].flags & 24) {     /* reading, writing */
            in_use++;
        } else {
            grant_table[gref].flags = 0;
        }
    }
    return in_use;
}

/* --- what disks and NICs have in common ----------------------------------- */

#define RX_BUFFERS 64
#define MAX_QUEUES 2
#define LOADS 8

struct ring {
    u32 req_prod, req_event, rsp_prod, rsp_event;
    u8 pad[48];
    u8 slots[];
};

/* a NIC has one or more of these */
struct queue {
    u32 port;
    volatile struct ring *tx, *rx;
    u8 *data;                       /* what is sent */
    u32 data_gref;
    u32 rx_seen;
    u8 *rx_page[RX_BUFFERS];
};

struct device {
    char name[24];                  /* "vbd/51712" */
    char fe[40], be[96];            /* its directories in xenstore */
    u32 id;
    u16 be_domid;
    bool works;
    /* only a disk has these */
    u32 port;
    u32 ring_order;                 /* of the number of the ring's pages */
    volatile struct ring *ring;
    u8 *data;
    u32 data_gref;
    struct {
        u8 *page[LOADS];
        u32 gref[LOADS];
        u32 busy;                   /* a bit per page */
        u32 seen;                   /* responses */
    } load;                         /* what a boot loader reads into */
    /* only a NIC has these */
    struct queue queue[MAX_QUEUES];
    u32 queues;
    u8 mac[6];
};

static bool is_disk(const struct device *dev)
{
    return starts_with(dev->name, "vbd/");
}

static bool wait_backend(const struct device *dev, u32 state)
{
    u64 start = tsc();

    while (store_number(dev->be, "state") != state) {
        if (tsc() - start > PATIENCE) {
            return false;
        }
        relax();
    }
    return true;
}

static volatile struct ring *new_ring(u32 pages)
{
    volatile struct ring *ring = new_pages(pages);

    ring->req_event = 1;
    ring->rsp_event = 1;
    return ring;
}

/* --- disks ---------------------------------------------------------------- */

enum { BLK_READ, BLK_WRITE };

/* the x86_32 ABI: u64 is aligned to 4 */
struct blk_request {
    u8 op, segments;
    u16 handle;
    u64 id;
    u64 sector;
    struct {
        u32 gref;
        u8 first, last;
        u16 pad;
    } segment[11];
} __attribute__((packed, aligned(4)));

struct blk_response {
    u64 id;
    u8 op, pad;
    int16_t status;
} __attribute__((packed, aligned(4)));

static volatile void *blk_slot(struct device *dev, u32 index)
{
    return dev->ring->slots +
           index % (32 << dev->ring_order) * sizeof(struct blk_request);
}

/* one sector from or to the start of @page; returns the request's index */
static u32 disk_submit(struct device *dev, u8 op, u32 sector, u32 gref)
{
    u32 index = dev->ring->req_prod;
    volatile struct blk_request *req = blk_slot(dev, index);

    req->op = op;
    req->segments = 1;
    req->handle = dev->id;
    req->id = 42 + index;
    req->sector = sector;
    req->segment[0].gref = gref;
    req->segment[0].first = 0;
    req->segment[0].last = 0;
    mb();
    dev->ring->req_prod = index + 1;
    mb();
    notify(dev->port);
    return index;
}

/* returns NULL or what went wrong */
static const char *disk_io(struct device *dev, u8 op, u32 sector)
{
    u32 index = disk_submit(dev, op, sector, dev->data_gref);
    volatile struct blk_response *rsp = blk_slot(dev, index);
    u64 start = tsc();

    while (dev->ring->rsp_prod != index + 1) {
        if (tsc() - start > PATIENCE) {
            return op == BLK_READ ? "read timed out" : "write timed out";
        }
        yield();
    }
    mb();
    if (rsp->id != 42 + index || rsp->status) {
        return op == BLK_READ ? "read failed" : "write failed";
    }
    return NULL;
}

/* one key and grant per page of the ring, which are told of, too */
static void disk_ring(struct device *dev)
{
    u32 pages = 1 << dev->ring_order, i, gref;
    char key[16], told[160] = "", *end = told;

    dev->ring = new_ring(pages);
    for (i = 0; i < pages; i++) {
        gref = grant(dev->be_domid, (u8 *)dev->ring + i * PAGE_SIZE);
        format(key, sizeof(key), dev->ring_order ? "ring-ref%u" : "ring-ref",
               i);
        store_write_number(dev->fe, key, gref);
        format(end, sizeof(told) - (end - told), " %s %u", key, gref);
        end += length(end);
    }
    if (dev->ring_order) {
        store_write_number(dev->fe, "ring-page-order", dev->ring_order);
    }
    say("%s%s port %u", dev->name, told, dev->port);
}

static const char *disk_connect(struct device *dev)
{
    if (dev->ring_order > store_number(dev->be, "max-ring-page-order")) {
        return "backend takes no such ring";
    }
    dev->port = alloc_event_channel(dev->be_domid);
    disk_ring(dev);
    dev->data = new_page();
    dev->data_gref = grant(dev->be_domid, dev->data);
    store_write_number(dev->fe, "event-channel", dev->port);
    store_write(dev->fe, "protocol", "x86_32-abi");
    store_write(dev->fe, "feature-persistent",
                option("persistent") ? "1" : "0");
    store_write(dev->fe, "state", "3");
    if (!wait_backend(dev, 4)) {
        return "backend did not connect";
    }
    store_write(dev->fe, "state", "4");
    return NULL;
}

/* dom0 has marked its sectors: "LABDISK0 sector 5 ..." */
static bool is_sector(struct device *dev, u32 sector, const void *data)
{
    char mark[32];

    format(mark, sizeof(mark), "LABDISK%u sector %u ",
           (dev->id - 51712) / 16, sector);
    return starts_with(data, mark);
}

static const char *disk_read(struct device *dev, u32 sector)
{
    const char *trouble = disk_io(dev, BLK_READ, sector);

    return trouble ? trouble :
           is_sector(dev, sector, dev->data) ? NULL : "wrong data";
}

static const char *disk_write(struct device *dev, u32 sector)
{
    static const char text[] = "written by PVOS";
    const char *trouble;

    memset(dev->data, ' ', 512);
    memcpy(dev->data, text, sizeof(text) - 1);
    trouble = disk_io(dev, BLK_WRITE, sector);
    if (trouble) {
        return trouble;
    }
    memset(dev->data, 0, 512);
    trouble = disk_io(dev, BLK_READ, sector);
    if (!trouble && !starts_with(dev->data, text)) {
        trouble = "what was written does not come back";
    }
    return trouble;
}

/* --- NICs ----------------------------------------------------------------- */

struct net_tx_request {
    u32 gref;
    u16 offset, flags, id, size;
};

struct net_rx_request {
    u16 id, pad;
    u32 gref;
};

struct net_rx_response {
    u16 id, offset, flags;
    int16_t status;
};

struct arp {
    u8 to[6], from[6];
    u8 type[2];
    u8 head[6];
    u8 op[2];
    u8 sender_mac[6], sender_ip[4];
    u8 target_mac[6], target_ip[4];
};

static const u8 dom0_ip[3] = { 192, 0, 2 };     /* and 1 */

static void read_mac(struct device *dev)
{
    char mac[20];
    u32 i, v;

    store_read(dev->fe, "mac", mac, sizeof(mac));
    for (i = 0; i < 12; i++) {
        v = mac[i / 2 * 3 + i % 2];
        v = v <= '9' ? v - '0' : (v | 32) - 'a' + 10;
        dev->mac[i / 2] = dev->mac[i / 2] << 4 | v;
    }
}

static void nic_key(struct device *dev, const char *dir, const char *key,
                    u32 value)
{
    char path[40];

    format(path, sizeof(path), "%s%s", dir, key);
    store_write_number(dev->fe, path, value);
}

/* the rings and the event channel of one queue; a single one has no @dir */
static void nic_queue(struct device *dev, struct queue *queue, const char *dir)
{
    u32 tx_gref, rx_gref, i;

    queue->tx = new_ring(1);
    queue->rx = new_ring(1);
    queue->data = new_page();
    queue->port = alloc_event_channel(dev->be_domid);
    tx_gref = grant(dev->be_domid, queue->tx);
    rx_gref = grant(dev->be_domid, queue->rx);
    queue->data_gref = grant(dev->be_domid, queue->data);
    for (i = 0; i < RX_BUFFERS; i++) {
        volatile struct net_rx_request *req =
            (void *)(queue->rx->slots + i * sizeof(*req));

        queue->rx_page[i] = new_page();
        req->id = i;
        req->gref = grant(dev->be_domid, queue->rx_page[i]);
    }
    mb();
    queue->rx->req_prod = RX_BUFFERS;
    say("%s %stx-ring-ref %u %srx-ring-ref %u port %u", dev->name, dir,
        tx_gref, dir, rx_gref, queue->port);
    nic_key(dev, dir, "tx-ring-ref", tx_gref);
    nic_key(dev, dir, "rx-ring-ref", rx_gref);
    nic_key(dev, dir, "event-channel", queue->port);
}

static const char *nic_connect(struct device *dev)
{
    char dir[16];
    u32 i;

    read_mac(dev);
    if (dev->queues > 1) {
        store_write_number(dev->fe, "multi-queue-num-queues", dev->queues);
    }
    for (i = 0; i < dev->queues; i++) {
        format(dir, sizeof(dir), dev->queues > 1 ? "queue-%u/" : "", i);
        nic_queue(dev, &dev->queue[i], dir);
    }
    store_write(dev->fe, "request-rx-copy", "1");
    store_write(dev->fe, "feature-no-csum-offload", "1");
    store_write(dev->fe, "state", "4");
    if (!wait_backend(dev, 4)) {
        return "backend did not connect";
    }
    for (i = 0; i < dev->queues; i++) {
        notify(dev->queue[i].port);
    }
    return NULL;
}

/* who has 192.0.2.1? tell 192.0.2.@self */
static void arp_send(struct device *dev, struct queue *queue, u8 self)
{
    static const u8 head[6] = { 0, 1, 8, 0, 6, 4 };     /* Ethernet, IPv4 */
    u32 index = queue->tx->req_prod;
    volatile struct net_tx_request *req =
        (void *)(queue->tx->slots + index % 256 * sizeof(*req));
    struct arp *arp = (void *)queue->data;

    memset(arp, 0, 60);
    memset(arp->to, 0xff, 6);
    memcpy(arp->from, dev->mac, 6);
    arp->type[0] = 8;
    arp->type[1] = 6;
    memcpy(arp->head, head, 6);
    arp->op[1] = 1;
    memcpy(arp->sender_mac, dev->mac, 6);
    memcpy(arp->sender_ip, dom0_ip, 3);
    arp->sender_ip[3] = self;
    memcpy(arp->target_ip, dom0_ip, 3);
    arp->target_ip[3] = 1;
    req->gref = queue->data_gref;
    req->offset = 0;
    req->flags = 0;
    req->id = index;
    req->size = 60;
    mb();
    queue->tx->req_prod = index + 1;
    mb();
    notify(queue->port);
}

/* whether the next packet that came in answers @self */
static bool arp_answered(struct queue *queue, u8 self)
{
    volatile struct net_rx_response *rsp =
        (void *)(queue->rx->slots + queue->rx_seen++ % 256 * sizeof(*rsp));
    struct arp *arp;

    if (rsp->id >= RX_BUFFERS || rsp->status < (int)sizeof(*arp)) {
        return false;
    }
    arp = (void *)(queue->rx_page[rsp->id] + rsp->offset);
    return arp->type[0] == 8 && arp->type[1] == 6 && arp->op[1] == 2 &&
           arp->sender_ip[3] == 1 && arp->target_ip[3] == self;
}

/* the backend chooses the queue that an answer takes */
static bool any_answered(struct device *dev, u8 self)
{
    u32 i;

    for (i = 0; i < dev->queues; i++) {
        struct queue *queue = &dev->queue[i];

        while (queue->rx->rsp_prod != queue->rx_seen) {
            mb();
            if (arp_answered(queue, self)) {
                return true;
            }
        }
    }
    return false;
}

/* Every question comes from another address: a late answer proves nothing. */
static const char *queue_ask(struct device *dev, struct queue *queue)
{
    static u8 self = 100;
    u64 start = tsc(), sent;

    do {
        sent = tsc();
        arp_send(dev, queue, ++self);
        while (tsc() - sent < PATIENCE / 4) {
            if (any_answered(dev, self)) {
                return NULL;
            }
            yield();
        }
    } while (tsc() - start < PATIENCE);
    return queue->tx->rsp_prod == queue->tx->req_prod ?
           "sends, but no answer comes in" : "does not send";
}

static const char *nic_ask(struct device *dev)
{
    const char *trouble = NULL;
    u32 i;

    for (i = 0; i < dev->queues && !trouble; i++) {
        trouble = queue_ask(dev, &dev->queue[i]);
    }
    return trouble;
}

/* --- the two parties ------------------------------------------------------ */

static struct device devices[32];
static u32 ndevices;

/* fill in a device from its name; NULL if the toolstack gave us none such */
static struct device *new_device(const char *name)
{
    struct device *dev = &devices[ndevices];

    memset(dev, 0, sizeof(*dev));
    format(dev->name, sizeof(dev->name), "%s", name);
    format(dev->fe, sizeof(dev->fe), "device/%s", name);
    store_read(dev->fe, "backend", dev->be, sizeof(dev->be));
    if (!dev->be[0]) {
        say("%s broken: there is no such device", name);
        return NULL;
    }
    dev->be_domid = store_number(dev->fe, "backend-id");
    dev->id = number(name + 4);
    dev->queues = 1;
    ndevices++;
    return dev;
}

static u32 first_gref;

static const char *connect(struct device *dev)
{
    return is_disk(dev) ? disk_connect(dev) : nic_connect(dev);
}

static void firmware_device(const char *name)
{
    struct device *dev = new_device(name);
    const char *trouble = NULL;
    u32 i;

    if (!dev) {
        return;
    }
    dev->ring_order = store_number("lab", "ring-order");
    if (store_number("lab", "queues") == MAX_QUEUES) {
        dev->queues = MAX_QUEUES;
    }
    if (!wait_backend(dev, 2)) {
        trouble = "backend is not in InitWait";
    }
    trouble = trouble ? trouble : connect(dev);
    for (i = 0; is_disk(dev) && i < LOADS; i++) {
        dev->load.page[i] = new_page();
        dev->load.gref[i] = grant(dev->be_domid, dev->load.page[i]);
    }
    trouble = trouble ? trouble : is_disk(dev) ? disk_read(dev, 0) :
                                                 nic_ask(dev);
    dev->works = !trouble;
    say(trouble ? "%s broken: %s" : "%s works", name, trouble);
}

/* --- a firmware that closes its devices ----------------------------------- */

static const char *close_device(struct device *dev)
{
    static const char *const keys[] = {
        "ring-ref", "tx-ring-ref", "rx-ring-ref", "event-channel", "protocol",
        "feature-persistent", "request-rx-copy", "feature-no-csum-offload",
    };
    char path[80];
    u32 i;

    store_write(dev->fe, "state", "5");
    if (!wait_backend(dev, 5)) {
        return "backend is not Closing";
    }
    store_write(dev->fe, "state", "6");
    if (!wait_backend(dev, 6)) {
        return "backend is not Closed";
    }
    for (i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        format(path, sizeof(path), "%s/%s", dev->fe, keys[i]);
        store_call(XS_RM, path, NULL);
    }
    close_event_channel(is_disk(dev) ? dev->port : dev->queue[0].port);
    store_write(dev->fe, "state", "1");
    return wait_backend(dev, 2) ? NULL : "backend is not in InitWait";
}

static void close_all(void)
{
    const char *trouble;
    u32 i;

    for (i = 0; i < ndevices; i++) {
        trouble = close_device(&devices[i]);
        say(trouble ? "%s broken: %s" : "%s closed", devices[i].name, trouble);
    }
    say("%u grants are still in use", revoke(first_gref));
    point("closed");
}

/* --- a boot loader that reads through the firmware's rings ---------------- */

/* read something else into a page, if the next one's read has been checked */
static bool load_submit(struct device *dev)
{
    u32 index = dev->ring->req_prod, n = index % LOADS;

    if (dev->load.busy & 1 << n) {
        return false;
    }
    dev->load.busy |= 1 << n;
    memset(dev->load.page[n], 0, 512);
    disk_submit(dev, BLK_READ, index % 10, dev->load.gref[n]);
    return true;
}

static u32 loads_right, loads_wrong, loads_in_flight;

/* check what has arrived */
static void load_reap(struct device *dev)
{
    while (dev->load.seen != dev->ring->rsp_prod) {
        volatile struct blk_response *rsp = blk_slot(dev, dev->load.seen++);
        u32 index = rsp->id - 42, n = index % LOADS;

        mb();
        if (!rsp->status && is_sector(dev, index % 10, dev->load.page[n])) {
            loads_right++;
        } else {
            loads_wrong++;
        }
        dev->load.busy &= ~(1 << n);
    }
}

static u32 first_of_os;                 /* among the devices */

static struct device *loaders_disk(u32 i)
{
    return devices[i].works && is_disk(&devices[i]) ? &devices[i] : NULL;
}

/* Whoever has read @reads sectors is an OS, with more under way. */
static void load(u32 reads)
{
    u64 start = tsc();
    struct device *dev;
    u32 i;

    for (i = 0; i < first_of_os; i++) {
        if ((dev = loaders_disk(i))) {
            dev->load.seen = dev->ring->rsp_prod;
        }
    }
    do {
        yield();
        for (i = 0; i < first_of_os; i++) {
            if ((dev = loaders_disk(i))) {
                load_reap(dev);
                while (load_submit(dev)) {
                }
            }
        }
    } while (loads_right + loads_wrong < reads &&
             tsc() - start < 20 * PATIENCE);
    for (i = 0; i < first_of_os; i++) {
        if ((dev = loaders_disk(i))) {
            loads_in_flight += dev->ring->req_prod - dev->ring->rsp_prod;
        }
    }
}

/* of all that the backends of the firmware's disks may write to */
static u32 load_sum(void)
{
    u32 sum = 0, i, n, k;

    for (i = 0; i < first_of_os; i++) {
        struct device *dev = loaders_disk(i);

        for (n = 0; dev && n < LOADS; n++) {
            for (k = 0; k < 512; k++) {
                sum = sum * 31 + dev->load.page[n][k];
            }
        }
        for (n = 0; dev && n < PAGE_SIZE << dev->ring_order; n++) {
            sum = sum * 31 + ((volatile u8 *)dev->ring)[n];
        }
    }
    return sum;
}

/* --- an OS ---------------------------------------------------------------- */

/* prove the device with data; @sector is one not read before */
static const char *os_use(struct device *dev, u32 sector)
{
    const char *trouble;

    if (!is_disk(dev)) {
        return nic_ask(dev);
    }
    trouble = disk_read(dev, sector);
    return trouble ? trouble : disk_write(dev, 7);
}

/* attach a device that nobody is supposed to have used before */
static void os_device(const char *name)
{
    struct device *dev = new_device(name);
    const char *trouble;
    char text[48];
    u32 state;

    if (!dev) {
        return;
    }
    state = store_number(dev->fe, "state");
    say("%s found in state %u, backend in state %u", name, state,
        store_number(dev->be, "state"));
    if (state != 1 && option("picky")) {
        format(text, sizeof(text), "ignored, it is in state %u", state);
        trouble = text;
    } else {
        store_write(dev->fe, "state", "1");
        if (wait_backend(dev, 2)) {
            trouble = connect(dev);
            trouble = trouble ? trouble : os_use(dev, 5);
        } else {
            format(text, sizeof(text), "backend stuck in state %u",
                   store_number(dev->be, "state"));
            trouble = text;
        }
    }
    dev->works = !trouble;
    say(trouble ? "%s broken: %s" : "%s works", name, trouble);
}

/* call @fn for every word */
static void each_word(const char *words, void (*fn)(const char *word))
{
    char word[64];
    u32 n;

    while (*words) {
        for (n = 0; words[n] && words[n] != ' '; n++) {
        }
        format(word, n < sizeof(word) ? n + 1 : sizeof(word), "%s", words);
        words += words[n] ? n + 1 : n;
        if (*word && !listed("none", word)) {
            fn(word);
        }
    }
}

/* call @attach for every device that lab/@list names */
static void each(const char *list, void (*attach)(const char *name))
{
    char names[256];

    store_read("lab", list, names, sizeof(names));
    each_word(names, attach);
}

/* as firmware may that knows when it is done */
static void ask(void)
{
    if (store_number("control", "platform-feature-fw-handoff") == 1) {
        outw(0x12, 0x4657);
        point("asked");
    } else {
        say("nobody to ask");
    }
}

/* every OS sets the callback before its xenbus; no interrupt is ever taken */
static void claim_callback(void)
{
    hvm_param(true, HVM_PARAM_CALLBACK_IRQ, 1);
}

static u32 early_gref;

/* attach some before the announcement, as OpenBSD does with all */
static void attach_early(void)
{
    char early[256];

    store_read("lab", "early", early, sizeof(early));
    if (*early && !listed(early, "none")) {
        claim_callback();
        each_word(early, os_device);
    }
    point("early");
}

/* after the announcement: do the early ones still work?  Attach the rest. */
static void attach_late(void)
{
    u32 sum = load_sum(), i;

    point("announced");
    for (i = first_of_os; i < ndevices; i++) {
        struct device *dev = &devices[i];
        const char *trouble;

        if (dev->works) {
            trouble = os_use(dev, 6);
            say(trouble ? "%s lost: %s" : "%s still works", dev->name, trouble);
        }
    }
    claim_callback();
    if (early_gref) {
        next_gref = first_gref;
    }
    each("late", os_device);
    if (loads_right + loads_wrong + loads_in_flight) {
        say("loader: %u reads right, %u wrong, %u in flight; then %s",
            loads_right, loads_wrong, loads_in_flight,
            load_sum() == sum ? "nothing came" : "memory changed");
    }
}

static void log_line(void)
{
    const char *p;

    for (p = "PVOS says hello\n"; *p; p++) {
        outb(0x12, *p);
    }
}

/*
 * One step of an OS: "load" belongs to its loader, "callback" sets that, "early"
 * and "late" attach devices, the others write to the platform device.  Nothing
 * is said in between: an OS takes no time for these, and characters on the
 * serial port do.
 */
static void step(const char *word)
{
    const char *p = word;
    u32 value;

    while (*p && *p++ != '=') {
    }
    value = number(p);
    if (starts_with(word, "load=")) {
        load(value);
    } else if (starts_with(word, "callback")) {
        claim_callback();
    } else if (starts_with(word, "early")) {
        attach_early();
    } else if (starts_with(word, "late")) {
        attach_late();
    } else if (starts_with(word, "log")) {
        log_line();
    } else if (starts_with(word, "product=")) {
        outw(0x12, value);
    } else if (starts_with(word, "build=")) {
        outl(0x10, value);
    } else if (starts_with(word, "unplug=")) {
        outw(0x10, value);
    } else if (starts_with(word, "bar4=")) {
        outl(platform_bar(0) + 4, value);
    } else if (starts_with(word, "bar8=")) {
        outl(platform_bar(0) + 8, value);
    } else {
        say("no such step: %s", word);
    }
}

static void os(void)
{
    char order[128];
    u32 reason;

    who = "PVOS";
    early_gref = store_number("lab", "early-gref");
    next_gref = early_gref ? early_gref : first_gref;
    first_of_os = ndevices;
    store_read("lab", "order", order, sizeof(order));
    /* a read that announces nothing, as everybody does first */
    say("magic %u", inw(0x10));
    each_word(*order ? order : "early product=3 build=1 unplug=7 log late",
              step);
    point("done");
    reason = store_number("lab", "shutdown");
    say("shuts down, reason %u", reason);
    if (reason) {
        hypercall(SCHED_OP, 2, &reason);
        return;                         /* only a soft reset does */
    }
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* returns whether there is another life, after a soft reset */
static bool live(void)
{
    who = "PVFW";
    ndevices = 0;
    grant_frames = 0;
    if (!find_xen() || !map_grant_frame()) {
        return false;
    }
    store = (void *)((u32)hvm_param(false, HVM_PARAM_STORE_PFN, 0) * PAGE_SIZE);
    store_port = hvm_param(false, HVM_PARAM_STORE_EVTCHN, 0);
    point("begin");
    while (!option("complete")) {
        relax();
    }
    first_gref = store_number("lab", "gref");
    first_gref = first_gref ? first_gref : 8;
    next_gref = first_gref;
    each("firmware", firmware_device);
    point("firmware");
    if (option("close")) {
        close_all();
    }
    if (option("request")) {
        ask();
    }
    if (option("os")) {
        os();
        return true;
    }
    say("back to the BIOS");
    return false;
}

void labfw(void)
{
    while (live()) {
    }
}

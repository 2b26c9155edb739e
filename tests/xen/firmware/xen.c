/*
 * What a firmware and an OS need of the machine and of Xen.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "xen.h"

/* --- the machine ---------------------------------------------------------- */

u32 platform_bar(u32 n)
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

void fw_cfg_read(u16 select, void *to, u32 n)
{
    shared struct {
        u32 control, length, address[2];
    } dma = {
        __builtin_bswap32(select ? select << 16 | 10 : 2),
        __builtin_bswap32(n), { 0, __builtin_bswap32((u32)to) }
    };

    mb();
    outl(0x514, 0);
    outl(0x518, __builtin_bswap32((u32)&dma));
    while (dma.control) {
        continue;
    }
    mb();
}

u32 fw_cfg_find(const char *name, u16 *select)
{
    struct {
        u32 size;
        u16 select, reserved;
        char name[56];
    } file;
    u32 files;

    outw(0x510, 0);                     /* "QEMU" */
    if (inb(0x511) != 'Q') {
        return 0;
    }
    fw_cfg_read(0x19, &files, sizeof(files));
    for (files = __builtin_bswap32(files); files; files--) {
        fw_cfg_read(0, &file, sizeof(file));
        if (starts_with(file.name, name)) {
            *select = __builtin_bswap16(file.select);
            return __builtin_bswap32(file.size);
        }
    }
    return 0;
}

/* --- hypercalls ----------------------------------------------------------- */

enum {
    MEMORY_OP = 12,
    VCPU_OP = 24,
    SCHED_OP = 29,
    EVENT_CHANNEL_OP = 32,
    HVM_OP = 34,
};

static long hypercall3(int nr, u32 op, u32 arg, const void *more)
{
    long ret;
    u32 clobbered[3];

    __asm__ volatile("call *%[entry]"
                     : "=a"(ret), "=b"(clobbered[0]), "=c"(clobbered[1]),
                       "=d"(clobbered[2])
                     : [entry] "S"(hypercall_page + nr * 32), "1"(op), "2"(arg),
                       "3"(more)
                     : "edi", "memory");
    return ret;
}

static long hypercall(int nr, u32 op, void *arg)
{
    return hypercall3(nr, op, (u32)arg, NULL);
}

void yield(void)
{
    hypercall(SCHED_OP, 0, NULL);
}

void relax(void)
{
    u64 start = tsc();

    while (tsc() - start < MOMENT) {
        yield();
    }
}

u64 hvm_param(bool set, u32 index, u64 value)
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

void notify(u32 port)
{
    hypercall(EVENT_CHANNEL_OP, 4, &port);
}

u32 alloc_event_channel(u16 remote)
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

void close_event_channel(u32 port)
{
    hypercall(EVENT_CHANNEL_OP, 3, &port);
}

void shut_down(u32 reason)
{
    hypercall(SCHED_OP, 2, &reason);
}

/* of Xen's public/hvm/hvm_vcpu.h: flat and 32-bit, as we are */
struct vcpu_context {
    u32 mode, pad;
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags;
    u32 cr0, cr3, cr4, pad1;
    u64 efer;
    u32 cs_base, ds_base, ss_base, es_base, tr_base;
    u32 cs_limit, ds_limit, ss_limit, es_limit, tr_limit;
    u16 cs_ar, ds_ar, ss_ar, es_ar, tr_ar, pad2[3];
};

bool start_second(void (*entry)(void))
{
    struct vcpu_context context = {
        .esp = (u32)new_page() + PAGE_SIZE, .eip = (u32)entry, .eflags = 2,
        .cr0 = 0x11, .cs_limit = ~0u, .ds_limit = ~0u, .ss_limit = ~0u,
        .es_limit = ~0u, .tr_limit = 0x67, .cs_ar = 0xc9b, .ds_ar = 0xc93,
        .ss_ar = 0xc93, .es_ar = 0xc93, .tr_ar = 0x8b,
    };
    u64 start = tsc();

    /* INIT to all others: Xen wants it as the BIOS has found it */
    *(shared u32 *)0xfee00300 = 0xc4500;
    while (hypercall3(VCPU_OP, 0, 1, &context)) {
        if (tsc() - start > PATIENCE) {
            return false;
        }
        yield();
    }
    return !hypercall3(VCPU_OP, 1, 1, NULL);
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

#define XS_RING 1024u

static struct {
    char req[XS_RING], rsp[XS_RING];
    shared u32 req_cons, req_prod, rsp_cons, rsp_prod;
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

u32 store_events;

const char *store_reply(void)
{
    static char reply[4097];
    u32 header[4];

    for (;;) {
        store_receive(header, sizeof(header));
        store_receive(reply, header[3]);
        reply[header[3]] = 0;
        if (header[0] != XS_WATCH_EVENT) {
            break;
        }
        store_events++;
    }
    notify(store_port);
    return header[0] == XS_ERROR ? NULL : reply;
}

u32 store_request(u32 type, const char *text, u32 from, u32 n)
{
    u32 size = length(text) + 1, header[4] = { type, 1, 0, size };
    char request[sizeof(header) + 160];

    memcpy(request, header, sizeof(header));
    memcpy(request + sizeof(header), text, size);
    size += sizeof(header);
    n = n < size - from ? n : size - from;
    store_send(request + from, n);
    notify(store_port);
    return from + n;
}

/* the reply, or NULL for an error; it is valid until the next call */
static const char *store_call(u32 type, const char *path, const char *value)
{
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
    return store_reply();
}

/*
 * Nobody else can write to the xenstore of QEMU's own Xen.  There what lab/
 * would have is in a file of fw_cfg, lines of "key=value", and a line on COM1
 * lets us go on.
 */
static char options[1024];

static void read_options(void)
{
    u16 select;
    u32 n = fw_cfg_find("opt/labfw/options", &select);

    if (n) {
        fw_cfg_read(select, options, n < sizeof(options) ? n
                                                         : sizeof(options) - 1);
    }
}

static void option_read(const char *key, char *out, u32 size)
{
    const char *p = options;
    u32 n;

    while (*p && !(starts_with(p, key) && p[length(key)] == '=')) {
        while (*p && *p++ != '\n') {
            continue;
        }
    }
    p += *p ? length(key) + 1 : 0;
    for (n = 0; p[n] && p[n] != '\n'; n++) {
        continue;
    }
    format(out, n < size ? n + 1 : size, "%s", p);
}

static bool com1_says(const char *word)
{
    static char line[32];
    static u32 n;
    char c;

    while (inb(0x3fd) & 1) {
        c = inb(0x3f8);
        if (c != '\n') {
            line[n] = c;
            n += n < sizeof(line) - 1;
            continue;
        }
        line[n] = 0;
        n = 0;
        if (starts_with(line, word) && !line[length(word)]) {
            return true;
        }
    }
    return false;
}

void store_read(const char *dir, const char *key, char *out, u32 size)
{
    char path[160];
    const char *value;

    if (options[0] && starts_with(dir, "lab")) {
        option_read(key, out, size);
        return;
    }
    format(path, sizeof(path), "%s/%s", dir, key);
    value = store_call(XS_READ, path, NULL);
    format(out, size, "%s", value ? value : "");
}

u32 store_number(const char *dir, const char *key)
{
    char value[32];

    store_read(dir, key, value, sizeof(value));
    return number(value);
}

void store_write(const char *dir, const char *key, const char *value)
{
    char path[160];

    format(path, sizeof(path), "%s/%s", dir, key);
    if (!store_call(XS_WRITE, path, value)) {
        say("cannot write %s", path);
    }
}

void store_write_number(const char *dir, const char *key, u32 value)
{
    char text[12];

    format(text, sizeof(text), "%u", value);
    store_write(dir, key, text);
}

void store_remove(const char *dir, const char *key)
{
    char path[160];

    format(path, sizeof(path), "%s/%s", dir, key);
    store_call(XS_RM, path, NULL);
}

bool store_watch(const char *path)
{
    u32 header[4] = { XS_WATCH, 1, 0, length(path) + 1 + sizeof("lab") };

    store_send(header, sizeof(header));
    store_send(path, length(path) + 1);
    store_send("lab", sizeof("lab"));
    notify(store_port);
    return store_reply();
}

bool store_transaction(void)
{
    return store_call(XS_TRANSACTION_START, "", NULL);
}

bool option(const char *name)
{
    char value[32];

    store_read("lab", name, value, sizeof(value));
    return starts_with(value, "1");
}

void point(const char *name)
{
    char gates[64], go[32];

    say("at %s", name);
    store_write("data", "lab-at", name);
    store_read("lab", "gates", gates, sizeof(gates));
    while (listed(gates, name)) {
        store_read("lab", "go", go, sizeof(go));
        if (listed(go, name) || com1_says(name)) {
            break;
        }
        relax();
    }
}

/* --- pages and grants ----------------------------------------------------- */

static shared struct {
    u16 flags, domid;
    u32 frame;
} *grant_table;
static u32 grant_frames;
u32 next_gref;
bool grants_no_ram;

/* between the memory of a small guest and its devices */
#define NO_RAM_FRAME 0xf0000

#define FRAME_GRANTS (PAGE_SIZE / 8)

static u32 used_pages;

void *new_pages(u32 n)
{
    u8 *page = pool + PAGE_SIZE * used_pages;

    used_pages += n;
    if (page + PAGE_SIZE * n > pool_end) {
        say("out of memory");
        for (;;) {
            __asm__ volatile("cli; hlt");
        }
    }
    memset(page, 0, PAGE_SIZE * n);
    return page;
}

void *new_page(void)
{
    return new_pages(1);
}

u32 pages_used(void)
{
    return used_pages;
}

void free_pages(u32 used)
{
    used_pages = used;
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

u32 grant(u16 domid, shared void *page)
{
    while (next_gref >= grant_frames * FRAME_GRANTS && map_grant_frame()) {
        continue;
    }
    grant_table[next_gref].domid = domid;
    grant_table[next_gref].frame = grants_no_ram ? NO_RAM_FRAME
                                                 : (u32)page / PAGE_SIZE;
    mb();
    grant_table[next_gref].flags = 1;   /* permit access */
    return next_gref++;
}

u32 revoke(u32 gref)
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

bool begin_grants(void)
{
    grant_frames = 0;
    return map_grant_frame();
}

bool begin(void)
{
    if (!find_xen()) {
        return false;
    }
    store = (void *)((u32)hvm_param(false, HVM_PARAM_STORE_PFN, 0) * PAGE_SIZE);
    store_port = hvm_param(false, HVM_PARAM_STORE_EVTCHN, 0);
    read_options();
    return true;
}

/*
 * Frontends of disks, NICs and keyboards, as simple as firmware's: they poll.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "drivers.h"

/* --- what they have in common ----------------------------------- */

bool is_disk(const struct device *dev)
{
    return starts_with(dev->name, "vbd/");
}

bool is_nic(const struct device *dev)
{
    return starts_with(dev->name, "vif/");
}

u32 event_channel(const struct device *dev)
{
    return is_nic(dev) ? dev->queue[0].port : dev->port;
}

bool wait_backend(const struct device *dev, u32 state)
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

static shared struct ring *new_ring(u32 pages)
{
    shared struct ring *ring = new_pages(pages);

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

static shared void *blk_slot(struct device *dev, u32 index)
{
    return dev->ring->slots +
           index % (32 << dev->ring_order) * sizeof(struct blk_request);
}

/* one sector from or to the start of @page; returns the request's index */
static u32 disk_submit(struct device *dev, u8 op, u32 sector, u32 gref)
{
    u32 index = dev->ring->req_prod;
    shared struct blk_request *req = blk_slot(dev, index);

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
    shared struct blk_response *rsp = blk_slot(dev, index);
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

    /* the sixteen that Xen had first, and all others */
    format(mark, sizeof(mark), "LABDISK%u sector %u ",
           dev->id & 1 << 28 ? dev->id >> 8 & 0xfffff : (dev->id - 51712) / 16,
           sector);
    return starts_with(data, mark);
}

const char *disk_read(struct device *dev, u32 sector)
{
    const char *trouble = disk_io(dev, BLK_READ, sector);

    return trouble ? trouble :
           is_sector(dev, sector, dev->data) ? NULL : "wrong data";
}

const char *disk_write(struct device *dev, u32 sector)
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

/* --- disks that a boot loader reads --------------------------------------- */

void load_begin(struct device *dev)
{
    u32 i;

    for (i = 0; i < LOADS; i++) {
        dev->load.page[i] = new_page();
        dev->load.gref[i] = grant(dev->be_domid, dev->load.page[i]);
    }
    dev->load.seen = dev->ring->rsp_prod;
}

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

void load_more(struct device *dev)
{
    while (dev->load.seen != dev->ring->rsp_prod) {
        shared struct blk_response *rsp = blk_slot(dev, dev->load.seen++);
        u32 index = rsp->id - 42, n = index % LOADS;

        mb();
        if (!rsp->status && is_sector(dev, index % 10, dev->load.page[n])) {
            dev->load.right++;
        } else {
            dev->load.wrong++;
        }
        dev->load.busy &= ~(1 << n);
    }
    while (load_submit(dev)) {
        continue;
    }
}

u32 load_in_flight(struct device *dev)
{
    return dev->ring->req_prod - dev->ring->rsp_prod;
}

u32 load_sum(struct device *dev)
{
    u32 sum = 0, i, n;

    if (!is_disk(dev)) {
        return dev->keyboard->in_prod;
    }
    for (i = 0; i < LOADS; i++) {
        for (n = 0; n < 512; n++) {
            sum = sum * 31 + dev->load.page[i][n];
        }
    }
    for (n = 0; n < PAGE_SIZE << dev->ring_order; n++) {
        sum = sum * 31 + ((shared u8 *)dev->ring)[n];
    }
    return sum;
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
        shared struct net_rx_request *req =
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
    shared struct net_tx_request *req =
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
    shared struct net_rx_response *rsp =
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

/* every question comes from another address: a late answer proves nothing */
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

const char *nic_ask(struct device *dev)
{
    const char *trouble = NULL;
    u32 i;

    for (i = 0; i < dev->queues && !trouble; i++) {
        trouble = queue_ask(dev, &dev->queue[i]);
    }
    return trouble;
}

/* --- keyboards ------------------------------------------------------------ */

static const char *keyboard_connect(struct device *dev)
{
    dev->keyboard = new_page();
    dev->port = alloc_event_channel(dev->be_domid);
    say("%s port %u", dev->name, dev->port);
    store_write_number(dev->fe, "page-ref", (u32)dev->keyboard / PAGE_SIZE);
    store_write_number(dev->fe, "page-gref",
                       grant(dev->be_domid, dev->keyboard));
    store_write_number(dev->fe, "event-channel", dev->port);
    /* else the emulated keyboard gets the keys */
    store_write(dev->fe, "request-abs-pointer", "1");
    store_write(dev->fe, "request-raw-pointer", "1");
    store_write(dev->fe, "state", "3");
    if (!wait_backend(dev, 4)) {
        return "backend did not connect";
    }
    store_write(dev->fe, "state", "4");
    return NULL;
}

const char *keyboard_wait(struct device *dev)
{
    u64 start = tsc();

    while (dev->keyboard->in_prod == dev->keyboard->in_cons) {
        if (tsc() - start > PATIENCE) {
            return "no key comes";
        }
        relax();
    }
    dev->keyboard->in_cons = dev->keyboard->in_prod;
    return NULL;
}

/* --- any of them ---------------------------------------------------------- */

const char *connect(struct device *dev)
{
    return is_disk(dev) ? disk_connect(dev) :
           is_nic(dev) ? nic_connect(dev) : keyboard_connect(dev);
}

const char *prove(struct device *dev, u32 sector)
{
    return is_disk(dev) ? disk_read(dev, sector) :
           is_nic(dev) ? nic_ask(dev) : keyboard_wait(dev);
}

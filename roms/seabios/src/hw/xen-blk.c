// Boot from Xen PV disks: a blkfront that polls.
//
// It takes disks that are not emulated, too.  Its ring and the pages for data
// are granted once and for ever, and e820 has them as reserved: requests need
// no grant table, which others may move or replace, and a backend that writes
// late never writes to memory of the OS.
//
// The protocol is in Xen's public/io/blkif.h.
//
// This file may be distributed under the terms of the GNU LGPLv3 license.

#include "block.h" // struct drive_s
#include "blockcmd.h" // CDB_CMD_TEST_UNIT_READY
#include "config.h" // CONFIG_XEN_BLK
#include "fw/xen.h" // struct blkif_sring
#include "list.h" // hlist_add
#include "malloc.h" // memalign_high
#include "memmap.h" // PAGE_SIZE
#include "output.h" // dprintf
#include "stacks.h" // wait_threads
#include "std/disk.h" // DISK_RET_SUCCESS
#include "string.h" // memset
#include "util.h" // boot_add_hd
#include "xen-blk.h" // xen_blk_setup
#include "xenbus.h" // xenbus_setup

#define SECTORS_PER_PAGE (PAGE_SIZE / DISK_SECTOR_SIZE)
// As much as process_op() lets through at once
#define DATA_PAGES 16
#define DATA_SECTORS (DATA_PAGES * SECTORS_PER_PAGE)

// How long all backends together may take to connect, in ms
#define CONNECT_TIMEOUT 5000
// How long a request may take
#define IO_TIMEOUT 32000

struct xen_blk_s {
    struct drive_s drive;
    u32 vdev;           // the disk is device/vbd/VDEV in xenstore
    volatile struct blkif_sring *ring;
    void *data;
    u16 gref[DATA_PAGES];
    u32 index;          // of the next request and response
    u32 port, remote;   // of the event channel: ours, the backend's
    u16 domid;          // of the backend
    u8 readonly, dead;
};


/****************************************************************
 * Disk operations
 ****************************************************************/

// Nothing that the backend does is of interest any more.  It may still write
// to the pages for data, so they are not used again.
static int
xen_blk_dead(struct xen_blk_s *blk, const char *why)
{
    dprintf(1, "xen-blk: vbd/%u %s, it is not used any more\n", blk->vdev, why);
    blk->dead = 1;
    return DISK_RET_ETIMEOUT;
}

// Whether there is nobody behind the backend's end: an OS has announced itself
// and the disk was handed off, or the guest was restored from an image.
static int
xen_blk_lost(struct xen_blk_s *blk)
{
    return xen_evtchn_remote(blk->port, blk->domid) != blk->remote;
}

// Transfer up to DATA_SECTORS sectors between the disk and the pages for data.
static int
xen_blk_transfer(struct xen_blk_s *blk, u8 operation, u64 sector, u32 count)
{
    if (xen_blk_lost(blk))
        return xen_blk_dead(blk, "has lost its backend");

    // Requests of the same size, all at once
    volatile struct blkif_sring *ring = blk->ring;
    u32 pages = DIV_ROUND_UP(count, SECTORS_PER_PAGE), page = 0, sent = 0;
    u32 requests = DIV_ROUND_UP(pages, BLKIF_MAX_SEGMENTS_PER_REQUEST);
    for (; sent < requests; sent++) {
        u64 id = (u64)blk->index + sent;    // does not wrap after the first
        volatile struct blkif_request *req = &ring->ring[id % BLKIF_RING].req;
        u32 last = pages * (sent + 1) / requests, n = 0;
        req->operation = operation;
        req->handle = blk->vdev;
        req->id = id;
        req->sector_number = sector + page * SECTORS_PER_PAGE;
        for (; page < last; page++, n++) {
            u32 left = count - page * SECTORS_PER_PAGE;
            req->seg[n].gref = blk->gref[page];
            req->seg[n].first_sect = 0;
            req->seg[n].last_sect = (left < SECTORS_PER_PAGE
                                     ? left : SECTORS_PER_PAGE) - 1;
        }
        req->nr_segments = n;
    }
    barrier();
    ring->req_prod = blk->index + sent;
    barrier();
    xen_notify(blk->port);

    // Their responses, in any order
    u32 first = blk->index, missing = (1 << sent) - 1;
    u32 end = timer_calc(IO_TIMEOUT), look = timer_calc(1000);
    int ret = DISK_RET_SUCCESS;
    while (missing) {
        u32 ready = ring->rsp_prod - blk->index;
        if (!ready) {
            if (timer_check(look)) {
                if (xen_blk_lost(blk))
                    return xen_blk_dead(blk, "has lost its backend");
                look = timer_calc(1000);
            }
            if (timer_check(end))
                return xen_blk_dead(blk, "does not answer");
            xen_relax();
            continue;
        }
        barrier();
        volatile struct blkif_response *rsp =
            &ring->ring[blk->index % BLKIF_RING].rsp;
        u64 id = rsp->id - first;
        if (ready > first + sent - blk->index
            || id >= sent || !(missing & (1 << (u32)id)))
            return xen_blk_dead(blk, "answers what it was not asked");
        if (rsp->status != BLKIF_RSP_OKAY)
            ret = DISK_RET_EBADTRACK;
        missing &= ~(1 << (u32)id);
        blk->index++;
    }
    return ret;
}

static int
xen_blk_op(struct xen_blk_s *blk, struct disk_op_s *op, int write)
{
    // A CD's sectors are larger than the protocol's
    u32 scale = blk->drive.blksize / DISK_SECTOR_SIZE;
    u32 count = op->count * scale;
    op->count = 0;
    if (!count || count > DATA_SECTORS)
        return DISK_RET_EPARAM;
    if (write && blk->readonly)
        return DISK_RET_EWRITEPROTECT;
    if (write)
        memcpy(blk->data, op->buf_fl, count * DISK_SECTOR_SIZE);
    int ret = xen_blk_transfer(blk, write ? BLKIF_OP_WRITE : BLKIF_OP_READ
                               , op->lba * scale, count);
    if (ret)
        return ret;
    if (!write)
        memcpy(op->buf_fl, blk->data, count * DISK_SECTOR_SIZE);
    op->count = count / scale;
    return DISK_RET_SUCCESS;
}

int
xen_blk_process_op(struct disk_op_s *op)
{
    if (!CONFIG_XEN_BLK)
        return 0;
    struct xen_blk_s *blk = container_of(op->drive_fl, struct xen_blk_s, drive);
    if (blk->dead) {
        op->count = 0;
        return DISK_RET_ETIMEOUT;
    }
    switch (op->command) {
    case CMD_READ:
        return xen_blk_op(blk, op, 0);
    case CMD_WRITE:
        return xen_blk_op(blk, op, 1);
    case CMD_SCSI:
        // A CD that is connected is ready; the protocol has no more of SCSI
        return *(u8*)op->cdbcmd == CDB_CMD_TEST_UNIT_READY
            ? DISK_RET_SUCCESS : DISK_RET_EPARAM;
    default:
        return default_process_op(op);
    }
}


/****************************************************************
 * Setup
 ****************************************************************/

// A disk of the toolstack's, until it is known what it is good for
struct xen_vbd_s {
    struct hlist_node node;
    struct xen_blk_s *blk;      // once its backend has been asked
    u32 vdev, number;
    u16 domid;
    u8 cd, done;
    char name[8];               // xvda and so on
    char fe[32], be[128];       // directories in xenstore
};

static struct hlist_head Vbds;

// What the number in xenstore says: the disk's place among those of the guest
// and its name.  See Xen's docs/man/xen-vbd-interface.7.pandoc.
static int
parse_vdev(struct xen_vbd_s *vbd)
{
    u32 vdev = vbd->vdev, partition;
    const char *prefix = "xvd";
    switch (vdev >> 8) {
    case 202:
        vbd->number = (vdev >> 4) & 15;
        partition = vdev & 15;
        break;
    case 3:
    case 22:
        prefix = "hd";
        vbd->number = (vdev >> 8 == 22 ? 2 : 0) + ((vdev >> 6) & 1);
        partition = vdev & 63;
        break;
    case 8:
        prefix = "sd";
        vbd->number = (vdev >> 4) & 15;
        partition = vdev & 15;
        break;
    default:
        if (vdev >> 28 != 1)
            return -1;
        vbd->number = (vdev >> 8) & 0xfffff;
        partition = vdev & 0xff;
    }
    if (partition)
        return -1;
    u32 n = vbd->number;
    if (n < 26)
        snprintf(vbd->name, sizeof(vbd->name), "%s%c", prefix, 'a' + n);
    else
        snprintf(vbd->name, sizeof(vbd->name), "vbd%u", n);
    return 0;
}

// Whether SeaBIOS has found the disk, or the CD, that the toolstack has emulated
// at the same place, if it has.
static int
has_twin(struct xen_vbd_s *vbd)
{
    u32 n = vbd->number;
    if (vbd->cd)
        return boot_has_drive(DTYPE_ATA_ATAPI, n)
            || boot_has_drive(DTYPE_AHCI_ATAPI, n);
    if (vbd->vdev >> 8 == 8 && boot_has_drive(DTYPE_LSI_SCSI, -1))
        return 1;
    return boot_has_drive(DTYPE_ATA, n) || boot_has_drive(DTYPE_AHCI, n);
}

// Add it to the list if it may be ours to connect, in the order of the names,
// hard disks first.
static void
find_vbd(const char *name)
{
    struct xen_vbd_s *vbd = malloc_tmp(sizeof(*vbd)), *pos;
    if (!vbd) {
        warn_noalloc();
        return;
    }
    memset(vbd, 0, sizeof(*vbd));
    snprintf(vbd->fe, sizeof(vbd->fe), "device/vbd/%s", name);
    u64 vdev = 0, domid = 0, state;
    char type[8] = "";
    const char *why = NULL;
    if (xenbus_read_num(&vdev, vbd->fe, "virtual-device")
        || xenbus_read_num(&domid, vbd->fe, "backend-id")
        || xenbus_read_num(&state, vbd->fe, "state")
        || xenbus_read(type, sizeof(type), vbd->fe, "device-type")
        || xenbus_read(vbd->be, sizeof(vbd->be), vbd->fe, "backend")
        || vdev >> 32 || domid >= DOMID_SELF)
        why = "is not complete";
    vbd->vdev = vdev;
    vbd->domid = domid;
    vbd->cd = !strcmp(type, "cdrom");
    if (!why && parse_vdev(vbd))
        why = "is no whole disk";
    if (!why && has_twin(vbd))
        why = "is emulated, too";
    if (!why && state != XenbusStateInitialising)
        why = "is in use";
    if (why) {
        dprintf(1, "xen-blk: %s %s\n", vbd->fe, why);
        free(vbd);
        return;
    }
    struct hlist_node **pprev;
    hlist_for_each_entry_pprev(pos, pprev, &Vbds, node) {
        if (vbd->cd < pos->cd
            || (vbd->cd == pos->cd && vbd->number < pos->number))
            break;
    }
    hlist_add(&vbd->node, pprev);
}

// What becomes of the disks is up to the host.  If it has xen-fw-handoff, they
// are the OS's when that announces itself.  If it has not, an OS may find a
// disk that we have connected in use, so one is connected at most, and only if
// the guest does not boot without it.
static void
choose_vbds(void)
{
    u64 handoff;
    // What there is to boot from takes reading CDs: only if it matters
    if (hlist_empty(&Vbds))
        return;
    if (!xenbus_read_num(&handoff, "control", "platform-feature-fw-handoff")
        && handoff == 1)
        return;
    struct xen_vbd_s *pos;
    struct hlist_node *n;
    int wanted = !boot_without_hd();
    hlist_for_each_entry_safe(pos, n, &Vbds, node) {
        if (wanted) {
            wanted = 0;
            if (pos->node.next)
                printf("Xen: booting from %s, for its other PV disks the guest"
                       " needs xen-fw-handoff\n", pos->name);
            continue;
        }
        dprintf(1, "xen-blk: %s is left to the OS\n", pos->fe);
        hlist_del(&pos->node);
    }
}

// Ask the backend to connect.  What it gets access to is never freed.  NULL, or
// why that is not possible.
static const char *
ask_backend(struct xen_vbd_s *vbd)
{
    struct xen_blk_s *blk = malloc_low(sizeof(*blk));
    struct blkif_sring *ring =
        memalign_high(PAGE_SIZE, (1 + DATA_PAGES) * PAGE_SIZE);
    if (!blk || !ring) {
        warn_noalloc();
        free(blk);
        free(ring);
        return "needs more memory than the BIOS has";
    }
    memset(blk, 0, sizeof(*blk));
    // With rsp_event in the past, the backend never notifies us.
    memset(ring, 0, PAGE_SIZE);
    ring->req_event = 1;
    blk->vdev = vbd->vdev;
    blk->domid = vbd->domid;
    blk->ring = ring;
    blk->data = (void*)ring + PAGE_SIZE;
    vbd->blk = blk;
    int i;
    for (i = 0; i < DATA_PAGES; i++) {
        int gref = xen_grant(vbd->domid, blk->data + i * PAGE_SIZE);
        if (gref < 0)
            return "needs grants, and there are none left";
        blk->gref[i] = gref;
    }
    int gref = xen_grant(vbd->domid, ring);
    if (gref < 0)
        return "needs grants, and there are none left";
    blk->port = xen_evtchn_alloc(vbd->domid);
    if (!blk->port)
        return "needs an event channel, and Xen gives it none";
    if (xenbus_write_num(vbd->fe, "ring-ref", gref)
        || xenbus_write_num(vbd->fe, "event-channel", blk->port)
        || xenbus_write(vbd->fe, "protocol", "x86_32-abi")
        || xenbus_write_num(vbd->fe, "state", XenbusStateInitialised))
        return "cannot be connected, xenstore refuses to write its keys";
    return NULL;
}

// The backend is connected: what sort of disk is it?  NULL, or why it is none.
static const char *
add_vbd(struct xen_vbd_s *vbd)
{
    struct xen_blk_s *blk = vbd->blk;
    u64 sectors, sector_size, info;
    blk->remote = xen_evtchn_remote(blk->port, vbd->domid);
    if (!blk->remote)
        return "has a backend that has not bound its event channel";
    if (xenbus_read_num(&sectors, vbd->be, "sectors")
        || xenbus_read_num(&sector_size, vbd->be, "sector-size")
        || xenbus_read_num(&info, vbd->be, "info"))
        return "has a backend that does not know its size";
    if (sector_size != DISK_SECTOR_SIZE)
        return "has sectors that are not of 512 bytes";
    if (xenbus_write_num(vbd->fe, "state", XenbusStateConnected))
        return "cannot be connected, xenstore refuses to write its keys";
    blk->drive.type = DTYPE_XEN_BLK;
    blk->drive.cntl_id = vbd->number;
    blk->drive.blksize = DISK_SECTOR_SIZE;
    blk->drive.sectors = sectors;
    blk->readonly = !!(info & VDISK_READONLY);
    int cd = vbd->cd || info & VDISK_CDROM;
    char *desc = znprintf(MAXDESCSIZE, "Xen PV %s %s (%u MiB)"
                          , cd ? "CD" : "disk", vbd->name, (u32)(sectors >> 11));
    dprintf(1, "xen-blk: %s is %s\n", vbd->fe, desc);
    if (cd) {
        blk->readonly = 1;
        blk->drive.blksize = CDROM_SECTOR_SIZE;
        blk->drive.sectors /= CDROM_SECTOR_SIZE / DISK_SECTOR_SIZE;
        boot_add_cd(&blk->drive, desc, -1);
    } else {
        boot_add_hd(&blk->drive, desc, -1);
    }
    return NULL;
}

// It is of no use to us: have the backend let go of it.  An OS begins anew with
// a disk that is Closed, or at least Linux does.
static void
close_vbd(struct xen_vbd_s *vbd)
{
    xenbus_write_num(vbd->fe, "state", XenbusStateClosed);
}

// The next step of one disk, if its backend is ready for it
static void
connect_vbd(struct xen_vbd_s *vbd)
{
    const char *why = NULL;
    u64 state;
    if (xenbus_read_num(&state, vbd->be, "state"))
        why = "has no backend";
    else if (!vbd->blk && state == XenbusStateInitWait) {
        why = ask_backend(vbd);
    } else if (vbd->blk && state == XenbusStateConnected) {
        vbd->done = 1;
        why = add_vbd(vbd);
        if (why)
            close_vbd(vbd);
    }
    if (why) {
        vbd->done = 1;
        printf("Xen: PV disk %s %s\n", vbd->name, why);
    }
}

void
xen_blk_setup(void)
{
    ASSERT32FLAT();
    if (!CONFIG_XEN_BLK || xenbus_setup())
        return;
    wait_threads();     // they may be finding drives

    u32 size, i;
    const char *list = xenbus_list("device/vbd", &size);
    char *names = malloc_tmp(size + 1);
    if (!names) {
        warn_noalloc();
        return;
    }
    memcpy(names, list, size);
    names[size] = '\0';
    for (i = 0; i < size; i += strlen(&names[i]) + 1)
        find_vbd(&names[i]);
    free(names);
    choose_vbds();

    // All at once: a backend that hangs costs the time of one.  Looking at them
    // may take longer than that, if there is a CD: all are looked at once more.
    u32 end = timer_calc(CONNECT_TIMEOUT);
    struct xen_vbd_s *vbd;
    int waiting, late;
    do {
        late = timer_check(end);
        waiting = 0;
        hlist_for_each_entry(vbd, &Vbds, node) {
            if (!vbd->done)
                connect_vbd(vbd);
            waiting |= !vbd->done;
        }
        xen_relax();
    } while (waiting && !late);
    hlist_for_each_entry(vbd, &Vbds, node) {
        if (vbd->done)
            continue;
        if (vbd->blk)
            close_vbd(vbd);
        printf("Xen: PV disk %s is left out, its backend does not answer: %s\n"
               , vbd->name, vbd->be);
    }
}

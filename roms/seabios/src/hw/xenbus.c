// Xen's event channels, grants and xenstore, as far as PV drivers need them.
//
// A BIOS cannot know which call was its last, so it never takes any of them
// back: that is left to the host's xen-fw-handoff, or to an OS that can.  It
// leaves as little as it can meanwhile: no callback, no watch, and nothing in
// xenstore's rings but what xenstore was too slow for.
//
// This file may be distributed under the terms of the GNU LGPLv3 license.

#include "fw/xen.h" // _hypercall2
#include "malloc.h" // malloc_tmphigh
#include "memmap.h" // PAGE_SIZE
#include "output.h" // dprintf
#include "pci.h" // pci_config_readl
#include "pci_ids.h" // PCI_VENDOR_ID_XEN
#include "pci_regs.h" // PCI_BASE_ADDRESS_1
#include "pcidevice.h" // foreachpci
#include "stacks.h" // yield
#include "string.h" // memcpy
#include "util.h" // timer_calc
#include "xenbus.h" // xenbus_setup


/****************************************************************
 * Event channels
 ****************************************************************/

// Tell the other end of an event channel that there is something to do.
void
xen_notify(u32 port)
{
    ASSERT32FLAT();
    _hypercall2(int, event_channel_op, EVTCHNOP_send, &port);
}

// Who has the other end of an event channel?  Its port there, or 0 if it is
// not bound to that domain.  To notify nobody is no error in Xen, so this is
// how to find out that a backend was closed or that the guest was restored.
u32
xen_evtchn_remote(u32 port, u16 domid)
{
    ASSERT32FLAT();
    struct evtchn_status s = { .dom = DOMID_SELF, .port = port };
    if (_hypercall2(int, event_channel_op, EVTCHNOP_status, &s)
        || s.status != EVTCHNSTAT_interdomain || s.interdomain.dom != domid)
        return 0;
    return s.interdomain.port;
}

// Make an event channel that the domain can bind.  Its port, or 0.
u32
xen_evtchn_alloc(u16 domid)
{
    ASSERT32FLAT();
    struct evtchn_alloc_unbound a = { .dom = DOMID_SELF, .remote_dom = domid };
    if (_hypercall2(int, event_channel_op, EVTCHNOP_alloc_unbound, &a))
        return 0;
    return a.port;
}

// Leave the cpu to others, the backend's domain may need this very one, and
// let our own irqs in.
void
xen_relax(void)
{
    ASSERT32FLAT();
    _hypercall2(int, sched_op, SCHEDOP_yield, NULL);
    yield();
}


/****************************************************************
 * Grants
 ****************************************************************/

static volatile struct grant_entry_v1 *GrantTable;
// The toolstack has the first ones.  Everybody else begins behind those, so we
// begin at the other end: while a backend maps a page, Xen gives it the old
// one when somebody else uses the same entry.
static u32 NextGref = PAGE_SIZE / sizeof(struct grant_entry_v1);

// The platform device has a place for it, where no RAM gets lost.
static int
grant_table_setup(void)
{
    struct pci_device *pci;
    foreachpci(pci) {
        if (pci->vendor != PCI_VENDOR_ID_XEN
            || pci->device != PCI_DEVICE_ID_XEN_PLATFORM)
            continue;
        u32 bar = pci_config_readl(pci->bdf, PCI_BASE_ADDRESS_1);
        bar &= PCI_BASE_ADDRESS_MEM_MASK;
        struct xen_add_to_physmap a = {
            .domid = DOMID_SELF,
            .space = XENMAPSPACE_grant_table,
            .gpfn = bar / PAGE_SIZE,
        };
        if (!bar || _hypercall2(int, memory_op, XENMEM_add_to_physmap, &a))
            continue;
        GrantTable = (void*)bar;
        dprintf(3, "xen: grant table at %x\n", bar);
        return 0;
    }
    printf("Xen: PV disks need the platform device: xen_platform_pci=1\n");
    return -1;
}

// Let the domain access a page, which is never given back.  The reference of
// the grant, or -1.
int
xen_grant(u16 domid, void *page)
{
    ASSERT32FLAT();
    // Not before somebody needs it: other guests find the table as it was.
    if (!GrantTable && grant_table_setup())
        return -1;
    do {
        if (NextGref == GNTTAB_NR_RESERVED_ENTRIES) {
            dprintf(1, "xen: no grant is free\n");
            return -1;
        }
        NextGref--;
    } while (GrantTable[NextGref].flags);
    GrantTable[NextGref].domid = domid;
    GrantTable[NextGref].frame = (u32)page / PAGE_SIZE;
    barrier();
    GrantTable[NextGref].flags = GTF_permit_access;
    return NextGref;
}


/****************************************************************
 * Xenstore
 ****************************************************************/

// How long it may take to answer, in ms
#define STORE_TIMEOUT 5000

static volatile struct xenstore_domain_interface *Store;
static u32 StorePort, StoreId;
static u32 StoreTold;           // which rsp_cons xenstore was notified of
static char *StoreReply;        // with room for a '\0'

// Xenstore has not answered, so nobody knows what it will say next.
static int
store_failed(const char *why)
{
    printf("Xen: no PV disks, xenstore %s\n", why);
    Store = NULL;
    return -1;
}

static int
store_send(const void *data, u32 len, u32 end)
{
    const char *p = data;
    while (len) {
        u32 prod = Store->req_prod;
        if (prod - Store->req_cons >= XENSTORE_RING_SIZE) {
            if (timer_check(end))
                return store_failed("takes no request");
            xen_notify(StorePort);
            xen_relax();
            continue;
        }
        Store->req[prod % XENSTORE_RING_SIZE] = *p++;
        len--;
        barrier();
        Store->req_prod = prod + 1;
    }
    return 0;
}

static int
store_receive(void *data, u32 len, u32 end)
{
    char *p = data;
    while (len) {
        u32 cons = Store->rsp_cons, ready = Store->rsp_prod - cons;
        if (ready > XENSTORE_RING_SIZE)
            return store_failed("has a ring that nobody can read");
        if (!ready) {
            if (timer_check(end))
                return store_failed("does not answer");
            if (StoreTold != cons) {
                StoreTold = cons;
                xen_notify(StorePort);  // there is room for the rest
            }
            xen_relax();
            continue;
        }
        barrier();
        *p++ = Store->rsp[cons % XENSTORE_RING_SIZE];
        len--;
        barrier();
        Store->rsp_cons = cons + 1;
    }
    return 0;
}

// Ask for something of a key of a directory, or of the directory itself.  The
// length of what is in StoreReply then, or -1.
static int
store_call(u32 type, const char *dir, const char *key, const char *value)
{
    ASSERT32FLAT();
    if (!Store)
        return -1;
    u32 end = timer_calc(STORE_TIMEOUT);
    u32 dir_len = strlen(dir), key_len = strlen(key), value_len = strlen(value);
    struct xsd_sockmsg msg = { .type = type, .req_id = ++StoreId };
    msg.len = dir_len + 1 + (key_len ? key_len + 1 : 0) + value_len;
    if (store_send(&msg, sizeof(msg), end)
        || store_send(dir, dir_len, end)
        || (key_len && store_send("/", 1, end))
        || store_send(key, key_len + 1, end)
        || store_send(value, value_len, end))
        return -1;
    StoreTold = Store->rsp_cons;
    xen_notify(StorePort);
    for (;;) {
        if (store_receive(&msg, sizeof(msg), end))
            return -1;
        if (msg.len > XENSTORE_PAYLOAD_MAX)
            return store_failed("sends what nobody can read");
        if (store_receive(StoreReply, msg.len, end))
            return -1;
        if (msg.type != XS_WATCH_EVENT && msg.req_id == StoreId)
            break;
        // Somebody before us may have set a watch, or not waited for a reply.
        if (timer_check(end))
            return store_failed("does not answer");
    }
    StoreReply[msg.len] = '\0';
    return msg.type == type ? msg.len : -1;
}

// Read a key of a directory, or nothing if it does not fit.  0 or -1.
int
xenbus_read(char *out, u32 size, const char *dir, const char *key)
{
    int len = store_call(XS_READ, dir, key, "");
    if (len < 0 || len >= size) {
        *out = '\0';
        return -1;
    }
    memcpy(out, StoreReply, len + 1);
    return 0;
}

// Read a key that is a decimal number and nothing else.  0 or -1.
int
xenbus_read_num(u64 *value, const char *dir, const char *key)
{
    char text[20];      // 19 digits never overflow
    if (xenbus_read(text, sizeof(text), dir, key) || !*text)
        return -1;
    const char *p;
    *value = 0;
    for (p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        *value = *value * 10 + (*p - '0');
    }
    return 0;
}

// Write a key of a directory.  0 or -1.
int
xenbus_write(const char *dir, const char *key, const char *value)
{
    if (store_call(XS_WRITE, dir, key, value) < 0) {
        dprintf(1, "xen: xenstore refuses to write %s/%s\n", dir, key);
        return -1;
    }
    return 0;
}

int
xenbus_write_num(const char *dir, const char *key, u32 value)
{
    char text[11];
    snprintf(text, sizeof(text), "%u", value);
    return xenbus_write(dir, key, text);
}

// The names in a directory, one behind the other, each with its '\0', valid
// until xenstore is asked again.  Their size is 0 if there are none.
const char *
xenbus_list(const char *path, u32 *size)
{
    int len = store_call(XS_DIRECTORY, path, "", "");
    *size = len < 0 ? 0 : len;
    return StoreReply;
}


/****************************************************************
 * Setup
 ****************************************************************/

static u64
hvm_param(u32 index)
{
    struct xen_hvm_param p = { .domid = DOMID_SELF, .index = index };
    return _hypercall2(int, hvm_op, HVMOP_get_param, &p) ? 0 : p.value;
}

// Find xenstore, if this is a Xen guest.  0 or -1.
int
xenbus_setup(void)
{
    ASSERT32FLAT();
    xen_hypercall_setup();
    if (!xen_hypercall_page)
        return -1;
    u64 pfn = hvm_param(HVM_PARAM_STORE_PFN);
    StorePort = hvm_param(HVM_PARAM_STORE_EVTCHN);
    StoreReply = malloc_tmphigh(XENSTORE_PAYLOAD_MAX + 1);
    if (!pfn || pfn >> 20 || !StorePort || !StoreReply) {
        dprintf(1, "xen: no xenstore\n");
        return -1;
    }
    Store = (void*)((u32)pfn * PAGE_SIZE);
    return 0;
}

/*
 * Xen loopback: what its three files share
 *
 * xen_loopback.c           Xen's operations and the device
 * xen_loopback_backends.c  scripted backends of other domains
 * xen_loopback_commands.c  the test's commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_I386_XEN_LOOPBACK_H
#define HW_I386_XEN_LOOPBACK_H

#include "qemu/event_notifier.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "hw/qdev-core.h"
#include "hw/xen/xen_backend_ops.h"
#include "hw/xen/interface/grant_table.h"
#include "hw/i386/kvm/xenstore_impl.h"

#define TYPE_XEN_LOOPBACK "xen-loopback"
OBJECT_DECLARE_SIMPLE_TYPE(XenLoopback, XEN_LOOPBACK)

#define DOM0        0
#define MAX_PORTS   4096
#define MAX_PARAMS  64
#define MAX_GRANTS  4096
#define GRANT_FRAMES (MAX_GRANTS * sizeof(grant_entry_v1_t) / XEN_PAGE_SIZE)

/* What QEMU asks of xenstore, to count it and to make it fail */
typedef enum LoXsOp {
    LO_XS_OPEN,
    LO_XS_WATCH,
    LO_XS_DIRECTORY,
    LO_XS_READ,
    LO_XS_WRITE,
    LO_XS_TRANSACTION,
    LO_XS_CAN_FAIL,             /* so far */
    LO_XS_UNWATCH = LO_XS_CAN_FAIL,
    LO_XS_CREATE,
    LO_XS_DESTROY,
    LO_XS_END,
    LO_XS_OPS,
} LoXsOp;

/* What Xen keeps of a grant while it is in use ("active entry") */
typedef struct LoActive {
    uint32_t frame;
    unsigned int readers, writers;
} LoActive;

struct XenLoopback {
    DeviceState parent_obj;

    uint16_t domid;
    bool callback_notifier;     /* before HVM_PARAM_CALLBACK_IRQ is set */
    bool real_xenstore;         /* libxenstore's, at $XENSTORED_PATH */
    bool events_in_drain;       /* watch events arrive while a disk drains */

    /* a disk's IOThread uses grants and event channels, too */
    QemuMutex lock;
    uint8_t *ram;
    int ram_fd;
    uint64_t ram_size;
    LoActive active[MAX_GRANTS];
    struct xenevtchn_handle *ports[MAX_PORTS];
    unsigned int nr_maps, nr_ports;
    unsigned int hold_port;     /* whose next handler is to stand still */
    bool held;                  /* it does */
    bool vcpu_held;             /* the test's */

    /* main loop only */
    XenstoreImplState *xs;
    unsigned int nr_watches, nr_handles, nr_events;
    unsigned int nr_ops[LO_XS_OPS];
    GString *record;            /* of these operations, if they are recorded */
    int xs_fails[LO_XS_CAN_FAIL];  /* errno of those that fail */
    unsigned int xs_us;         /* that each takes */
    uint64_t param[MAX_PARAMS];
    bool param_fails[MAX_PARAMS];
    NotifierList callback_notifiers;
    unsigned int grant_version, grant_frames;   /* as dom0 is told */
    int grant_error;            /* errno of mapping the table, if it fails */
    unsigned int nr_grant_maps; /* so often it was mapped */
    unsigned int nr_resets;     /* of the guest's own connection to xenstore */
    int reset_error;            /* errno of that, if it fails */
    unsigned int nr_guest_events;   /* on that connection, not yet asked for */
    GArray *guest_transactions; /* of xs_transaction_t */
    GQueue backends;            /* of LoBackend */
    GQueue due;                 /* those that have to run, the next one first */
    GQueue race_writes;         /* of LoRaceWrite */
    unsigned int nr_race_writes;    /* so often they were done */
    QEMUTimer *backend_timer;
};

/* The only one; NULL until it is realized */
extern XenLoopback *lo;

extern const char *const lo_op_names[LO_XS_OPS];

/* --- event channels and grants -------------------------------------------- */

struct xenevtchn_handle {
    EventNotifier notifier;
    evtchn_port_t port;
};

xenevtchn_handle *lo_evtchn_open(void);
int lo_evtchn_close(xenevtchn_handle *xc);
int lo_evtchn_bind(xenevtchn_handle *xc, uint32_t domid, evtchn_port_t port);

grant_entry_v1_t *lo_grant(uint32_t ref);
xengnttab_handle *lo_gnttab_open(void);
int lo_gnttab_close(xengnttab_handle *xgt);
/* For a backend in any domain; with the lock */
void *lo_map_for(xengnttab_handle *xgt, uint16_t backend, uint32_t count,
                 uint32_t *refs, int prot);

/* --- xenstore, as any domain ---------------------------------------------- */

int lo_put_str(unsigned int as, const char *value, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* malloc()ed, as libxenstore's; NULL with errno */
char *lo_get(xs_transaction_t tid, const char *path, unsigned int *len);
/* -1 if there is no such number */
int lo_get_number(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* Returns an errno, as xs_impl_*() do */
int lo_make(unsigned int owner, unsigned int other, unsigned int perms,
            xs_transaction_t tid, const char *path);

/* --- xen_loopback_backends.c ---------------------------------------------- */

/* @class is "vbd", "vif" or "vscsi"; @options are "fault=..." and so on */
void lo_backend_new(const char *class, const char *id, char **options,
                    Error **errp);
void lo_backend_unplug(const char *class, const char *id, Error **errp);
/* Let all those run that have to */
void lo_backends_run(void *opaque);

/* --- xen_loopback_commands.c ---------------------------------------------- */

void lo_commands_init(void);
/* The guest's other vCPUs write, now that QEMU has looked at @path */
void lo_race_write(const char *path);

#endif

/*
 * libqos: the guest's side of Xen's PV devices
 *
 * What a driver in the guest does with its grant table, its rings and xenstore,
 * for tests of QEMU's backends with the device xen-loopback.
 *
 * A device is named as in the guest's device/ directory: "vbd/51712", "vif/0",
 * "console/1".  Firmware and OS use the same functions.  Whoever leaves a
 * device open calls its _abandon() instead of its _close().
 *
 * All waiting is bounded and ends in g_error(), which names what was missed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LIBQOS_XEN_FRONTEND_H
#define LIBQOS_XEN_FRONTEND_H

#include "../libqtest.h"
#include "hw/xen/interface/grant_table.h"
#include "hw/xen/interface/io/xenbus.h"

#define QXEN_DOMID   7
#define QXEN_GRANTS  4096       /* entries of the guest's table */
#define QXEN_DEVICES "/local/domain/7/device/"
#define QXEN_PLATFORM_SLOT 4    /* of xen-platform on the PCI bus */

#define QXEN_PAGE_SIZE        4096
#define QXEN_SECTOR_SIZE      512
#define QXEN_MAX_RING_ORDER   2
#define QXEN_MAX_VBD_REQUESTS 128
#define QXEN_MAX_VIF_BUFFERS  256
#define QXEN_MAX_VIF_QUEUES   4

/* Numbers to give away and to take back; the oldest is given away first */
typedef struct QXenPool {
    uint32_t next, end;
    GQueue returned;
} QXenPool;

/* What is open in QEMU and in the scripted backends, all together */
typedef struct QXenOpen {
    unsigned int maps, ports, watches, handles;
} QXenOpen;

/* The guest: its memory, its grant table, its event channels */
typedef struct QXenGuest {
    QTestState *qts;
    char *bios;                 /* file of zeros */
    char *log, *disk;           /* files: what QEMU says, a disk */
    QXenOpen at_start;          /* before the guest did anything */
    QXenPool frames, refs, ports;
    GByteArray *taken_over;     /* what the OS has in the firmware's pages */
    uint64_t requests;          /* of disks, so far */
    bool no_quota;              /* for more devices than a guest may have */
} QXenGuest;

/* A page of guest memory and its entry in the grant table */
typedef struct QXenPage {
    uint64_t addr;
    uint32_t ref;
} QXenPage;

/* How to connect; all zero, or no such struct, is what every driver does */
typedef struct QXenConnect {
    /* vbd: 1 << ring_order pages, with the keys ring-page-order, ring-ref%u */
    unsigned int ring_order;
    /* vbd: write feature-persistent */
    bool persistent;
    /* vif: that many queue-%u directories; 0 is one queue without them */
    unsigned int queues;
    /* do not wait for InitWait: over what is connected, as OpenBSD does it */
    bool over;
    /* return when the backend was told to connect, without waiting for it */
    bool no_wait;
} QXenConnect;

typedef struct QXenFrontend {
    QXenGuest *guest;
    char *path;                 /* /local/domain/7/device/vbd/51712 */
    char *backend;              /* what the key "backend" says */
    uint16_t backend_domid;
    uint32_t port;
    GPtrArray *keys;            /* those that this frontend wrote */
} QXenFrontend;

typedef struct QXenRing {
    QXenPage page[1 << QXEN_MAX_RING_ORDER];
    unsigned int pages, slots;
    size_t entry_size;
    uint32_t req_prod, rsp_cons;
} QXenRing;

typedef struct QXenVbdRequest {
    uint64_t id;                /* 0: this one is free */
    bool write, done;
    size_t bytes;
    QXenPage page;              /* of its data */
} QXenVbdRequest;

typedef struct QXenVbd {
    QXenFrontend fe;
    QXenRing ring;
    QXenVbdRequest request[QXEN_MAX_VBD_REQUESTS];
    bool flush;                 /* before each write */
} QXenVbd;

typedef struct QXenVifQueue {
    QXenRing tx, rx;
    uint32_t port;
} QXenVifQueue;

typedef struct QXenVif {
    QXenFrontend fe;
    unsigned int queues;
    QXenVifQueue queue[QXEN_MAX_VIF_QUEUES];
    QXenPage buffer[QXEN_MAX_VIF_BUFFERS];      /* posted on queue 0 */
} QXenVif;

typedef struct QXenConsole {
    QXenFrontend fe;
    QXenPage page;
} QXenConsole;

/* --- files of a test ------------------------------------------------------ */

#define QXEN_DISK_SECTORS 64

/**
 * qxen_temp_file:
 * @name: what it is, for its name
 * @size: its size in bytes
 *
 * Returns: path of a new file full of zeros; unlink() and g_free() it
 */
char *qxen_temp_file(const char *name, size_t size);

/**
 * qxen_temp_disk:
 *
 * Returns: path of a new image of 1 MiB, of which the first QXEN_DISK_SECTORS
 * sectors say what they are: "sector 5"; unlink() and g_free() it
 */
char *qxen_temp_disk(void);

/* --- waiting ------------------------------------------------------------- */

/*
 * How QEMU's main loop has a turn where QEMU is this process: after a command,
 * or with @wait because the test waits for something, and time may pass.  NULL
 * where QEMU is another process.
 */
extern void (*qxen_turn)(bool wait);

/**
 * qxen_pause:
 *
 * Wait a little, for QEMU to do something.
 */
void qxen_pause(void);

/* --- the guest ----------------------------------------------------------- */

/**
 * qxen_guest_new:
 *
 * For a QEMU that is not started by qxen_machine_start().
 *
 * Returns: a guest without one, for qxen_guest_args() and qxen_guest_start()
 */
QXenGuest *qxen_guest_new(void);

/**
 * qxen_guest_args:
 * @g: the guest
 *
 * Returns: arguments of a QEMU that has xen-loopback, xen-platform and an empty
 * BIOS; g_free() them
 */
char *qxen_guest_args(QXenGuest *g);

/**
 * qxen_guest_start:
 * @g: the guest
 * @qts: the QEMU with those arguments
 */
void qxen_guest_start(QXenGuest *g, QTestState *qts);

/**
 * qxen_guest_forget:
 * @g: the guest
 *
 * Nothing is granted any more, and all pages, references and ports are given
 * away anew, from the first.
 */
void qxen_guest_forget(QXenGuest *g);

/**
 * qxen_machine_start:
 * @fmt: more arguments of QEMU, with their own arguments
 *
 * Start a QEMU that has xen-loopback, xen-platform, an empty BIOS, and an image
 * of qxen_temp_disk() with the node name "disk".
 *
 * Returns: the guest, for qxen_machine_stop()
 */
QXenGuest *qxen_machine_start(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/**
 * qxen_machine_stop:
 * @g: the guest, which is freed
 *
 * End its QEMU, however its devices are.
 */
void qxen_machine_stop(QXenGuest *g);

/**
 * qxen_log:
 * @g: the guest
 *
 * Returns: what QEMU has written to stderr so far; g_free() it
 */
char *qxen_log(QXenGuest *g);

/**
 * qxen_out:
 * @qts: a QEMU
 * @size: 1, 2 or 4 bytes
 * @port: the I/O port
 * @value: what to write
 *
 * Write to a port of xen-platform, or of its BAR 0, as the guest's vCPU does,
 * and wait until that vCPU may go on.
 */
void qxen_out(QTestState *qts, unsigned int size, uint16_t port,
              uint32_t value);

/**
 * qxen_out_begin:
 *
 * The same without the wait: what follows happens while the vCPU may be held.
 */
void qxen_out_begin(QTestState *qts, unsigned int size, uint16_t port,
                    uint32_t value);

/**
 * qxen_vcpu_held:
 * @qts: a QEMU
 *
 * Returns: whether the vCPU stands still in its last write
 */
bool qxen_vcpu_held(QTestState *qts);

/**
 * qxen_await_vcpu:
 * @qts: a QEMU
 *
 * Wait until the vCPU may go on.
 */
void qxen_await_vcpu(QTestState *qts);

/**
 * qxen_try:
 * @g: the guest
 * @fmt: a command of xen-loopback, with its arguments
 *
 * Returns: whether the command succeeded
 */
bool qxen_try(QXenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * qxen_cmd:
 * @g: the guest
 * @fmt: a command of xen-loopback, with its arguments
 *
 * Run a command that has to succeed.
 */
void qxen_cmd(QXenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * qxen_ask:
 * @g: the guest
 * @fmt: a command of xen-loopback, with its arguments
 *
 * Run a command that has to succeed.
 *
 * Returns: its result; g_free() it
 */
char *qxen_ask(QXenGuest *g, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * qxen_stat:
 * @g: the guest
 * @name: "maps", "ports", "watches", "handles", "events" (of watches, on their
 *        way) or "ops" (of xenstore, so far)
 *
 * Returns: that number of xen-loopback's
 */
unsigned int qxen_stat(QXenGuest *g, const char *name);

/**
 * qxen_settle:
 * @g: the guest
 *
 * Wait until no event of a watch is on its way to QEMU.
 */
void qxen_settle(QXenGuest *g);

/**
 * qxen_open:
 * @g: the guest
 *
 * Returns: what is open now
 */
QXenOpen qxen_open(QXenGuest *g);

/**
 * qxen_assert_closed:
 * @g: the guest
 *
 * Assert that no more is open than when the machine was started, and that
 * nobody wrote to the pages that qxen_take_over() has taken.
 */
void qxen_assert_closed(QXenGuest *g);

/**
 * qxen_param:
 * @g: the guest
 * @value: of HVM_PARAM_CALLBACK_IRQ; "fail" makes reading it fail
 *
 * Set the parameter that tells an OS from firmware.
 */
void qxen_param(QXenGuest *g, const char *value);

/**
 * qxen_be_os:
 * @g: the guest
 *
 * Set HVM_PARAM_CALLBACK_IRQ as an OS with PV drivers does: long after what the
 * firmware did, of which QEMU has had every event.
 */
void qxen_be_os(QXenGuest *g);

/**
 * qxen_take_over:
 * @g: the guest, whose devices are all abandoned
 *
 * Do what an OS does with the firmware's memory: use it for something else.
 * All pages that were used so far are filled with a pattern, others are used
 * from now on.  Their first 64 bytes are kept, where a backend that is still
 * connected must find a sane ring.  Grant refs are given away from the first
 * again.  Ports are not, since the guest's own ends of the firmware's stay
 * allocated in Xen.
 */
void qxen_take_over(QXenGuest *g);

/**
 * qxen_assert_untouched:
 * @g: the guest
 *
 * Assert that nobody wrote to the pages that qxen_take_over() has taken.
 */
void qxen_assert_untouched(QXenGuest *g);

/* --- grants and event channels ------------------------------------------- */

/**
 * qxen_grant:
 * @g: the guest
 * @addr: address of a page of guest memory
 * @domid: the domain that may map it
 * @readonly: whether for reading only
 *
 * Returns: the grant's reference
 */
uint32_t qxen_grant(QXenGuest *g, uint64_t addr, uint16_t domid, bool readonly);

/**
 * qxen_grant_write:
 * @g: the guest
 * @ref: reference of a grant
 * @entry: what to write there, whatever it is
 *
 * Write an entry of the grant table, as a guest may do it at any time.
 */
void qxen_grant_write(QXenGuest *g, uint32_t ref, grant_entry_v1_t entry);

/**
 * qxen_grant_read:
 * @g: the guest
 * @ref: reference of a grant
 *
 * Returns: the entry of the grant table
 */
grant_entry_v1_t qxen_grant_read(QXenGuest *g, uint32_t ref);

/**
 * qxen_grant_table:
 * @g: the guest
 *
 * Returns: a copy of the guest's table, QXEN_GRANTS entries; g_free() it
 */
grant_entry_v1_t *qxen_grant_table(QXenGuest *g);

/**
 * qxen_grant_flags:
 * @g: the guest
 * @ref: reference of a grant
 *
 * Returns: the flags of its entry, GTF_*
 */
uint16_t qxen_grant_flags(QXenGuest *g, uint32_t ref);

/**
 * qxen_grant_end:
 * @g: the guest
 * @ref: reference of a grant
 *
 * Wait until nobody uses the grant any more, then invalidate it.
 */
void qxen_grant_end(QXenGuest *g, uint32_t ref);

/**
 * qxen_page_new:
 * @g: the guest
 * @domid: the domain that may map it
 * @readonly: whether for reading only
 *
 * Returns: a page full of zeros, granted to @domid
 */
QXenPage qxen_page_new(QXenGuest *g, uint16_t domid, bool readonly);

/**
 * qxen_page_free:
 * @g: the guest
 * @page: what qxen_page_new() returned
 *
 * End the grant and take back the page.
 */
void qxen_page_free(QXenGuest *g, QXenPage page);

/* --- xenstore ------------------------------------------------------------ */

/**
 * qxen_write:
 * @g: the guest
 * @path: absolute path of a node
 * @fmt: value of the node, with its arguments
 *
 * Write to xenstore as dom0.
 */
void qxen_write(QXenGuest *g, const char *path, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/**
 * qxen_guest_write:
 * @g: the guest
 * @path: absolute path of a node
 * @fmt: value of the node, with its arguments
 *
 * Write to xenstore as the guest, which must be permitted to.
 */
void qxen_guest_write(QXenGuest *g, const char *path, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/**
 * qxen_read:
 * @g: the guest
 * @path: absolute path of a node
 *
 * Returns: its value, to be freed with g_free(); NULL if there is none
 */
char *qxen_read(QXenGuest *g, const char *path);

/**
 * qxen_exists:
 * @g: the guest
 * @path: absolute path of a node
 *
 * Returns: whether there is such a node
 */
bool qxen_exists(QXenGuest *g, const char *path);

/**
 * qxen_ls:
 * @g: the guest
 * @path: absolute path of a node, which must exist
 *
 * Returns: the sorted names of the nodes below; g_strfreev() them
 */
char **qxen_ls(QXenGuest *g, const char *path);

/**
 * qxen_keys:
 * @g: the guest
 * @path: absolute path of a node, which must exist
 *
 * Returns: the sorted paths of all leaves below, relative to @path, with spaces
 * between them: "backend queue-0/rx-ring-ref state"; g_free() it
 */
char *qxen_keys(QXenGuest *g, const char *path);

/**
 * qxen_keys_and_values:
 * @g: the guest
 * @path: absolute path of a node, which must exist
 *
 * Returns: the same with the value of each: "backend='/local/...' state='1'";
 * g_free() it
 */
char *qxen_keys_and_values(QXenGuest *g, const char *path);

/**
 * qxen_assert_keys:
 * @g: the guest
 * @path: absolute path of a node, which must exist
 * @keys: what qxen_keys() has to return
 */
void qxen_assert_keys(QXenGuest *g, const char *path, const char *keys);

/**
 * qxen_state:
 * @g: the guest
 * @path: absolute path of a frontend or a backend
 *
 * Returns: its state; XenbusStateUnknown if it has none that exists
 */
XenbusState qxen_state(QXenGuest *g, const char *path);

/**
 * qxen_wait_state:
 * @g: the guest
 * @path: absolute path of a frontend or a backend
 * @state: the state to wait for
 */
void qxen_wait_state(QXenGuest *g, const char *path, XenbusState state);

/**
 * qxen_backend_path:
 * @g: the guest
 * @name: of a device: "vbd/51712"
 *
 * Returns: where its backend is, as its frontend has it; g_free() it
 */
char *qxen_backend_path(QXenGuest *g, const char *name);

/**
 * qxen_frontend_keys:
 * @g: the guest
 * @name: of a device: "vbd/51712"
 *
 * Returns: qxen_keys() of its frontend
 */
char *qxen_frontend_keys(QXenGuest *g, const char *name);

/**
 * qxen_set_key:
 * @g: the guest
 * @name: of a device: "vbd/51712"
 * @key: relative path of a node of its frontend
 * @value: value of the node
 *
 * Write to xenstore as the guest.
 */
void qxen_set_key(QXenGuest *g, const char *name, const char *key,
                  const char *value);

/**
 * qxen_assert_states:
 * @g: the guest
 * @name: of a device: "vbd/51712"
 * @frontend: the state that its frontend has to be in
 * @backend: the state that its backend has to be in
 */
void qxen_assert_states(QXenGuest *g, const char *name, XenbusState frontend,
                        XenbusState backend);

/**
 * qxen_assert_fresh:
 * @g: the guest
 * @name: of a device: "vbd/51712"
 * @keys: its qxen_frontend_keys() before anyone used it
 *
 * Assert that the device is as the toolstack made it.
 */
void qxen_assert_fresh(QXenGuest *g, const char *name, const char *keys);

/**
 * qxen_backend_new:
 * @g: the guest
 * @name: of the new device: "vbd/51712", "vif/0" or "vscsi/0"
 * @options: of xen-loopback's command "backend", may be empty
 *
 * Make a device with a backend outside of QEMU.  It connects but moves no data.
 */
void qxen_backend_new(QXenGuest *g, const char *name, const char *options);

/* --- disks --------------------------------------------------------------- */

/**
 * qxen_disk_plug:
 * @g: the guest
 * @id: of the new disk: "51728"
 * @vdev: how QEMU names it: "xvdb"
 * @image: path of its image
 *
 * Do what the toolstack does to plug in a disk, and wait for its backend.
 */
void qxen_disk_plug(QXenGuest *g, const char *id, const char *vdev,
                    const char *image);

/**
 * qxen_disk_unplug:
 * @g: the guest
 * @id: of a disk that was plugged in: "51728"
 *
 * Unplug it and wait until it is gone.
 */
void qxen_disk_unplug(QXenGuest *g, const char *id);

/**
 * qxen_vbd_connect:
 * @g: the guest
 * @name: of the device: "vbd/51712"; or "vscsi/0", which connects alike
 * @how: may be NULL
 *
 * Returns: the device, for qxen_vbd_close() or qxen_vbd_abandon()
 */
QXenVbd *qxen_vbd_connect(QXenGuest *g, const char *name,
                          const QXenConnect *how);

/**
 * qxen_vbd_submit:
 * @vbd: a device
 * @write: whether to write
 * @sector: the first sector
 * @count: the number of sectors, up to 8
 * @buf: what to write, or NULL
 *
 * Returns: the request, which is in flight until qxen_vbd_wait()
 */
QXenVbdRequest *qxen_vbd_submit(QXenVbd *vbd, bool write, uint64_t sector,
                                unsigned int count, const void *buf);

/**
 * qxen_vbd_wait:
 * @vbd: a device
 * @request: one of its requests in flight, not to be used any more
 * @buf: where to put what was read, or NULL
 *
 * Wait for the request's response, which must be a success.
 */
void qxen_vbd_wait(QXenVbd *vbd, QXenVbdRequest *request, void *buf);

/**
 * qxen_vbd_discard:
 * @vbd: a device with nothing in flight
 * @sector: the first sector
 * @count: the number of sectors
 *
 * Returns: whether the backend discarded them
 */
bool qxen_vbd_discard(QXenVbd *vbd, uint64_t sector, uint64_t count);

/**
 * qxen_vbd_responses:
 * @vbd: a device
 *
 * Returns: how many responses the backend has written since it is connected
 */
uint32_t qxen_vbd_responses(QXenVbd *vbd);

/**
 * qxen_vbd_read:
 * @vbd: a device
 * @sector: the first sector
 * @count: the number of sectors, up to 8
 * @buf: where to put them
 */
void qxen_vbd_read(QXenVbd *vbd, uint64_t sector, unsigned int count,
                   void *buf);

/**
 * qxen_vbd_assert_reads:
 * @vbd: a device on an image of qxen_temp_disk()
 * @sector: one of its sectors
 *
 * Assert that the sector can be read, and says what it is.
 */
void qxen_vbd_assert_reads(QXenVbd *vbd, unsigned int sector);

/**
 * qxen_vbd_close:
 * @vbd: a device, which is freed
 *
 * Disconnect in order: Closing, Closed, Initialising, and wait for the backend
 * each time.  The keys of the frontend are removed, its grants ended.
 */
void qxen_vbd_close(QXenVbd *vbd);

/**
 * qxen_vbd_abandon:
 * @vbd: a device
 *
 * Free the struct and leave the connection as it is.
 */
void qxen_vbd_abandon(QXenVbd *vbd);

/* --- NICs ---------------------------------------------------------------- */

/**
 * qxen_vif_connect:
 * @g: the guest
 * @name: of the device: "vif/0"
 * @how: may be NULL
 *
 * Frames go through the first queue.  To be at the other end of the wire, make
 * a socketpair() of SOCK_DGRAM and give one end to QEMU as
 * "-netdev dgram,id=n0,local.type=fd,local.str=<fd>": one message is one frame.
 *
 * Returns: the device, for qxen_vif_close() or qxen_vif_abandon()
 */
QXenVif *qxen_vif_connect(QXenGuest *g, const char *name,
                          const QXenConnect *how);

/**
 * qxen_vif_post:
 * @vif: a device
 * @count: how many buffers to give to the backend, of a page each
 */
void qxen_vif_post(QXenVif *vif, unsigned int count);

/**
 * qxen_vif_send:
 * @vif: a device
 * @frame: what to send
 * @size: its size
 *
 * Send a frame and wait until the backend has taken it.
 */
void qxen_vif_send(QXenVif *vif, const void *frame, size_t size);

/**
 * qxen_vif_receive:
 * @vif: a device
 * @frame: where to put what was received
 * @size: space for it
 *
 * Wait for the next frame.  The buffer that it came in is not posted again.
 *
 * Returns: the size of the frame
 */
size_t qxen_vif_receive(QXenVif *vif, void *frame, size_t size);

/**
 * qxen_wire_receive:
 * @fd: the test's end of the wire
 * @frame: where to put what was received
 * @size: space for it
 *
 * Wait for the next frame from the guest.
 *
 * Returns: the size of the frame
 */
size_t qxen_wire_receive(int fd, void *frame, size_t size);

/**
 * qxen_vif_exchange:
 * @vif: a device
 * @fd: the test's end of the wire
 *
 * Send a frame in each direction, and have it arrive as it was sent.
 */
void qxen_vif_exchange(QXenVif *vif, int fd);

/**
 * qxen_vif_close:
 * @vif: a device, which is freed
 *
 * Disconnect in order, as qxen_vbd_close().
 */
void qxen_vif_close(QXenVif *vif);

/**
 * qxen_vif_abandon:
 * @vif: a device
 *
 * Free the struct and leave the connection as it is.
 */
void qxen_vif_abandon(QXenVif *vif);

/* --- consoles ------------------------------------------------------------ */

/**
 * qxen_console_connect:
 * @g: the guest
 * @name: of the device: "console/1"; not the primary console
 * @how: may be NULL
 *
 * Returns: the device, for qxen_console_close() or qxen_console_abandon()
 */
QXenConsole *qxen_console_connect(QXenGuest *g, const char *name,
                                  const QXenConnect *how);

/**
 * qxen_console_write:
 * @con: a device
 * @data: what to write
 * @size: its size
 *
 * Write to the console and wait until the backend has taken all of it.
 */
void qxen_console_write(QXenConsole *con, const char *data, size_t size);

/**
 * qxen_console_close:
 * @con: a device, which is freed
 *
 * Disconnect in order, as qxen_vbd_close().
 */
void qxen_console_close(QXenConsole *con);

/**
 * qxen_console_abandon:
 * @con: a device
 *
 * Free the struct and leave the connection as it is.
 */
void qxen_console_abandon(QXenConsole *con);

#endif

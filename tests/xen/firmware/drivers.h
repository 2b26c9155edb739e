/*
 * Frontends of disks and NICs, as simple as firmware's: they poll.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef DRIVERS_H
#define DRIVERS_H

#include "xen.h"

#define RX_BUFFERS 64
#define MAX_QUEUES 2
#define LOADS 8

struct ring {
    u32 req_prod, req_event, rsp_prod, rsp_event;
    u8 pad[48];
    u8 slots[];
};

/* the begin of Xen's struct xenkbd_page */
struct keyboard {
    u32 in_cons, in_prod;
};

/* a NIC has one or more of these */
struct queue {
    u32 port;
    shared struct ring *tx, *rx;
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
    /* only a keyboard has this */
    shared struct keyboard *keyboard;
    /* a NIC has not */
    u32 port;
    /* only a disk has these */
    u32 ring_order;                 /* of the number of the ring's pages */
    shared struct ring *ring;
    u8 *data;
    u32 data_gref;
    struct {
        u8 *page[LOADS];
        u32 gref[LOADS];
        u32 busy;                   /* a bit per page */
        u32 seen;                   /* responses */
        u32 right, wrong;
    } load;                         /* what a boot loader reads */
    /* only a NIC has these */
    struct queue queue[MAX_QUEUES];
    u32 queues;
    u8 mac[6];
};

bool is_disk(const struct device *dev);
bool is_nic(const struct device *dev);
u32 event_channel(const struct device *dev);
bool wait_backend(const struct device *dev, u32 state);

/* all of these return NULL, or what went wrong */
const char *connect(struct device *dev);
const char *disk_read(struct device *dev, u32 sector);
const char *disk_write(struct device *dev, u32 sector);
const char *nic_ask(struct device *dev);
const char *keyboard_wait(struct device *dev);      /* for a key */

/* read a disk's @sector, ask the NIC, wait for a key */
const char *prove(struct device *dev, u32 sector);

/* a boot loader: check what has arrived, and keep the disk busy */
void load_begin(struct device *dev);
void load_more(struct device *dev);
u32 load_in_flight(struct device *dev);

/* of all that the backend may write to */
u32 load_sum(struct device *dev);

#endif

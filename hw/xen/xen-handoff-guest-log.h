/*
 * Xen firmware handoff: what the guest's drivers say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_XEN_HANDOFF_GUEST_LOG_H
#define HW_XEN_HANDOFF_GUEST_LOG_H

#include "qemu/ratelimit.h"
#include "qemu/timer.h"

/* Bytes of one line; what is longer goes on in the next */
#define XEN_HANDOFF_GUEST_LINE 1024

/* Lines per second, in the long run */
#define XEN_HANDOFF_GUEST_LINES_PER_SECOND 50

/*
 * Bytes in the life of one QEMU.  The log is a file of dom0's that nobody else
 * bounds, and a guest must not fill dom0's disk (Xen's advisory XSA-180).
 */
#define XEN_HANDOFF_GUEST_LOG_MAX (1024 * 1024)

/**
 * XenHandoffGuestLog: the log that a guest writes bytewise to port 0x12
 *
 * @lines: how many were written to QEMU's log
 * @dropped: how many were not
 * The rest is private.
 */
typedef struct XenHandoffGuestLog {
    uint64_t lines;
    uint64_t dropped;

    char line[XEN_HANDOFF_GUEST_LINE + 1];
    size_t len;
    size_t written;
    uint64_t dropped_told;
    RateLimit limit;
    int64_t silent_until;
    QEMUTimer timer;
} XenHandoffGuestLog;

void xen_handoff_guest_log_init(XenHandoffGuestLog *log);

/**
 * xen_handoff_guest_log_byte: the guest has written @c
 *
 * A newline ends the line, which is then written to QEMU's log as
 * "xen-fw-handoff: guest: <line>" with '?' for whatever is not printable ASCII.
 * Source: Xen's docs/misc/hvm-emulated-unplug.pandoc.
 */
void xen_handoff_guest_log_byte(XenHandoffGuestLog *log, uint8_t c);

/**
 * xen_handoff_guest_log_end: the guest has been reset, perhaps within a line
 */
void xen_handoff_guest_log_end(XenHandoffGuestLog *log);

#endif

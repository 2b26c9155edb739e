/*
 * Xen firmware handoff: what the guest's drivers say
 *
 * PV drivers for Windows write their log to the port that announces them, and
 * so do others when they are debugged.  It is what an administrator wants to
 * read beside our own lines, and it is the guest's: bounded in all directions.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/xen/xen_fw_handoff.h"
#include "xen-handoff-guest-log.h"
#include "trace.h"

#define LOG_CLOCK QEMU_CLOCK_REALTIME   /* RateLimit's */

/* About what our lines have before the guest's text */
#define LINE_OVERHEAD 64

static void tell_dropped(void *opaque)
{
    XenHandoffGuestLog *log = opaque;

    if (log->written < XEN_HANDOFF_GUEST_LOG_MAX &&
        log->dropped != log->dropped_told) {
        info_report(XEN_FW_HANDOFF_LOG "guest: %" PRIu64 " lines dropped",
                    log->dropped - log->dropped_told);
        log->dropped_told = log->dropped;
        log->written += LINE_OVERHEAD;
    }
}

void xen_handoff_guest_log_init(XenHandoffGuestLog *log)
{
    ratelimit_init(&log->limit);
    ratelimit_set_speed(&log->limit, XEN_HANDOFF_GUEST_LINES_PER_SECOND,
                        NANOSECONDS_PER_SECOND);
    timer_init_ns(&log->timer, LOG_CLOCK, tell_dropped, log);
}

static void end_line(XenHandoffGuestLog *log)
{
    int64_t now = qemu_clock_get_ns(LOG_CLOCK);
    bool dropped = log->written >= XEN_HANDOFF_GUEST_LOG_MAX ||
                   now < log->silent_until;

    trace_xen_fw_handoff_guest_line(log->len, dropped);
    if (dropped) {
        /* Told once, when the next may be written, whether or not one comes */
        if (!timer_pending(&log->timer) && now < log->silent_until) {
            timer_mod_ns(&log->timer, log->silent_until);
        }
        log->dropped++;
    } else {
        tell_dropped(log);
        log->line[log->len] = '\0';
        info_report(XEN_FW_HANDOFF_LOG "guest: %s", log->line);
        log->lines++;
        log->written += log->len + LINE_OVERHEAD;
        /* Only for what was written: RateLimit makes up for all it is told */
        log->silent_until = now + ratelimit_calculate_delay(&log->limit, 1);
        if (log->written >= XEN_HANDOFF_GUEST_LOG_MAX) {
            info_report(XEN_FW_HANDOFF_LOG "guest: its log has reached %d KiB, "
                        "all further lines are dropped",
                        XEN_HANDOFF_GUEST_LOG_MAX / 1024);
        }
    }
    log->len = 0;
}

void xen_handoff_guest_log_end(XenHandoffGuestLog *log)
{
    if (log->len) {
        end_line(log);
    }
}

void xen_handoff_guest_log_byte(XenHandoffGuestLog *log, uint8_t c)
{
    if (c == '\n') {
        xen_handoff_guest_log_end(log);
    } else if (c != '\r') {
        log->line[log->len++] = c == '\t' ? ' ' : g_ascii_isprint(c) ? c : '?';
        if (log->len == XEN_HANDOFF_GUEST_LINE) {
            end_line(log);
        }
    }
}

/*
 * libqos: what the device xen-fw-handoff tells of itself
 *
 * All that tests read of it, they read with these functions.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef LIBQOS_XEN_HANDOFF_H
#define LIBQOS_XEN_HANDOFF_H

#include "../libqtest.h"
#include "qobject/qobject.h"

/* The device as tests have it, but for further properties */
#define QXEN_HANDOFF "-device xen-fw-handoff,id=ho"

/**
 * qxen_handoff_get:
 * @qts: a QEMU
 * @name: "state", "announcement", "connections" or one of the counters
 *
 * Returns: what the device tells, for qobject_unref(); NULL if QEMU has no such
 * device
 */
QObject *qxen_handoff_get(QTestState *qts, const char *name);

/**
 * qxen_handoff_string:
 * @qts: a QEMU with the device
 * @name: "state" or "announcement"
 *
 * Returns: what the device tells; g_free() it
 */
char *qxen_handoff_string(QTestState *qts, const char *name);

/**
 * qxen_handoff_count:
 * @qts: a QEMU with the device
 * @name: of a counter: "handed-off"
 *
 * Returns: what the device tells
 */
int64_t qxen_handoff_count(QTestState *qts, const char *name);

/**
 * qxen_handoff_is_armed:
 * @qts: a QEMU
 *
 * Returns: whether there is the device, and it waits for an announcement
 */
bool qxen_handoff_is_armed(QTestState *qts);

#endif

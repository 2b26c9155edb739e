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
#include "qobject/qdict.h"

/* The device as tests have it, but for further properties */
#define QXEN_HANDOFF "-device xen-fw-handoff,id=ho"

/**
 * qxen_handoff_query:
 * @qts: a QEMU
 *
 * Returns: the answer to query-xen-fw-handoff, for qobject_unref(); NULL if
 * there is no such device
 */
QDict *qxen_handoff_query(QTestState *qts);

/**
 * qxen_handoff_get:
 * @qts: a QEMU
 * @name: of a member of the same: "state"
 *
 * Returns: that member, for qobject_unref(); NULL if it is not there
 */
QObject *qxen_handoff_get(QTestState *qts, const char *name);

/**
 * qxen_handoff_string:
 * @qts: a QEMU with the device
 * @name: "state" or "announcement"
 *
 * Returns: what the query says, "" if nothing; g_free() it
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

/**
 * qxen_handoff_await:
 * @qts: a QEMU with the device
 *
 * Wait for the end of a handoff for which no vCPU is held, because the OS was
 * noticed by HVM_PARAM_CALLBACK_IRQ.
 */
void qxen_handoff_await(QTestState *qts);

#endif

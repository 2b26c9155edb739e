/*
 * libqos: what the device xen-fw-handoff tells of itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "xen-handoff.h"

QObject *qxen_handoff_get(QTestState *qts, const char *name)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-get', 'arguments': {"
                           " 'path': '/machine/peripheral/ho',"
                           " 'property': %s}}", name);
    QObject *value = qdict_get(rsp, "return");

    if (value) {
        qobject_ref(value);
    }
    qobject_unref(rsp);
    return value;
}

char *qxen_handoff_string(QTestState *qts, const char *name)
{
    QObject *value = qxen_handoff_get(qts, name);
    char *string;

    g_assert_nonnull(value);
    string = g_strdup(qstring_get_str(qobject_to(QString, value)));
    qobject_unref(value);
    return string;
}

int64_t qxen_handoff_count(QTestState *qts, const char *name)
{
    QObject *value = qxen_handoff_get(qts, name);
    int64_t count;

    g_assert_nonnull(value);
    count = qnum_get_int(qobject_to(QNum, value));
    qobject_unref(value);
    return count;
}

bool qxen_handoff_is_armed(QTestState *qts)
{
    QObject *state = qxen_handoff_get(qts, "state");
    bool armed = state && !strcmp(qstring_get_str(qobject_to(QString, state)),
                                  "armed");

    qobject_unref(state);
    return armed;
}

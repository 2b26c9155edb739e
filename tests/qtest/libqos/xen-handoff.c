/*
 * libqos: what the device xen-fw-handoff tells of itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "xen-frontend.h"
#include "xen-handoff.h"

/* The member "return" of @rsp, which is given up */
static QObject *returned(QDict *rsp)
{
    QObject *value = qobject_ref(qdict_get(rsp, "return"));

    qobject_unref(rsp);
    return value;
}

QDict *qxen_handoff_query(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-xen-fw-handoff'}");

    return qobject_to(QDict, returned(rsp));
}

QObject *qxen_handoff_get(QTestState *qts, const char *name)
{
    QDict *info = qxen_handoff_query(qts);
    QObject *value = info ? qobject_ref(qdict_get(info, name)) : NULL;

    qobject_unref(info);
    return value;
}

char *qxen_handoff_string(QTestState *qts, const char *name)
{
    QObject *value = qxen_handoff_get(qts, name);
    char *string = g_strdup(value ? qstring_get_str(qobject_to(QString, value))
                                  : "");

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

void qxen_handoff_await(QTestState *qts)
{
    g_autofree char *state = NULL;

    state = qxen_handoff_string(qts, "state");
    while (!strcmp(state, "handing-off")) {
        if (qxen_turn) {
            qxen_turn(true);
        }
        g_free(state);
        state = qxen_handoff_string(qts, "state");
    }
}

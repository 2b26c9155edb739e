/*
 * Unit tests of the Xen firmware handoff's ledger: no Xen, no devices.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen_fw_handoff_ledger.h"

#define VBD "vbd/51712"

static XenFwHandoffSnapshot *at_rest(void)
{
    XenFwHandoffSnapshot *seen =
        xen_fw_handoff_snapshot_new(XenbusStateInitialising);

    g_assert_true(xen_fw_handoff_snapshot_add(
        seen, "backend", "/local/domain/0/backend/vbd/1/51712"));
    g_assert_true(xen_fw_handoff_snapshot_add(seen, "backend-id", "0"));
    return seen;
}

static XenFwHandoffSnapshot *connected(const char *ring_ref, const char *port)
{
    XenFwHandoffSnapshot *seen = at_rest();

    seen->state = XenbusStateConnected;
    g_assert_true(xen_fw_handoff_snapshot_add(seen, "ring-ref", ring_ref));
    g_assert_true(xen_fw_handoff_snapshot_add(seen, "event-channel", port));
    return seen;
}

static bool toolstack_wrote(XenFwHandoffLedger *l, const char *frontend,
                            const char *key)
{
    GHashTable *keys = xen_fw_handoff_ledger_toolstack_keys(l, frontend);

    return !keys || g_hash_table_contains(keys, key);
}

/* What the announcement decides; takes @seen over */
static XenFwHandoffLedgerOwner decide(XenFwHandoffLedger *l,
                                      XenFwHandoffSnapshot *seen,
                                      XenFwHandoffOs os)
{
    XenFwHandoffLedgerOwner owner =
        xen_fw_handoff_ledger_owner(l, VBD, seen, os);

    xen_fw_handoff_snapshot_free(seen);
    return owner;
}

/* A ledger that saw the device at rest and then the firmware connect it */
static XenFwHandoffLedger *after_firmware(void)
{
    XenFwHandoffLedger *l = xen_fw_handoff_ledger_new();

    g_assert_false(xen_fw_handoff_ledger_has(l, VBD));
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, VBD, at_rest(),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_NONE);
    g_assert_true(xen_fw_handoff_ledger_has(l, VBD));
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
    return l;
}

/* Linux: announces before it sets the parameter */
static void test_firmware_without_os(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
}

/* A loader that connects and starts the OS at once: no watch event yet */
static void test_firmware_not_seen_yet(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();

    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
}

/* FreeBSD: sets the parameter, announces, and only then attaches */
static void test_firmware_then_param(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
}

/* Every state that the firmware may leave behind, none that it may not */
static void test_states(void)
{
    for (int state = XenbusStateUnknown; state <= XenbusStateReconfigured;
         state++) {
        g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();
        bool torn_down = state >= XenbusStateInitWait &&
                         state <= XenbusStateClosed;

        g_assert_cmpint(
            decide(l, xen_fw_handoff_snapshot_new(state),
                   XEN_FW_HANDOFF_OS_ABSENT),
            ==, torn_down ? XEN_FW_HANDOFF_FIRMWARE : XEN_FW_HANDOFF_NONE);
    }
}

/* OpenBSD: sets the parameter, attaches, announces last */
static void test_os(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();

    xen_fw_handoff_ledger_update(l, VBD, at_rest(), XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
}

/* The same, but the watch event has not arrived */
static void test_os_not_seen_yet(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();

    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
    xen_fw_handoff_ledger_update(l, VBD, at_rest(), XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
}

/* An OS connects what the firmware left Connected: same refs, another port */
static void test_os_took_over(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    /* the event is still on its way */
    g_assert_cmpint(decide(l, connected("8", "9"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS_CHANGED);
    /* it has come, and even the same refs and port prove nothing any more */
    xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                 XEN_FW_HANDOFF_OS_PRESENT);
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS_CHANGED);
    /* from then on it is like any other */
    xen_fw_handoff_ledger_update(l, VBD, at_rest(), XEN_FW_HANDOFF_OS_PRESENT);
    xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                 XEN_FW_HANDOFF_OS_PRESENT);
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
}

/* Linux with xen_emul_unplug=never is in the middle of closing it */
static void test_os_is_closing(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();
    XenFwHandoffSnapshot *seen = connected("8", "5");

    seen->state = XenbusStateClosing;
    g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_PRESENT), ==,
                    XEN_FW_HANDOFF_OS_CHANGED);
}

/* One key more, one less, one other: changed */
static void test_every_key_counts(void)
{
    static const char *const change[][2] = {
        { "backend", "/local/domain/3/backend/vbd/1/51712" },
        { "queue-0/event-channel-tx", "7" },
        { "ring-ref", NULL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(change); i++) {
        g_autoptr(XenFwHandoffLedger) l = after_firmware();
        XenFwHandoffSnapshot *seen = connected("8", "5");

        if (change[i][1]) {
            xen_fw_handoff_snapshot_add(seen, change[i][0], change[i][1]);
        } else {
            g_hash_table_remove(seen->keys, change[i][0]);
        }
        g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_PRESENT), ==,
                        XEN_FW_HANDOFF_OS_CHANGED);
    }
}

/* A firmware that closes properly drops out, and may connect again */
static void test_firmware_closes(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    g_assert_cmpint(xen_fw_handoff_ledger_update(l, VBD, at_rest(),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_NONE);
    g_assert_cmpint(decide(l, at_rest(), XEN_FW_HANDOFF_OS_ABSENT), ==,
                    XEN_FW_HANDOFF_NONE);
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS);
    xen_fw_handoff_ledger_update(l, VBD, connected("9", "6"),
                                 XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpint(decide(l, connected("9", "6"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
}

/* What a firmware leaves that says Initialising */
static void test_half_closed(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();
    XenFwHandoffSnapshot *seen;
    int backend;

    for (backend = XenbusStateUnknown; backend <= XenbusStateClosed;
         backend++) {
        seen = at_rest();
        seen->backend_state = backend;
        g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_ABSENT), ==,
                        backend > XenbusStateInitWait ? XEN_FW_HANDOFF_FIRMWARE
                                                      : XEN_FW_HANDOFF_NONE);
        /* with an OS it is that one's to connect */
        seen = at_rest();
        seen->backend_state = backend;
        g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_PRESENT), ==,
                        XEN_FW_HANDOFF_NONE);
    }
    seen = connected("8", "5");
    seen->state = XenbusStateInitialising;
    g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_ABSENT), ==,
                    XEN_FW_HANDOFF_FIRMWARE);
    seen = at_rest();
    seen->ring_in_use = true;
    g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_ABSENT), ==,
                    XEN_FW_HANDOFF_FIRMWARE);
    /* no state of a frontend, but of one that has a backend */
    seen = at_rest();
    seen->state = XenbusStateUnknown;
    seen->backend_state = XenbusStateInitWait;
    g_assert_cmpint(decide(l, seen, XEN_FW_HANDOFF_OS_ABSENT), ==,
                    XEN_FW_HANDOFF_FIRMWARE);
}

static bool has_ring(XenFwHandoffLedger *l, XenFwHandoffSnapshot *seen,
                     unsigned int ref)
{
    g_autoptr(GHashTable) rings = xen_fw_handoff_ledger_rings(l, VBD, seen);

    xen_fw_handoff_snapshot_free(seen);
    return g_hash_table_contains(rings, GUINT_TO_POINTER(ref));
}

/* Every ring that the firmware has named, of whatever key, now or before */
static void test_rings(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();
    XenFwHandoffSnapshot *seen = at_rest();

    xen_fw_handoff_snapshot_add(seen, "ring-ref0", "20");
    xen_fw_handoff_snapshot_add(seen, "queue-1/tx-ring-ref", "21");
    xen_fw_handoff_ledger_update(l, VBD, seen, XEN_FW_HANDOFF_OS_ABSENT);
    xen_fw_handoff_ledger_update(l, VBD, connected("30", "5"),
                                 XEN_FW_HANDOFF_OS_PRESENT);
    for (unsigned int ref = 0; ref < 40; ref++) {
        g_assert_cmpint(has_ring(l, at_rest(), ref), ==,
                        ref == 8 || ref == 20 || ref == 21);
    }
    g_assert_true(has_ring(l, connected("31", "5"), 31));
    xen_fw_handoff_ledger_remove(l, VBD);
    g_assert_false(has_ring(l, at_rest(), 8));
}

/* A parameter that cannot be read: own nothing */
static void test_param_unreadable(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_UNKNOWN),
                    ==, XEN_FW_HANDOFF_UNKNOWN);
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_UNKNOWN),
                    ==, XEN_FW_HANDOFF_UNKNOWN);
    /* once in doubt, an OS that comes up later does not make it certain */
    g_assert_cmpint(decide(l, connected("8", "5"), XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_UNKNOWN);
}

/* The toolstack's keys are those of the first sight, whatever comes later */
static void test_toolstack_keys(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();
    XenFwHandoffSnapshot *seen = at_rest();

    g_assert_true(toolstack_wrote(l, VBD, "backend"));
    g_assert_true(toolstack_wrote(l, VBD, "backend-id"));
    g_assert_false(toolstack_wrote(l, VBD, "ring-ref"));
    g_assert_false(toolstack_wrote(l, VBD, "queue-0"));

    xen_fw_handoff_snapshot_add(seen, "queue-0/tx-ring-ref", "8");
    xen_fw_handoff_ledger_update(l, VBD, seen, XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_false(toolstack_wrote(l, VBD, "queue-0"));

    /* unplugged and plugged again: a new frontend, with this sub-directory */
    xen_fw_handoff_ledger_remove(l, VBD);
    seen = at_rest();
    xen_fw_handoff_snapshot_add(seen, "queue-0/tx-ring-ref", "8");
    xen_fw_handoff_ledger_update(l, VBD, seen, XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_true(toolstack_wrote(l, VBD, "queue-0"));
    g_assert_false(toolstack_wrote(l, VBD, "queue-0/tx-ring-ref"));
}

/* Made key by key: the first sight that counts is the one with a state */
static void test_toolstack_keys_piecemeal(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();

    xen_fw_handoff_ledger_update(
        l, VBD, xen_fw_handoff_snapshot_new(XenbusStateUnknown),
        XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_false(xen_fw_handoff_ledger_has(l, VBD));
    xen_fw_handoff_ledger_update(l, VBD, at_rest(), XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_true(toolstack_wrote(l, VBD, "backend"));
    g_assert_false(toolstack_wrote(l, VBD, "ring-ref"));
}

/* Never seen at rest: nothing of it may be removed */
static void test_toolstack_keys_unknown(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();

    g_assert_true(toolstack_wrote(l, VBD, "ring-ref"));
    xen_fw_handoff_ledger_update(l, VBD, connected("8", "5"),
                                 XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_true(toolstack_wrote(l, VBD, "ring-ref"));
}

/* How many connections there are, whatever happens to them */
static void test_connections(void)
{
    g_autoptr(XenFwHandoffLedger) l = after_firmware();

    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 1);
    xen_fw_handoff_ledger_update(l, VBD, connected("9", "6"),
                                 XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 1);
    xen_fw_handoff_ledger_update(l, "vif/0", connected("12", "7"),
                                 XEN_FW_HANDOFF_OS_ABSENT);
    xen_fw_handoff_ledger_update(l, "vif/01", connected("12", "7"),
                                 XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 3);
    xen_fw_handoff_ledger_remove(l, "vif/0");
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 2);
    xen_fw_handoff_ledger_update(l, VBD, at_rest(), XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 1);
    xen_fw_handoff_ledger_update(l, "vif/01", connected("12", "7"),
                                 XEN_FW_HANDOFF_OS_PRESENT);
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 0);
    g_assert_true(xen_fw_handoff_ledger_has(l, VBD));
    xen_fw_handoff_ledger_remove(l, "v");
    g_assert_true(xen_fw_handoff_ledger_has(l, VBD));
    xen_fw_handoff_ledger_remove(l, "vbd");
    g_assert_false(xen_fw_handoff_ledger_has(l, VBD));
    g_assert_true(xen_fw_handoff_ledger_has(l, "vif/01"));
    xen_fw_handoff_ledger_remove(l, "");
    g_assert_false(xen_fw_handoff_ledger_has(l, "vif/01"));
}

/* A guest that writes without end gets an end */
static void test_limits(void)
{
    g_autoptr(XenFwHandoffLedger) l = xen_fw_handoff_ledger_new();
    XenFwHandoffSnapshot *seen = connected("8", "5");
    g_autofree char *name = g_strnfill(XEN_FW_HANDOFF_MAX_VALUE + 1, 'x');

    g_assert_false(xen_fw_handoff_snapshot_add(seen, "long", name));
    g_assert_true(seen->too_much);
    seen->too_much = false;
    g_assert_false(xen_fw_handoff_snapshot_add(seen, name, ""));
    g_assert_true(seen->too_much);
    seen->too_much = false;
    for (int i = g_hash_table_size(seen->keys); i < XEN_FW_HANDOFF_MAX_KEYS;
         i++) {
        g_autofree char *key = g_strdup_printf("key-%d", i);

        g_assert_true(xen_fw_handoff_snapshot_add(seen, key, ""));
    }
    g_assert_false(xen_fw_handoff_snapshot_add(seen, "one-more", ""));
    g_assert_true(seen->too_much);

    /* too much to compare is never the same */
    xen_fw_handoff_ledger_update(l, VBD, seen, XEN_FW_HANDOFF_OS_ABSENT);
    g_assert_cmpint(xen_fw_handoff_ledger_owner(l, VBD, seen,
                                                XEN_FW_HANDOFF_OS_PRESENT),
                    ==, XEN_FW_HANDOFF_OS_CHANGED);

    for (int i = 1; i < XEN_FW_HANDOFF_MAX_FRONTENDS; i++) {
        g_autofree char *frontend = g_strdup_printf("vbd/%d", i);

        g_assert_cmpint(xen_fw_handoff_ledger_update(l, frontend,
                                                     connected("8", "5"),
                                                     XEN_FW_HANDOFF_OS_ABSENT),
                        ==, XEN_FW_HANDOFF_FIRMWARE);
    }
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, "vbd/more",
                                                 connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_NONE);
    g_assert_false(xen_fw_handoff_ledger_has(l, "vbd/more"));

    /* nor is there room for more when those have gone, but for themselves */
    xen_fw_handoff_ledger_remove(l, "");
    g_assert_cmpuint(xen_fw_handoff_ledger_connections(l), ==, 0);
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, "vbd/more",
                                                 connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_NONE);
    g_assert_cmpint(xen_fw_handoff_ledger_update(l, "vbd/1",
                                                 connected("8", "5"),
                                                 XEN_FW_HANDOFF_OS_ABSENT),
                    ==, XEN_FW_HANDOFF_FIRMWARE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-handoff/ledger/firmware/without-os",
                    test_firmware_without_os);
    g_test_add_func("/xen-handoff/ledger/firmware/not-seen-yet",
                    test_firmware_not_seen_yet);
    g_test_add_func("/xen-handoff/ledger/firmware/then-param",
                    test_firmware_then_param);
    g_test_add_func("/xen-handoff/ledger/firmware/states", test_states);
    g_test_add_func("/xen-handoff/ledger/firmware/closes",
                    test_firmware_closes);
    g_test_add_func("/xen-handoff/ledger/firmware/half-closed",
                    test_half_closed);
    g_test_add_func("/xen-handoff/ledger/firmware/rings", test_rings);
    g_test_add_func("/xen-handoff/ledger/os/attached", test_os);
    g_test_add_func("/xen-handoff/ledger/os/not-seen-yet",
                    test_os_not_seen_yet);
    g_test_add_func("/xen-handoff/ledger/os/took-over", test_os_took_over);
    g_test_add_func("/xen-handoff/ledger/os/is-closing", test_os_is_closing);
    g_test_add_func("/xen-handoff/ledger/os/every-key-counts",
                    test_every_key_counts);
    g_test_add_func("/xen-handoff/ledger/param-unreadable",
                    test_param_unreadable);
    g_test_add_func("/xen-handoff/ledger/keys/toolstack",
                    test_toolstack_keys);
    g_test_add_func("/xen-handoff/ledger/keys/piecemeal",
                    test_toolstack_keys_piecemeal);
    g_test_add_func("/xen-handoff/ledger/keys/unknown",
                    test_toolstack_keys_unknown);
    g_test_add_func("/xen-handoff/ledger/connections", test_connections);
    g_test_add_func("/xen-handoff/ledger/limits", test_limits);
    return g_test_run();
}

/*
 * Whose connection is it, in every order of events
 *
 * A small machine of two frontends, their firmware, OS and toolstack is led
 * through all states that it can reach.  The real ledger looks on, as the
 * device would: its events come late, are one for several, or get lost, the
 * parameter changes or cannot be read between two looks, and the announcement
 * may come at any time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
/* The ledger itself: a state is left in many ways, so it has to be copied */
#include "../../hw/xen/xen_fw_handoff_ledger.c"

#define FRONTENDS 2

static const char *const names[] = { "vbd/51712", "vif/0" };

typedef enum Truth { NOBODY, FIRMWARE, OS } Truth;

/* What xenstore has of a frontend: @ring 0 is no key */
typedef struct Look {
    uint8_t state, ring, backend;
} Look;

typedef struct Side {
    Look now;
    uint8_t truth;              /* who made what is not at rest */
    bool event;                 /* is on the way */
    bool lost;                  /* one has been */
    bool settled;               /* as seen while the parameter was 0 */
    uint32_t firmware;          /* a set: as what it has ever left it */
} Side;

typedef struct World {
    Side side[FRONTENDS];
    bool param;
    int8_t looking;             /* at which frontend, -1: at none */
    Look look;                  /* what was read, the parameter is not yet */
} World;

typedef struct State {
    World world;
    XenFwHandoffLedger *ledger;
    struct State *before;
    const char *act;
    int on, depth;
} State;

typedef struct Search {
    int frontends, depth;
    GHashTable *known;          /* a set of fingerprints */
    GQueue todo;
    GPtrArray *states;
    unsigned int steps, alike;
} Search;

/* --- the ledger, copied and written down --------------------------------- */

static XenFwHandoffSnapshot *copy_snapshot(const XenFwHandoffSnapshot *from)
{
    XenFwHandoffSnapshot *to = xen_fw_handoff_snapshot_new(from->state);
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, from->keys);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        xen_fw_handoff_snapshot_add(to, key, value);
    }
    to->backend_state = from->backend_state;
    return to;
}

static XenFwHandoffLedger *copy_ledger(const XenFwHandoffLedger *from)
{
    XenFwHandoffLedger *to = xen_fw_handoff_ledger_new();
    GHashTableIter iter, refs;
    gpointer name, value, ref;

    to->connections = from->connections;
    to->ever_connected = from->ever_connected;
    g_hash_table_iter_init(&iter, from->frontends);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        Frontend *f = value, *copy = g_new0(Frontend, 1);

        *copy = *f;
        copy->toolstack_keys = f->toolstack_keys
            ? g_hash_table_ref(f->toolstack_keys) : NULL;
        copy->firmware = f->firmware ? copy_snapshot(f->firmware) : NULL;
        copy->rings = g_hash_table_new(NULL, NULL);
        g_hash_table_iter_init(&refs, f->rings);
        while (g_hash_table_iter_next(&refs, &ref, NULL)) {
            g_hash_table_add(copy->rings, ref);
        }
        g_hash_table_insert(to->frontends, g_strdup(name), copy);
    }
    return to;
}

static char *fingerprint(const State *s)
{
    GString *text = g_string_new("");
    const uint8_t *world = (const uint8_t *)&s->world;

    for (size_t i = 0; i < sizeof(s->world); i++) {
        g_string_append_printf(text, "%x.", world[i]);
    }
    for (int i = 0; i < FRONTENDS; i++) {
        Frontend *f = g_hash_table_lookup(s->ledger->frontends, names[i]);

        if (!f) {
            g_string_append(text, "-");
            continue;
        }
        g_string_append_printf(
            text, "%d%d%d", f->owner, f->gone,
            f->toolstack_keys ? g_hash_table_size(f->toolstack_keys) : 9);
        for (int ref = 1; ref <= 2; ref++) {
            g_string_append_c(text, g_hash_table_contains(
                f->rings, GINT_TO_POINTER(ref)) ? 'r' : ' ');
        }
        if (f->firmware) {
            const char *ring = g_hash_table_lookup(f->firmware->keys,
                                                   "ring-ref");

            g_string_append_printf(text, "%d%d%s", f->firmware->state,
                                   f->firmware->backend_state, ring ?: "-");
        }
        g_string_append_c(text, '/');
    }
    return g_string_free(text, false);
}

/* --- what a look finds ---------------------------------------------------- */

static XenFwHandoffSnapshot *snapshot(Look look)
{
    XenFwHandoffSnapshot *seen = xen_fw_handoff_snapshot_new(look.state);

    xen_fw_handoff_snapshot_add(seen, "backend", "b");
    if (look.ring) {
        g_autofree char *ref = g_strdup_printf("%d", look.ring);

        xen_fw_handoff_snapshot_add(seen, "ring-ref", ref);
    }
    if (!xen_fw_handoff_is_connection(look.state)) {
        seen->backend_state = look.backend;
    }
    return seen;
}

static bool same(Look a, Look b)
{
    return a.state == b.state && a.ring == b.ring && a.backend == b.backend;
}

static uint32_t in_set(Look look)
{
    return 1u << (look.state * 4 + look.ring);
}

static bool at_rest(Look look)
{
    return same(look, (Look) { XenbusStateInitialising, 0,
                               XenbusStateInitWait });
}

/* --- what can be wrong ---------------------------------------------------- */

static void G_NORETURN fail(const State *s, int on, const char *why)
{
    for (; s->before; s = s->before) {
        g_printerr("  before that: %s %s\n", s->act, names[s->on]);
    }
    g_error("%s: %s", names[on], why);
}

static void check(Search *search, const State *s)
{
    for (int i = 0; i < FRONTENDS; i++) {
        const Side *side = &s->world.side[i];
        g_autoptr(XenFwHandoffSnapshot) seen = snapshot(side->now);
        XenFwHandoffOs os = s->world.param ? XEN_FW_HANDOFF_OS_PRESENT
                                           : XEN_FW_HANDOFF_OS_ABSENT;
        bool torn;

        if (side->now.state == XenbusStateUnknown) {
            continue;
        }
        g_assert_cmpint(
            xen_fw_handoff_ledger_owner(s->ledger, names[i], seen,
                                        XEN_FW_HANDOFF_OS_UNKNOWN),
            !=, XEN_FW_HANDOFF_FIRMWARE);
        torn = xen_fw_handoff_ledger_owner(s->ledger, names[i], seen, os) ==
               XEN_FW_HANDOFF_FIRMWARE;
        if (torn && side->truth == OS) {
            if (!(side->firmware & in_set(side->now)) ||
                !(side->event || side->lost)) {
                fail(s, i, "what the OS made is torn down");
            }
            search->alike++;
        }
        if (torn && at_rest(side->now)) {
            fail(s, i, "there is nothing to tear down");
        }
        if (!torn && side->truth == FIRMWARE &&
            (!s->world.param || (side->settled && !side->event))) {
            fail(s, i, "what the firmware made is left");
        }
    }
}

/* --- what can happen ------------------------------------------------------ */

static State *after(State *s, const char *act, int on)
{
    State *next = g_new0(State, 1);

    memcpy(&next->world, &s->world, sizeof(s->world));
    next->ledger = copy_ledger(s->ledger);
    next->before = s;
    next->act = act;
    next->on = on;
    next->depth = s->depth + 1;
    return next;
}

static void reached(Search *search, State *s)
{
    char *print = fingerprint(s);

    search->steps++;
    if (!g_hash_table_add(search->known, print)) {
        xen_fw_handoff_ledger_free(s->ledger);
        g_free(s);
        return;
    }
    g_ptr_array_add(search->states, s);
    if (s->world.looking < 0) {
        check(search, s);
    }
    if (s->depth < search->depth) {
        g_queue_push_tail(&search->todo, s);
    } else {
        g_clear_pointer(&s->ledger, xen_fw_handoff_ledger_free);
    }
}

static void change(Search *search, State *s, const char *act, int on,
                   Truth truth, int state, int ring, int backend)
{
    State *next = after(s, act, on);
    Side *side = &next->world.side[on];

    side->truth = truth;
    side->now = (Look) { state, ring, backend };
    if (truth == FIRMWARE) {
        side->firmware |= in_set(side->now);
    }
    side->event = true;
    side->settled = false;
    reached(search, next);
}

static void look(Search *search, State *s, const char *act, XenFwHandoffOs os)
{
    int on = s->world.looking;
    State *next = after(s, act, on);
    Side *side = &next->world.side[on];
    Look look = s->world.look;

    if (look.state == XenbusStateUnknown) {
        xen_fw_handoff_ledger_remove(next->ledger, names[on]);
    } else {
        xen_fw_handoff_ledger_update(next->ledger, names[on], snapshot(look),
                                     os);
        side->settled |= os == XEN_FW_HANDOFF_OS_ABSENT &&
                         xen_fw_handoff_is_connection(look.state) &&
                         same(look, side->now);
        side->settled &= os == XEN_FW_HANDOFF_OS_ABSENT;
    }
    next->world.looking = -1;
    memset(&next->world.look, 0, sizeof(next->world.look));
    reached(search, next);
}

static void expand_frontend(Search *search, State *s, int i)
{
    const Side *side = &s->world.side[i];
    Look now = side->now;

    if (side->event && s->world.looking < 0) {
        State *next = after(s, "QEMU reads", i);

        next->world.side[i].event = false;
        next->world.looking = i;
        next->world.look = now;
        reached(search, next);

        next = after(s, "the event is lost of", i);
        next->world.side[i].event = false;
        next->world.side[i].lost = true;
        reached(search, next);
    }
    if (now.state == XenbusStateUnknown) {
        change(search, s, "the toolstack attaches", i, NOBODY,
               XenbusStateInitialising, 0, XenbusStateInitWait);
        return;
    }
    change(search, s, "the toolstack detaches", i, NOBODY, XenbusStateUnknown,
           0, XenbusStateUnknown);
    if (!s->world.param) {
        for (int ring = 1; ring <= 2; ring++) {
            change(search, s, "the firmware connects", i, FIRMWARE,
                   XenbusStateConnected, ring, XenbusStateConnected);
        }
        if (now.state == XenbusStateConnected) {
            change(search, s, "the firmware closes", i, FIRMWARE,
                   XenbusStateClosed, now.ring, XenbusStateClosed);
            change(search, s, "the firmware stops half-way with", i, FIRMWARE,
                   XenbusStateInitialising, now.ring, now.backend);
        }
        change(search, s, "the firmware restores", i, NOBODY,
               XenbusStateInitialising, 0, XenbusStateInitWait);
    } else {
        change(search, s, "the OS closes", i, OS, XenbusStateClosed, now.ring,
               XenbusStateClosed);
        if (now.state == XenbusStateClosed) {
            change(search, s, "the OS restores", i, NOBODY,
                   XenbusStateInitialising, 0, XenbusStateInitWait);
        }
        if (now.state == XenbusStateInitialising) {
            for (int ring = 1; ring <= 2; ring++) {
                change(search, s, "the OS connects", i, OS,
                       XenbusStateConnected, ring, XenbusStateConnected);
            }
        }
    }
}

static void expand(Search *search, State *s)
{
    for (int i = 0; i < search->frontends; i++) {
        expand_frontend(search, s, i);
    }
    if (!s->world.param) {
        State *next = after(s, "the OS sets the parameter,", 0);

        next->world.param = true;
        reached(search, next);
    }
    if (s->world.looking >= 0) {
        look(search, s, "QEMU reads the parameter for",
             s->world.param ? XEN_FW_HANDOFF_OS_PRESENT
                            : XEN_FW_HANDOFF_OS_ABSENT);
        look(search, s, "QEMU cannot read the parameter for",
             XEN_FW_HANDOFF_OS_UNKNOWN);
    }
    g_clear_pointer(&s->ledger, xen_fw_handoff_ledger_free);
}

static void search(int frontends, int depth)
{
    Search search = {
        .frontends = frontends,
        .depth = depth,
        .known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .states = g_ptr_array_new_with_free_func(g_free),
    };
    State *s = g_new0(State, 1);

    s->ledger = xen_fw_handoff_ledger_new();
    s->world.looking = -1;
    reached(&search, s);
    while ((s = g_queue_pop_head(&search.todo))) {
        expand(&search, s);
    }
    g_test_message("%u states, %u steps, in %u of them an OS's connection "
                   "equals the firmware's", search.states->len, search.steps,
                   search.alike);
    g_ptr_array_unref(search.states);
    g_hash_table_unref(search.known);
}

/* All that can ever happen to one frontend */
static void test_one(void)
{
    search(1, INT_MAX);
}

/* And to two, in so many steps */
static void test_two(void)
{
    search(2, 8);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-handoff/model/one", test_one);
    g_test_add_func("/xen-handoff/model/two", test_two);
    return g_test_run();
}

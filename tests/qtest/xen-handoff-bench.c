/*
 * Benchmark of the Xen firmware handoff, without Xen
 *
 * Prints one JSON object per line and measurement, raw: scripts/bench.py makes
 * medians and a table of them.  Times of a port write are taken inside of QEMU,
 * so that the test's socket is not in them.  xenstore is the loopback's, a hash
 * table in QEMU's memory: its operations are counted, since a real one takes
 * its time for each of them.
 *
 *   QTEST_QEMU_BINARY=... xen-handoff-bench [--runs N] [--devices N]
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/xen-frontend.h"
#include "libqos/xen-handoff.h"

/* A handoff of that many takes the test minutes to prepare, not the device */
#define MANY          1000
#define RUNS_OF_MANY  3

/* Writes are measured in batches, and the best batch counts */
#define BATCHES       10
#define BATCH         10000

static int runs = 10, max_devices = 1024;

static QXenGuest *start(bool handoff, const char *devices)
{
    QXenGuest *g =
        qxen_machine_start("%s %s", handoff ? QXEN_HANDOFF ",timeout-ms=60000"
                                            : "", devices);

    g->no_quota = true;
    return g;
}

/* What QEMU has asked of xenstore: "open=1 watch=5 ..." */
static char *ops_so_far(QXenGuest *g)
{
    return qxen_ask(g, "ops");
}

/* So many writes to a port, in nanoseconds; @ops as they are at their end */
static int64_t out(QXenGuest *g, unsigned int size, unsigned int port,
                   unsigned int count, char **ops)
{
    g_autofree char *result = qxen_ask(g, "port-writes %u %u %u", size, port,
                                       count);
    char *rest;
    int64_t ns;

    ns = g_ascii_strtoll(result + strlen("ns="), &rest, 10);
    if (ops) {
        *ops = g_strdup(rest + 1);
    }
    return ns;
}

static unsigned int count_ops(const char *ops)
{
    unsigned int n = 0;

    while ((ops = strchr(ops, '='))) {
        n += atoi(++ops);
    }
    return n;
}

/* The difference between two results of ops_so_far(), as JSON */
static char *ops_between(const char *before, const char *after)
{
    g_auto(GStrv) was = g_strsplit(before, " ", 0);
    g_auto(GStrv) is = g_strsplit(after, " ", 0);
    GString *s = g_string_new("{");

    for (size_t i = 0; is[i]; i++) {
        char *equals = strchr(is[i], '=');
        int64_t n = g_ascii_strtoll(equals + 1, NULL, 10) -
                    g_ascii_strtoll(strchr(was[i], '=') + 1, NULL, 10);

        g_string_append_printf(s, "%s\"%.*s\": %" PRId64, i ? ", " : "",
                               (int)(equals - is[i]), is[i], n);
    }
    g_string_append(s, "}");
    return g_string_free(s, false);
}

/* --- a handoff of so many devices ----------------------------------------- */

static const struct Backend {
    const char *name;
    bool local;
    const char *options;        /* of xen-loopback's command "backend" */
} backends[] = {
    { "in-process", true },
    { "remote", false, "" },
    { "remote-5ms", false, "delay-us=5000" },
};

static char *device_name(const struct Backend *backend, unsigned int i)
{
    if (!backend->local) {
        return g_strdup_printf("vbd/%u", 800000 + i);
    }
    /* as xen-block numbers its vdev=d<i> */
    return g_strdup_printf("vbd/%u", i < 16 ? 202 << 8 | i << 4
                                            : 1 << 28 | i << 8);
}

static QXenGuest *start_with(const struct Backend *backend,
                             unsigned int devices, bool handoff)
{
    g_autoptr(GString) args = g_string_new("");
    QXenGuest *g;

    for (unsigned int i = 0; i < devices && backend->local; i++) {
        g_string_append_printf(args, "-blockdev null-co,node-name=d%u "
                               "-device xen-disk,drive=d%u,vdev=d%u ", i, i, i);
    }
    g = start(handoff, args->str);
    for (unsigned int i = 0; i < devices && !backend->local; i++) {
        g_autofree char *name = device_name(backend, i);

        qxen_backend_new(g, name, backend->options);
    }
    qxen_settle(g);
    return g;
}

/* The firmware: all of them, then it waits for all of them */
static void connect_all(QXenGuest *g, const struct Backend *backend,
                        unsigned int devices)
{
    const QXenConnect how = { .over = true, .no_wait = true };

    for (unsigned int i = 0; i < devices; i++) {
        g_autofree char *name = device_name(backend, i);
        g_autofree char *state = g_strdup_printf(QXEN_DEVICES "%s/state", name);

        qxen_vbd_abandon(qxen_vbd_connect(g, name, &how));
    }
    while (qxen_stat(g, "maps") < devices) {
        g_usleep(1000);
    }
    for (unsigned int i = 0; i < devices; i++) {
        g_autofree char *name = device_name(backend, i);
        g_autofree char *state = g_strdup_printf(QXEN_DEVICES "%s/state", name);

        qxen_guest_write(g, state, "%d", XenbusStateConnected);
    }
    qxen_settle(g);
    g_assert_cmpuint(qxen_stat(g, "maps"), ==, devices);
}

static void measure_handoff(const struct Backend *backend, unsigned int devices)
{
    QXenGuest *g = start_with(backend, devices, true);
    unsigned int n = devices < MANY ? runs : MIN(runs, RUNS_OF_MANY);
    /* what a guest has to give away is there again when all is handed off */
    const QXenGuest fresh = *g;

    for (unsigned int run = 0; run < n; run++) {
        g_autofree char *before = NULL, *after = NULL, *settled = NULL;
        g_autofree char *during_ops = NULL, *after_ops = NULL;
        int64_t ns, since;

        *g = fresh;
        qtest_system_reset(g->qts);
        connect_all(g, backend, devices);
        before = ops_so_far(g);
        ns = out(g, 2, 0x12, 1, &after);
        since = g_get_monotonic_time();
        qxen_settle(g);
        since = g_get_monotonic_time() - since;
        settled = ops_so_far(g);
        if (qxen_handoff_count(g->qts, "handed-off") != devices) {
            g_error("not all were handed off, see %s", g->log);
        }
        g_assert_cmpuint(qxen_stat(g, "maps"), ==, 0);
        during_ops = ops_between(before, after);
        after_ops = ops_between(after, settled);
        printf("{\"what\": \"handoff\", \"backend\": \"%s\", \"devices\": %u, "
               "\"run\": %u, \"ns\": %" PRId64 ", \"tail_us\": %" PRId64 ", "
               "\"ops\": %s, \"tail_ops\": %s}\n", backend->name, devices, run,
               ns, since, during_ops, after_ops);
        fflush(stdout);
    }
    qxen_machine_stop(g);
}

/* Which operations, for one frontend, in their order */
static void measure_operations(const struct Backend *backend)
{
    QXenGuest *g = start_with(backend, 1, true);
    g_autofree char *before = NULL, *after = NULL, *list = NULL, *all = NULL;
    g_auto(GStrv) op = NULL;

    connect_all(g, backend, 1);
    before = ops_so_far(g);
    qxen_cmd(g, "record on");
    out(g, 2, 0x12, 1, &after);
    qxen_settle(g);
    list = qxen_ask(g, "record off");
    op = g_strsplit(g_strstrip(list), "\n", 0);
    all = g_strjoinv("\", \"", op);
    printf("{\"what\": \"operations\", \"backend\": \"%s\", "
           "\"during\": %u, \"list\": [\"%s\"]}\n", backend->name,
           count_ops(after) - count_ops(before), all);
    fflush(stdout);
    qxen_machine_stop(g);
}

/* --- what is paid when there is nothing to do ----------------------------- */

#define ONE_DISK "-blockdev null-co,node-name=d0 " \
                 "-device xen-disk,drive=d0,vdev=xvda"

/* Each of many writes */
static double out_many(QXenGuest *g, unsigned int size, unsigned int port)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < BATCHES; i++) {
        best = MIN(best, out(g, size, port, BATCH, NULL));
    }
    return best / (double)BATCH;
}

static void measure_write(bool handoff, unsigned int run)
{
    QXenGuest *g = start(handoff, ONE_DISK);
    int64_t first, again = INT64_MAX, second, socket;
    g_autofree char *before = NULL, *after = NULL;
    double plain, log_byte;

    qxen_settle(g);
    before = ops_so_far(g);
    first = out(g, 2, 0x12, 1, &after);
    /* code and data are in the caches by now */
    for (int i = 0; i < BATCHES; i++) {
        qtest_system_reset(g->qts);
        qxen_settle(g);
        again = MIN(again, out(g, 2, 0x12, 1, NULL));
    }
    second = out(g, 2, 0x12, 1, NULL);
    plain = out_many(g, 2, 0x12);
    log_byte = out_many(g, 1, 0x12);
    socket = g_get_monotonic_time();
    for (int i = 0; i < 1000; i++) {
        /* not qxen_out(): one command of qtest is what is measured */
        qtest_outw(g->qts, 0x12, 3);
    }
    socket = g_get_monotonic_time() - socket;
    printf("{\"what\": \"write\", \"device\": %s, \"run\": %u, "
           "\"first_ns\": %" PRId64 ", \"again_ns\": %" PRId64 ", "
           "\"second_ns\": %" PRId64 ", "
           "\"plain_ns\": %.1f, \"log_byte_ns\": %.1f, "
           "\"socket_ns\": %" PRId64 ", \"first_ops\": %u}\n",
           handoff ? "true" : "false", run, first, again, second, plain,
           log_byte, socket, count_ops(after) - count_ops(before));
    fflush(stdout);
    qxen_machine_stop(g);
}

/* --- memory --------------------------------------------------------------- */

/* What QEMU has allocated and used, in KiB */
static unsigned int anonymous_memory(QXenGuest *g)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status",
                                            (int)qtest_pid(g->qts));
    g_autofree char *text = NULL;
    unsigned int kib;
    char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "RssAnon:");
    g_assert_nonnull(line);
    g_assert_cmpint(sscanf(line, "RssAnon: %u kB", &kib), ==, 1);
    return kib;
}

static void measure_memory(bool handoff, unsigned int devices, unsigned int run)
{
    const struct Backend *remote = &backends[1];
    QXenGuest *g = start_with(remote, devices, handoff);
    unsigned int rest = anonymous_memory(g), connected;

    connect_all(g, remote, devices);
    connected = anonymous_memory(g);
    printf("{\"what\": \"memory\", \"device\": %s, \"devices\": %u, "
           "\"run\": %u, \"rest_kib\": %u, \"connected_kib\": %u}\n",
           handoff ? "true" : "false", devices, run, rest, connected);
    fflush(stdout);
    qxen_machine_stop(g);
}

static void no_print(const char *text)
{
}

int main(int argc, char **argv)
{
    const GOptionEntry options[] = {
        { "runs", 0, 0, G_OPTION_ARG_INT, &runs, "of each measurement", "N" },
        { "devices", 0, 0, G_OPTION_ARG_INT, &max_devices, "at most", "N" },
        { }
    };
    GOptionContext *context = g_option_context_new(NULL);
    g_autoptr(GError) err = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &err)) {
        fprintf(stderr, "%s: %s\n", argv[0], err->message);
        return 2;
    }
    g_option_context_free(context);
    g_test_init(&argc, &argv, NULL);
    /* libqtest tells each QEMU's arguments */
    g_set_print_handler(no_print);

    for (int run = 0; run < runs; run++) {
        /* in turns: what else the machine does hits both */
        measure_write(false, run);
        measure_write(true, run);
    }
    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        measure_operations(&backends[i]);
        for (int devices = 1; devices <= max_devices; devices *= 4) {
            measure_handoff(&backends[i], devices);
        }
    }
    for (int run = 0; run < 3; run++) {
        measure_memory(false, MIN(max_devices, 512), run);
        measure_memory(true, MIN(max_devices, 512), run);
    }
    return 0;
}

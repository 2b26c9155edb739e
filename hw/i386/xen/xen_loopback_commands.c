/*
 * Xen loopback: the test's commands
 *
 * A test sends "xen-loopback COMMAND ARGUMENTS..." over the qtest protocol.
 * The command and its result are percent-encoded, since one of the protocol's
 * lines could not carry a newline.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/block.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/xen/interface/hvm/params.h"
#include "system/qtest.h"
#include "xen_loopback.h"

/* --- races: the guest writes while QEMU looks ----------------------------- */

typedef struct LoRaceWrite {
    unsigned int skip, left;    /* of the times that QEMU looks */
    char *trigger, *path, *value;
} LoRaceWrite;

void lo_race_write(const char *path)
{
    for (GList *l = lo->race_writes.head; l; l = l->next) {
        LoRaceWrite *r = l->data;

        if (!r->left || (strcmp(r->trigger, "*") && strcmp(r->trigger, path))) {
            continue;
        }
        if (r->skip) {
            r->skip--;
            continue;
        }
        r->left--;
        lo->nr_race_writes++;
        if (!strcmp(r->path, "callback")) {
            lo->param[HVM_PARAM_CALLBACK_IRQ] = atoi(r->value);
        } else if (!strcmp(r->path, "rm")) {
            xs_impl_rm(lo->xs, DOM0, XBT_NULL, r->value);
        } else {
            lo_put_str(lo->domid, r->value, "%s", r->path);
        }
    }
}

/* --- the test's commands -------------------------------------------------- */

static void cmd_errno(Error **errp, int err, const char *path)
{
    if (err) {
        error_setg_errno(errp, err, "%s", path);
    }
}

static void cmd_write(char **w, GString *result, Error **errp)
{
    cmd_errno(errp, lo_put_str(DOM0, w[1], "%s", w[0]), w[0]);
}

static void cmd_guest_write(char **w, GString *result, Error **errp)
{
    cmd_errno(errp, lo_put_str(lo->domid, w[1], "%s", w[0]), w[0]);
}

/* The same while all disks are drained, as a QMP command may do */
static void cmd_guest_write_drained(char **w, GString *result, Error **errp)
{
    cmd_guest_write(w, result, errp);
    bdrv_drain_all();
}

/* "1" while the test, which is the vCPU, must not go on */
static void cmd_vcpu_held(char **w, GString *result, Error **errp)
{
    g_string_printf(result, "%d", lo->vcpu_held);
}

/* As long as something comes of it, wait as a drain does: who is held then? */
static void cmd_write_polled(char **w, GString *result, Error **errp)
{
    cmd_write(w, result, errp);
    do {
        lo_backends_run(NULL);
    } while (aio_poll(qemu_get_aio_context(), false));
    cmd_vcpu_held(w, result, errp);
}

static void cmd_read(char **w, GString *result, Error **errp)
{
    char *value = lo_get(XBT_NULL, w[0], NULL);

    if (!value) {
        cmd_errno(errp, errno, w[0]);
        return;
    }
    g_string_append(result, value);
    free(value);
}

static void cmd_ls(char **w, GString *result, Error **errp)
{
    GList *items = NULL;

    cmd_errno(errp, xs_impl_directory(lo->xs, DOM0, XBT_NULL, w[0], NULL,
                                      &items), w[0]);
    for (GList *l = items; l; l = l->next) {
        g_string_append_printf(result, "%s%s", result->len ? " " : "",
                               (char *)l->data);
    }
    g_list_free_full(items, g_free);
}

/* Of what is at and below @top/@below; returns 0 or an errno */
static int add_leaves(GList **leaves, const char *top, const char *below)
{
    const char *slash = *below ? "/" : "";
    g_autofree char *path = g_strconcat(top, slash, below, NULL);
    GList *items = NULL;
    int err = xs_impl_directory(lo->xs, DOM0, XBT_NULL, path, NULL, &items);

    if (!items && *below) {
        *leaves = g_list_prepend(*leaves, g_strdup(below));
    }
    for (GList *l = items; l; l = l->next) {
        g_autofree char *sub = g_strconcat(below, slash, (char *)l->data, NULL);

        add_leaves(leaves, top, sub);
    }
    g_list_free_full(items, g_free);
    return err;
}

static int by_name(const void *a, const void *b, void *unused)
{
    return strcmp(a, b);
}

/* What has nothing below it, sorted, relative to a path; 1: with its value */
static void cmd_leaves(char **w, GString *result, Error **errp)
{
    bool values = atoi(w[0]);
    GList *leaves = NULL;

    cmd_errno(errp, add_leaves(&leaves, w[1], ""), w[1]);
    leaves = g_list_sort_with_data(leaves, by_name, NULL);
    for (GList *l = leaves; l; l = l->next) {
        g_string_append_printf(result, "%s%s", result->len ? " " : "",
                               (char *)l->data);
        if (values) {
            g_autofree char *path = g_strconcat(w[1], "/", (char *)l->data,
                                                NULL);
            char *value = lo_get(XBT_NULL, path, NULL);

            g_string_append_printf(result, "='%s'", value ?: "");
            free(value);
        }
    }
    g_list_free_full(leaves, g_free);
}

static void cmd_rm(char **w, GString *result, Error **errp)
{
    cmd_errno(errp, xs_impl_rm(lo->xs, DOM0, XBT_NULL, w[0]), w[0]);
}

static void cmd_send(char **w, GString *result, Error **errp)
{
    unsigned int port = atoi(w[0]);
    QEMU_LOCK_GUARD(&lo->lock);

    if (port < MAX_PORTS && lo->ports[port]) {
        event_notifier_set(&lo->ports[port]->notifier);
    } else {
        error_setg(errp, "nobody is bound to port %u", port);
    }
}

/* As send, and the IOThread that is to handle it gets no further */
static void cmd_hold(char **w, GString *result, Error **errp)
{
    ERRP_GUARD();

    qatomic_set(&lo->held, false);
    qatomic_set(&lo->hold_port, atoi(w[0]));
    cmd_send(w, result, errp);
    while (!*errp && !qatomic_read(&lo->held)) {
        g_usleep(100);
    }
}

static void cmd_param(char **w, GString *result, Error **errp)
{
    unsigned int index = atoi(w[0]) % MAX_PARAMS;
    bool fails = !strcmp(w[1], "fail");
    uint64_t value = lo->param[index];

    if (!fails && qemu_strtou64(w[1], NULL, 0, &value)) {
        error_setg(errp, "no number: '%s'", w[1]);
        return;
    }
    if (!fails && index == HVM_PARAM_CALLBACK_IRQ && value) {
        notifier_list_notify(&lo->callback_notifiers, &value);
    }
    lo->param_fails[index] = fails;
    lo->param[index] = value;
}

static void cmd_grant_version(char **w, GString *result, Error **errp)
{
    unsigned int version;

    if (qemu_strtoui(w[0], NULL, 0, &version) || version > 2) {
        error_setg(errp, "no version of a grant table: '%s'", w[0]);
        return;
    }
    lo->grant_version = version;
}

static void cmd_grant_frames(char **w, GString *result, Error **errp)
{
    unsigned int frames;

    if (qemu_strtoui(w[0], NULL, 0, &frames) || frames > GRANT_FRAMES) {
        error_setg(errp, "no number of frames up to %zu: '%s'", GRANT_FRAMES,
                   w[0]);
        return;
    }
    lo->grant_frames = frames;
}

static void cmd_backend(char **w, GString *result, Error **errp)
{
    g_auto(GStrv) options = g_strsplit(w[1], " ", 0);

    if (options[0]) {
        lo_backend_new(w[0], options[0], options + 1, errp);
    } else {
        error_setg(errp, "backend CLASS ID [OPTION...]");
    }
}

static void cmd_unplug(char **w, GString *result, Error **errp)
{
    lo_backend_unplug(w[0], w[1], errp);
}

static void add_race_write(unsigned int skip, unsigned int left,
                           const char *words, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(words, " ", 3);
    LoRaceWrite *r;

    if (g_strv_length(rest) != 3) {
        error_setg(errp, "race-write N TRIGGER|* PATH|callback|rm VALUE");
        return;
    }
    r = g_new(LoRaceWrite, 1);
    *r = (LoRaceWrite) { skip, left, g_strdup(rest[0]), g_strdup(rest[1]),
                       g_strdup(rest[2]) };
    g_queue_push_tail(&lo->race_writes, r);
}

/* Each of the first N times that QEMU looks at a path, do something */
static void cmd_race_write(char **w, GString *result, Error **errp)
{
    add_race_write(0, atoi(w[0]), w[1], errp);
}

/* The Nth time alone */
static void cmd_race_write_nth(char **w, GString *result, Error **errp)
{
    add_race_write(atoi(w[0]) - 1, 1, w[1], errp);
}

/* Nothing more happens when QEMU looks */
static void cmd_race_end(char **w, GString *result, Error **errp)
{
    LoRaceWrite *r;

    while ((r = g_queue_pop_head(&lo->race_writes))) {
        g_free(r->trigger);
        g_free(r->path);
        g_free(r->value);
        g_free(r);
    }
}

/* So many writes of the guest, before QEMU hears of the first */
static void cmd_flood(char **w, GString *result, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);

    for (int i = atoi(w[0]); i > 0 && rest[1]; i--) {
        if (lo_put_str(lo->domid, rest[1], "%s", rest[0])) {
            error_setg(errp, "the guest cannot write '%s'", rest[0]);
            return;
        }
    }
}

static void guest_event(void *opaque, const char *path, const char *token)
{
    lo->nr_guest_events++;
}

static void cmd_guest_watch(char **w, GString *result, Error **errp)
{
    cmd_errno(errp, xs_impl_watch(lo->xs, lo->domid, w[0], w[1], guest_event,
                                  NULL), w[0]);
}

/* How many there were since it was asked for them last */
static void cmd_guest_events(char **w, GString *result, Error **errp)
{
    g_string_append_printf(result, "%u", lo->nr_guest_events);
    lo->nr_guest_events = 0;
}

static void cmd_guest_transaction(char **w, GString *result, Error **errp)
{
    xs_transaction_t tid = XBT_NULL;

    cmd_errno(errp, xs_impl_transaction_start(lo->xs, lo->domid, &tid),
              "a transaction of the guest");
    if (tid != XBT_NULL) {
        g_array_append_val(lo->guest_transactions, tid);
        g_string_append_printf(result, "%u", tid);
    }
}

/* Read a node in a transaction: it fails if that has been ended */
static void cmd_guest_read(char **w, GString *result, Error **errp)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    cmd_errno(errp, xs_impl_read(lo->xs, lo->domid, atoi(w[0]), w[1], bytes),
              w[1]);
    g_string_append_len(result, (char *)bytes->data, bytes->len);
}

/* Make the reset of the guest's connection fail with an errno; 0: no more */
static void cmd_reset_fail(char **w, GString *result, Error **errp)
{
    lo->reset_error = atoi(w[0]);
}

/* The same for mapping the grant table */
static void cmd_grant_fail(char **w, GString *result, Error **errp)
{
    lo->grant_error = atoi(w[0]);
}

/*
 * What another vCPU writes in so many ms, even while a disk drains: from the
 * main context, where QEMU's own Xen has it from the guest
 */
typedef struct LoLater {
    QEMUTimer *timer;
    char *path, *value;
} LoLater;

static void later(void *opaque)
{
    LoLater *l = opaque;

    lo_put_str(lo->domid, l->value, "%s", l->path);
    timer_free(l->timer);
    g_free(l->path);
    g_free(l->value);
    g_free(l);
}

static void cmd_write_later(char **w, GString *result, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);
    LoLater *l;

    if (!rest[0] || !rest[1]) {
        error_setg(errp, "write-later MS PATH VALUE");
        return;
    }
    l = g_new(LoLater, 1);
    *l = (LoLater) {
        aio_timer_new(qemu_get_aio_context(), QEMU_CLOCK_REALTIME, SCALE_MS,
                      later, l),
        g_strdup(rest[0]), g_strdup(rest[1])
    };
    timer_mod(l->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + atoi(w[0]));
}

/* Every entry in use, "ref:flags:domid:frame" */
static void cmd_grants(char **w, GString *result, Error **errp)
{
    unsigned int frames = lo->grant_frames;
    unsigned int refs = frames * XEN_PAGE_SIZE / sizeof(grant_entry_v1_t);
    grant_entry_v1_t *table = lo_grant(0);

    for (unsigned int ref = 0; ref < refs; ref++) {
        if (table[ref].flags) {
            g_string_append_printf(result, "%s%u:%u:%u:%u",
                                   result->len ? " " : "", ref,
                                   table[ref].flags, table[ref].domid,
                                   table[ref].frame);
        }
    }
}

/* Make QEMU's own requests fail with an errno, or succeed again with 0 */
static void cmd_xs_fail(char **w, GString *result, Error **errp)
{
    bool known = false;

    for (size_t i = 0; i < LO_XS_CAN_FAIL; i++) {
        if (!strcmp(w[0], lo_op_names[i]) || !strcmp(w[0], "all")) {
            lo->xs_fails[i] = atoi(w[1]);
            known = true;
        }
    }
    if (!known) {
        error_setg(errp, "no operation of xenstore: '%s'", w[0]);
    }
}

/* Make each of them take so many us */
static void cmd_xs_slow(char **w, GString *result, Error **errp)
{
    lo->xs_us = atoi(w[0]);
}

/* What QEMU has asked of xenstore so far: "open=1 watch=5 ..." */
static void cmd_ops(char **w, GString *result, Error **errp)
{
    for (size_t i = 0; i < LO_XS_OPS; i++) {
        g_string_append_printf(result, "%s%s=%u", result->len ? " " : "",
                               lo_op_names[i], lo->nr_ops[i]);
    }
}

/* "on": write down each of them from now on; "off": the result is the list */
static void cmd_record(char **w, GString *result, Error **errp)
{
    if (lo->record) {
        g_string_append(result, lo->record->str);
        g_string_free(lo->record, true);
        lo->record = NULL;
    }
    if (!strcmp(w[0], "on")) {
        lo->record = g_string_new("");
    }
}

/*
 * So many writes of the guest to a port: far more than a test can send.  The
 * result is how long they have taken, and the operations of xenstore so far:
 * "ns=123456 open=1 watch=5 ..."
 */
static void cmd_port_writes(char **w, GString *result, Error **errp)
{
    g_auto(GStrv) rest = g_strsplit(w[1], " ", 2);
    unsigned int size = atoi(w[0]), port, count;
    int64_t start;

    if (g_strv_length(rest) != 2 || (size != 1 && size != 2 && size != 4) ||
        qemu_strtoui(rest[0], NULL, 0, &port)) {
        error_setg(errp, "port-writes SIZE PORT COUNT");
        return;
    }
    count = atoi(rest[1]);
    start = get_clock();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = cpu_to_le32(i);

        address_space_write(&address_space_io, port, MEMTXATTRS_UNSPECIFIED,
                            &value, size);
        while (lo->vcpu_held) {
            main_loop_wait(false);
        }
    }
    g_string_append_printf(result, "ns=%" PRId64, get_clock() - start);
    cmd_ops(NULL, result, NULL);
    /* what is left of the races is not for what comes after the writes */
    cmd_race_end(NULL, result, NULL);
}

static void cmd_stat(char **w, GString *result, Error **errp)
{
    unsigned int ops = 0;
    QEMU_LOCK_GUARD(&lo->lock);

    for (size_t i = 0; i < LO_XS_OPS; i++) {
        ops += lo->nr_ops[i];
    }
    g_string_printf(result, "maps=%u ports=%u watches=%u handles=%u events=%u "
                    "ops=%u race-writes=%u grant-maps=%u resets=%u",
                    lo->nr_maps, lo->nr_ports, lo->nr_watches, lo->nr_handles,
                    lo->nr_events, ops, lo->nr_race_writes, lo->nr_grant_maps,
                    lo->nr_resets);
}

static const struct {
    const char *name;
    int words;                  /* after the name; the last may have spaces */
    void (*run)(char **words, GString *result, Error **errp);
} commands[] = {
    { "write", 2, cmd_write },
    { "guest-write", 2, cmd_guest_write },
    { "guest-write-drained", 2, cmd_guest_write_drained },
    { "write-polled", 2, cmd_write_polled },
    { "write-later", 2, cmd_write_later },
    { "read", 1, cmd_read },
    { "ls", 1, cmd_ls },
    { "leaves", 2, cmd_leaves },
    { "rm", 1, cmd_rm },
    { "send", 1, cmd_send },
    { "hold", 1, cmd_hold },
    { "param", 2, cmd_param },
    { "backend", 2, cmd_backend },
    { "unplug", 2, cmd_unplug },
    { "race-write", 2, cmd_race_write },
    { "race-write-nth", 2, cmd_race_write_nth },
    { "race-end", 0, cmd_race_end },
    { "flood", 2, cmd_flood },
    { "guest-watch", 2, cmd_guest_watch },
    { "guest-events", 0, cmd_guest_events },
    { "guest-transaction", 0, cmd_guest_transaction },
    { "guest-read", 2, cmd_guest_read },
    { "reset-fail", 1, cmd_reset_fail },
    { "grants", 0, cmd_grants },
    { "grant-version", 1, cmd_grant_version },
    { "grant-frames", 1, cmd_grant_frames },
    { "grant-fail", 1, cmd_grant_fail },
    { "xs-fail", 2, cmd_xs_fail },
    { "xs-slow", 1, cmd_xs_slow },
    { "ops", 0, cmd_ops },
    { "record", 1, cmd_record },
    { "port-writes", 2, cmd_port_writes },
    { "vcpu-held", 0, cmd_vcpu_held },
    { "stat", 0, cmd_stat },
};

static void run(const char *command, GString *result, Error **errp)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        size_t len = strlen(commands[i].name);
        g_auto(GStrv) words = NULL;

        if (strncmp(command, commands[i].name, len) ||
            (command[len] && command[len] != ' ')) {
            continue;
        }
        words = g_strsplit(command, " ", commands[i].words + 1);
        if (g_strv_length(words) == commands[i].words + 1) {
            commands[i].run(words + 1, result, errp);
            return;
        }
    }
    error_setg(errp, "no such command");
}

static bool process_command(CharBackend *chr, char **words)
{
    g_autofree char *encoded = NULL, *command = NULL, *reply = NULL;
    g_autoptr(GString) result = g_string_new("");
    Error *err = NULL;

    if (strcmp(words[0], TYPE_XEN_LOOPBACK)) {
        return false;
    }
    encoded = g_strjoinv(" ", words + 1);
    command = g_uri_unescape_string(encoded, NULL);
    run(command ?: "", result, &err);
    reply = g_uri_escape_string(err ? error_get_pretty(err) : result->str,
                                " " G_URI_RESERVED_CHARS_ALLOWED_IN_PATH,
                                false);
    qtest_sendf(chr, "%s %s\n", err ? "FAIL" : "OK", reply);
    error_free(err);
    return true;
}

void lo_commands_init(void)
{
    qtest_set_command_cb(process_command);
}

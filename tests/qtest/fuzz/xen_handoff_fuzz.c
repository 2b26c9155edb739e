/*
 * Fuzzing the Xen firmware handoff in QEMU's own process
 *
 * The acts, and what has to be so then, are those of xen-handoff-fuzz, which
 * has a QEMU of its own.  Here libFuzzer's bytes say what is done, and:
 *
 * - Time is simulated.  The monotonic clock stands still but for a tick each
 *   time it is read, and where QEMU would wait in vain, it is at once the time
 *   of the next timer.  So an input does the same each time, and a backend that
 *   hangs costs nothing.
 * - What QEMU logs is counted instead of written.
 *
 * Both are done by the linker, which has QEMU call the functions __wrap_*.
 * With V=1 in the environment all acts are told, and the log is written.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "qapi/qmp-registry.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "hw/core/resetcontainer.h"
#include "hw/i386/xen_platform.h"
#include "hw/xen/xen_fw_handoff.h"
#include "monitor/monitor-internal.h"
#include "tests/qtest/libqos/xen-frontend.h"
#include "tests/qtest/xen-handoff-acts.h"
#include "fuzz.h"

#define TICK_NS    1000                 /* that reading the clock takes */
#define IDLE_NS    (100 * SCALE_MS)     /* when nothing is going to happen */
#define LOG_MAX    (1024 * 1024)        /* what the device promises */
#define RCU_ROUNDS 256   /* after so many, wait for what RCU has to free */

/* The linker's names: what is called in place of a function, and that one */
#define WRAPPER(type, name, ...) type __wrap_##name(__VA_ARGS__)
#define WRAPPED(type, name, ...) type __real_##name(__VA_ARGS__)

WRAPPER(int, clock_gettime, clockid_t id, struct timespec *ts);
WRAPPED(int, clock_gettime, clockid_t id, struct timespec *ts);
WRAPPER(gint64, g_get_monotonic_time, void);
WRAPPED(gint64, g_get_monotonic_time, void);
WRAPPER(void, g_usleep, gulong us);
WRAPPED(void, g_usleep, gulong us);
WRAPPER(int, qemu_poll_ns, GPollFD *fds, guint nfds, int64_t timeout);
WRAPPED(int, qemu_poll_ns, GPollFD *fds, guint nfds, int64_t timeout);
G_GNUC_PRINTF(1, 0)
WRAPPER(int, error_vprintf, const char *fmt, va_list ap);
G_GNUC_PRINTF(1, 0)
WRAPPED(int, error_vprintf, const char *fmt, va_list ap);
G_GNUC_PRINTF(2, 3)
WRAPPER(QDict *, qtest_qmp, QTestState *s, const char *fmt, ...);
WRAPPER(void, qtest_system_reset, QTestState *s);

static Fuzz *fuzz;
static int64_t clock_ns;        /* 0: that of the machine */
static size_t logged;

/* --- the clock ------------------------------------------------------------ */

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    if (!clock_ns || id != CLOCK_MONOTONIC) {
        return __real_clock_gettime(id, ts);
    }
    clock_ns += TICK_NS;
    ts->tv_sec = clock_ns / NANOSECONDS_PER_SECOND;
    ts->tv_nsec = clock_ns % NANOSECONDS_PER_SECOND;
    return 0;
}

gint64 __wrap_g_get_monotonic_time(void)
{
    return clock_ns ? (clock_ns += TICK_NS) / SCALE_US
                    : __real_g_get_monotonic_time();
}

void __wrap_g_usleep(gulong us)
{
    if (clock_ns && qemu_in_main_thread()) {
        clock_ns += us * SCALE_US;
    } else {
        __real_g_usleep(us);
    }
}

int __wrap_qemu_poll_ns(GPollFD *fds, guint nfds, int64_t timeout)
{
    int n;

    if (!clock_ns) {
        return __real_qemu_poll_ns(fds, nfds, timeout);
    }
    n = __real_qemu_poll_ns(fds, nfds, 0);
    if (!n && timeout) {
        int64_t next = qemu_clock_deadline_ns_all(QEMU_CLOCK_REALTIME,
                                                  QEMU_TIMER_ATTR_ALL);

        clock_ns += next < 0 ? IDLE_NS : next;
    }
    return n;
}

/* --- the log -------------------------------------------------------------- */

int __wrap_error_vprintf(const char *fmt, va_list ap)
{
    g_autofree char *text = NULL;

    if (!clock_ns) {
        return __real_error_vprintf(fmt, ap);
    }
    text = g_strdup_vprintf(fmt, ap);
    if (g_str_has_prefix(text, "xen-fw-handoff: ")) {
        logged += strlen(text);
        g_assert_cmpuint(logged, <=, LOG_MAX);
    }
    if (fuzz_verbose) {
        fputs(text, stdout);
    }
    return strlen(text);
}

/* --- what libqtest asks by QMP -------------------------------------------- */

QDict *__wrap_qtest_qmp(QTestState *s, const char *fmt, ...)
{
    QObject *request;
    QDict *response;
    va_list ap;

    va_start(ap, fmt);
    request = qobject_from_vjsonf_nofail(fmt, ap);
    va_end(ap);
    response = qmp_dispatch(&qmp_commands, request, false, NULL);
    qobject_unref(request);
    return response;
}

/* Only what the inputs reach: a whole PC takes longer than most of them */
void __wrap_qtest_system_reset(QTestState *s)
{
    static const char *const types[] = {
        TYPE_XEN_PLATFORM, "xen-loopback", TYPE_XEN_FW_HANDOFF,
    };
    static ResettableContainer *reset;

    if (!reset) {
        reset = RESETTABLE_CONTAINER(object_new(TYPE_RESETTABLE_CONTAINER));
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
            resettable_container_add(
                reset, object_resolve_path_type("", types[i], NULL));
        }
    }
    resettable_reset(OBJECT(reset), RESET_TYPE_COLD);
    main_loop_wait(true);
}

/* --- the targets ---------------------------------------------------------- */

static void turn(bool wait)
{
    main_loop_wait(!wait);
}

/* g_error() ends in a trap, which libFuzzer does not see */
static void on_trap(int sig)
{
    abort();
}

static GString *handoff_args(FuzzTarget *t)
{
    g_autofree char *args = NULL;

    fuzz_verbose = getenv("V");
    fuzz = fuzz_new(t->opaque, true);
    args = fuzz_args(fuzz);
    return g_string_append(g_string_new("qemu-fuzz -display none -audio none "
                                        "-accel qtest -rtc clock=vm "), args);
}

static void handoff_start(QTestState *s)
{
    sigaction(SIGTRAP, &(struct sigaction) { .sa_handler = on_trap }, NULL);
    qxen_turn = turn;
    clock_ns = NANOSECONDS_PER_SECOND;
    flush_events(s);
    fuzz_start(fuzz, s);
}

static void handoff_fuzz(QTestState *s, const unsigned char *data, size_t size)
{
    static unsigned int rounds;
    Draw draw = { .data = data, .left = size };

    /* what is limited per second begins anew */
    clock_ns += NANOSECONDS_PER_SECOND;
    fuzz_round(fuzz, &draw, UINT_MAX);
    if (++rounds % RCU_ROUNDS == 0) {
        drain_call_rcu();
    }
}

static void register_xen_handoff_targets(void)
{
    for (size_t i = 0; i < FUZZ_SETUPS; i++) {
        fuzz_add_target(&(FuzzTarget) {
            .name = fuzz_setups[i].name,
            .description = fuzz_setups[i].description,
            .get_init_cmdline = handoff_args,
            .pre_fuzz = handoff_start,
            .fuzz = handoff_fuzz,
            .opaque = (void *)&fuzz_setups[i],
        });
    }
}

fuzz_target_init(register_xen_handoff_targets);

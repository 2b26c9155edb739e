/*
 * QTest testcase for the Xen firmware handoff
 *
 * Each test is a story: a firmware connects PV devices and leaves them open, an
 * OS announces itself, and then somebody looks from the outside what became of
 * the connections.  The backends are QEMU's real xen-disk, xen-net-device and
 * xen-console, or scripted ones that keep the rules of Linux's; Xen is the
 * test device xen-loopback, the guest's driver is libqos/xen-frontend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "libqtest.h"
#include "libqos/pci.h"
#include "libqos/pci-pc.h"
#include "libqos/xen-frontend.h"
#include "libqos/xen-handoff.h"
#include "hw/xen/interface/xen.h"
#include "hw/xen/interface/grant_table.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

#define XVDA      "vbd/51712"
#define XVDB      "vbd/51728"
#define FRONTEND  QXEN_DEVICES
#define QDISK     "/local/domain/0/backend/qdisk/7/"
#define PLATFORM_DEVFN QPCI_DEVFN(QXEN_PLATFORM_SLOT, 0)

/* --- the stage ------------------------------------------------------------ */

typedef struct Story {
    QTestState *qts;
    QXenGuest *g;
    QPCIBus *pci;
    bool armed;                 /* with a watch of ours on device/ */
} Story;

/* Long enough for a busy machine; a story that waits for it says so */
#define WITH_HANDOFF QXEN_HANDOFF ",timeout-ms=60000 "
#define WITHOUT      ""

static Story *story(const char *handoff, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
static Story *story(const char *handoff, const char *fmt, ...)
{
    Story *s = g_new0(Story, 1);
    g_autofree char *extra = NULL;
    va_list ap;

    va_start(ap, fmt);
    extra = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    s->g = qxen_machine_start("%s %s", handoff, extra);
    s->qts = s->g->qts;
    s->armed = qxen_handoff_is_armed(s->qts);
    s->pci = qpci_new_pc(s->qts, NULL);
    return s;
}

/* xvda: QEMU's xen-disk on a file */
#define ONE_DISK "-device xen-disk,drive=disk,vdev=xvda "

/* How often @what is in the log */
static int log_count(Story *s, const char *what)
{
    g_autofree char *text = qxen_log(s->g);
    int n = 0;

    for (char *p = text; (p = strstr(p, what)); p++) {
        n++;
    }
    return n;
}

/* One warning says why; another, that the toolstack cannot be told, either */
static void assert_warned(Story *s, int error)
{
    g_autofree char *want =
        g_strdup_printf("warning: xen-fw-handoff: (?!the toolstack)[^\n]*%s",
                        strerror(error));
    g_autofree char *text = qxen_log(s->g);

    g_assert_cmpint(log_count(s, "warning: xen-fw-handoff: ") -
                    log_count(s, "the toolstack is not told: "), ==, 1);
    g_assert_true(g_regex_match_simple(want, text, 0, 0));
}

static void story_free(Story *s)
{
    qpci_free_pc(s->pci);
    qxen_machine_stop(s->g);
    g_free(s);
}

/* The guest has closed what it had; the handoff, if there was one, its watch */
static void story_end(Story *s)
{
    int armed = qxen_handoff_is_armed(s->qts) - s->armed;

    s->g->at_start.watches += armed;
    s->g->at_start.handles += armed;
    qxen_assert_closed(s->g);
    story_free(s);
}

/* --- what is asked again and again ---------------------------------------- */

static void assert_connected(Story *s, const char *name)
{
    qxen_assert_states(s->g, name, XenbusStateConnected, XenbusStateConnected);
}

static void assert_handed_off(Story *s, const char *name, const char *keys)
{
    qxen_assert_fresh(s->g, name, keys);
}

/* A firmware that reads its disk and never closes it */
static void firmware_boots_from(Story *s, const char *name)
{
    QXenVbd *vbd = qxen_vbd_connect(s->g, name, NULL);

    qxen_vbd_assert_reads(vbd, 0);
    qxen_vbd_abandon(vbd);
}

/* The OS's driver: nothing is left over that would disturb it */
static void os_uses(Story *s, const char *name)
{
    QXenVbd *vbd = qxen_vbd_connect(s->g, name, NULL);

    qxen_vbd_assert_reads(vbd, 5);
    qxen_vbd_close(vbd);
}

static void announce(Story *s)
{
    qxen_out(s->qts, 2, 0x12, 3);
}

/* --- what is told over QMP ------------------------------------------------ */

/* Many at once wait for their turn to be looked at; asking ends the wait */
static void look(Story *s)
{
    qobject_unref(qxen_handoff_get(s->qts, "connections"));
}

static void assert_state(Story *s, const char *want)
{
    g_autofree char *is = qxen_handoff_string(s->qts, "state");

    g_assert_cmpstr(is, ==, want);
}

static void assert_announcement(Story *s, const char *want)
{
    g_autofree char *is = qxen_handoff_string(s->qts, "announcement");

    g_assert_cmpstr(is, ==, want);
}

/* What became of the connections since the last reset */
static void assert_counts(Story *s, int handed_off, int given_up, int failed,
                          int left_alone)
{
    g_assert_cmpint(qxen_handoff_count(s->qts, "handed-off"), ==, handed_off);
    g_assert_cmpint(qxen_handoff_count(s->qts, "timed-out"), ==, given_up);
    g_assert_cmpint(qxen_handoff_count(s->qts, "failed"), ==, failed);
    g_assert_cmpint(qxen_handoff_count(s->qts, "skipped"), ==, left_alone);
}

static bool is_string(QDict *dict, const char *key, const char *want)
{
    return !g_strcmp0(qdict_get_try_str(dict, key) ?: "", want);
}

/* So many connections are listed, and this is one of them; "" for none */
static void assert_connection(Story *s, size_t entries, const char *frontend,
                              const char *owner, const char *result,
                              const char *backend)
{
    QObject *value = qxen_handoff_get(s->qts, "connections");
    QList *list = qobject_to(QList, value);
    const QListEntry *e;
    bool found = false;

    g_assert_cmpint(qlist_size(list), ==, entries);
    QLIST_FOREACH_ENTRY(list, e) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(e));

        found |= is_string(dict, "frontend", frontend) &&
                 is_string(dict, "owner", owner) &&
                 is_string(dict, "result", result) &&
                 is_string(dict, "backend", backend);
    }
    if (!found) {
        g_autoptr(GString) is = qobject_to_json(value);

        g_error("%s, %s's, %s at %s is not in %s", frontend, owner, result,
                backend, is->str);
    }
    qobject_unref(value);
}

/* --- announcements -------------------------------------------------------- */

typedef enum Where { PORT, BAR } Where;

typedef struct Access {
    const char *name;
    Where where;
    int size;                   /* 0: read everything instead */
    uint32_t addr, value;
    const char *announces;      /* NULL: nothing */
} Access;

#define LOG_LINE  "a driver's log line at port 0x12"
#define PARAMETER "HVM_PARAM_CALLBACK_IRQ"

static const Access accesses[] = {
    { "product", PORT, 2, 0x12, 3, "product number 3 (Linux) at port 0x12" },
    { "product/citrix", PORT, 2, 0x12, 1,
      "product number 1 (Citrix Windows) at port 0x12" },
    { "product/gplpv", PORT, 2, 0x12, 2,
      "product number 2 (GPLPV Windows) at port 0x12" },
    { "product/xenserver-7.0", PORT, 2, 0x12, 4,
      "product number 4 (XenServer 7.0 Windows) at port 0x12" },
    { "product/xenserver-7.2", PORT, 2, 0x12, 5,
      "product number 5 (XenServer 7.2 Windows) at port 0x12" },
    { "product/experimental", PORT, 2, 0x12, 0xffff,
      "product number 65535 (experimental) at port 0x12" },
    { "product/unknown", PORT, 2, 0x12, 77,
      "product number 77 (not registered) at port 0x12" },
    { "product/zero", PORT, 2, 0x12, 0,
      "product number 0 (not registered) at port 0x12" },
    { "build", PORT, 4, 0x10, 1, "build number 1 at port 0x10" },
    { "unplug", PORT, 2, 0x10, 7, "unplug mask 0x7 at port 0x10" },
    { "unplug/nothing", PORT, 2, 0x10, 0, "unplug mask 0x0 at port 0x10" },
    /* what xen-platform gets of it is a word at 0x10 */
    { "unplug/dword-across-the-begin", PORT, 4, 0x0e, 3 << 16,
      "unplug mask 0x3 at port 0x10" },
    { "log", PORT, 1, 0x12, 'X', LOG_LINE },
    { "bar/all", BAR, 1, 4, 1, "unplug request 1 at BAR 0 + 4" },
    { "bar/all-dword", BAR, 4, 4, 1, "unplug request 1 at BAR 0 + 4" },
    { "bar/disks", BAR, 1, 8, 1, "unplug request 1 at BAR 0 + 8" },
    { "bar/nics-dword", BAR, 4, 8, 2, "unplug request 2 at BAR 0 + 8" },

    { "none/reads", PORT },
    { "none/flags", PORT, 1, 0x10, 1 },
    { "none/dword-at-product", PORT, 4, 0x12, 3 },
    { "none/word-between", PORT, 2, 0x11, 3 },
    { "none/dword-between", PORT, 4, 0x11, 3 },
    { "none/byte-at-0x11", PORT, 1, 0x11, 3 },
    { "none/byte-at-0x13", PORT, 1, 0x13, 3 },
    { "none/word-above", PORT, 2, 0x14, 3 },
    { "none/word-across-the-end", PORT, 2, 0x1f, 3 },
    { "none/word-across-the-begin", PORT, 2, 0x0f, 3 },
    { "none/bar/flags", BAR, 1, 0, 1 },
    { "none/bar/0-at-4", BAR, 1, 4, 0 },
    { "none/bar/2-at-4", BAR, 4, 4, 2 },
    { "none/bar/1-at-5", BAR, 1, 5, 1 },
    { "none/bar/log", BAR, 1, 8, 'X' },
    { "none/bar/1-at-9", BAR, 1, 9, 1 },
    { "none/bar/dword-with-1-at-7", BAR, 4, 4, 1 << 24 },
};

static void do_access(Story *s, const Access *a)
{
    QPCIDevice *dev = qpci_device_find(s->pci, PLATFORM_DEVFN);
    QPCIBar bar;

    g_assert_nonnull(dev);
    qpci_device_enable(dev);
    bar = qpci_iomap(dev, 0, NULL);
    if (!a->size) {
        for (int addr = 0x10; addr < 0x20; addr++) {
            qtest_inb(s->qts, addr);
            qtest_inw(s->qts, addr);
            qtest_inl(s->qts, addr);
        }
        for (int addr = 0; addr < 16; addr++) {
            qpci_io_readb(dev, bar, addr);
            qpci_io_readl(dev, bar, addr);
        }
    } else {
        qxen_out(s->qts, a->size, (a->where == BAR ? bar.addr : 0) + a->addr,
                 a->value);
    }
    qpci_iounmap(dev, bar);
    g_free(dev);
}

static void test_access(const void *data)
{
    const Access *a = data;
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    do_access(s, a);
    if (a->announces) {
        assert_handed_off(s, XVDA, keys);
        assert_announcement(s, a->announces);
    } else {
        assert_connected(s, XVDA);
        g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 1);
        assert_state(s, "armed");
        assert_announcement(s, "");
        announce(s);
        assert_handed_off(s, XVDA, keys);
    }
    story_end(s);
}

/* What xen-platform is told is the same with us in between */
static char *forwarded(const char *handoff)
{
    Story *s = story(handoff, "-trace memory_region_ops_read "
                     "-trace memory_region_ops_write ");
    GString *seen = g_string_new("");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
        do_access(s, &accesses[i]);
        g_string_append_printf(seen, "%x %x %x\n", qtest_inw(s->qts, 0x10),
                               qtest_inb(s->qts, 0x10),
                               qtest_inb(s->qts, 0x12));
    }
    text = qxen_log(s->g);
    lines = g_strsplit(text, "\n", 0);
    for (char **l = lines; *l; l++) {
        const char *addr = strstr(*l, " addr ");

        /* "memory_region_ops_write cpu .. mr .. addr .. name 'xen-fixed'" */
        if (addr && (strstr(*l, "'xen-fixed'") || strstr(*l, "'xen-pci'"))) {
            g_string_append_printf(seen, "%s%s\n", strstr(*l, "ops_"), addr);
        }
    }
    story_end(s);
    return g_string_free(seen, false);
}

/* Leave out which pointers there were */
static char *without_pointers(const char *text)
{
    g_autoptr(GRegex) re =
        g_regex_new("ops_(read|write) cpu -?\\d+ mr 0x[0-9a-f]+", 0, 0, NULL);

    return g_regex_replace(re, text, -1, 0, "\\1", 0, NULL);
}

static void test_forwarding(void)
{
    g_autofree char *with = forwarded(WITH_HANDOFF);
    g_autofree char *without = forwarded(WITHOUT);
    g_autofree char *a = without_pointers(with);
    g_autofree char *b = without_pointers(without);

    g_assert_nonnull(strstr(a, "'xen-fixed'"));
    g_assert_nonnull(strstr(a, "'xen-pci'"));
    g_assert_cmpstr(a, ==, b);
}

/* An emulated one, which the guest can unplug */
#define WITH_NIC "-device rtl8139,addr=5,romfile= "

static bool has_nic(Story *s)
{
    g_autofree QPCIDevice *nic = qpci_device_find(s->pci, QPCI_DEVFN(5, 0));

    return nic;
}

/* The emulated NIC goes when it is unplugged, and only after the handoff */
static void test_unplug(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK WITH_NIC);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    g_assert_true(has_nic(s));
    firmware_boots_from(s, XVDA);
    qxen_out(s->qts, 2, 0x10, 2);
    assert_handed_off(s, XVDA, keys);
    g_assert_false(has_nic(s));
    story_end(s);
}

/* --- ownership: the order of each guest ----------------------------------- */

static void test_linux(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_out(s->qts, 2, 0x12, 3);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    qxen_out(s->qts, 4, 0x10, 1);
    qxen_out(s->qts, 2, 0x10, 7);
    /* what follows is no second one */
    assert_announcement(s, "product number 3 (Linux) at port 0x12");
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    assert_connection(s, 1, XVDA, "firmware", "handed-off", QDISK "51712");
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

static void test_freebsd(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_be_os(s->g);
    qxen_out(s->qts, 2, 0x10, 7);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

static void test_netbsd(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_out(s->qts, 2, 0x10, 3);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

/* Attaches its disk first, announces itself last */
static void test_openbsd(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;
    QXenOpen live;

    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qxen_vbd_assert_reads(vbd, 1);
    live = qxen_open(s->g);
    qxen_out(s->qts, 2, 0x10, 3);
    assert_connected(s, XVDA);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, live.maps);
    g_assert_cmpint(qxen_stat(s->g, "ports"), ==, live.ports);
    qxen_vbd_assert_reads(vbd, 2);
    assert_connection(s, 1, XVDA, "os", "skipped", "");
    qxen_vbd_close(vbd);
    story_end(s);
}

/* Its log lines come first, and for ever after */
static void test_windows(void)
{
    static const char line[] = "XEN|DllInitialize\n";
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd;

    firmware_boots_from(s, XVDA);
    qxen_out(s->qts, 1, 0x12, line[0]);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    for (const char *p = line + 1; *p; p++) {
        qxen_out(s->qts, 1, 0x12, *p);
    }
    qxen_out(s->qts, 2, 0x12, 0xffff);
    qxen_out(s->qts, 4, 0x10, 9);
    qxen_out(s->qts, 2, 0x10, 1);
    qxen_out(s->qts, 2, 0x10, 2);
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qxen_vbd_assert_reads(vbd, 1);
    for (const char *p = line; *p; p++) {
        qxen_out(s->qts, 1, 0x12, *p);
    }
    qxen_vbd_assert_reads(vbd, 2);
    qxen_vbd_close(vbd);
    assert_announcement(s, LOG_LINE);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* GPLPV announces itself again when it resumes, with live disks */
static void test_gplpv(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd;

    firmware_boots_from(s, XVDA);
    for (int i = 0; i < 2; i++) {
        qxen_out(s->qts, 2, 0x12, 2);
        qxen_out(s->qts, 4, 0x10, 1);
        qxen_out(s->qts, 2, 0x10, 3);
        if (i == 0) {
            assert_handed_off(s, XVDA, keys);
            qxen_take_over(s->g);
            qxen_be_os(s->g);
            vbd = qxen_vbd_connect(s->g, XVDA, NULL);
        }
        assert_connected(s, XVDA);
        qxen_vbd_assert_reads(vbd, i);
    }
    qxen_vbd_close(vbd);
    story_end(s);
}

/* Linux with xen_emul_unplug=never: sets the parameter and writes no port */
static void test_param_only(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd;

    firmware_boots_from(s, XVDA);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    assert_connected(s, XVDA);
    qxen_be_os(s->g);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    qxen_handoff_await(s->qts);
    assert_handed_off(s, XVDA, keys);
    assert_announcement(s, PARAMETER);
    qxen_take_over(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    announce(s);
    qxen_vbd_assert_reads(vbd, 5);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* A quick one (nanos): it looks at each device once, soon, and never again */
static void test_param_only_quick(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    qxen_be_os(s->g);
    qtest_clock_step(s->qts, 15 * SCALE_MS);
    qxen_handoff_await(s->qts);
    assert_handed_off(s, XVDA, keys);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* An OS that writes new keys over the firmware's connection */
static QXenVbd *connect_over_firmware(Story *s)
{
    QXenConnect over = { .over = true, .no_wait = true };

    firmware_boots_from(s, XVDA);
    qxen_be_os(s->g);
    return qxen_vbd_connect(s->g, XVDA, &over);
}

/* It takes the last disk over before anybody has read the parameter */
static void test_param_only_first(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd = connect_over_firmware(s);

    assert_counts(s, 0, 0, 0, 0);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    assert_announcement(s, PARAMETER);
    assert_connection(s, 1, XVDA, "os-changed", "skipped", "");
    qxen_vbd_close(vbd);
    story_end(s);
}

/* The same, but nothing was left: its parameter alone announces nothing */
static void test_param_only_clean(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 5);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* A firmware that closes its disk: nothing is left to do */
static void test_firmware_closes(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    qxen_vbd_assert_reads(vbd, 0);
    qxen_vbd_close(vbd);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    assert_state(s, "done");
    assert_counts(s, 0, 0, 0, 0);
    story_end(s);
}

/* It does so, then announces itself */
static void test_os_over_firmware(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd = connect_over_firmware(s);

    announce(s);
    qxen_assert_states(s->g, XVDA, XenbusStateInitialised,
                       XenbusStateConnected);
    assert_connection(s, 1, XVDA, "os-changed", "skipped", "");
    qxen_vbd_close(vbd);
    story_end(s);
}

/*
 * The same, and no watch event has told us yet: the OS writes while we already
 * list its frontends.
 */
static void test_os_over_firmware_unseen(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    qxen_vbd_assert_reads(vbd, 0);
    qxen_be_os(s->g);
    qxen_cmd(s->g, "race-write 1 /local/domain/7/device " FRONTEND XVDA
             "/event-channel 77");
    announce(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_connection(s, 1, XVDA, "os-changed", "skipped", "");
    qxen_vbd_close(vbd);
    story_end(s);
}

/*
 * The same with the very keys of the firmware, and so much else to look at that
 * it had not been this frontend's turn
 */
static void test_os_over_firmware_in_turn(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    look(s);
    qxen_be_os(s->g);
    for (int i = 0; i < 100; i++) {
        qxen_cmd(s->g, "write " FRONTEND "vbd/%d/state 1", 2000 + i);
    }
    qxen_cmd(s->g, "write " FRONTEND XVDA "/state 4");
    announce(s);
    assert_connected(s, XVDA);
    assert_connection(s, 1, XVDA, "os-changed", "skipped", "");
    qxen_vbd_close(vbd);
    story_end(s);
}

/* What counts is every key, also those of a NIC's queues */
static void test_os_over_firmware_queue(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    QXenConnect queues = { .queues = 2 };
    QXenVif *vif;

    qxen_backend_new(s->g, "vif/0", "");
    vif = qxen_vif_connect(s->g, "vif/0", &queues);
    qxen_be_os(s->g);
    qxen_cmd(s->g, "race-write 1 /local/domain/7/device " FRONTEND
             "vif/0/queue-1/event-channel-tx 77");
    announce(s);
    assert_connected(s, "vif/0");
    assert_connection(s, 1, "vif/0", "os-changed", "skipped", "");
    qxen_vif_close(vif);
    story_end(s);
}

/*
 * An OS that has set the parameter goes on while we work.  Once it takes a
 * frontend itself, each of our next steps would be one too many.
 */
static void test_os_is_quicker(const void *data)
{
    const char *trigger = data;
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = NULL;
    QXenVbd *vbd;

    qxen_backend_new(s->g, XVDA, "");
    backend = qxen_backend_path(s->g, XVDA);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qxen_be_os(s->g);
    qxen_cmd(s->g, "race-write 1 %s/%s " FRONTEND XVDA "/state 7", backend,
             trigger);
    announce(s);
    g_assert_cmpint(qxen_state(s->g, FRONTEND XVDA), ==,
                    XenbusStateReconfiguring);
    g_assert_true(qxen_exists(s->g, FRONTEND XVDA "/ring-ref"));
    assert_counts(s, 0, 0, 0, 1);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* The announcement, and no event of a watch before the next command */
static void announce_at_once(Story *s)
{
    qxen_cmd(s->g, "port-writes 2 0x12 1");
}

/*
 * Between a look at the frontend's state and the write that follows from it
 * there is no room for an OS: whenever it connects, its word is the last one.
 */
static void test_os_between(const void *data)
{
    bool local = GPOINTER_TO_INT(data) < 0;
    int nth = ABS(GPOINTER_TO_INT(data));
    Story *s = story(WITH_HANDOFF, "%s", local ? ONE_DISK : "");
    g_autofree char *keys = NULL;

    if (!local) {
        qxen_backend_new(s->g, XVDA, "");
    }
    keys = qxen_frontend_keys(s->g, XVDA);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    assert_counts(s, 0, 0, 0, 0);
    qxen_be_os(s->g);
    qxen_cmd(s->g, "race-write-nth %d " FRONTEND XVDA "/state " FRONTEND XVDA
             "/state 3", nth);
    announce_at_once(s);
    if (qxen_stat(s->g, "race-writes")) {
        g_assert_cmpint(qxen_state(s->g, FRONTEND XVDA), ==,
                        XenbusStateInitialised);
        /* one of QEMU's own may be looking for the last time */
        g_assert_cmpint(qxen_handoff_count(s->qts, "skipped") +
                        (local && qxen_handoff_count(s->qts, "handed-off")),
                        ==, 1);
    } else {
        /* QEMU does not look that often */
        g_assert_cmpint(nth, >, 1);
        assert_handed_off(s, XVDA, keys);
        assert_counts(s, 1, 0, 0, 0);
    }
    story_free(s);
}

/*
 * It may also have reset and connected the frontend meanwhile, so that only its
 * keys tell: whenever that was before our first write, the connection lives.
 */
static void test_os_reconnects_between(const void *data)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    assert_counts(s, 0, 0, 0, 0);
    qxen_be_os(s->g);
    qxen_cmd(s->g, "race-write-nth %d " FRONTEND XVDA "/state " FRONTEND XVDA
             "/event-channel 77", GPOINTER_TO_INT(data));
    announce_at_once(s);
    assert_connected(s, XVDA);
    assert_counts(s, 0, 0, 0, 1);
    story_free(s);
}

/* One of the firmware's, one of the OS's */
static void test_both(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK
                     "-blockdev driver=null-co,size=1048576,read-zeroes=on,"
                     "node-name=d1 -device xen-disk,drive=d1,vdev=xvdb ");
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDB);
    QXenVbd *vbd;

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDB, NULL));
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    announce(s);
    assert_handed_off(s, XVDB, keys);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 5);
    assert_counts(s, 1, 0, 0, 1);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* When in doubt it leaves alone */
static void test_param_unreadable(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    qxen_param(s->g, "fail");
    announce(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_connection(s, 1, XVDA, "unknown", "skipped", "");
    qxen_param(s->g, "0");
    qxen_vbd_close(vbd);
    story_end(s);
}

/* --- teardown ------------------------------------------------------------- */

/* Whatever state the firmware left its frontend in, also Initialising */
static void test_state(const void *data)
{
    unsigned int state = GPOINTER_TO_UINT(data);
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    g_autofree char *value = g_strdup_printf("%u", state);
    g_autofree char *backend = qxen_backend_path(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_set_key(s->g, XVDA, "state", value);
    if (state == XenbusStateClosing || state == XenbusStateClosed) {
        qxen_wait_state(s->g, backend, state);
    }
    announce(s);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

static QXenConnect two_queues = { .queues = 2 };
static QXenConnect four_pages = { .ring_order = 2 };

static void firmware_leaves(Story *s, const char *name)
{
    if (g_str_has_prefix(name, "vif")) {
        qxen_vif_abandon(qxen_vif_connect(s->g, name, &two_queues));
    } else {
        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, &four_pages));
    }
}

/*
 * A frontend at Initialising is at rest only if its backend is, too: blkback
 * stays in Connected with its rings mapped, and an OS would wait for it.
 */
static void test_half_closed(const void *data)
{
    const char *name = data;
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;

    qxen_backend_new(s->g, name, "");
    keys = qxen_frontend_keys(s->g, name);
    firmware_leaves(s, name);
    qxen_set_key(s->g, name, "state", "1");
    announce(s);
    assert_handed_off(s, name, keys);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/*
 * A firmware that has closed its device but left its keys: the next driver's
 * backend would believe them, and they name grants that are gone.
 */
static void test_closed_with_keys(const void *data)
{
    const char *name = data ?: XVDA;
    Story *s = story(WITH_HANDOFF, "%s", data ? "" : ONE_DISK);
    g_autofree char *keys = NULL, *backend = NULL;

    if (data) {
        qxen_backend_new(s->g, name, "");
    }
    keys = qxen_frontend_keys(s->g, name);
    backend = qxen_backend_path(s->g, name);
    firmware_leaves(s, name);
    qxen_set_key(s->g, name, "feature-no-csum-offload", "1");
    qxen_set_key(s->g, name, "state", "6");
    qxen_wait_state(s->g, backend, XenbusStateClosed);
    qxen_set_key(s->g, name, "state", "1");
    qxen_wait_state(s->g, backend, XenbusStateInitWait);
    announce(s);
    assert_handed_off(s, name, keys);
    story_end(s);
}

/* Nothing that QEMU did since "record on" has changed a node of that name */
static void assert_not_written(Story *s, const char *name, const char *or_name)
{
    g_autofree char *record = qxen_ask(s->g, "record off");
    g_auto(GStrv) ops = g_strsplit(record, "\n", 0);

    for (char **op = ops; *op; op++) {
        bool writes = g_str_has_prefix(*op, "write ") ||
                      g_str_has_prefix(*op, "create ") ||
                      g_str_has_prefix(*op, "destroy ");

        if (writes && (strstr(*op, name) || strstr(*op, or_name))) {
            g_error("QEMU did '%s'", *op);
        }
    }
}

/* A device that no firmware has used is not written to at all */
static void test_not_used(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK
                     "-blockdev driver=null-co,size=1048576,read-zeroes=on,"
                     "node-name=d1 -device xen-disk,drive=d1,vdev=xvdb ");
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    qxen_backend_new(s->g, "vif/0", "");
    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "record on");
    announce_at_once(s);
    assert_handed_off(s, XVDA, keys);
    assert_counts(s, 1, 0, 0, 0);
    /* neither frontends nor backends */
    assert_not_written(s, "/51728/", "vif/");
    story_end(s);
}

/*
 * With an OS there a frontend at Initialising is left exactly as it is: whoever
 * wrote its keys, they may be the beginning of a connection.
 */
static void test_rest_with_os(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    g_autofree char *begun = NULL, *half = NULL;

    qxen_backend_new(s->g, XVDB, "");
    qxen_backend_new(s->g, "vbd/2000", "");
    firmware_boots_from(s, XVDA);
    firmware_leaves(s, XVDB);
    qxen_set_key(s->g, XVDB, "state", "1");
    half = qxen_frontend_keys(s->g, XVDB);
    qxen_be_os(s->g);
    qxen_set_key(s->g, "vbd/2000", "ring-ref", "77");
    qxen_set_key(s->g, "vbd/2000", "event-channel", "77");
    begun = qxen_frontend_keys(s->g, "vbd/2000");
    qxen_cmd(s->g, "record on");
    announce(s);
    assert_not_written(s, "/device/vbd/51728/", "/device/vbd/2000/");
    assert_handed_off(s, XVDA, keys);
    assert_handed_off(s, "vbd/2000", begun);
    qxen_assert_states(s->g, XVDB, XenbusStateInitialising,
                       XenbusStateConnected);
    qxen_assert_keys(s->g, FRONTEND XVDB, half);
    story_free(s);
}

/* Which ring a backend still uses is not for the first key to say */
static void connect_over_stale(Story *s, const char *options, bool queues)
{
    uint32_t stale;

    qxen_backend_new(s->g, XVDA, options);
    stale = qxen_page_new(s->g, 0, false).ref;
    qxen_guest_write(s->g, FRONTEND XVDA "/ring-ref", "%u", stale);
    if (!queues) {
        qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, &four_pages));
        g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 4);
        return;
    }
    qxen_set_key(s->g, XVDA, "multi-queue-num-queues", "2");
    for (int i = 0; i < 2; i++) {
        uint32_t ref = qxen_page_new(s->g, 0, false).ref;
        g_autofree char *dir = g_strdup_printf(FRONTEND XVDA "/queue-%d", i);
        g_autofree char *ring = g_strdup_printf("%s/ring-ref", dir);
        g_autofree char *port = g_strdup_printf("%s/event-channel", dir);

        qxen_guest_write(s->g, ring, "%u", ref);
        qxen_guest_write(s->g, port, "%d", 100 + i);
    }
    qxen_set_key(s->g, XVDA, "state", "3");
    while (qxen_stat(s->g, "maps") != 2) {
        g_usleep(100); /* until the backend has its turn */
    }
    qxen_set_key(s->g, XVDA, "state", "4");
}

/*
 * The backend is at Closed and still busy with rings that a second firmware
 * made, beside the key of the first one's: the handoff waits for them.
 */
static void test_stale_ring(const void *data)
{
    g_auto(GStrv) what = g_strsplit(data, ",", 2);
    Story *s = story(WITH_HANDOFF, "%s", "");

    connect_over_stale(s, what[1], !strcmp(what[0], "queues"));
    announce(s);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
    g_assert_cmpint(qxen_stat(s->g, "ports"), ==, 0);
    qxen_assert_states(s->g, XVDA, XenbusStateInitialising,
                       XenbusStateInitWait);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* The announcement follows the connection at once: its event is still queued */
static void test_race(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenConnect at_once = { .no_wait = true };

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, &at_once));
    announce(s);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

/* Requests in flight are waited for, and nothing writes to the OS's memory */
static void test_inflight(const void *data)
{
    const char *iothread = data;
    Story *s = story(WITH_HANDOFF, "%s-blockdev driver=null-co,size=1048576,"
                     "read-zeroes=on,latency-ns=100000000,node-name=d0 "
                     "-device xen-disk,drive=d0,vdev=xvda%s ",
                     iothread ? "-object iothread,id=io0 " : "",
                     iothread ?: "");
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    uint32_t before = qxen_vbd_responses(vbd);

    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, false, i, 8, NULL);
    }
    announce(s);
    assert_handed_off(s, XVDA, keys);
    /* taken from the ring and answered, or not taken at all */
    g_assert_cmpuint(qxen_vbd_responses(vbd) - before, <=, 8);
    qxen_vbd_abandon(vbd);
    qxen_take_over(s->g);
    g_usleep(200 * 1000); /* longer than a request takes */
    qxen_assert_untouched(s->g);
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* They take longer than a handoff may: that is not the other disk's fault */
static void test_long_drain(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100 ", "-blockdev driver="
                     "null-co,size=1048576,read-zeroes=on,"
                     "latency-ns=400000000,node-name=d0 "
                     "-device xen-disk,drive=d0,vdev=xvda ");
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    qxen_backend_new(s->g, XVDB, "delay-us=1000");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDB, NULL));
    qxen_vbd_submit(vbd, false, 0, 8, NULL);
    qxen_vbd_abandon(vbd);
    announce(s);
    assert_counts(s, 2, 0, 0, 0);
    story_end(s);
}

/*
 * With QEMU's own Xen another vCPU is heard while a disk drains: it closes a
 * disk that the administrator has unplugged, and that is gone before its turn.
 */
static void test_unplug_while_draining(void)
{
    Story *s = story("-global xen-loopback.events-in-drain=on " WITH_HANDOFF,
                     "-blockdev driver=null-co,size=1048576,read-zeroes=on,"
                     "latency-ns=300000000,node-name=d0 "
                     "-device xen-disk,drive=d0,vdev=xvda "
                     "-blockdev driver=null-co,size=1048576,read-zeroes=on,"
                     "node-name=d1 -device xen-disk,drive=d1,vdev=xvdb,id=d1 ");
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDB, NULL));
    qtest_qmp_assert_success(s->qts, "{'execute': 'device_del', 'arguments': "
                             "{'id': 'd1'}}");
    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, false, i, 8, NULL);
    }
    qxen_cmd(s->g, "write-later 100 " FRONTEND XVDB "/state 6");
    announce(s);
    assert_handed_off(s, XVDA, keys);
    assert_state(s, "done");
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
    qxen_vbd_abandon(vbd);
    story_free(s);
}

/* A disk that the toolstack plugs in is one as any other */
static void test_hotplug(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *image = qxen_temp_disk();
    g_autofree char *keys = NULL;

    qxen_disk_plug(s->g, "51728", "xvdb", image);
    keys = qxen_frontend_keys(s->g, XVDB);
    firmware_boots_from(s, XVDB);
    announce(s);
    assert_handed_off(s, XVDB, keys);
    qxen_be_os(s->g);
    os_uses(s, XVDB);
    qxen_disk_unplug(s->g, "51728");
    story_end(s);
    unlink(image);
}

static void test_ring_pages(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenConnect how = { .ring_order = 2, .persistent = true };
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, &how);

    qxen_vbd_assert_reads(vbd, 3);
    qxen_vbd_abandon(vbd);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 4);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

/* Whatever the firmware wrote, the toolstack's keys alone are left */
static void test_keys(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_set_key(s->g, XVDA, "queue-0/tx-ring-ref", "8");
    qxen_set_key(s->g, XVDA, "queue-0/event-channel", "8");
    qxen_set_key(s->g, XVDA, "feature-no-csum-offload", "1");
    qxen_set_key(s->g, XVDA, "ring-ref0", "8");
    qxen_set_key(s->g, XVDA, "a/b/c/d", "deep");
    qxen_set_key(s->g, XVDA, "empty", "");
    announce(s);
    assert_handed_off(s, XVDA, keys);
    story_end(s);
}

/* Is a grant of the guest in use, as dom0 sees it? */
static bool grant_in_use(Story *s, uint32_t ref)
{
    g_autofree char *prefix = g_strdup_printf("%u:", ref);
    g_autofree char *all = qxen_ask(s->g, "grants");
    g_auto(GStrv) entries = g_strsplit(all, " ", 0);

    for (char **e = entries; *e; e++) {
        if (g_str_has_prefix(*e, prefix)) {
            unsigned int flags = atoi(*e + strlen(prefix));

            /* what dom0 sees is what the guest sees */
            g_assert_cmpuint(flags, ==, qxen_grant_flags(s->g, ref));
            return flags & (GTF_reading | GTF_writing);
        }
    }
    g_assert_cmpuint(qxen_grant_flags(s->g, ref), ==, 0);
    return false;
}

/* After the handoff nobody uses the firmware's grants */
static void test_grants(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenConnect how = { .ring_order = 1 };
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, &how);

    for (unsigned int i = 0; i < vbd->ring.pages; i++) {
        g_assert_true(grant_in_use(s, vbd->ring.page[i].ref));
    }
    announce(s);
    for (unsigned int i = 0; i < vbd->ring.pages; i++) {
        g_assert_false(grant_in_use(s, vbd->ring.page[i].ref));
    }
    qxen_vbd_abandon(vbd);
    story_end(s);
}

/* A NIC of this process, with a wire to the test */
static void test_nic(void)
{
    const uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    int wire[2];
    QXenVif *vif;
    Story *s;
    g_autofree char *keys = NULL;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM, 0, wire), ==, 0);
    s = story(WITH_HANDOFF, "-netdev dgram,id=n0,local.type=fd,local.str=%d "
              "-device xen-net-device,netdev=n0,idx=0,mac=02:00:00:00:00:01 ",
              wire[1]);
    keys = qxen_frontend_keys(s->g, "vif/0");
    vif = qxen_vif_connect(s->g, "vif/0", NULL);
    qxen_vif_exchange(vif, wire[0]);
    qxen_vif_abandon(vif);
    announce(s);
    assert_handed_off(s, "vif/0", keys);
    qxen_take_over(s->g);
    /* nobody is there to take it, and nobody must write it anywhere */
    g_assert_cmpint(send(wire[0], frame, sizeof(frame), 0), ==, sizeof(frame));
    qxen_be_os(s->g);
    vif = qxen_vif_connect(s->g, "vif/0", NULL);
    qxen_vif_exchange(vif, wire[0]);
    qxen_vif_close(vif);
    story_end(s);
    close(wire[0]);
    close(wire[1]);
}

static void test_console(void)
{
    Story *s = story(WITH_HANDOFF, "-chardev null,id=c1 "
                     "-device xen-console,chardev=c1,idx=1 ");
    g_autofree char *keys = qxen_frontend_keys(s->g, "console/1");
    QXenConsole *con = qxen_console_connect(s->g, "console/1", NULL);

    qxen_console_write(con, "firmware", 8);
    qxen_console_abandon(con);
    announce(s);
    assert_handed_off(s, "console/1", keys);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    con = qxen_console_connect(s->g, "console/1", NULL);
    qxen_console_write(con, "os", 2);
    qxen_console_close(con);
    story_end(s);
}

/* Scripted backends of Linux: each lets go by its own rules */
static void test_remote(const void *data)
{
    g_auto(GStrv) what = g_strsplit(data, " ", 2);
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;

    qxen_backend_new(s->g, what[0], what[1] ?: "");
    keys = qxen_frontend_keys(s->g, what[0]);
    if (g_str_has_prefix(what[0], "vif")) {
        QXenConnect queues = { .queues = 4 };

        qxen_vif_abandon(qxen_vif_connect(s->g, what[0], &queues));
        g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 8);
    } else {
        QXenConnect ring = { .ring_order = 1 };

        qxen_vbd_abandon(qxen_vbd_connect(s->g, what[0], &ring));
        g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 2);
    }
    g_assert_cmpint(qxen_stat(s->g, "ports"), >=, 1);
    announce(s);
    if (g_str_has_prefix(what[0], "vscsi")) {
        g_autofree char *path = g_strdup_printf(FRONTEND "%s", what[0]);

        qxen_assert_states(s->g, what[0], XenbusStateInitialising,
                           XenbusStateClosed);
        qxen_assert_keys(s->g, path, keys);
    } else {
        assert_handed_off(s, what[0], keys);
    }
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* So many disks, of this process and of others */
static void test_many(const void *data)
{
    unsigned int disks = GPOINTER_TO_UINT(data);
    g_autoptr(GString) args = g_string_new("");
    Story *s;

    for (unsigned int i = 0; i < disks; i++) {
        g_string_append_printf(args, "-blockdev driver=null-co,size=1048576,"
                               "node-name=d%u -device xen-disk,drive=d%u,"
                               "vdev=d%u ", i, i, i);
    }
    s = story(WITH_HANDOFF, "%s", args->str);
    s->g->no_quota = true;
    for (unsigned int i = 0; i < disks; i++) {
        g_autofree char *name = g_strdup_printf("vbd/%u", 800000 + i);

        qxen_backend_new(s->g, name, "delay-us=500");
        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    }
    for (unsigned int i = 0; i < disks; i++) {
        g_autofree char *name = g_strdup_printf(
            "vbd/%u", i < 16 ? 202 << 8 | i << 4 : 1 << 28 | i << 8);

        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    }
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 2 * disks);
    announce(s);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
    g_assert_cmpint(qxen_stat(s->g, "ports"), ==, 0);
    assert_state(s, "done");
    assert_counts(s, 2 * disks, 0, 0, 0);
    story_end(s);
}

/* Slow backends cost time, but no more questions to xenstore than quick ones */
static void test_slow(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    unsigned int ops;

    for (int i = 0; i < 16; i++) {
        g_autofree char *name = g_strdup_printf("vbd/%d", 2000 + i);

        qxen_backend_new(s->g, name, "delay-us=20000");
        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    }
    ops = qxen_stat(s->g, "ops");
    announce(s);
    /* 17 for each with three keys of the firmware's, the rest is for all */
    g_test_message("%u operations", qxen_stat(s->g, "ops") - ops);
    g_assert_cmpuint(qxen_stat(s->g, "ops") - ops, <, 16 * 17 + 100);
    assert_counts(s, 16, 0, 0, 0);
    story_end(s);
}

/* A backend that cannot be followed: at least the frontend is at rest */
static void test_cannot_watch(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;

    qxen_backend_new(s->g, XVDA, "");
    keys = qxen_frontend_keys(s->g, XVDA);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    qxen_cmd(s->g, "xs-fail watch %d", ENOSPC);
    announce(s);
    qxen_cmd(s->g, "xs-fail watch 0");
    assert_counts(s, 0, 0, 1, 0);
    g_assert_cmpint(qxen_state(s->g, FRONTEND XVDA), ==,
                    XenbusStateInitialising);
    qxen_assert_keys(s->g, FRONTEND XVDA, keys);
    s->g->at_start.maps = s->g->at_start.ports = 1;
    story_end(s);
}

/* --- a vCPU is held, QEMU is not ------------------------------------------ */

/*
 * A backend that needs Closing and stays where it is then, so that a vCPU is
 * held: until the test speaks for it
 */
static char *held_by(Story *s, const char *name)
{
    g_autofree char *path = NULL;

    qxen_backend_new(s->g, name, "type=vbd3 fault=hang-5");
    path = qxen_backend_path(s->g, name);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    return g_steal_pointer(&path);
}

static void assert_held(Story *s)
{
    g_assert_true(qxen_vcpu_held(s->qts));
    assert_state(s, "handing-off");
}

static void pass(Story *s, const char *backend)
{
    assert_held(s);
    qxen_cmd(s->g, "write %s/state 5", backend);
    qxen_await_vcpu(s->qts);
}

/* Meanwhile QMP answers, and what the write asks for is still to come */
static void test_held(void)
{
    Story *s = story(WITH_HANDOFF, WITH_NIC);
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x10, 2);
    assert_held(s);
    assert_announcement(s, "unplug mask 0x2 at port 0x10");
    g_assert_true(has_nic(s));
    pass(s, backend);
    g_assert_false(has_nic(s));
    assert_state(s, "done");
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* Another vCPU that announces the OS waits as well, and is second */
static void test_held_two(void)
{
    Story *s = story(WITH_HANDOFF, WITH_NIC);
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x12, 3);
    qxen_out_begin(s->qts, 2, 0x10, 2);
    assert_held(s);
    g_assert_true(has_nic(s));
    pass(s, backend);
    assert_announcement(s, "product number 3 (Linux) at port 0x12");
    g_assert_false(has_nic(s));
    story_end(s);
}

/* It is the firmware's request that another vCPU's announcement waits for */
static void test_held_request(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x12, 0x4657);
    qxen_out_begin(s->qts, 2, 0x12, 3);
    assert_announcement(s, "");
    pass(s, backend);
    assert_announcement(s, "product number 3 (Linux) at port 0x12");
    assert_state(s, "done");
    story_end(s);
}

/* The guest is gone, and the next one's firmware and OS are as any others */
static void test_held_reset(void)
{
    Story *s = story(WITH_HANDOFF, WITH_NIC);
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x10, 2);
    assert_held(s);
    qtest_system_reset(s->qts);
    g_assert_false(qxen_vcpu_held(s->qts));
    assert_state(s, "armed");
    g_assert_true(has_nic(s));
    qxen_out_begin(s->qts, 2, 0x12, 3);
    pass(s, backend);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* As with a real Xen, where a stopped QEMU still serves its guest */
static void test_held_stop(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x12, 3);
    qtest_qmp_assert_success(s->qts, "{'execute': 'stop'}");
    pass(s, backend);
    assert_counts(s, 1, 0, 0, 0);
    qtest_qmp_assert_success(s->qts, "{'execute': 'cont'}");
    story_end(s);
}

/* As with QEMU's own Xen, whose state may be saved once it has stopped */
static void test_held_stop_waits(void)
{
    Story *s = story("-global xen-loopback.events-in-drain=on " WITH_HANDOFF,
                     ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_out_begin(s->qts, 2, 0x12, 3);
    qtest_qmp_assert_success(s->qts, "{'execute': 'stop'}");
    g_assert_false(qxen_vcpu_held(s->qts));
    assert_handed_off(s, XVDA, keys);
    qtest_qmp_assert_success(s->qts, "{'execute': 'cont'}");
    story_end(s);
}

/*
 * With QEMU's own Xen a handoff may end while a disk drains, perhaps the one
 * that the write unplugs: what is held waits for the main loop
 */
static void test_held_in_drain(void)
{
    Story *s = story("-global xen-loopback.events-in-drain=on " WITH_HANDOFF,
                     WITH_NIC);
    g_autofree char *backend = held_by(s, XVDB);
    g_autofree char *held = NULL;

    qxen_out_begin(s->qts, 2, 0x10, 2);
    assert_held(s);
    held = qxen_ask(s->g, "write-polled %s/state 5", backend);
    g_assert_cmpstr(held, ==, "1");
    qxen_await_vcpu(s->qts);
    g_assert_false(has_nic(s));
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* The administrator takes the device away that is waited for */
static void test_held_unplug(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x12, 3);
    assert_held(s);
    qxen_cmd(s->g, "unplug vbd 51728");
    qxen_await_vcpu(s->qts);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* The guest ejects xen-platform from another vCPU: its write goes nowhere */
static void test_held_eject(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out_begin(s->qts, 2, 0x10, 7);
    assert_held(s);
    qtest_outl(s->qts, 0xae10, 0);
    qtest_outl(s->qts, 0xae08, 1 << 4);
    g_assert_null(qpci_device_find(s->pci, PLATFORM_DEVFN));
    pass(s, backend);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* An OS that runs connects the frontend: that ends the wait, not the bound */
static void test_held_os(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = held_by(s, XVDB);

    qxen_be_os(s->g);
    qxen_out_begin(s->qts, 2, 0x12, 3);
    assert_held(s);
    qxen_guest_write(s->g, FRONTEND XVDB "/state", "3");
    qxen_await_vcpu(s->qts);
    assert_connection(s, 1, XVDB, "os-changed", "skipped", backend);
    g_assert_cmpint(qxen_handoff_count(s->qts, "last-duration-us"), <,
                    59 * G_USEC_PER_SEC);
    g_assert_cmpint(qxen_state(s->g, FRONTEND XVDB), ==,
                    XenbusStateInitialised);
    s->g->at_start.maps = s->g->at_start.ports = 1;
    story_end(s);
}

/* Nobody speaks for the backend: the time that was set ends it */
static void test_held_bound(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=200 ", WITH_NIC);
    g_autofree char *backend = held_by(s, XVDB);

    qxen_out(s->qts, 2, 0x10, 2);
    assert_counts(s, 0, 1, 0, 0);
    g_assert_false(has_nic(s));
    g_assert_cmpint(qxen_state(s->g, FRONTEND XVDB), ==,
                    XenbusStateInitialising);
    s->g->at_start.maps = s->g->at_start.ports = 1;
    story_end(s);
}

/* --- once ----------------------------------------------------------------- */

static void test_once(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    announce(s);
    /* even now nobody asks whose it is: the one shot is used up */
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
        do_access(s, &accesses[i]);
    }
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_announcement(s, "product number 3 (Linux) at port 0x12");
    assert_counts(s, 0, 0, 0, 0);
    qxen_vbd_close(vbd);
    story_end(s);
}

static void test_reset(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    announce(s);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    qxen_param(s->g, "0");
    qtest_system_reset(s->qts);
    firmware_boots_from(s, XVDA);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* S3: to the machine a reset, but the OS lives on */
static void test_wakeup(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QPCIDevice *pm = qpci_device_find(s->pci, QPCI_DEVFN(1, 3));
    QXenVbd *vbd;

    announce(s);
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    /* piix4: power management at 0x600, then "sleep" in PM1a control */
    qpci_config_writel(pm, 0x40, 0x600 | 1);
    qpci_config_writeb(pm, 0x80, 1);
    g_free(pm);
    qtest_outw(s->qts, 0x604, 1 << 10 | 1 << 13);
    qtest_qmp_eventwait(s->qts, "SUSPEND");
    qtest_qmp_assert_success(s->qts, "{'execute': 'system_wakeup'}");
    qtest_qmp_eventwait(s->qts, "WAKEUP");
    assert_state(s, "done");
    qxen_param(s->g, "0");
    announce(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_counts(s, 0, 0, 0, 0);
    qxen_vbd_close(vbd);
    story_end(s);
}

/*
 * The guest moves to another QEMU, with the device or without.  Whose its
 * connections are, the parameter tells there, too: what came with an OS has
 * been handed off long ago, what came in its firmware has that still before it.
 */
typedef struct Migration {
    const char *name;
    const char *from, *to;
    bool fired, os, armed;
} Migration;

static const Migration migrations[] = {
    { "armed", WITH_HANDOFF, WITH_HANDOFF, .armed = true },
    { "os", WITH_HANDOFF, WITH_HANDOFF, .os = true },
    { "fired", WITH_HANDOFF, WITH_HANDOFF, .fired = true },
    { "fired-os", WITH_HANDOFF, WITH_HANDOFF, .fired = true, .os = true },
    { "from-without", WITHOUT, WITH_HANDOFF },
    { "from-without-os", WITHOUT, WITH_HANDOFF, .os = true },
};

static void save_to(Story *s, const char *file)
{
    qtest_qmp_assert_success(s->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': %s}}", file);
    qtest_qmp_eventwait(s->qts, "STOP");
    for (;;) {
        QDict *rsp = qtest_qmp_assert_success_ref(
            s->qts, "{'execute': 'query-migrate'}");
        g_autofree char *status = g_strdup(qdict_get_str(rsp, "status"));

        qobject_unref(rsp);
        g_assert_cmpstr(status, !=, "failed");
        if (!strcmp(status, "completed")) {
            return;
        }
        g_usleep(1000);
    }
}

/* What is connected now is handed off, or the OS's */
static void restored(Story *s, bool armed)
{
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);

    announce(s);
    assert_announcement(s, armed ? "product number 3 (Linux) at port 0x12"
                                 : "");
    if (armed) {
        assert_handed_off(s, XVDA, keys);
        assert_counts(s, 1, 0, 0, 0);
        qxen_vbd_abandon(vbd);
    } else {
        assert_connected(s, XVDA);
        qxen_vbd_assert_reads(vbd, 1);
        qxen_vbd_close(vbd);
    }
    story_end(s);
}

static void test_migration(const void *data)
{
    const Migration *m = data;
    g_autofree char *path = qxen_temp_file("vmstate", 0);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    Story *s = story(m->from, ONE_DISK);

    if (m->fired) {
        announce(s);
    }
    save_to(s, uri);
    story_end(s);

    s = story(m->to, ONE_DISK "-incoming defer ");
    qxen_param(s->g, m->os ? "1" : "0");
    qtest_qmp_assert_success(s->qts, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s}}", uri);
    qtest_qmp_eventwait(s->qts, "RESUME");
    if (*m->to) {
        assert_state(s, m->armed ? "armed" : "done");
    }
    restored(s, m->armed);
    unlink(path);
}

/* What it knows of the guest needs the device on the other side */
static void test_migration_refused(void)
{
    g_autofree char *path = qxen_temp_file("vmstate", 0);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    announce(s);
    save_to(s, uri);
    story_end(s);

    /* no disk: QEMU 10.2 aborts when it has to exit here with one */
    s = story(WITHOUT, "-incoming defer ");
    qtest_set_expected_status(s->qts, EXIT_FAILURE);
    qtest_qmp_assert_success(s->qts, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s}}", uri);
    qtest_wait_qemu(s->qts);
    g_assert_cmpint(log_count(s, "section or instance 'xen-fw-handoff'"), >=,
                    1);
    story_free(s);
    unlink(path);
}

static void job(Story *s, const char *id)
{
    for (;;) {
        QDict *event = qtest_qmp_eventwait_ref(s->qts, "JOB_STATUS_CHANGE");
        QDict *data = qdict_get_qdict(event, "data");
        bool ended = !strcmp(qdict_get_str(data, "id"), id) &&
                     !strcmp(qdict_get_str(data, "status"), "concluded");

        qobject_unref(event);
        if (ended) {
            break;
        }
    }
    qtest_qmp_assert_success(s->qts, "{'execute': 'job-dismiss', "
                             "'arguments': {'id': %s}}", id);
}

/* A snapshot is of a guest that may have an OS, whatever it was since */
static void test_snapshot(const void *data)
{
    const char *param = data;
    g_autofree char *path = qxen_temp_file("snapshot", 0);
    Story *s = story(WITH_HANDOFF, "-device xen-disk,drive=disk,vdev=xvda "
                     "-blockdev driver=file,filename=%s,node-name=snapfile ",
                     path);

    qtest_qmp_assert_success(s->qts, "{'execute': 'blockdev-create', "
        "'arguments': {'job-id': 'create', 'options': {'driver': 'qcow2', "
        "'file': 'snapfile', 'size': 1048576}}}");
    job(s, "create");
    qtest_qmp_assert_success(s->qts, "{'execute': 'blockdev-add', "
        "'arguments': {'driver': 'qcow2', 'file': 'snapfile', "
        "'node-name': 'snap'}}");
    qtest_qmp_assert_success(s->qts, "{'execute': 'snapshot-save', "
        "'arguments': {'job-id': 'save', 'tag': 't', 'vmstate': 'snap', "
        "'devices': ['snap']}}");
    job(s, "save");
    qxen_param(s->g, param);
    qtest_qmp_assert_success(s->qts, "{'execute': 'snapshot-load', "
        "'arguments': {'job-id': 'load', 'tag': 't', 'vmstate': 'snap', "
        "'devices': ['snap']}}");
    job(s, "load");
    assert_state(s, *param == '0' ? "armed" : "done");
    restored(s, *param == '0');
    unlink(path);
}

/*
 * A guest that ends without an OS has a last word, one that is done or that was
 * saved has none
 */
static void test_last_word(const void *data)
{
    const char *how = data;
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    bool saved = !strcmp(how, "saved"), done = !strcmp(how, "done");

    firmware_boots_from(s, XVDA);
    if (done) {
        announce(s);
    } else if (saved) {
        qtest_qmp_assert_success(s->qts, "{'execute': 'stop'}");
    }
    qtest_qmp_assert_success(s->qts, "{'execute': 'quit'}");
    qtest_wait_qemu(s->qts);
    g_assert_cmpint(log_count(s, "no OS has announced itself, connections of "
                                 "the firmware that end with the guest: 1"), ==,
                    !saved && !done);
    story_free(s);
}

/* --- faults --------------------------------------------------------------- */

typedef struct Fault {
    const char *option;
    const char *action;         /* what is told of it */
    XenbusState backend;        /* where it is in the end */
    bool released;              /* its ring is unmapped all the same */
} Fault;

/* A vbd is spared Closing, a vbd3 is not */
static const Fault faults[] = {
    { "type=vbd3 fault=hang-5", "timed-out", XenbusStateConnected, false },
    { "type=vbd3 fault=hang-6", "timed-out", XenbusStateClosing, false },
    { "type=vbd3 fault=skip", "handed-off", XenbusStateInitWait, true },
    { "fault=hang-6", "timed-out", XenbusStateConnected, false },
    { "fault=hang-1", "timed-out", XenbusStateClosed, true },
    { "delay-us=3000000", "timed-out", XenbusStateConnected, false },
    { "fault=busy", "handed-off", XenbusStateInitWait, true },
    { "fault=stuck", "timed-out", XenbusStateInitWait, false },
    { "fault=gone", "handed-off", XenbusStateUnknown, true },
    { "fault=offline", "handed-off", XenbusStateClosed, true },
    { "fault=offline delay-us=500", "handed-off", XenbusStateClosed, true },
    { "fault=unknown", "timed-out", XenbusStateUnknown, false },
    { "fault=garbage", "timed-out", XenbusStateUnknown, false },
};

static void fault_among(const Fault *fault, unsigned int healthy)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=1000 ", "%s", "");
    bool done = !strcmp(fault->action, "handed-off");
    g_autofree char *backend = NULL;

    for (unsigned int i = 0; i < healthy; i++) {
        g_autofree char *name = g_strdup_printf("vbd/%u", 2000 + i);

        qxen_backend_new(s->g, name, "delay-us=200");
        look(s);
        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    }
    qxen_backend_new(s->g, "vbd/666", fault->option);
    backend = qxen_backend_path(s->g, "vbd/666");
    look(s);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, "vbd/666", NULL));
    announce(s);
    g_assert_cmpint(qxen_state(s->g, FRONTEND "vbd/666"), ==,
                    XenbusStateInitialising);
    g_assert_false(qxen_exists(s->g, FRONTEND "vbd/666/ring-ref"));
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, fault->released ? 0 : 1);
    for (unsigned int i = 0; i < healthy; i++) {
        g_autofree char *name = g_strdup_printf("vbd/%u", 2000 + i);

        qxen_assert_states(s->g, name, XenbusStateInitialising,
                           XenbusStateInitWait);
    }
    g_assert_cmpint(qxen_state(s->g, backend), ==, fault->backend);
    assert_counts(s, healthy + done, !done, 0, 0);
    assert_connection(s, healthy + 1, "vbd/666", "firmware", fault->action,
                      backend);
    /* the culprit still holds what it did not let go */
    s->g->at_start.maps = s->g->at_start.ports = !fault->released;
    story_end(s);
}

/* Another domain writes without end: a busy backend is asked again even so */
static void test_busy_among_writes(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=2000 ", "%s", "");
    g_autofree char *backend = NULL;

    qxen_backend_new(s->g, XVDA, "fault=busy");
    backend = qxen_backend_path(s->g, XVDA);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    qxen_out_begin(s->qts, 2, 0x12, 3);
    while (qxen_vcpu_held(s->qts)) {
        qxen_cmd(s->g, "write %s/noise 1", backend);
    }
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* QEMU stands still for longer than it waits; the backend has followed then */
static void test_standstill(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100 ", "%s", "");

    qxen_backend_new(s->g, XVDA, "delay-us=1000");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    qxen_out_begin(s->qts, 2, 0x12, 3);
    kill(qtest_pid(s->qts), SIGSTOP);
    g_usleep(300 * SCALE_MS / SCALE_US);
    kill(qtest_pid(s->qts), SIGCONT);
    qxen_await_vcpu(s->qts);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* The toolstack takes the guest away meanwhile: nothing of it comes back */
static void test_destroyed(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");

    qxen_backend_new(s->g, XVDA, "fault=destroyed");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    announce(s);
    g_assert_false(qxen_exists(s->g, FRONTEND XVDA));
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/*
 * The toolstack has removed the guest while a driver domain still moves: of
 * what the handoff writes nothing may bring the guest's directory back.
 */
static void test_dying(const void *data)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100 ", "%s", "");

    qxen_backend_new(s->g, XVDA, data);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    announce(s);
    g_assert_false(qxen_exists(s->g, "/local/domain/7"));
    story_free(s);
}

/* The same at each look of QEMU's, whatever comes next */
static void test_dying_between(const void *data)
{
    const char *local = data;
    unsigned int looks = 1;

    for (unsigned int nth = 0; nth <= looks; nth++) {
        Story *s = story(QXEN_HANDOFF ",timeout-ms=20 ", "%s",
                         local);

        if (!*local) {
            qxen_backend_new(s->g, XVDA, "domain=3");
        }
        qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
        if (nth) {
            qxen_cmd(s->g, "race-write-nth %u * rm /local/domain/7", nth);
        } else {
            qxen_cmd(s->g, "race-write 1000000 * callback 0"); /* it is 0 */
        }
        announce_at_once(s);
        if (nth && !qxen_stat(s->g, "race-writes")) {
            /* a slow machine looks less often, but for the first ones */
            g_assert_cmpuint(nth, >, 10);
            looks = nth;
        } else if (nth) {
            g_assert_false(qxen_exists(s->g, "/local/domain/7"));
        } else {
            looks = qxen_stat(s->g, "race-writes");
            g_assert_cmpuint(looks, >, 1);
        }
        story_free(s);
    }
}

static void test_fault(const void *data)
{
    fault_among(data, 0);
}

static void test_fault_among(const void *data)
{
    fault_among(data, 16);
}

/* --- a hostile guest ------------------------------------------------------ */

/* The guest's word for its backend is not taken */
static void test_backend_lies(void)
{
    g_autofree char *far = g_strnfill(1000, 'x');
    g_autofree char *long_path = g_strdup_printf(
        "/local/domain/0/backend/vbd/7/%s%s%s%s", far, far, far, far);
    const char *const lies[] = {
        "/local/domain/0/backend/vbd/8/51712",  /* another guest's */
        "/local/domain/7/backend/vbd/7/51712",  /* its own */
        "/local/domain/7/device/vbd/51712",     /* itself */
        "/local/domain/0/backend/vbd/7/51728",  /* of another device */
        "/local/domain/0/backend/vbd/7",
        "/local/domain/0/backend/vbd/7/51712/frontend",
        "/local/domain/0/backend/vbd/7/51712/",
        "backend/vbd/7/51712",
        "",
        long_path,
    };
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;

    qxen_backend_new(s->g, XVDA, "");
    qxen_backend_new(s->g, XVDB, "");
    keys = qxen_frontend_keys(s->g, XVDA);
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        /* libxl's own record decides where there is one */
        for (int libxl = 1; libxl >= 0; libxl--) {
            QXenVbd *vbd = qxen_vbd_connect(s->g, XVDA, NULL);
            g_autofree char *truth = qxen_backend_path(s->g, XVDA);

            if (!libxl) {
                qxen_cmd(s->g, "rm /libxl/7/device/" XVDA "/backend");
            }
            qtest_system_reset(s->qts);
            /* dom0 writes it here: the guest's quota is below 4000 bytes */
            qxen_write(s->g, FRONTEND XVDA "/backend", "%s", lies[i]);
            announce(s);
            qxen_set_key(s->g, XVDA, "backend", truth);
            if (libxl) {
                qxen_assert_states(s->g, XVDA, XenbusStateInitialising,
                                   XenbusStateInitWait);
                qxen_vbd_abandon(vbd);
            } else {
                assert_connected(s, XVDA);
                assert_counts(s, 0, 0, 0, 1);
                qxen_vbd_close(vbd);
                qxen_write(s->g, "/libxl/7/device/" XVDA "/backend", "%s",
                           truth);
            }
        }
    }
    /* the truth is enough */
    qxen_cmd(s->g, "rm /libxl/7/device/" XVDA "/backend");
    qtest_system_reset(s->qts);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    announce(s);
    qxen_assert_states(s->g, XVDA, XenbusStateInitialising,
                       XenbusStateInitWait);
    story_end(s);
}

/* A state that is none says nothing: what its backend has mapped does */
static void test_state_garbage(void)
{
    static const char *const states[] = {
        "4294967300", "-1", "4 ", " 4", "", "44", "0x4", "4\n", "9", "0",
        "18446744073709551620", "four", "7", "8",
    };
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;

    qxen_backend_new(s->g, XVDA, "");
    keys = qxen_frontend_keys(s->g, XVDA);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        qtest_system_reset(s->qts);
        qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
        qxen_set_key(s->g, XVDA, "state", states[i]);
        announce(s);
        assert_handed_off(s, XVDA, keys);
        g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
        assert_counts(s, 1, 0, 0, 0);
    }
    story_end(s);
}

/* More frontends than anyone has: so many are looked at and no more */
static void test_many_frontends(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    for (int i = 0; i < 10000; i++) {
        /* as dom0, whom no quota binds */
        qxen_cmd(s->g, "write " FRONTEND "x%d/0/state 4", i);
    }
    announce(s);
    /* 1024 with the disk, which is at rest */
    assert_counts(s, 0, 0, 0, 1023);
    story_end(s);
}

/*
 * Made, removed, made anew under another name: dom0's log and our memory would
 * grow as long as the guest likes
 */
static void test_passing_frontends(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    for (int i = 0; i < 2000; i++) {
        qxen_cmd(s->g, "write " FRONTEND "x/%d/state 4", i);
        qxen_cmd(s->g, "rm " FRONTEND "x/%d", i);
    }
    /* 1024 with the disk, which is at rest; who is quick may not be seen */
    g_assert_cmpint(log_count(s, "xen-fw-handoff: "), <=, 1024);
    story_end(s);
}

/* No name of any device is that long, and dom0's log would have it */
static void test_long_name(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *id = g_strnfill(1000, '1');

    qxen_cmd(s->g, "write " FRONTEND "vbd/%s/state 4", id);
    announce(s);
    g_assert_cmpint(log_count(s, "111111"), ==, 0);
    assert_state(s, "done");
    assert_counts(s, 0, 0, 0, 0);
    story_end(s);
}

/* QEMU's older backends are on no bus, and led as all others are */
static void test_legacy_backend(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    /* its path will do: QEMU would end at one that is hotplugged */
    qxen_cmd(s->g, "write /libxl/7/device/vkbd/0/backend "
             "/local/domain/0/backend/vkbd/7/0");
    qxen_cmd(s->g, "write " FRONTEND "vkbd/0/state 4");
    announce(s);
    assert_connection(s, 1, "vkbd/0", "firmware", "handed-off",
                      "/local/domain/0/backend/vkbd/7/0");
    g_assert_cmpint(qxen_state(s->g, FRONTEND "vkbd/0"), ==,
                    XenbusStateInitialising);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* The guest writes while we look, but not for ever */
static void test_race_writes(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "race-write 3 " FRONTEND XVDA " " FRONTEND XVDA "/evil x");
    announce(s);
    assert_handed_off(s, XVDA, keys);
    story_end(s);
}

/* The guest does so for ever: its keys stay, its rings do not */
static void test_race_writes_without_end(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "race-write 1000000 " FRONTEND XVDA " " FRONTEND XVDA
             "/evil x");
    announce(s);
    g_assert_cmpint(qxen_stat(s->g, "maps"), ==, 0);
    g_assert_cmpint(qxen_state(s->g, FRONTEND XVDA), ==,
                    XenbusStateInitialising);
    g_assert_true(qxen_exists(s->g, FRONTEND XVDA "/evil"));
    assert_counts(s, 0, 0, 1, 0);
    story_end(s);
}

/* Port writes without end, under a live disk of the OS */
static void test_many_writes(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    qxen_cmd(s->g, "port-writes 2 0x12 350000");
    qxen_cmd(s->g, "port-writes 4 0x10 350000");
    qxen_cmd(s->g, "port-writes 2 0x10 350000");
    /* 10 MB of log: every byte there is, NULs and escapes, hardly a newline */
    qxen_cmd(s->g, "port-writes 1 0x12 10000000");
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_counts(s, 0, 0, 0, 1);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* Handoffs and lines, as many as there can be until the machine is reset */
static void talk_until_reset(Story *s)
{
    for (int i = 0; i < 16; i++) {
        qxen_out(s->qts, 2, 0x12, 0x4657);
    }
    announce(s);
    qtest_system_reset(s->qts);
}

/*
 * All lines that a guest can cause have one bound, for QEMU's life: with as
 * many frontends as its quota permits, it can reset itself without end.
 */
static void test_reset_log(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *text = NULL, *after = NULL;

    for (int i = 0; i < 480; i++) {
        qxen_cmd(s->g, "guest-write " FRONTEND "x/%d/state 4", i);
    }
    for (int i = 0; i < 20; i++) {
        talk_until_reset(s);
    }
    text = qxen_log(s->g);
    talk_until_reset(s);
    after = qxen_log(s->g);
    assert_state(s, "armed");
    /* not all of that is for scripts/test.py */
    g_assert_cmpint(truncate(s->g->log, 0), ==, 0);
    g_assert_cmpuint(strlen(text), <, 2 * 1024 * 1024);
    g_assert_cmpuint(strlen(after), ==, strlen(text));
    g_test_message("%s", g_strrstr(text, "xen-fw-handoff: "));
    /* the last one says so */
    g_assert_nonnull(strstr(g_strrstr(text, "xen-fw-handoff: "), "no more"));
    story_free(s);
}

/* --- a flood of watch events ---------------------------------------------- */

/* Is it known over QMP as a connection of the firmware's? */
static bool known(Story *s, const char *name)
{
    QObject *value = qxen_handoff_get(s->qts, "connections");
    const QListEntry *e;
    bool found = false;

    QLIST_FOREACH_ENTRY(qobject_to(QList, value), e) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(e));

        found |= !strcmp(qdict_get_str(dict, "frontend"), name) &&
                 !strcmp(qdict_get_str(dict, "owner"), "firmware");
    }
    qobject_unref(value);
    return found;
}

static void wait_known(Story *s, const char *name)
{
    int64_t end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (!known(s, name)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

/*
 * The guest writes without end to what QEMU watches: QEMU asks xenstore so
 * often and no more, and knows in the end what is there all the same.
 */
static void test_flood(const void *data)
{
    g_auto(GStrv) what = g_strsplit(data, " ", 2);
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL, *keys2 = NULL;
    unsigned int ops;

    qxen_backend_new(s->g, XVDA, "");
    qxen_backend_new(s->g, XVDB, "");
    keys = qxen_frontend_keys(s->g, XVDA);
    keys2 = qxen_frontend_keys(s->g, XVDB);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    wait_known(s, XVDA);
    ops = qxen_stat(s->g, "ops");
    qxen_cmd(s->g, "flood 20000 " FRONTEND "%s %s", what[0], what[1]);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDB, NULL));
    qxen_cmd(s->g, "flood 20000 " FRONTEND "%s %s", what[0], what[1]);
    qxen_settle(s->g);
    /* some looks at once, then by a timer: less than a request for a write */
    g_test_message("%u operations", qxen_stat(s->g, "ops") - ops);
    g_assert_cmpuint(qxen_stat(s->g, "ops") - ops, <, 20000);
    wait_known(s, XVDB);
    wait_known(s, XVDA);
    qxen_be_os(s->g);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    assert_handed_off(s, XVDB, keys2);
    story_end(s);
}

/*
 * The same by a guest that writes again as soon as QEMU has looked, so that
 * there is always one event more: it may not decide how often QEMU looks.
 */
static void test_flood_paced(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *keys = NULL;
    unsigned int ops;

    qxen_backend_new(s->g, XVDA, "");
    keys = qxen_frontend_keys(s->g, XVDA);
    qxen_cmd(s->g, "race-write 100000 " FRONTEND XVDA " " FRONTEND XVDA " x");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    wait_known(s, XVDA);
    ops = qxen_stat(s->g, "ops");
    qxen_cmd(s->g, "guest-write " FRONTEND XVDA " x");
    for (int i = 0; i < 1000; i++) {
        qxen_stat(s->g, "ops"); /* QEMU has its turns, and is not stuck */
    }
    g_test_message("%u operations", qxen_stat(s->g, "ops") - ops);
    g_assert_cmpuint(qxen_stat(s->g, "ops") - ops, <, 40000);
    qxen_cmd(s->g, "port-writes 2 0x12 0"); /* it stops */
    announce(s);
    assert_handed_off(s, XVDA, keys);
    story_end(s);
}

/* --- the guest's own connection to xenstore ------------------------------- */

static unsigned int guest_events(Story *s)
{
    g_autofree char *n = qxen_ask(s->g, "guest-events");

    return atoi(n);
}

/* As a firmware does that never reads what its ring has for it */
static void firmware_watches(Story *s)
{
    g_autofree char *backend = qxen_backend_path(s->g, XVDA);

    qxen_cmd(s->g, "guest-watch device fw");
    qxen_cmd(s->g, "guest-watch %s/state fw", backend);
    g_assert_cmpint(guest_events(s), ==, 2); /* each fires at once */
}

static char *guest_transaction(Story *s)
{
    return qxen_ask(s->g, "guest-transaction");
}

/*
 * The firmware's watches and transactions are connections that it left open:
 * they are gone before what the handoff writes could fill the guest's ring.
 */
static void test_xenstore_reset(const void *data)
{
    const char *local = data;
    Story *s = story(WITH_HANDOFF, "%s", local);
    g_autofree char *keys = NULL, *tid = NULL;

    if (!*local) {
        qxen_backend_new(s->g, XVDA, "");
    }
    keys = qxen_frontend_keys(s->g, XVDA);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    firmware_watches(s);
    tid = guest_transaction(s);
    qxen_cmd(s->g, "guest-read %s " FRONTEND XVDA "/state", tid);
    announce_at_once(s);
    g_assert_cmpint(guest_events(s), ==, 0);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 1);
    assert_handed_off(s, XVDA, keys);
    qxen_set_key(s->g, XVDA, "hello", "1");
    g_assert_cmpint(guest_events(s), ==, 0);
    g_assert_false(qxen_try(s->g, "guest-read %s " FRONTEND XVDA "/state",
                            tid));
    /* the OS's are nobody else's */
    qxen_cmd(s->g, "guest-watch device os");
    qxen_out(s->qts, 2, 0x10, 7);
    g_assert_cmpint(guest_events(s), ==, 1);
    qxen_set_key(s->g, XVDA, "hello", "2");
    g_assert_cmpint(guest_events(s), ==, 1);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 1);
    story_free(s);
}

/* An OS is there: its watches and transactions stay */
static void test_xenstore_of_os(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    g_autofree char *tid = NULL;

    firmware_boots_from(s, XVDA);
    qxen_be_os(s->g);
    firmware_watches(s);
    tid = guest_transaction(s);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    g_assert_cmpint(guest_events(s), >, 0);
    qxen_set_key(s->g, XVDA, "hello", "1");
    g_assert_cmpint(guest_events(s), ==, 1);
    qxen_cmd(s->g, "guest-read %s " FRONTEND XVDA "/state", tid);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 0);
    story_free(s);
}

/* A firmware that asks is still there and goes on with its own watches */
static void test_xenstore_request(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    firmware_watches(s);
    qxen_out(s->qts, 2, 0x12, 0x4657);
    assert_handed_off(s, XVDA, keys);
    g_assert_cmpint(guest_events(s), >, 0);
    qxen_set_key(s->g, XVDA, "hello", "1");
    g_assert_cmpint(guest_events(s), ==, 1);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 0);
    qxen_cmd(s->g, "rm " FRONTEND XVDA "/hello");
    guest_events(s);
    /* they end at the announcement, when no device is left to hand off */
    announce(s);
    assert_counts(s, 1, 0, 0, 0);
    qxen_set_key(s->g, XVDA, "hello", "2");
    g_assert_cmpint(guest_events(s), ==, 0);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 1);
    story_end(s);
}

/* A guest whose firmware has connected nothing keeps what it has */
static void test_xenstore_untouched(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    firmware_watches(s);
    announce(s);
    qxen_set_key(s->g, XVDA, "hello", "1");
    g_assert_cmpint(guest_events(s), ==, 1);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 0);
    story_free(s);
}

/* It cannot be reset: no reason to leave a disk's ring mapped */
static void test_xenstore_reset_fails(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "reset-fail %d", EPERM);
    announce(s);
    g_assert_cmpint(qxen_stat(s->g, "resets"), ==, 1);
    assert_handed_off(s, XVDA, keys);
    assert_counts(s, 1, 0, 0, 0);
    assert_warned(s, EPERM);
    story_end(s);
}

/* --- Xen as QEMU emulates it under KVM ------------------------------------ */

#define KVM_XEN "-accel kvm,xen-version=0x4000a,kernel-irqchip=split"

/*
 * Can this machine do that?  If not, the test is skipped.  Without a device
 * QEMU can fail for nothing else: it says why KVM did.
 */
static bool has_kvm_xen(const char *bios)
{
    g_autofree char *cmd =
        g_strdup_printf("sh -c 'echo quit | %s -nodefaults -display none "
                        "-S -M pc -bios %s -monitor stdio " KVM_XEN "'",
                        getenv("QTEST_QEMU_BINARY"), bios);
    g_autofree char *out = NULL, *err = NULL;
    int status;

    if (access("/dev/kvm", R_OK | W_OK)) {
        g_autofree char *why = g_strdup_printf("/dev/kvm: %s", strerror(errno));

        g_test_skip(why);
        return false;
    }
    if (!qtest_has_accel("kvm")) {
        g_test_skip("this QEMU is built without KVM");
        return false;
    }
    g_assert_true(g_spawn_command_line_sync(cmd, &out, &err, &status, NULL));
    if (strstr(err, "failed to initialize kvm")) {
        *strchr(err, '\n') = '\0'; /* why, not what follows from it */
        g_test_skip(err);
        return false;
    }
    g_assert_cmpstr(err, ==, "");
    g_assert_cmpint(status, ==, 0);
    return true;
}

/*
 * The emulation needs no loopback and brings its own xen-platform.  There is no
 * guest that connects anything, its vCPU does not run.
 */
static void test_kvm(void)
{
    g_autofree char *bios = qxen_temp_file("bios", 64 * 1024);
    QTestState *qts;

    if (!has_kvm_xen(bios)) {
        unlink(bios);
        return;
    }
    qts = qtest_initf("-machine pc -m 64 -nodefaults -S -bios %s " KVM_XEN
                      " -cpu host,+xen-vapic " WITH_HANDOFF, bios);
    g_assert_true(qtest_qom_get_bool(qts, "/machine/peripheral/ho",
                                     "realized"));
    g_assert_true(qxen_handoff_is_armed(qts));

    qtest_outw(qts, 0x12, 3);
    g_assert_false(qxen_handoff_is_armed(qts));
    g_assert_cmpint(qxen_handoff_count(qts, "handed-off"), ==, 0);

    qtest_system_reset(qts);
    g_assert_true(qxen_handoff_is_armed(qts));

    qtest_quit(qts);
    unlink(bios);
}

/* --- grants --------------------------------------------------------------- */

#define OTHER_DOMID 3           /* no backend is there */

typedef struct Grants {
    uint32_t other, data;       /* references */
} Grants;

/* What a firmware has in its table beside the rings of its disk */
static Grants firmware_grants(Story *s)
{
    Grants gr = {
        .other = qxen_page_new(s->g, OTHER_DOMID, false).ref,
        .data = qxen_page_new(s->g, 0, true).ref,
    };

    return gr;
}

/* What is permitted, in use or not, by this guest's firmware or OS */
static int grants_for(Story *s, uint16_t domid)
{
    g_autofree char *all = qxen_ask(s->g, "grants");
    g_auto(GStrv) entries = g_strsplit(all, " ", 0);
    int n = 0;

    for (char **e = entries; *e && **e; e++) {
        unsigned int ref, flags, d, frame;

        g_assert_cmpint(sscanf(*e, "%u:%u:%u:%u", &ref, &flags, &d, &frame),
                        ==, 4);
        n += d == domid;
    }
    return n;
}

static void assert_grant_counts(Story *s, int cleared, int in_use)
{
    g_assert_cmpint(qxen_handoff_count(s->qts, "grants-cleared"), ==, cleared);
    g_assert_cmpint(qxen_handoff_count(s->qts, "grants-in-use"), ==, in_use);
}

/* Nothing that the firmware has granted is left, not even merely permitted */
static void test_scrub(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenConnect how = { .ring_order = 2, .persistent = true };
    Grants gr;

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, &how));
    gr = firmware_grants(s);
    g_assert_cmpint(grants_for(s, 0), ==, 5);
    announce(s);
    g_assert_cmpint(grants_for(s, 0), ==, 0);
    g_assert_cmpuint(qxen_grant_flags(s->g, gr.other), ==, GTF_permit_access);
    assert_grant_counts(s, 5, 0);
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    os_uses(s, XVDA);
    story_end(s);
}

static void test_scrub_off(void)
{
    Story *s = story(QXEN_HANDOFF ",scrub-grants=off ",
                     ONE_DISK);

    firmware_boots_from(s, XVDA);
    firmware_grants(s);
    announce(s);
    g_assert_cmpint(grants_for(s, 0), >=, 2);
    assert_grant_counts(s, 0, 0);
    story_end(s);
}

static void grant_at(Story *s, uint32_t ref)
{
    uint32_t next = s->g->refs.next;

    s->g->refs.next = ref;
    qxen_grant(s->g, 0x200000, 0, false);
    s->g->refs.next = next;
}

/*
 * References 0 and 1 are the toolstack's, and so is what was in the other six
 * that Xen keeps for it before the guest ran; all else is the firmware's.
 */
static void test_scrub_reserved(void)
{
    static const bool stays[8] = {
        [0] = true, [1] = true, [4] = true, [6] = true,
    };
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    grant_at(s, 4);
    grant_at(s, 6);
    qtest_system_reset(s->qts);
    for (uint32_t ref = 0; ref < ARRAY_SIZE(stays); ref++) {
        if (ref != 4 && ref != 6) {
            grant_at(s, ref);
        }
    }
    firmware_boots_from(s, XVDA);
    announce(s);
    for (uint32_t ref = 0; ref < ARRAY_SIZE(stays); ref++) {
        g_assert_cmpuint(qxen_grant_flags(s->g, ref), ==,
                         stays[ref] ? GTF_permit_access : 0);
    }
    g_assert_cmpint(grants_for(s, 0), ==, 4);
    story_end(s);
}

/* Where the table cannot be mapped, connections are handed off all the same */
static void test_scrub_cannot_map(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    Grants gr;

    qxen_cmd(s->g, "grant-fail %d", EPERM);
    qtest_system_reset(s->qts);
    assert_state(s, "armed");
    assert_warned(s, EPERM);
    firmware_boots_from(s, XVDA);
    gr = firmware_grants(s);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    g_assert_cmpuint(qxen_grant_flags(s->g, gr.data), ==,
                     GTF_permit_access | GTF_readonly);
    story_end(s);
}

/* Who polls must not copy the whole table each time */
static void test_scrub_seldom(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    unsigned int maps;

    firmware_boots_from(s, XVDA);
    maps = qxen_stat(s->g, "grant-maps");
    qtest_clock_step(s->qts, 10 * NANOSECONDS_PER_SECOND);
    g_test_message("%u maps", qxen_stat(s->g, "grant-maps") - maps);
    g_assert_cmpuint(qxen_stat(s->g, "grant-maps") - maps, <=, 10);
    announce(s);
    g_assert_cmpint(grants_for(s, 0), ==, 0);
    story_end(s);
}

/* An OS that comes up on another vCPU while a backend takes its time */
static void test_scrub_os_comes(void)
{
    Story *s = story(WITH_HANDOFF, "%s", "");
    g_autofree char *backend = NULL;
    uint32_t mine;

    qxen_backend_new(s->g, XVDA, "");
    backend = qxen_backend_path(s->g, XVDA);
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    mine = qxen_page_new(s->g, 0, false).ref;
    qxen_cmd(s->g, "race-write 1 %s/state callback 1", backend);
    announce(s);
    g_assert_cmpuint(qxen_grant_flags(s->g, mine), ==, GTF_permit_access);
    g_assert_cmpint(grants_for(s, 0), ==, 1);
    story_end(s);
}

/* With an OS there, an entry goes only if it is the very one that was there */
static void test_scrub_with_os(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    Grants gr = firmware_grants(s);
    uint32_t mine, again;

    firmware_boots_from(s, XVDA);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    qxen_be_os(s->g);
    mine = qxen_page_new(s->g, 0, false).ref;
    /* the OS's own page under a reference that the firmware had, too */
    again = gr.data;
    s->g->refs.next = again;
    qxen_grant(s->g, 0x300000, 0, true);
    announce(s);
    g_assert_cmpuint(qxen_grant_flags(s->g, mine), ==, GTF_permit_access);
    g_assert_cmpuint(qxen_grant_flags(s->g, again), ==,
                     GTF_permit_access | GTF_readonly);
    g_assert_cmpint(grants_for(s, 0), ==, 2);
    story_end(s);
}

/* A backend that hangs uses its entry: it stays */
static void test_scrub_in_use(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100 ", "%s", "");

    qxen_backend_new(s->g, XVDA, "fault=hang-6");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    firmware_grants(s);
    announce(s);
    g_assert_cmpint(grants_for(s, 0), ==, 1);
    assert_grant_counts(s, 1, 1);
    s->g->at_start.maps = s->g->at_start.ports = 1;
    story_end(s);
}

static void test_scrub_version(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    firmware_boots_from(s, XVDA);
    firmware_grants(s);
    qxen_cmd(s->g, "grant-version 2");
    announce(s);
    g_assert_cmpint(grants_for(s, 0), >=, 2);
    assert_grant_counts(s, 0, 0);
    story_end(s);
}

/* No frame is added to the guest's table */
static void test_scrub_frames(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    qxen_cmd(s->g, "grant-frames 1");
    firmware_boots_from(s, XVDA);
    announce(s);
    g_assert_cmpint(grants_for(s, 0), ==, 0);
    qtest_system_reset(s->qts);
    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "grant-frames 0");
    announce(s);
    g_assert_cmpint(qxen_handoff_count(s->qts, "grants-cleared"), ==, 0);
    assert_counts(s, 1, 0, 0, 0);
    story_end(s);
}

/* --- what a toolstack and an administrator see ---------------------------- */

/* The query's answer, or the event, is @want and how long it took */
static void assert_told(const QDict *told, const char *duration,
                        const char *want)
{
    QObject *wanted = qobject_from_json(want, &error_abort);
    QDict *rest = qdict_clone_shallow(told);

    if (duration) {
        g_assert_cmpint(qdict_get_int(rest, duration), >, 0);
        qdict_del(rest, duration);
    }
    if (!qobject_is_equal(QOBJECT(rest), wanted)) {
        g_autoptr(GString) is = qobject_to_json(QOBJECT(rest));

        g_error("%s, wanted %s", is->str, want);
    }
    qobject_unref(wanted);
    qobject_unref(rest);
}

/* Connections of @told without their durations */
static void assert_told_connections(QDict *told, const char *want)
{
    QObject *wanted = qobject_from_json(want, &error_abort);
    QList *list = qdict_get_qlist(told, "connections");
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(list, e) {
        QDict *c = qobject_to(QDict, qlist_entry_obj(e));
        const char *result = qdict_get_try_str(c, "result");
        bool done = result && strcmp(result, "skipped");

        g_assert_cmpint(qdict_haskey(c, "duration-us"), ==, done);
        qdict_del(c, "duration-us");
    }
    if (!qobject_is_equal(QOBJECT(list), wanted)) {
        g_autoptr(GString) is = qobject_to_json(QOBJECT(list));

        g_error("%s, wanted %s", is->str, want);
    }
    qobject_unref(wanted);
    qdict_del(told, "connections");
}

static void assert_hmp(Story *s, const char *line)
{
    g_autofree char *text = qtest_hmp(s->qts, "info xen-fw-handoff");

    if (!strstr(text, line)) {
        g_error("no \"%s\" in:\n%s", line, text);
    }
}

/* The node of dom0's xenstore: state, announcement and the four counts */
static void assert_node(Story *s, const char *want)
{
    static const char *const keys[] = {
        "state", "announcement", "handed-off", "timed-out", "failed", "skipped"
    };
    g_autoptr(GString) is = g_string_new("");

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        g_autofree char *path = g_strdup_printf(
            "/local/domain/0/device-model/7/fw-handoff/%s", keys[i]);
        g_autofree char *value = qxen_read(s->g, path);

        g_string_append_printf(is, "%s%s", i ? "|" : "", value);
    }
    g_assert_cmpstr(is->str, ==, want);
}

#define NO_GRANTS "'grants-cleared': 0, 'grants-in-use': 0"
#define BY_LINUX  "product number 3 (Linux) at port 0x12"

static void test_told(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100,scrub-grants=off ", ONE_DISK
                     "-blockdev driver=null-co,size=1048576,read-zeroes=on,"
                     "node-name=d1 -device xen-disk,drive=d1,vdev=xvdb ");
    QXenVbd *vbd;
    QDict *told;

    qxen_backend_new(s->g, "vbd/51744", "fault=hang-6");
    told = qxen_handoff_query(s->qts);
    assert_told_connections(told, "[]");
    assert_told(told, NULL, "{'state': 'armed', 'handed-off': 0, "
                "'timed-out': 0, 'failed': 0, 'skipped': 0, "
                "'last-duration-us': 0, " NO_GRANTS "}");
    qobject_unref(told);
    assert_node(s, "armed||0|0|0|0");
    assert_hmp(s, "State:        armed");

    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDB, NULL));
    told = qxen_handoff_query(s->qts);
    assert_told_connections(told, "[{'frontend': '" XVDB "', 'backend': '"
                            QDISK "51728', 'owner': 'firmware'}]");
    qobject_unref(told);
    assert_hmp(s, XVDB ": connected to " QDISK "51728, owner: firmware\r\n");

    qxen_vbd_abandon(qxen_vbd_connect(s->g, "vbd/51744", NULL));
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    announce(s);
    told = qtest_qmp_eventwait_ref(s->qts, "XEN_FW_HANDOFF");
    assert_told(qdict_get_qdict(told, "data"), "duration-us",
                "{'announcement': '" BY_LINUX "', 'handed-off': 1, "
                "'timed-out': 1, 'failed': 0, 'skipped': 1, " NO_GRANTS "}");
    qobject_unref(told);
    told = qxen_handoff_query(s->qts);
    assert_told_connections(told,
        "[{'frontend': '" XVDA "', 'owner': 'os', 'result': 'skipped'},"
        " {'frontend': '" XVDB "', 'backend': '" QDISK "51728',"
        "  'owner': 'firmware', 'result': 'handed-off'},"
        " {'frontend': 'vbd/51744', 'owner': 'firmware',"
        "  'backend': '/local/domain/0/backend/vbd/7/51744',"
        "  'result': 'timed-out'}]");
    assert_told(told, "last-duration-us",
                "{'state': 'done', 'announcement': '" BY_LINUX "', "
                "'handed-off': 1, 'timed-out': 1, 'failed': 0, "
                "'skipped': 1, " NO_GRANTS "}");
    qobject_unref(told);
    assert_node(s, "done|" BY_LINUX "|1|1|0|1");
    assert_hmp(s, "Announced by: " BY_LINUX "\r\n");
    assert_hmp(s, "Frontends:    1 handed off, 1 timed out, 0 failed, "
               "1 skipped\r\n");
    assert_hmp(s, XVDA ": skipped: the OS connected it\r\n");
    assert_hmp(s, XVDB ": handed off in ");
    assert_hmp(s, "vbd/51744: TIMED OUT after ");

    /* and all of it again from the beginning */
    qxen_vbd_close(vbd);
    qxen_param(s->g, "0");
    qtest_system_reset(s->qts);
    told = qxen_handoff_query(s->qts);
    qdict_del(told, "connections");
    assert_told(told, NULL, "{'state': 'armed', 'handed-off': 0, "
                "'timed-out': 0, 'failed': 0, 'skipped': 0, "
                "'last-duration-us': 0, " NO_GRANTS "}");
    qobject_unref(told);
    assert_node(s, "armed||0|0|0|0");
    story_free(s);
}

/* How many events have come since the last answer to a command */
static int events(Story *s)
{
    QDict *event;
    int n = 0;

    qobject_unref(qxen_handoff_query(s->qts));
    while ((event = qtest_qmp_event_ref(s->qts, "XEN_FW_HANDOFF"))) {
        qobject_unref(event);
        n++;
    }
    return n;
}

/* A guest that resets itself without end makes an event per second */
static void test_event_limit(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    for (int i = 0; i < 10; i++) {
        announce(s);
        g_assert_cmpint(events(s), ==, i == 0);
        qtest_system_reset(s->qts);
    }
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    g_assert_cmpint(events(s), ==, 1);
    story_end(s);
}

/* Watched by a toolstack: once the state is there, so is all else */
static void test_node_order(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *ops = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GString) written = g_string_new("");

    firmware_boots_from(s, XVDA);
    qxen_cmd(s->g, "record on");
    announce(s);
    ops = qxen_ask(s->g, "record off");
    lines = g_strsplit(ops, "\n", 0);
    for (char **l = lines; *l; l++) {
        if (g_str_has_prefix(*l, "write device-model/7/fw-handoff/")) {
            g_string_append_printf(written, "%s ", strrchr(*l, '/') + 1);
        }
    }
    g_assert_cmpstr(written->str, ==, "state handed-off timed-out failed "
                    "skipped announcement state ");
    story_end(s);
}

static unsigned int writes(const char *ops)
{
    return atoi(strstr(ops, " write=") + strlen(" write="));
}

/* The guest goes on first, and then xenstore is told */
static void test_behind_the_guest(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *before = qxen_ask(s->g, "ops");
    g_autofree char *after = qxen_ask(s->g, "port-writes 2 0x12 1");

    g_assert_cmpuint(writes(after), ==, writes(before));
    qxen_settle(s->g);
    assert_node(s, "done|product number 0 (not registered) at port 0x12"
                "|0|0|0|0");
    story_end(s);
}

/*
 * Xen resets QEMU before it ends a domain that reboots: the OS is still there,
 * and so is what is told of its handoff
 */
static void test_reset_with_os(void)
{
    const char *told = "done|product number 3 (Linux) at port 0x12|1|0|0|0";
    Story *s = story(WITH_HANDOFF, ONE_DISK);

    firmware_boots_from(s, XVDA);
    announce(s);
    qxen_be_os(s->g);
    qxen_settle(s->g);
    assert_node(s, told);
    qtest_system_reset(s->qts);
    assert_state(s, "done");
    assert_node(s, told);
    story_end(s);
}

/* Each connection costs xenstored at any write: one while armed, none after */
static void test_connections(void)
{
    Story *s = story(WITHOUT, ONE_DISK);
    unsigned int without = qxen_stat(s->g, "handles");

    story_end(s);
    s = story(WITH_HANDOFF, ONE_DISK);
    g_assert_cmpuint(qxen_stat(s->g, "handles"), ==, without + 1);
    firmware_boots_from(s, XVDA);
    announce(s);
    qxen_settle(s->g);
    g_assert_cmpuint(qxen_stat(s->g, "handles"), ==, without);
    story_end(s);
}

/* A machine without the device: one clear sentence, by whichever way */
static void test_query_without(void)
{
    Story *s = story(WITHOUT, ONE_DISK);
    QDict *rsp = qtest_qmp(s->qts, "{'execute': 'query-xen-fw-handoff'}");
    QDict *error = qdict_get_qdict(rsp, "error");

    g_assert_cmpstr(qdict_get_str(error, "desc"), ==,
                    "this machine has no xen-fw-handoff device");
    qobject_unref(rsp);
    assert_hmp(s, "Error: this machine has no xen-fw-handoff device\r\n");
    story_end(s);
}

/* --- traces --------------------------------------------------------------- */

/* Every effect is in the trace and has happened, and they are in order */
static void test_trace(void)
{
    static const char *const order[] = {
        "watch /local/domain/", "state inert -> armed", "grant_table ",
        "tell /local/domain/",
        "saw " XVDA " in Connected", "write port 0x12 value 0x3 size 2",
        "announced product number 3", "state armed -> handing-off",
        "frontend_state " XVDA " -> Closed",
        "backend_state " QDISK "51712 is in Closed",
        "remove " FRONTEND XVDA "/", "frontend_state " XVDA " -> Initialising",
        "backend_state " QDISK "51712 is in InitWait",
        "result " XVDA " at " QDISK "51712 of firmware: handed-off",
        "grant ", "state handing-off -> done", "unwatch /local/domain/",
    };
    Story *s = story("-trace 'xen_fw_handoff_*' " WITH_HANDOFF, ONE_DISK);
    g_autofree char *had = NULL, *text = NULL;
    g_auto(GStrv) keys = NULL;
    const char *at;
    int gone = 0;

    firmware_boots_from(s, XVDA);
    firmware_grants(s);
    had = qxen_frontend_keys(s->g, XVDA);
    announce(s);
    qxen_out(s->qts, 1, 0x12, 'h');
    qxen_out(s->qts, 1, 0x12, 'i');
    qxen_out(s->qts, 1, 0x12, '\n');

    keys = g_strsplit(had, " ", 0);
    for (char **key = keys; *key; key++) {
        g_autofree char *path = g_strdup_printf(FRONTEND XVDA "/%s", *key);
        g_autofree char *line = g_strdup_printf("_handoff_remove %s\n", path);
        g_autofree char *value = qxen_read(s->g, path);

        g_assert_cmpint(log_count(s, line), ==, !value);
        gone += !value;
    }
    g_assert_cmpint(gone, >, 0);
    g_assert_cmpint(log_count(s, "_handoff_remove "), ==, gone);
    at = text = qxen_log(s->g);
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        g_autofree char *event = g_strdup_printf("xen_fw_handoff_%s", order[i]);
        const char *found = strstr(at, event);

        g_assert_nonnull(found);
        at = found + 1;
    }
    story_end(s);
}

/* --- the guest's own log -------------------------------------------------- */

static void guest_says(Story *s, const char *text)
{
    for (const char *p = text; *p; p++) {
        qxen_out(s->qts, 1, 0x12, *p);
    }
}

#define assert_said(s, what) g_assert_cmpint(log_count(s, what), ==, 1)

#define GUEST_LOG "-global xen-platform.guest-log=on "

static void test_guest_log(void)
{
    g_autofree char *longest = g_strnfill(5000, 'l');
    g_autofree char *begin = g_strnfill(4095, 'l');
    g_autofree char *whole = g_strdup_printf("xen-platform: guest: %s\n",
                                             begin);
    Story *s = story(WITH_HANDOFF, GUEST_LOG ONE_DISK);

    guest_says(s, "XEN|DllInitialize: up\r\n\n\r\n");
    assert_said(s, "xen-platform: guest: XEN|DllInitialize: up\n");
    guest_says(s, "a\tb\033[2J\177\200%s%n\n");
    assert_said(s, "xen-platform: guest: a b?[2J??%s%n\n");
    guest_says(s, longest);
    guest_says(s, "\n");
    assert_said(s, whole);
    g_assert_cmpint(log_count(s, "guest: "), ==, 4);
    story_end(s);
}

/* As much as it likes, but not all of it is written */
static void test_guest_log_flood(void)
{
    Story *s = story(WITH_HANDOFF, GUEST_LOG ONE_DISK);
    int dropped;

    for (int i = 0; i < 200; i++) {
        guest_says(s, "x\n");
    }
    dropped = 200 - log_count(s, "guest: x\n");
    if (dropped) {
        g_autofree char *said = NULL;

        for (guest_says(s, "y\n"); !log_count(s, "guest: y\n");
             guest_says(s, "y\n")) {
            dropped++;
        }
        said = g_strdup_printf("guest: %d lines dropped\n", dropped);
        g_assert_cmpint(log_count(s, "lines dropped\n"), ==, 1);
        assert_said(s, said);
    }
    story_end(s);
}

/* A disk of dom0's is not filled */
static void test_guest_log_bound(void)
{
    Story *s = story(WITH_HANDOFF, GUEST_LOG ONE_DISK);
    g_autofree char *text = NULL;

    qxen_cmd(s->g, "port-writes 1 0x12 10000000");
    text = qxen_log(s->g);
    g_assert_nonnull(strstr(text, "guest: "));
    g_assert_cmpuint(strlen(text), <, 1100 * 1024);
    story_end(s);
}

/* A line that a reset has cut off is not the beginning of another one */
static void test_guest_log_reset(void)
{
    Story *s = story(WITH_HANDOFF, GUEST_LOG ONE_DISK);

    guest_says(s, "before");
    qtest_system_reset(s->qts);
    guest_says(s, "after\n");
    assert_said(s, "guest: before\n");
    assert_said(s, "guest: after\n");
    story_end(s);
}

static void test_guest_log_off(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    firmware_boots_from(s, XVDA);
    guest_says(s, "hello\n");
    assert_handed_off(s, XVDA, keys);
    g_assert_cmpint(log_count(s, "guest:"), ==, 0);
    story_end(s);
}

/* --- the firmware's own request ------------------------------------------- */

static void ask(Story *s)
{
    qxen_out(s->qts, 2, 0x12, 0x4657);
}

static void test_request(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    g_autofree char *feature =
        qxen_read(s->g, "/local/domain/7/control/platform-feature-fw-handoff");
    QXenVbd *vbd;

    g_assert_cmpstr(feature, ==, "1");
    for (int i = 0; i < 2; i++) {
        firmware_boots_from(s, XVDA);
        assert_connection(s, i + 1, XVDA, "firmware", "", QDISK "51712");
        ask(s);
        assert_handed_off(s, XVDA, keys);
        assert_state(s, "armed");
    }
    assert_announcement(s, "");
    assert_counts(s, 2, 0, 0, 0);
    /* the one shot is still there */
    firmware_boots_from(s, XVDA);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    /* an entry each time */
    assert_connection(s, 3, XVDA, "firmware", "handed-off", QDISK "51712");
    qxen_take_over(s->g);
    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    ask(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_counts(s, 3, 0, 0, 0);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* An OS that asks gets nothing, nor does anyone without end */
static void test_request_refused(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    qxen_be_os(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    ask(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    assert_counts(s, 0, 0, 0, 0);
    qxen_vbd_close(vbd);
    qxen_param(s->g, "0");
    /* 16, with that one */
    for (int i = 1; i < 16; i++) {
        firmware_boots_from(s, XVDA);
        ask(s);
        assert_counts(s, i, 0, 0, 0);
    }
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    for (int i = 0; i < 100; i++) {
        ask(s);
    }
    assert_connected(s, XVDA);
    assert_counts(s, 15, 0, 0, 0);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* --- trouble with xenstore ------------------------------------------------ */

typedef struct XsFault {
    const char *name, *op;
    int error;
} XsFault;

/* ENOSPC is what xenstored says when a domain has reached one of its quotas */
static const XsFault armed_faults[] = {
    { "no-open", "open", EACCES },
    { "no-watch", "watch", EACCES },
    { "no-directory", "directory", EACCES },
    { "quota-of-watches", "watch", ENOSPC },
};

static void test_no_xenstore(const void *data)
{
    const XsFault *fault = data;
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    qxen_cmd(s->g, "xs-fail %s %d", fault->op, fault->error);
    qtest_system_reset(s->qts);
    qxen_cmd(s->g, "xs-fail %s 0", fault->op);
    assert_state(s, "inert");
    assert_warned(s, fault->error);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
        do_access(s, &accesses[i]);
    }
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    qxen_vbd_close(vbd);
    story_end(s);
}

/*
 * Where the parameter cannot be read, nobody can tell firmware from OS: the
 * device does not say that it works, and touches nothing.
 */
static void test_no_param(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    QXenVbd *vbd;

    qxen_param(s->g, "fail");
    qtest_system_reset(s->qts);
    assert_state(s, "inert");
    qxen_param(s->g, "0");
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    announce(s);
    assert_counts(s, 0, 0, 0, 0);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 1);
    qxen_vbd_close(vbd);
    /* another life, another try */
    qtest_system_reset(s->qts);
    assert_state(s, "armed");
    story_end(s);
}

static const XsFault handoff_faults[] = {
    { "goes", "all", EIO },
    { "no-write", "write", EACCES },
    { "no-transaction", "transaction", EACCES },
    { "quota-of-nodes", "write", ENOSPC },
    { "quota-of-transactions", "transaction", ENOSPC },
};

/* It is gone when the OS comes: one line, and the guest goes on */
static void test_xenstore_goes(const void *data)
{
    const XsFault *fault = data;
    Story *s = story(QXEN_HANDOFF ",timeout-ms=100 ", "%s", "");

    qxen_backend_new(s->g, XVDA, "");
    qxen_vbd_abandon(qxen_vbd_connect(s->g, XVDA, NULL));
    qxen_cmd(s->g, "xs-fail %s %d", fault->op, fault->error);
    announce(s);
    qxen_cmd(s->g, "xs-fail %s 0", fault->op);
    assert_warned(s, fault->error);
    assert_state(s, "done");
    assert_counts(s, 0, 0, 1, 0);
    story_free(s);
}

/* The guest cannot be told, so nobody asks: no reason not to work */
static void test_cannot_tell(void)
{
    Story *s = story(WITH_HANDOFF, ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);

    qxen_cmd(s->g, "xs-fail write %d", EACCES);
    qtest_system_reset(s->qts);
    qxen_cmd(s->g, "xs-fail write 0");
    assert_warned(s, EACCES);
    firmware_boots_from(s, XVDA);
    announce(s);
    assert_handed_off(s, XVDA, keys);
    story_end(s);
}

/* --- QEMU's own Xen tells us of the parameter ----------------------------- */

static void test_emulated(void)
{
    Story *s = story("-global xen-loopback.callback-notifier=on " WITH_HANDOFF,
                     ONE_DISK);
    g_autofree char *keys = qxen_frontend_keys(s->g, XVDA);
    QXenVbd *vbd;

    firmware_boots_from(s, XVDA);
    firmware_grants(s);
    qtest_clock_step(s->qts, NANOSECONDS_PER_SECOND);
    assert_connected(s, XVDA);
    /* no clock step: when the hypercall returns, all is done */
    qxen_be_os(s->g);
    assert_handed_off(s, XVDA, keys);
    g_assert_cmpint(grants_for(s, 0), ==, 0);
    assert_announcement(s, PARAMETER);
    qxen_take_over(s->g);
    vbd = qxen_vbd_connect(s->g, XVDA, NULL);
    /* a new vector, then the ports: nothing happens again */
    qxen_param(s->g, "2");
    announce(s);
    assert_connected(s, XVDA);
    qxen_vbd_assert_reads(vbd, 5);
    qxen_vbd_close(vbd);
    story_end(s);
}

/* All of them hang, all of them are given up and none is forgotten */
static void test_all_hang(void)
{
    Story *s = story(QXEN_HANDOFF ",timeout-ms=200 ", "%s", "");

    for (int i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("vbd/%d", 2000 + i);

        s->g->no_quota = true;
        qxen_backend_new(s->g, name, "fault=hang-6");
        look(s);
        qxen_vbd_abandon(qxen_vbd_connect(s->g, name, NULL));
    }
    announce(s);
    for (int i = 0; i < 200; i++) {
        g_autofree char *fe = g_strdup_printf(FRONTEND "vbd/%d", 2000 + i);
        g_autofree char *ring = g_strdup_printf("%s/ring-ref", fe);

        g_assert_cmpint(qxen_state(s->g, fe), ==, XenbusStateInitialising);
        g_assert_false(qxen_exists(s->g, ring));
    }
    assert_counts(s, 0, 200, 0, 0);
    s->g->at_start.maps = s->g->at_start.ports = 200;
    story_end(s);
}

/* --- mistakes of the administrator ---------------------------------------- */

/* Run QEMU with @args, expect it to refuse with @want on stderr */
static void refused(const char *args, const char *want)
{
    g_autofree char *cmd = g_strdup_printf("%s -nodefaults -display none "
                                           "-M none %s",
                                           getenv("QTEST_QEMU_BINARY"), args);
    g_autofree char *err = NULL;
    int status;

    g_assert_true(g_spawn_command_line_sync(cmd, NULL, &err, &status, NULL));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    g_assert_nonnull(strstr(err, want));
    /* one sentence, not a backtrace of errors */
    g_assert_true(strchr(err, '\n') == err + strlen(err) - 1);
}

static void test_no_xen(void)
{
    refused("-device xen-fw-handoff",
            "xen-fw-handoff works for HVM guests of Xen only: remove it, start "
            "the guest with Xen's toolstack, or give it QEMU's own Xen with "
            "-accel kvm,xen-version=0x40011");
}

static void test_bad_property(void)
{
    refused("-device xen-fw-handoff,timeout-ms=soon", "timeout-ms");
    refused("-device xen-fw-handoff,timeout=5", "timeout");
}

static void test_loopback_refused(void)
{
    refused("-device xen-loopback", "xen-loopback is for tests only");
}

/* -------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
        g_autofree char *path = g_strdup_printf("/xen-handoff/announcement/%s",
                                                accesses[i].name);

        qtest_add_data_func(path, &accesses[i], test_access);
    }
    qtest_add_func("/xen-handoff/announcement/all-is-forwarded",
                   test_forwarding);
    qtest_add_func("/xen-handoff/announcement/emulated-nic-goes", test_unplug);

    qtest_add_func("/xen-handoff/owner/linux", test_linux);
    qtest_add_func("/xen-handoff/owner/freebsd", test_freebsd);
    qtest_add_func("/xen-handoff/owner/netbsd", test_netbsd);
    qtest_add_func("/xen-handoff/owner/openbsd", test_openbsd);
    qtest_add_func("/xen-handoff/owner/windows", test_windows);
    qtest_add_func("/xen-handoff/owner/gplpv", test_gplpv);
    qtest_add_func("/xen-handoff/owner/param-only", test_param_only);
    qtest_add_func("/xen-handoff/owner/param-only-quick",
                   test_param_only_quick);
    qtest_add_func("/xen-handoff/owner/param-only-first",
                   test_param_only_first);
    qtest_add_func("/xen-handoff/owner/param-only-clean",
                   test_param_only_clean);
    qtest_add_func("/xen-handoff/owner/firmware-closes", test_firmware_closes);
    qtest_add_func("/xen-handoff/owner/os-over-firmware",
                   test_os_over_firmware);
    qtest_add_func("/xen-handoff/owner/os-over-firmware-unseen",
                   test_os_over_firmware_unseen);
    qtest_add_func("/xen-handoff/owner/os-over-firmware-in-turn",
                   test_os_over_firmware_in_turn);
    qtest_add_func("/xen-handoff/owner/os-over-firmware-queue",
                   test_os_over_firmware_queue);
    /* what QEMU reads of the backend before its second step */
    qtest_add_data_func("/xen-handoff/owner/os-is-quicker/state", "state",
                        test_os_is_quicker);
    qtest_add_data_func("/xen-handoff/owner/os-is-quicker/online",
                        "online", test_os_is_quicker);
    for (int nth = 1; nth <= 8; nth++) {
        g_autofree char *remote =
            g_strdup_printf("/xen-handoff/owner/os-between/remote/%d", nth);
        g_autofree char *local =
            g_strdup_printf("/xen-handoff/owner/os-between/local/%d", nth);

        qtest_add_data_func(remote, GINT_TO_POINTER(nth), test_os_between);
        qtest_add_data_func(local, GINT_TO_POINTER(-nth), test_os_between);
    }
    for (int nth = 1; nth <= 3; nth++) {
        g_autofree char *path =
            g_strdup_printf("/xen-handoff/owner/os-reconnects-between/%d", nth);

        qtest_add_data_func(path, GINT_TO_POINTER(nth),
                            test_os_reconnects_between);
    }
    qtest_add_func("/xen-handoff/owner/rest-with-os", test_rest_with_os);
    qtest_add_func("/xen-handoff/owner/both", test_both);
    qtest_add_func("/xen-handoff/owner/param-unreadable",
                   test_param_unreadable);

    for (unsigned int i = XenbusStateUnknown; i <= XenbusStateReconfigured;
         i++) {
        g_autofree char *path =
            g_strdup_printf("/xen-handoff/teardown/state/%u", i);

        qtest_add_data_func(path, GUINT_TO_POINTER(i), test_state);
    }
    qtest_add_data_func("/xen-handoff/teardown/half-closed/blkback", XVDA,
                        test_half_closed);
    qtest_add_data_func("/xen-handoff/teardown/half-closed/netback", "vif/0",
                        test_half_closed);
    qtest_add_data_func("/xen-handoff/teardown/closed-with-keys/blkback", XVDA,
                        test_closed_with_keys);
    qtest_add_data_func("/xen-handoff/teardown/closed-with-keys/local", NULL,
                        test_closed_with_keys);
    qtest_add_data_func("/xen-handoff/teardown/closed-with-keys/netback",
                        "vif/0", test_closed_with_keys);
    qtest_add_func("/xen-handoff/teardown/not-used", test_not_used);
    qtest_add_data_func("/xen-handoff/teardown/stale-ring/pages",
                        "pages,fault=busy", test_stale_ring);
    qtest_add_data_func("/xen-handoff/teardown/stale-ring/queues",
                        "queues,fault=busy", test_stale_ring);
    qtest_add_data_func("/xen-handoff/teardown/stale-ring/tapback",
                        "pages,type=vbd3 fault=busy", test_stale_ring);
    qtest_add_func("/xen-handoff/teardown/race", test_race);
    qtest_add_data_func("/xen-handoff/teardown/inflight", NULL, test_inflight);
    qtest_add_data_func("/xen-handoff/teardown/inflight-iothread",
                        ",iothread=io0", test_inflight);
    qtest_add_func("/xen-handoff/teardown/long-drain", test_long_drain);
    qtest_add_func("/xen-handoff/teardown/unplug-while-draining",
                   test_unplug_while_draining);
    qtest_add_func("/xen-handoff/teardown/hotplug", test_hotplug);
    qtest_add_func("/xen-handoff/teardown/ring-pages", test_ring_pages);
    qtest_add_func("/xen-handoff/teardown/keys", test_keys);
    qtest_add_func("/xen-handoff/teardown/grants", test_grants);
    qtest_add_func("/xen-handoff/teardown/nic", test_nic);
    qtest_add_func("/xen-handoff/teardown/console", test_console);
    qtest_add_data_func("/xen-handoff/teardown/remote/blkback", "vbd/51712",
                        test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/blkback-slow",
                        "vbd/51712 delay-us=20000", test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/netback", "vif/0",
                        test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/netback-slow",
                        "vif/0 delay-us=20000", test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/scsiback", "vscsi/0",
                        test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/scsiback-slow",
                        "vscsi/0 delay-us=500", test_remote);
    qtest_add_data_func("/xen-handoff/teardown/remote/driver-domain",
                        "vbd/51712 domain=3 delay-us=1000", test_remote);
    qtest_add_data_func("/xen-handoff/teardown/many/0", GUINT_TO_POINTER(0),
                        test_many);
    qtest_add_data_func("/xen-handoff/teardown/many/1", GUINT_TO_POINTER(1),
                        test_many);
    qtest_add_data_func("/xen-handoff/teardown/many/16", GUINT_TO_POINTER(16),
                        test_many);
    qtest_add_data_func("/xen-handoff/teardown/many/256",
                        GUINT_TO_POINTER(256), test_many);

    qtest_add_func("/xen-handoff/teardown/remote/slow", test_slow);
    qtest_add_func("/xen-handoff/teardown/remote/cannot-watch",
                   test_cannot_watch);
    qtest_add_func("/xen-handoff/held/qmp", test_held);
    qtest_add_func("/xen-handoff/held/two", test_held_two);
    qtest_add_func("/xen-handoff/held/request", test_held_request);
    qtest_add_func("/xen-handoff/held/reset", test_held_reset);
    qtest_add_func("/xen-handoff/held/stop", test_held_stop);
    qtest_add_func("/xen-handoff/held/stop-waits", test_held_stop_waits);
    qtest_add_func("/xen-handoff/held/in-drain", test_held_in_drain);
    qtest_add_func("/xen-handoff/held/unplug", test_held_unplug);
    qtest_add_func("/xen-handoff/held/eject", test_held_eject);
    qtest_add_func("/xen-handoff/held/os", test_held_os);
    qtest_add_func("/xen-handoff/held/bound", test_held_bound);

    qtest_add_func("/xen-handoff/once/second", test_once);
    qtest_add_func("/xen-handoff/once/reset", test_reset);
    qtest_add_func("/xen-handoff/once/reset-with-os", test_reset_with_os);
    qtest_add_func("/xen-handoff/once/wakeup", test_wakeup);

    for (size_t i = 0; i < ARRAY_SIZE(migrations); i++) {
        g_autofree char *path = g_strdup_printf("/xen-handoff/once/migration/"
                                                "%s", migrations[i].name);

        qtest_add_data_func(path, &migrations[i], test_migration);
    }
    qtest_add_func("/xen-handoff/once/migration/fired-to-without",
                   test_migration_refused);
    qtest_add_data_func("/xen-handoff/once/snapshot/firmware", "0",
                        test_snapshot);
    qtest_add_data_func("/xen-handoff/once/snapshot/os", "1", test_snapshot);

    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        g_autofree char *alone = g_strdup_printf("/xen-handoff/fault/alone/%s",
                                                 faults[i].option);
        g_autofree char *among = g_strdup_printf("/xen-handoff/fault/among/%s",
                                                 faults[i].option);

        qtest_add_data_func(alone, &faults[i], test_fault);
        qtest_add_data_func(among, &faults[i], test_fault_among);
    }

    qtest_add_func("/xen-handoff/hostile/backend-lies", test_backend_lies);
    qtest_add_func("/xen-handoff/hostile/state-garbage", test_state_garbage);
    qtest_add_func("/xen-handoff/hostile/many-frontends", test_many_frontends);
    qtest_add_func("/xen-handoff/hostile/passing-frontends",
                   test_passing_frontends);
    qtest_add_func("/xen-handoff/hostile/long-name", test_long_name);
    qtest_add_func("/xen-handoff/legacy-backend", test_legacy_backend);
    qtest_add_func("/xen-handoff/hostile/race-writes", test_race_writes);
    qtest_add_func("/xen-handoff/hostile/race-writes-without-end",
                   test_race_writes_without_end);
    qtest_add_func("/xen-handoff/hostile/many-writes", test_many_writes);
    qtest_add_func("/xen-handoff/hostile/reset-log", test_reset_log);
    qtest_add_data_func("/xen-handoff/hostile/flood/node", XVDA " x",
                        test_flood);
    qtest_add_data_func("/xen-handoff/hostile/flood/state", XVDA "/state 4",
                        test_flood);
    qtest_add_func("/xen-handoff/hostile/flood/paced", test_flood_paced);
    qtest_add_data_func("/xen-handoff/hostile/flood/class", "vbd x",
                        test_flood);

    qtest_add_func("/xen-handoff/kvm/armed", test_kvm);

    qtest_add_data_func("/xen-handoff/last-word/armed", "armed",
                        test_last_word);
    qtest_add_data_func("/xen-handoff/last-word/done", "done", test_last_word);
    qtest_add_data_func("/xen-handoff/last-word/saved", "saved",
                        test_last_word);

    qtest_add_func("/xen-handoff/fault/all-hang", test_all_hang);
    qtest_add_func("/xen-handoff/fault/busy-among-writes",
                   test_busy_among_writes);
    qtest_add_func("/xen-handoff/fault/standstill", test_standstill);
    qtest_add_func("/xen-handoff/fault/destroyed", test_destroyed);
    qtest_add_data_func("/xen-handoff/fault/dying/closing",
                        "type=vbd3 domain=3 fault=dying-5", test_dying);
    qtest_add_data_func("/xen-handoff/fault/dying/closed",
                        "domain=3 fault=dying-6", test_dying);
    qtest_add_data_func("/xen-handoff/fault/dying/between/remote", "",
                        test_dying_between);
    qtest_add_data_func("/xen-handoff/fault/dying/between/local", ONE_DISK,
                        test_dying_between);
    for (size_t i = 0; i < ARRAY_SIZE(armed_faults); i++) {
        g_autofree char *path = g_strdup_printf("/xen-handoff/xenstore/%s",
                                                armed_faults[i].name);

        qtest_add_data_func(path, &armed_faults[i], test_no_xenstore);
    }
    for (size_t i = 0; i < ARRAY_SIZE(handoff_faults); i++) {
        g_autofree char *path = g_strdup_printf("/xen-handoff/xenstore/%s",
                                                handoff_faults[i].name);

        qtest_add_data_func(path, &handoff_faults[i], test_xenstore_goes);
    }
    qtest_add_func("/xen-handoff/xenstore/cannot-tell", test_cannot_tell);
    qtest_add_func("/xen-handoff/xenstore/no-param", test_no_param);
    qtest_add_data_func("/xen-handoff/xenstore/reset/local", ONE_DISK,
                        test_xenstore_reset);
    qtest_add_data_func("/xen-handoff/xenstore/reset/remote", "",
                        test_xenstore_reset);
    qtest_add_func("/xen-handoff/xenstore/reset/not-with-os",
                   test_xenstore_of_os);
    qtest_add_func("/xen-handoff/xenstore/reset/not-on-request",
                   test_xenstore_request);
    qtest_add_func("/xen-handoff/xenstore/reset/not-without-firmware",
                   test_xenstore_untouched);
    qtest_add_func("/xen-handoff/xenstore/reset/fails",
                   test_xenstore_reset_fails);

    qtest_add_func("/xen-handoff/scrub/all", test_scrub);
    qtest_add_func("/xen-handoff/scrub/off", test_scrub_off);
    qtest_add_func("/xen-handoff/scrub/reserved", test_scrub_reserved);
    qtest_add_func("/xen-handoff/scrub/cannot-map", test_scrub_cannot_map);
    qtest_add_func("/xen-handoff/scrub/seldom", test_scrub_seldom);
    qtest_add_func("/xen-handoff/scrub/with-os", test_scrub_with_os);
    qtest_add_func("/xen-handoff/scrub/os-comes", test_scrub_os_comes);
    qtest_add_func("/xen-handoff/scrub/in-use", test_scrub_in_use);
    qtest_add_func("/xen-handoff/scrub/version-2", test_scrub_version);
    qtest_add_func("/xen-handoff/scrub/frames", test_scrub_frames);

    qtest_add_func("/xen-handoff/told", test_told);
    qtest_add_func("/xen-handoff/told/event-limit", test_event_limit);
    qtest_add_func("/xen-handoff/told/node-order", test_node_order);
    qtest_add_func("/xen-handoff/told/behind-the-guest", test_behind_the_guest);
    qtest_add_func("/xen-handoff/told/connections", test_connections);
    qtest_add_func("/xen-handoff/told/without", test_query_without);
    qtest_add_func("/xen-handoff/trace", test_trace);
    qtest_add_func("/xen-handoff/guest-log/lines", test_guest_log);
    qtest_add_func("/xen-handoff/guest-log/flood", test_guest_log_flood);
    qtest_add_func("/xen-handoff/guest-log/bound", test_guest_log_bound);
    qtest_add_func("/xen-handoff/guest-log/reset", test_guest_log_reset);
    qtest_add_func("/xen-handoff/guest-log/off", test_guest_log_off);
    qtest_add_func("/xen-handoff/request/heeded", test_request);
    qtest_add_func("/xen-handoff/request/refused", test_request_refused);
    qtest_add_func("/xen-handoff/emulated/callback", test_emulated);

    qtest_add_func("/xen-handoff/refused/no-xen", test_no_xen);
    qtest_add_func("/xen-handoff/refused/bad-property", test_bad_property);
    qtest_add_func("/xen-handoff/refused/loopback", test_loopback_refused);
    return g_test_run();
}

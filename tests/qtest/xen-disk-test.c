/*
 * QTest testcase for QEMU's Xen backends: xen-disk, xen-net-device, xen-console
 *
 * Xen is the test device xen-loopback, the guest's driver is
 * libqos/xen-frontend.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include "libqtest.h"
#include "libqos/xen-frontend.h"

#define XVDA      "vbd/51712"
#define XVDB      "vbd/51728"
#define QDISK     "/local/domain/0/backend/qdisk/7/"

/* A disk that takes its time, so that requests are in flight */
#define DISK_OF_MS(ms) "-blockdev driver=null-co,size=1048576,read-zeroes=on," \
                       "latency-ns=" #ms "000000,node-name=slow "             \
                       "-device xen-disk,drive=slow,vdev=xvda"
#define SLOW_DISK DISK_OF_MS(100)
#define IN_FLIGHT_US (200 * 1000)   /* longer than a request takes */

#define WITH_IOTHREAD ",iothread=io0 -object iothread,id=io0"

static void stop_closed(QXenGuest *g)
{
    qxen_assert_closed(g);
    qxen_machine_stop(g);
}

/* The only disk goes, and what it had in flight harms nobody */
static void wait_gone(QXenGuest *g)
{
    for (int i = 0; qxen_stat(g, "handles") == g->at_start.handles; i++) {
        g_assert_cmpint(i, <, 1000);
        g_usleep(10 * 1000);
    }
    qxen_settle(g);
    qxen_take_over(g);
    g_usleep(IN_FLIGHT_US);
    qxen_assert_untouched(g);
    g_assert_cmpuint(qxen_stat(g, "maps") + qxen_stat(g, "ports"), ==, 0);
    g->at_start = qxen_open(g);
}

/* --- the test bed itself -------------------------------------------------- */

/* Whatever a guest writes to xenstore comes through to it and back */
static void test_any_value(void)
{
    static const char *const values[] = {
        "", " ", "\n", "OK", "a  b\nFAIL c\n", "100%", "%0a",
        "\t\x01\x7f\xff\"\\",
    };
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda");

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        g_autofree char *is = NULL;

        qxen_set_key(g, XVDA, "hello", values[i]);
        is = qxen_read(g, QXEN_DEVICES XVDA "/hello");
        g_assert_cmpstr(is, ==, values[i]);
    }
    g_assert_false(qxen_try(g, "read " QXEN_DEVICES "none\nat all"));
    stop_closed(g);
}

/* --- every day ------------------------------------------------------------ */

/* Connected, used and closed, more than once */
static void test_disk(const void *data)
{
    const QXenConnect *how = data;
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda");
    g_autofree char *keys = qxen_frontend_keys(g, XVDA);

    for (unsigned int i = 0; i < 3; i++) {
        QXenVbd *vbd = qxen_vbd_connect(g, XVDA, how);

        g_assert_cmpuint(qxen_stat(g, "maps"), ==, 1 << how->ring_order);
        qxen_vbd_assert_reads(vbd, i);
        qxen_vbd_assert_reads(vbd, QXEN_DISK_SECTORS - 1);
        qxen_vbd_close(vbd);
        qxen_assert_fresh(g, XVDA, keys);
    }
    stop_closed(g);
}

static void test_write(void)
{
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda");
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);
    char buf[QXEN_SECTOR_SIZE] = "sector 7";

    vbd->flush = true;
    qxen_vbd_wait(vbd, qxen_vbd_submit(vbd, true, 3, 1, buf), NULL);
    memset(buf, 0, sizeof(buf));
    qxen_vbd_read(vbd, 3, 1, buf);
    g_assert_cmpstr(buf, ==, "sector 7");
    qxen_vbd_assert_reads(vbd, 2);
    qxen_vbd_assert_reads(vbd, 4);
    qxen_vbd_close(vbd);
    stop_closed(g);
}

static void test_nic(void)
{
    int wire[2];
    QXenGuest *g;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM, 0, wire), ==, 0);
    g = qxen_machine_start("-netdev dgram,id=n0,local.type=fd,local.str=%d "
                           "-device xen-net-device,netdev=n0,idx=0,"
                           "mac=02:00:00:00:00:01", wire[1]);
    for (int i = 0; i < 2; i++) {
        QXenVif *vif = qxen_vif_connect(g, "vif/0", NULL);

        qxen_vif_exchange(vif, wire[0]);
        qxen_vif_close(vif);
    }
    stop_closed(g);
    close(wire[0]);
    close(wire[1]);
}

static void test_console(void)
{
    g_autofree char *path = qxen_temp_file("console", 0);
    g_autofree char *text = NULL;
    QXenGuest *g = qxen_machine_start("-chardev file,id=c1,path=%s "
                                      "-device xen-console,chardev=c1,idx=1",
                                      path);

    for (int i = 0; i < 2; i++) {
        QXenConsole *con = qxen_console_connect(g, "console/1", NULL);

        qxen_console_write(con, "hello ", 6);
        qxen_console_close(con);
    }
    stop_closed(g);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "hello hello ");
    unlink(path);
}

/* --- closed under load ---------------------------------------------------- */

/* Requests in flight are waited for, or write to the guest's memory later */
static void test_close_inflight(const void *data)
{
    QXenGuest *g = qxen_machine_start(SLOW_DISK "%s", (const char *)data);
    g_autofree char *backend = qxen_backend_path(g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, false, i, 8, NULL);
    }
    qxen_set_key(g, XVDA, "state", "5");
    qxen_wait_state(g, backend, XenbusStateClosing);
    qxen_set_key(g, XVDA, "state", "6");
    qxen_wait_state(g, backend, XenbusStateClosed);
    qxen_vbd_abandon(vbd);
    qxen_take_over(g);
    g_usleep(IN_FLIGHT_US);
    stop_closed(g);
}

/* While its IOThread is at the ring */
static void test_close_in_handler(void)
{
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda"
                                      WITH_IOTHREAD);
    g_autofree char *backend = qxen_backend_path(g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    qxen_vbd_assert_reads(vbd, 1);
    qxen_cmd(g, "hold %u", vbd->fe.port);
    qxen_set_key(g, XVDA, "state", "6");
    qxen_wait_state(g, backend, XenbusStateClosed);
    qxen_vbd_abandon(vbd);
    stop_closed(g);
}

/* While something else drains the disk */
static void test_close_in_drain(const void *data)
{
    QXenGuest *g = qxen_machine_start("-global xen-loopback.events-in-drain=on "
                                      SLOW_DISK "%s", (const char *)data);
    g_autofree char *backend = qxen_backend_path(g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    /* something to flush, then writes that wait for it, and are queued then */
    qxen_vbd_wait(vbd, qxen_vbd_submit(vbd, true, 0, 8, NULL), NULL);
    vbd->flush = true;
    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, i & 1, i, 8, NULL);
    }
    qxen_cmd(g, "guest-write-drained " QXEN_DEVICES XVDA "/state 6");
    g_assert_cmpint(qxen_state(g, backend), ==, XenbusStateClosed);
    g_assert_cmpint(qxen_stat(g, "maps"), ==, 0);
    qxen_vbd_abandon(vbd);
    qxen_take_over(g);
    g_usleep(IN_FLIGHT_US);
    stop_closed(g);
}

/* A guest that is reset is a new one to its backends */
static void test_reset(void)
{
    QXenGuest *g = qxen_machine_start(SLOW_DISK " -device xen-disk,drive=disk,"
                                      "vdev=xvdb,id=gone");
    g_autofree char *keys = qxen_frontend_keys(g, XVDA);
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    qxen_vbd_abandon(qxen_vbd_connect(g, XVDB, NULL));
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', 'arguments': "
                             "{'id': 'gone'}}");
    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, false, i, 8, NULL);
    }
    qxen_set_key(g, XVDA, "ring-ref0", "8");
    qtest_system_reset(g->qts);
    qxen_assert_fresh(g, XVDA, keys);
    qxen_wait_state(g, QDISK "51728", XenbusStateUnknown);
    g_assert_false(qxen_exists(g, QXEN_DEVICES XVDB));
    qxen_vbd_abandon(vbd);
    qxen_take_over(g);
    g_usleep(IN_FLIGHT_US);
    qxen_assert_untouched(g);
    vbd = qxen_vbd_connect(g, XVDA, NULL);
    qxen_vbd_close(vbd);
    g->at_start = qxen_open(g); /* with one disk */
    g_assert_cmpuint(g->at_start.maps + g->at_start.ports, ==, 0);
    stop_closed(g);
}

static QXenVbd *connect_and_submit(QXenGuest *g)
{
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    for (int i = 0; i < 8; i++) {
        qxen_vbd_submit(vbd, false, i, 8, NULL);
    }
    return vbd;
}

/* A guest that is reset: another vCPU connects while requests are waited for */
static void test_connect_in_reset(void)
{
    QXenGuest *g = qxen_machine_start("-global xen-loopback.events-in-drain=on "
                                      DISK_OF_MS(500) WITH_IOTHREAD);
    g_autofree char *keys = qxen_frontend_keys(g, XVDA);
    QXenVbd *vbd = connect_and_submit(g);

    qxen_cmd(g, "write-later 20 " QXEN_DEVICES XVDA "/state 6");
    qxen_cmd(g, "write-later 40 " QXEN_DEVICES XVDA "/state 4");
    qtest_system_reset(g->qts);
    qxen_assert_fresh(g, XVDA, keys);
    g_assert_cmpuint(qxen_stat(g, "maps") + qxen_stat(g, "ports"), ==, 0);
    qxen_vbd_abandon(vbd);
    qxen_take_over(g);
    g_usleep(IN_FLIGHT_US);
    qxen_assert_untouched(g);
    qxen_vbd_close(qxen_vbd_connect(g, XVDA, NULL));
    stop_closed(g);
}

/* The same while its disk is taken away by force */
static void test_connect_in_unplug(const void *data)
{
    QXenGuest *g = qxen_machine_start("-global xen-loopback.events-in-drain=on "
                                      SLOW_DISK "%s", (const char *)data);
    g_autofree char *asked = NULL;
    QXenVbd *vbd = connect_and_submit(g);

    qxen_cmd(g, "record on");
    qxen_cmd(g, "write-later 20 " QXEN_DEVICES XVDA "/state 4");
    qxen_cmd(g, "rm " QDISK "51712");
    qxen_vbd_abandon(vbd);
    wait_gone(g);
    asked = qxen_ask(g, "record off");
    g_assert_null(strstr(asked, "read " QXEN_DEVICES XVDA "/ring-ref"));
    stop_closed(g);
}

/* It goes while its guest closes it, and requests are waited for */
static void test_unplug_in_close(const void *data)
{
    QXenGuest *g = qxen_machine_start("-global xen-loopback.events-in-drain=on "
                                      SLOW_DISK "%s", (const char *)data);
    QXenVbd *vbd = connect_and_submit(g);

    qxen_cmd(g, "race-write 1 " QDISK "51712/online "
             QXEN_DEVICES XVDA "/state 6");
    qxen_cmd(g, "rm " QDISK "51712");
    qxen_vbd_abandon(vbd);
    wait_gone(g);
    g_assert_cmpuint(qxen_stat(g, "race-writes"), ==, 1);
    stop_closed(g);
}

/* --- other bugs that there were ------------------------------------------- */

/* A guest discards more than there is */
static void test_discard(void)
{
    QXenGuest *g = qxen_machine_start("-blockdev driver=null-co,size=1048576,"
                                      "node-name=d0 "
                                      "-device xen-disk,drive=d0,vdev=xvda");
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    g_assert_true(qxen_vbd_discard(vbd, 0, 2048));
    g_assert_false(qxen_vbd_discard(vbd, 0, 2049));
    g_assert_false(qxen_vbd_discard(vbd, 2049, 1));
    g_assert_false(qxen_vbd_discard(vbd, UINT64_MAX, UINT64_MAX));
    g_assert_false(qxen_vbd_discard(vbd, 0, 1ull << 50));
    qxen_vbd_close(vbd);
    stop_closed(g);
}

/* A CD-ROM is read-only, whatever its node is */
static void test_discard_read_only(void)
{
    QXenGuest *g = qxen_machine_start("-blockdev driver=raw,discard=unmap,"
                                      "file.driver=null-co,file.size=1048576,"
                                      "node-name=d0 "
                                      "-device xen-cdrom,drive=d0,vdev=xvda");
    QXenVbd *vbd = qxen_vbd_connect(g, XVDA, NULL);

    g_assert_false(qxen_vbd_discard(vbd, 0, 8));
    qxen_vbd_read(vbd, 0, 1, NULL);
    qxen_vbd_close(vbd);
    stop_closed(g);
}

/* A disk looks for a free vdev among those there are */
static void test_auto_vdev(void)
{
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda "
                                      "-blockdev driver=null-co,node-name=d1 "
                                      "-device xen-disk,drive=d1");

    qxen_wait_state(g, QDISK "51712", XenbusStateInitWait);
    qxen_wait_state(g, QDISK "51728", XenbusStateInitWait);
    stop_closed(g);
}

/* What happens to a disk that is plugged in makes QEMU look at no other */
static void test_hotplug(void)
{
    QXenGuest *g = qxen_machine_start("-device xen-disk,drive=disk,vdev=xvda");
    g_autofree char *image = qxen_temp_disk();
    g_autofree char *asked = NULL;
    QXenVbd *vbd;

    qxen_settle(g);
    qxen_cmd(g, "record on");
    qxen_disk_plug(g, "51728", "xvdb", image);
    vbd = qxen_vbd_connect(g, XVDB, NULL);
    qxen_vbd_assert_reads(vbd, 5);
    qxen_vbd_close(vbd);
    qxen_disk_unplug(g, "51728");
    asked = qxen_ask(g, "record off");
    g_assert_nonnull(strstr(asked, "qdisk/7/51728/state"));
    g_assert_null(strstr(asked, "read backend/qdisk/7/51712/"));
    stop_closed(g);
    unlink(image);
}

/*
 * A disk that QEMU itself makes is at rest at once: whatever it polls for while
 * it is opened does not close it
 */
static void test_device_add(void)
{
    QXenGuest *g = qxen_machine_start("-global "
                                      "xen-loopback.events-in-drain=on");
    g_autofree char *begun = NULL;
    g_autofree char *events = NULL;

    qxen_cmd(g, "guest-watch " QDISK "51712/state disk");
    begun = qxen_ask(g, "guest-events");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'device_add', 'arguments': {"
                             "'driver': 'xen-disk', 'drive': 'disk',"
                             "'vdev': 'xvda' } }");
    qxen_settle(g);
    qxen_wait_state(g, QDISK "51712", XenbusStateInitWait);
    events = qxen_ask(g, "guest-events");
    g_assert_cmpstr(events, ==, "1");
    g->at_start = qxen_open(g); /* with that disk */
    stop_closed(g);
}

/* Nor does it connect before it can, to a guest that could not wait for it */
static void test_device_add_connected(void)
{
    QXenGuest *g = qxen_machine_start("-global "
                                      "xen-loopback.events-in-drain=on");
    QXenPage ring = qxen_page_new(g, 0, false);
    g_autofree char *ref = g_strdup_printf("%u", ring.ref);

    qxen_set_key(g, XVDA, "feature-large-sector-size", "1");
    qxen_set_key(g, XVDA, "ring-ref", ref);
    qxen_set_key(g, XVDA, "event-channel", "1");
    qxen_set_key(g, XVDA, "state", "4");
    qtest_qmp_assert_success(g->qts, "{ 'execute': 'device_add', 'arguments': {"
                             "'driver': 'xen-disk', 'drive': 'disk',"
                             "'vdev': 'xvda' } }");
    qxen_wait_state(g, QDISK "51712", XenbusStateConnected);
    g_assert_cmpuint(qxen_stat(g, "maps"), ==, 1);
    qxen_set_key(g, XVDA, "state", "6");
    qxen_wait_state(g, QDISK "51712", XenbusStateClosed);
    g_assert_cmpuint(qxen_stat(g, "maps"), ==, 0);
    qxen_page_free(g, ring);
    g->at_start = qxen_open(g); /* with that disk */
    stop_closed(g);
}

/* A NIC on a tap does not keep QEMU from its end */
static void test_nic_at_exit(void)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR);
    bool can = fd >= 0 && !ioctl(fd, TUNSETIFF, &ifr);

    close(fd);
    if (!can) {
        g_test_skip("no tap can be opened");
        return;
    }
    stop_closed(qxen_machine_start("-netdev tap,id=n0,script=no,downscript=no "
                                   "-device xen-net-device,netdev=n0"));
}

/* -------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    static const QXenConnect one_page = { 0 };
    static const QXenConnect four_pages = {
        .ring_order = 2, .persistent = true,
    };

    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/xen-loopback/any-value", test_any_value);
    qtest_add_data_func("/xen-disk/one-page", &one_page, test_disk);
    qtest_add_data_func("/xen-disk/four-pages", &four_pages, test_disk);
    qtest_add_func("/xen-disk/write", test_write);
    qtest_add_data_func("/xen-disk/close-inflight", "", test_close_inflight);
    qtest_add_data_func("/xen-disk/close-inflight-iothread", WITH_IOTHREAD,
                        test_close_inflight);
    qtest_add_func("/xen-disk/close-in-handler", test_close_in_handler);
    qtest_add_data_func("/xen-disk/close-in-drain", "", test_close_in_drain);
    qtest_add_data_func("/xen-disk/close-in-drain-iothread", WITH_IOTHREAD,
                        test_close_in_drain);
    qtest_add_func("/xen-disk/reset", test_reset);
    qtest_add_func("/xen-disk/connect-in-reset", test_connect_in_reset);
    qtest_add_data_func("/xen-disk/connect-in-unplug", "",
                        test_connect_in_unplug);
    qtest_add_data_func("/xen-disk/connect-in-unplug-iothread", WITH_IOTHREAD,
                        test_connect_in_unplug);
    qtest_add_data_func("/xen-disk/unplug-in-close", "", test_unplug_in_close);
    qtest_add_data_func("/xen-disk/unplug-in-close-iothread", WITH_IOTHREAD,
                        test_unplug_in_close);
    qtest_add_func("/xen-disk/discard", test_discard);
    qtest_add_func("/xen-disk/discard-read-only", test_discard_read_only);
    qtest_add_func("/xen-disk/auto-vdev", test_auto_vdev);
    qtest_add_func("/xen-disk/hotplug", test_hotplug);
    qtest_add_func("/xen-disk/device-add", test_device_add);
    qtest_add_func("/xen-disk/device-add-connected", test_device_add_connected);
    qtest_add_func("/xen-net/frames", test_nic);
    qtest_add_func("/xen-net/exit", test_nic_at_exit);
    qtest_add_func("/xen-console/output", test_console);
    return g_test_run();
}

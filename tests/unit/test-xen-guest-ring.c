/*
 * Unit tests of the guest's connection to xenstored: no Xen, no xenstored
 *
 * How the two of them treat a ring is in xenstored's conn_input() and in
 * oxenstored's process_domains(), ring_scan_checker() and Xb.reconnect.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/xen/xen-guest-ring.h"

#define FOR_EVER  INT64_MAX
#define OS_READS  0x05          /* an OS's first request, its req_id */

typedef struct Store {
    struct xenstore_domain_interface page;
    XenGuestRing ring;
    GByteArray *in;             /* of a request that has no end yet */
    int looks;                  /* at the ring, that are left; -1: always */
    bool forgetting;            /* has seen that it has to */
    bool floods;
    unsigned int watches, turns;
} Store;

static void put(char *bytes, XENSTORE_RING_IDX *prod, const void *data,
                size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bytes[MASK_XENSTORE_IDX((*prod)++)] = ((const char *)data)[i];
    }
}

static void reply(Store *s, const struct xsd_sockmsg *to, uint32_t type)
{
    struct xsd_sockmsg msg = { .type = type, .req_id = to->req_id };

    put(s->page.rsp, &s->page.rsp_prod, &msg, sizeof(msg));
}

static void send_part(Store *s, const void *data, size_t len)
{
    put(s->page.req, &s->page.req_prod, data, len);
}

static void look(Store *s)
{
    while (s->page.req_cons != s->page.req_prod) {
        const struct xsd_sockmsg *msg;

        g_byte_array_append(
            s->in,
            (uint8_t *)&s->page.req[MASK_XENSTORE_IDX(s->page.req_cons++)], 1);
        msg = (const void *)s->in->data;
        if (s->in->len < sizeof(*msg) || s->in->len < sizeof(*msg) + msg->len) {
            continue;
        }
        if (msg->type == XS_RESET_WATCHES) {
            s->watches = 0;
        }
        reply(s, msg, msg->type == XS_RESET_WATCHES || msg->req_id == OS_READS
                      ? msg->type : XS_ERROR);
        g_byte_array_set_size(s->in, 0);
    }
}

static void forget(Store *s)
{
    s->forgetting = false;
    s->watches = 0;
    g_byte_array_set_size(s->in, 0);
    s->page.req_cons = s->page.req_prod = 0;
    s->page.rsp_cons = s->page.rsp_prod = 0;
    s->page.connection = XENSTORE_CONNECTED;
}

static void turn(void *opaque)
{
    Store *s = opaque;

    s->turns++;
    if (s->forgetting) {
        forget(s);
    }
    if (s->floods) {
        s->page.rsp_prod = s->page.rsp_cons + XENSTORE_RING_SIZE;
    }
    if (!s->looks) {
        return;
    }
    if (s->looks > 0) {
        s->looks--;
    }
    if (s->page.connection == XENSTORE_RECONNECT) {
        forget(s);
    } else {
        look(s);
    }
}

static Store *store_new(uint32_t features, int looks)
{
    Store *s = g_new0(Store, 1);

    s->ring = (XenGuestRing) { .page = &s->page, .turn = turn, .opaque = s };
    s->in = g_byte_array_new();
    s->page.server_features = features;
    /* a firmware has used it */
    s->page.req_cons = s->page.req_prod = 12345;
    s->page.rsp_cons = s->page.rsp_prod = 54321;
    s->watches = 3;
    s->looks = looks;
    return s;
}

static void store_free(Store *s)
{
    g_byte_array_unref(s->in);
    g_free(s);
}

/* Its first request has an answer, and that is the last one there is */
static void assert_os_is_heard(Store *s)
{
    struct xsd_sockmsg msg = { .type = XS_READ, .req_id = OS_READS };

    send_part(s, &msg, sizeof(msg));
    s->looks = -1;
    turn(s);
    g_assert_cmpuint(s->in->len, ==, 0);
    g_assert_cmpuint(s->page.rsp_prod - s->page.rsp_cons, >=, sizeof(msg));
    for (size_t i = 0; i < sizeof(msg); i++) {
        ((char *)&msg)[i] = s->page.rsp[
            MASK_XENSTORE_IDX(s->page.rsp_prod - sizeof(msg) + i)];
    }
    g_assert_cmpuint(msg.req_id, ==, OS_READS);
    g_assert_cmpuint(msg.type, ==, XS_READ);
}

static void test_c(void)
{
    Store *s = store_new(XENSTORE_SERVER_FEATURE_ERROR, -1);

    reply(s, &(struct xsd_sockmsg) { .req_id = 7 }, XS_READ);   /* unread */
    g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, 0);
    xen_guest_ring_reset_end(&s->ring);
    g_assert_cmpuint(s->watches, ==, 0);
    g_assert_cmpuint(s->page.rsp_prod, ==, s->page.rsp_cons);
    assert_os_is_heard(s);
    store_free(s);
}

/* The firmware has sent a part of a request, of each possible length */
static void test_c_half_request(void)
{
    struct {
        struct xsd_sockmsg header;
        char body[40];
    } request = {
        { .type = XS_WRITE, .req_id = 9, .len = sizeof(request.body) },
        "local/domain/7/data/key"
    };

    for (size_t part = 1; part < sizeof(request); part++) {
        Store *s = store_new(0, -1);

        send_part(s, &request, part);
        g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, 0);
        xen_guest_ring_reset_end(&s->ring);
        g_assert_cmpuint(s->watches, ==, 0);
        assert_os_is_heard(s);
        store_free(s);
    }
}

/* It does not look at the ring any more, after so many times */
static void test_c_stops(void)
{
    unsigned int failed = 0;

    for (int looks = 0; looks < 20; looks++) {
        Store *s = store_new(0, looks);
        int rc = xen_guest_ring_reset(&s->ring, FOR_EVER);

        g_assert_true(!rc || rc == -EBUSY);
        failed += !!rc;
        if (!looks) {
            g_assert_cmpuint(s->page.req_prod, ==, 12345);
        }
        xen_guest_ring_reset_end(&s->ring);
        assert_os_is_heard(s);
        store_free(s);
    }
    g_assert_cmpuint(failed, >, 4);
    g_assert_cmpuint(failed, <, 20);
}

static void test_c_nonsense(void)
{
    Store *s = store_new(0, 0);

    s->floods = true;
    g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, -EMSGSIZE);
    s->floods = false;
    s->page.rsp_prod = s->page.rsp_cons + XENSTORE_RING_SIZE + 1;
    g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, -EIO);
    s->turns = 0;
    g_assert_cmpint(xen_guest_ring_reset(&s->ring, 0), ==, -ETIMEDOUT);
    g_assert_cmpuint(s->turns, ==, 0);
    store_free(s);
}

/* It sees that it has to reconnect if it looks: not at all, once, or more */
static void test_ocaml(void)
{
    for (int looks = 0; looks < 4; looks++) {
        Store *s = store_new(XENSTORE_SERVER_FEATURE_RECONNECTION, 0);

        reply(s, &(struct xsd_sockmsg) { .req_id = 7 }, XS_READ); /* unread */
        g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, 0);
        g_assert_cmpuint(s->page.req_prod, ==, 12345);
        s->looks = looks;
        if (looks) {
            turn(s);
            g_assert_cmpuint(s->watches, ==, 0);
        }
        xen_guest_ring_reset_end(&s->ring);
        g_assert_cmpuint(s->page.rsp_prod, ==, s->page.rsp_cons);
        g_assert_cmpuint(s->page.connection, ==, XENSTORE_CONNECTED);
        assert_os_is_heard(s);
        store_free(s);
    }
}

/* It has seen that when the handoff ends, and is about to forget all */
static void test_ocaml_late(void)
{
    Store *s = store_new(XENSTORE_SERVER_FEATURE_RECONNECTION, 0);

    g_assert_cmpint(xen_guest_ring_reset(&s->ring, FOR_EVER), ==, 0);
    s->forgetting = true;
    xen_guest_ring_reset_end(&s->ring);
    assert_os_is_heard(s);
    store_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xen-guest-ring/c", test_c);
    g_test_add_func("/xen-guest-ring/c/half-request", test_c_half_request);
    g_test_add_func("/xen-guest-ring/c/stops", test_c_stops);
    g_test_add_func("/xen-guest-ring/c/nonsense", test_c_nonsense);
    g_test_add_func("/xen-guest-ring/ocaml", test_ocaml);
    g_test_add_func("/xen-guest-ring/ocaml/late", test_ocaml_late);
    return g_test_run();
}

/*
 * xenstore-filter DOMID CHROOT: xenstore for a QEMU that is restricted
 *
 * With dm_restrict=1 QEMU loses xenstore, so that a guest which breaks into
 * QEMU does not get dom0's rights there.  This stands in xenstored's place in
 * QEMU's chroot, and passes on what xen-fw-handoff needs if the guest could do
 * the same itself: xenstored is asked for each node's permissions first.  So
 * the guest's quota stays its bound, too.  What goes beyond that is in
 * is_report(), and what Xen would tell the guest about itself begins with an @.
 *
 * QEMU cannot just keep a connection of its own: those from dom0 may do
 * everything, and no xenstored has a request any more that restricts one.  Nor
 * can it use the guest's: it may not send that one's event channel, and the
 * firmware uses it, too.
 *
 * packaging/device-model starts it, and becomes QEMU when this has returned.
 * One process for each connection remains, and ends with it; no client but QEMU
 * is heard, and the socket is removed with the second connection.  Nothing that
 * a client sends is believed, and a client that does not take its answers is
 * dropped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenstore_lib.h>
#include <xen/hvm/params.h>
#include <xen/io/xs_wire.h>

#define CONNECTIONS 2           /* the device's, and for Xen's answers */
#define MAX_WATCHES 64
#define MAX_IN_TRANSACTION 2048 /* requests, since xenstored remembers them */
#define MAX_REPORT 128          /* bytes of one value */
#define MAX_DIGITS 9            /* of a count, so that it fits into an int */

struct msg {
    struct xsd_sockmsg header;
    char body[XENSTORE_PAYLOAD_MAX];
};

static unsigned int domid;
static int client, xenstored;
static xc_interface *xc;

/* What this connection has, as xenstored has confirmed it */
static unsigned int watches, in_transaction;
static uint32_t transaction;

static size_t size(const struct msg *m)
{
    return sizeof(m->header) + m->header.len;
}

static void must(bool ok)
{
    if (!ok) {
        _exit(0);           /* an end has gone, or does not behave */
    }
}

static void to_client(const struct msg *m)
{
    ssize_t n = send(client, m, size(m), MSG_DONTWAIT | MSG_NOSIGNAL);

    must(n == (ssize_t)size(m));
}

/* The whole of LEN bytes; with 0 recv() would wait for some */
static void receive(void *data, size_t len)
{
    must(!len || recv(xenstored, data, len, MSG_WAITALL) == (ssize_t)len);
}

static void from_xenstored(struct msg *m)
{
    receive(&m->header, sizeof(m->header));
    must(m->header.len <= sizeof(m->body));
    receive(m->body, m->header.len);
}

static void pass_event(const struct msg *m)
{
    must(m->header.type == XS_WATCH_EVENT);
    to_client(m);
}

/*
 * One request at a time, so what is not an event is the answer.  Returns
 * whether that is no error.
 */
static bool ask(const struct msg *request, struct msg *reply)
{
    ssize_t n = send(xenstored, request, size(request), MSG_NOSIGNAL);

    must(n == (ssize_t)size(request));
    from_xenstored(reply);
    while (reply->header.type == XS_WATCH_EVENT) {
        pass_event(reply);
        from_xenstored(reply);
    }
    return reply->header.type != XS_ERROR;
}

static void reply_with(struct msg *reply, uint32_t type, const char *text)
{
    reply->header.type = type;
    reply->header.len = strlen(text) + (type == XS_ERROR);
    memcpy(reply->body, text, strlen(text) + 1);
}

/*
 * Has the guest RIGHT, 'r' or 'w', to the node that @request is about?  If not,
 * @reply says so.
 */
static bool guest_may(const struct msg *request, char right, struct msg *reply)
{
    struct msg get = *request;
    char *entry, *end, given = 0;

    get.header.type = XS_GET_PERMS;
    get.header.len = strlen(get.body) + 1;
    if (!ask(&get, reply)) {
        return false;       /* ENOENT, most likely */
    }
    end = reply->body + reply->header.len;
    must(end > reply->body && !end[-1]);
    /* "n<owner>": what all others may, but for those behind it: "r<domid>" */
    for (entry = reply->body; entry < end; entry += strlen(entry) + 1) {
        bool owner = entry == reply->body;
        bool guest = (unsigned int)atoi(entry + 1) == domid;

        if (owner || guest) {
            given = owner && guest ? 'b' : *entry;
        }
        if (guest) {
            break;
        }
    }
    if (given == 'b' || given == right) {
        return true;
    }
    reply_with(reply, XS_ERROR, "EACCES");
    return false;
}

/* PATTERN has a %u for the guest */
static bool matches(const char *path, const char *pattern, int flags)
{
    char buf[128];

    snprintf(buf, sizeof(buf), pattern, domid);
    return !fnmatch(buf, path, FNM_PATHNAME | flags);
}

static bool is(const char *path, const char *pattern)
{
    return matches(path, pattern, 0);
}

static bool is_or_below(const char *path, const char *pattern)
{
    return matches(path, pattern, FNM_LEADING_DIR);
}

static bool hvm_param(int index, char text[static 64])
{
    uint64_t value;

    if (xc_hvm_param_get(xc, domid, index, &value) < 0) {
        return false;
    }
    snprintf(text, 64, "%" PRIu64, value);
    return true;
}

static bool grant_table(char text[static 64])
{
    struct gnttab_query_size query = { .dom = domid };
    int version = xc_gnttab_get_version(xc, domid);

    if (version < 0 || xc_gnttab_query_size(xc, &query) < 0 ||
        query.status != GNTST_okay) {
        return false;
    }
    snprintf(text, 64, "%d %u", version, query.nr_frames);
    return true;
}

/* No nodes: what Xen answers to a hypercall that the guest can make, too */
static bool from_xen(const char *path, struct msg *reply)
{
    char text[64];
    bool ok = !strcmp(path, "@callback-irq")
                  ? hvm_param(HVM_PARAM_CALLBACK_IRQ, text)
            : !strcmp(path, "@store-pfn") ? hvm_param(HVM_PARAM_STORE_PFN, text)
            : !strcmp(path, "@grant-table") && grant_table(text);

    if (ok) {
        reply_with(reply, XS_READ, text);
    }
    return ok;
}

/* 1 to MAX digits */
static bool is_number(const char *value, size_t len, size_t max)
{
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)value[i])) {
            return false;
        }
    }
    return len && len <= max;
}

/*
 * What the guest may not write itself: what QEMU reports, and the key that
 * tells the firmware of the device.  dom0's programs take a count for a number.
 */
static bool is_report(const char *path, const char *value, size_t len)
{
    static const char *const keys[] = {
        "state", "announcement",    /* are texts, the others are counts */
        "handed-off", "timed-out", "failed", "skipped"
    };

    if (is(path, "/local/domain/%u/control/platform-feature-fw-handoff")) {
        return len == 1 && *value == '1';
    }
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        char pattern[64];

        snprintf(pattern, sizeof(pattern), "device-model/%%u/fw-handoff/%s",
                 keys[i]);
        if (is(path, pattern)) {
            return i < 2 ? len <= MAX_REPORT
                         : is_number(value, len, MAX_DIGITS);
        }
    }
    return false;
}

/*
 * A frontend's state, if the node is there: so the guest's quota of nodes is
 * the bound of what is made here, too.
 */
static bool may_write(const struct msg *request, struct msg *reply)
{
    const char *path = request->body, *value = path + strlen(path) + 1;
    size_t len = request->body + request->header.len - value;

    return is_report(path, value, len) ||
           (is(path, "/local/domain/%u/device/*/*/state") &&
            is_number(value, len, 1) && guest_may(request, 'w', reply));
}

static void answer(const struct msg *request)
{
    const char *path = request->body;
    size_t len = request->header.len;
    uint32_t tx = request->header.tx_id, type = request->header.type;
    struct msg reply = { .header = request->header };
    bool of_guest, ok = false;

    must(!tx || ++in_transaction <= MAX_IN_TRANSACTION);
    must(type == XS_WRITE ? strnlen(path, len) < len : !path[len - 1]);
    if (!tx && type == XS_READ && from_xen(path, &reply)) {
        to_client(&reply);
        return;
    }
    of_guest = is_or_below(path, "/local/domain/%u/device") ||
               is_or_below(path, "/local/domain/*/backend/*/%u");
    reply_with(&reply, XS_ERROR, "EACCES");
    switch (tx && tx != transaction ? XS_ERROR : type) {
    case XS_READ:
    case XS_DIRECTORY:
    case XS_DIRECTORY_PART:
        ok = of_guest && guest_may(request, 'r', &reply);
        break;
    case XS_WRITE:
        ok = may_write(request, &reply);
        break;
    case XS_RM:
        ok = is_or_below(path, "/local/domain/%u/device/*/*/*") &&
             guest_may(request, 'w', &reply);
        break;
    case XS_WATCH:
        ok = of_guest && watches < MAX_WATCHES;
        break;
    case XS_TRANSACTION_START:
        ok = !transaction;
        break;
    case XS_TRANSACTION_END:
        /* one that xenstored does not understand would leave it open there */
        ok = tx && len == 2 && (*path == 'T' || *path == 'F');
        if (ok) {
            transaction = 0;    /* whether or not it is committed */
        }
        break;
    case XS_UNWATCH:
    case XS_GET_DOMAIN_PATH:
        ok = true;
        break;
    }
    ok = ok && ask(request, &reply);
    switch (type) {
    case XS_TRANSACTION_START:
        if (ok) {
            reply.body[sizeof(reply.body) - 1] = 0;
            must(sscanf(reply.body, "%" SCNu32, &transaction) == 1);
            in_transaction = 0;
        }
        break;
    case XS_WATCH:
        watches += ok;
        break;
    case XS_UNWATCH:
        watches -= ok;
        break;
    }
    reply.header.req_id = request->header.req_id;
    reply.header.tx_id = tx;
    to_client(&reply);
}

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };

    if (snprintf(name.sun_path, sizeof(name.sun_path), "%s", path) >=
        (int)sizeof(name.sun_path)) {
        errx(1, "%s is too long for a socket", path);
    }
    return name;
}

static int connect_to_xenstored(void)
{
    struct sockaddr_un name = address(xs_daemon_socket());
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    must(fd >= 0 && !connect(fd, (struct sockaddr *)&name, sizeof(name)));
    return fd;
}

static void serve(void)
{
    struct pollfd fds[2] = { { .fd = client, .events = POLLIN } };
    struct msg request, event;
    size_t have = 0, want;
    ssize_t n;

    xc = xc_interface_open(NULL, NULL, 0);
    must(xc);
    xenstored = connect_to_xenstored();
    fds[1] = (struct pollfd) { .fd = xenstored, .events = POLLIN };
    for (;;) {
        must(poll(fds, 2, -1) > 0);
        if (fds[1].revents) {
            from_xenstored(&event);
            pass_event(&event);
        }
        if (!fds[0].revents) {
            continue;
        }
        want = have < sizeof(request.header) ? sizeof(request.header)
                                             : size(&request);
        n = recv(client, (char *)&request + have, want - have, MSG_DONTWAIT);
        must(n > 0);
        have += n;
        if (have == sizeof(request.header)) {
            must(request.header.len &&
                 request.header.len <= sizeof(request.body));
        } else if (have > sizeof(request.header) && have == size(&request)) {
            answer(&request);
            have = 0;
        }
    }
}

/* The directories that PATH is in */
static void make_directories(char *path)
{
    for (char *end = path; (end = strchr(end, '/')); *end++ = '/') {
        *end = 0;
        if (mkdir(path, 0711) && errno != EEXIST) {
            err(1, "%s", path);
        }
    }
}

/* libxl makes no domain with the same number while its chroot is not empty */
static void clean_up(char *path)
{
    unlink(path);
    for (char *end; (end = strrchr(path, '/')); ) {
        *end = 0;
        rmdir(path);
    }
}

/* For QEMU, until it has all its connections or has ended */
static void listen_to(int listener, pid_t qemu, int pidfd)
{
    struct pollfd fds[] = {
        { .fd = listener, .events = POLLIN }, { .fd = pidfd, .events = POLLIN }
    };

    for (int n = 0; n < CONNECTIONS; ) {
        struct ucred peer;
        socklen_t len = sizeof(peer);

        if (poll(fds, 2, -1) <= 0 || fds[1].revents) {
            break;
        }

        client = accept(listener, NULL, NULL);
        if (!getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
            peer.pid == qemu) {
            n++;
            if (!fork()) {
                close(listener);
                serve();
            }
        }
        close(client);
    }
}

int main(int argc, char **argv)
{
    pid_t qemu = getppid();     /* the shell that becomes it */
    int pidfd, listener, null;
    struct sockaddr_un name;
    char *path;

    if (argc != 3 || !isdigit((unsigned char)*argv[1])) {
        errx(1, "usage: xenstore-filter DOMID CHROOT");
    }
    domid = atoi(argv[1]);
    path = strdup(xs_daemon_socket() + 1);
    close_range(3, ~0U, 0);     /* what libxl means for QEMU */
    umask(0);
    /* libxl lets nobody in */
    if (chdir(argv[2]) || chmod(".", 0711)) {
        err(1, "%s", argv[2]);
    }
    pidfd = syscall(SYS_pidfd_open, qemu, 0);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    null = open("/dev/null", O_RDWR);
    if (pidfd < 0 || listener < 0 || null < 0) {
        err(1, "cannot start");
    }
    name = address(path);
    make_directories(path);
    if (bind(listener, (struct sockaddr *)&name, sizeof(name)) ||
        listen(listener, CONNECTIONS)) {
        warn("%s", path);
        clean_up(path);
        return 1;
    }
    switch (fork()) {
    case -1:
        warn("fork");
        clean_up(path);
        return 1;
    case 0:
        setsid();
        signal(SIGCHLD, SIG_IGN);
        for (int fd = 0; fd < 3; fd++) {
            dup2(null, fd);
        }
        listen_to(listener, qemu, pidfd);
        clean_up(path);
    }
    return 0;
}

/*
 * The baseline of a handoff: baseline DOMID FRONTEND...
 *
 * Closes what labfw has connected by the conversation with xenstore that the
 * backends need, and does nothing else: no ledger, no log, no grants.  Prints
 * how long it took, in microseconds, and how many operations.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenstore.h>

#define TIMEOUT_MS 30000

struct device {
    char *frontend, *backend;
    int step;
};

/* write to the frontend, wait for the backend */
static const struct {
    char frontend, backend;
} steps[] = { { '5', '5' }, { '6', '6' }, { '1', '2' } };

#define STEPS ((int)(sizeof(steps) / sizeof(steps[0])))

/* what labfw writes beside "state" */
static const char *const keys[] = {
    "ring-ref", "event-channel", "protocol", "feature-persistent",
    "tx-ring-ref", "rx-ring-ref", "request-rx-copy", "feature-no-csum-offload",
};

static struct xs_handle *xs;
static unsigned long ops;

static char *format(const char *fmt, const char *a, const char *b)
{
    char *text;

    if (asprintf(&text, fmt, a, b) < 0) {
        err(1, "asprintf");
    }
    return text;
}

static char *read_key(const char *dir, const char *key)
{
    char *path = format("%s/%s", dir, key);
    char *value = xs_read(xs, XBT_NULL, path, NULL);

    ops++;
    if (!value) {
        err(1, "cannot read %s", path);
    }
    free(path);
    return value;
}

static void write_state(xs_transaction_t t, const char *dir, char state)
{
    char *path = format("%s/%s", dir, "state");

    ops++;
    if (!xs_write(xs, t, path, &state, 1)) {
        err(1, "cannot write %s", path);
    }
    free(path);
}

static void restore(const struct device *dev)
{
    xs_transaction_t t;
    unsigned int n;
    char **list;

    do {
        t = xs_transaction_start(xs);
        list = xs_directory(xs, t, dev->frontend, &n);
        ops += 2;
        while (list && n--) {
            for (unsigned int i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                if (!strcmp(list[n], keys[i])) {
                    char *path = format("%s/%s", dev->frontend, keys[i]);

                    ops++;
                    xs_rm(xs, t, path);
                    free(path);
                }
            }
        }
        free(list);
        write_state(t, dev->frontend, '1');
        ops++;
    } while (!xs_transaction_end(xs, t, false));
}

static void take_step(const struct device *dev)
{
    if (steps[dev->step].frontend == '1') {
        restore(dev);
    } else {
        write_state(XBT_NULL, dev->frontend, steps[dev->step].frontend);
    }
}

/* returns whether the device is done */
static bool follow(struct device *dev)
{
    char *state = read_key(dev->backend, "state");

    if (state[0] == steps[dev->step].backend ||
        (steps[dev->step].backend == '5' && state[0] == '6')) {
        dev->step++;
        if (dev->step < STEPS) {
            take_step(dev);
        }
    }
    free(state);
    return dev->step == STEPS;
}

static char *parent(const char *path)
{
    return strndup(path, strrchr(path, '/') - path);
}

int main(int argc, char **argv)
{
    int n = argc - 2, running = n;
    struct device *devices = calloc(argc, sizeof(*devices));
    struct timespec start, end;
    const char *watched = NULL;
    struct pollfd fd;

    if (n < 1) {
        errx(1, "usage: baseline DOMID FRONTEND...");
    }
    xs = xs_open(0);
    if (!xs) {
        err(1, "cannot open xenstore");
    }
    fd = (struct pollfd) { .fd = xs_fileno(xs), .events = POLLIN };
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < n; i++) {
        struct device *dev = &devices[i];
        char *dir = format("/local/domain/%s/device/%s", argv[1], argv[i + 2]);
        char *libxl = format("/libxl/%s/device/%s", argv[1], argv[i + 2]);
        char *watch;

        dev->frontend = dir;
        dev->backend = read_key(libxl, "backend");
        watch = parent(dev->backend);
        if (!watched || strcmp(watch, watched)) {
            xs_watch(xs, watch, "");
            ops++;
            watched = watch;
        }
        take_step(dev);
        free(libxl);
    }
    while (running) {
        char **event;

        if (poll(&fd, 1, TIMEOUT_MS) != 1) {
            errx(1, "a backend hangs");
        }
        while ((event = xs_check_watch(xs))) {
            const char *path = event[XS_WATCH_PATH];
            size_t len = strlen(path);

            for (int i = 0; i < n; i++) {
                struct device *dev = &devices[i];
                size_t dir = strlen(dev->backend);

                if (dev->step < STEPS && len == dir + strlen("/state") &&
                    !strncmp(path, dev->backend, dir) &&
                    !strcmp(path + dir, "/state")) {
                    running -= follow(dev);
                }
            }
            free(event);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lld us, %lu operations\n",
           (end.tv_sec - start.tv_sec) * 1000000ll +
           (end.tv_nsec - start.tv_nsec) / 1000, ops);
    return 0;
}

/*
 * xswatch PATH...: print every xenstore change below PATH as
 * "seconds-of-uptime path = value".
 *
 * The value is read after the watch fired, so that two changes in quick
 * succession may both show the later value.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xenstore.h>

int main(int argc, char **argv)
{
    struct xs_handle *xs = xs_open(0);
    int i;

    if (!xs || argc < 2) {
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = 1; i < argc; i++) {
        xs_watch(xs, argv[i], "t");
    }
    for (;;) {
        unsigned int n;
        struct timespec t;
        char **event = xs_read_watch(xs, &n);
        char *value;

        if (!event) {
            return 1;
        }
        clock_gettime(CLOCK_MONOTONIC, &t);
        value = xs_read(xs, XBT_NULL, event[XS_WATCH_PATH], &n);
        printf("%ld.%03ld %s %s%s\n", (long)t.tv_sec, t.tv_nsec / 1000000,
               event[XS_WATCH_PATH], value ? "= " : "(gone)",
               value ? value : "");
        free(value);
        free(event);
    }
}

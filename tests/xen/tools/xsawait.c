/*
 * xsawait PATH VALUE: until the node has that value.  A shell that reads it
 * again and again keeps dom0's only CPU from the guest that is waited for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

int main(int argc, char **argv)
{
    struct xs_handle *xs = xs_open(0);
    bool there = false;

    if (argc != 3) {
        errx(2, "usage: xsawait PATH VALUE");
    }
    if (!xs || !xs_watch(xs, argv[1], "")) {
        err(1, "%s", argv[1]);
    }
    while (!there) {
        unsigned int n;
        char *value;

        /* the first event comes with the watch itself */
        free(xs_read_watch(xs, &n));
        value = xs_read(xs, XBT_NULL, argv[1], &n);
        there = value && !strcmp(value, argv[2]);
        free(value);
    }
    return 0;
}

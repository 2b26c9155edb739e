/*
 * qmp [-n N] SOCKET COMMAND...: send QMP commands (JSON) to a QEMU, print a
 * line of its reply to each.  Events are skipped; an error is printed, and the
 * end.  With -n send each N times, and say how long the slowest reply took.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* the next line that is a reply, or the greeting */
static char *receive(FILE *f)
{
    static char *line;
    static size_t size;

    do {
        if (getline(&line, &size, f) < 0) {
            fprintf(stderr, "qmp: QEMU has closed the connection\n");
            exit(1);
        }
    } while (strncmp(line, "{\"return\"", 9) &&
             strncmp(line, "{\"error\"", 8) &&
             strncmp(line, "{\"QMP\"", 6));
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static char *command(FILE *f, const char *text)
{
    fprintf(f, "%s\n", text);
    fflush(f);
    return receive(f);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), times = 0;
    double slowest = 0;
    FILE *f;

    if (getopt(argc, argv, "+n:") == 'n') {
        times = atoi(optarg);
    }
    if (argc < optind + 2 || strlen(argv[optind]) >= sizeof(addr.sun_path)) {
        fprintf(stderr, "usage: qmp [-n N] SOCKET COMMAND...\n");
        return 2;
    }
    strcpy(addr.sun_path, argv[optind]);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        perror(argv[optind]);
        return 1;
    }
    f = fdopen(fd, "r+");
    receive(f);
    command(f, "{\"execute\":\"qmp_capabilities\"}");
    for (int i = optind + 1; i < argc; i++) {
        char *reply;
        int n = 0;

        do {
            double begin = now_ms(), ms;

            reply = command(f, argv[i]);
            ms = now_ms() - begin;
            slowest = ms > slowest ? ms : slowest;
        } while (++n < times);
        puts(reply);
        if (!strncmp(reply, "{\"error\"", 8)) {
            return 1;
        }
    }
    if (times) {
        printf("%d replies, the slowest after %.1f ms\n", times, slowest);
    }
    return 0;
}

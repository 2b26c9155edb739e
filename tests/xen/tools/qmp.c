/*
 * qmp SOCKET COMMAND...: send QMP commands (JSON) to a QEMU, print a line of
 * its reply to each.  Events are skipped; an error is printed, and the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

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

int main(int argc, char **argv)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FILE *f;

    if (argc < 3 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
        fprintf(stderr, "usage: qmp SOCKET COMMAND...\n");
        return 2;
    }
    strcpy(addr.sun_path, argv[1]);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        perror(argv[1]);
        return 1;
    }
    f = fdopen(fd, "r+");
    receive(f);
    command(f, "{\"execute\":\"qmp_capabilities\"}");
    for (int i = 2; i < argc; i++) {
        char *reply = command(f, argv[i]);

        puts(reply);
        if (!strncmp(reply, "{\"error\"", 8)) {
            return 1;
        }
    }
    return 0;
}

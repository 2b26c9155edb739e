/*
 * Xen for Debian's own xenstored and oxenstored, to be preloaded: a domain's
 * ring is a file, an event is a datagram, and all files are in
 * $XENSTORED_RUNDIR.  Everything else is theirs: permissions, quotas, watches,
 * and the order in which they serve their connections.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define PORT  100   /* xenstored's end of the guest's event channel */

static void *handle = &handle;  /* of all interfaces */

static char *in_rundir(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s/%s", getenv("XENSTORED_RUNDIR"), name);
    return to;
}

/* --- domains: whichever they ask for ------------------------------------- */

xc_interface *xc_interface_open(xentoollog_logger *log,
                                xentoollog_logger *dom0, unsigned int flags)
{
    return handle;
}

int xc_interface_close(xc_interface *xc)
{
    return 0;
}

int xc_domain_getinfolist(xc_interface *xc, uint32_t first, unsigned int max,
                          xc_domaininfo_t *info)
{
    *info = (xc_domaininfo_t) { .domain = first, .flags = XEN_DOMINF_running };
    return 1;
}

#if XEN_DOMCTL_INTERFACE_VERSION < 0x16     /* Xen 4.17 */
int xc_domain_getinfo(xc_interface *xc, uint32_t first, unsigned int max,
                      xc_dominfo_t *info)
{
    *info = (xc_dominfo_t) { .domid = first, .running = 1 };
    return 1;
}
#else
int xc_domain_getinfo_single(xc_interface *xc, uint32_t domid,
                             xc_domaininfo_t *info)
{
    return xc_domain_getinfolist(xc, domid, 1, info) == 1 ? 0 : -1;
}
#endif

/* For xenstore-filter: each domain has its own */
int xc_hvm_param_get(xc_interface *xc, uint32_t domid, uint32_t param,
                     uint64_t *value)
{
    *value = domid * 1000 + param;
    return 0;
}

int xc_gnttab_get_version(xc_interface *xc, uint32_t domid)
{
    return 1;
}

int xc_gnttab_query_size(xc_interface *xc, struct gnttab_query_size *query)
{
    query->nr_frames = query->dom;
    query->status = GNTST_okay;
    return 0;
}

/* --- event channels ------------------------------------------------------- */

static int sock = -1;
static struct sockaddr_un guest = { AF_UNIX };

xenevtchn_handle *xenevtchn_open(xentoollog_logger *log, unsigned int flags)
{
    struct sockaddr_un me = { AF_UNIX };

    in_rundir(me.sun_path, sizeof(me.sun_path), "event-xenstored");
    in_rundir(guest.sun_path, sizeof(guest.sun_path), "event-guest");
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    return bind(sock, (struct sockaddr *)&me, sizeof(me)) ? NULL : handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *log, int fd,
                                   unsigned int flags)
{
    return xenevtchn_open(log, flags);
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return sock;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce,
                                              unsigned int virq)
{
    return PORT + 1;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce,
                                                     uint32_t domid,
                                                     evtchn_port_t remote)
{
    return PORT;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    return 0;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    char event;

    return recv(sock, &event, 1, 0) == 1 ? PORT : -1;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    /* fails when so many are pending that one more makes no difference */
    sendto(sock, "", 1, MSG_DONTWAIT, (struct sockaddr *)&guest,
           sizeof(guest));
    return 0;
}

/* --- the ring ------------------------------------------------------------- */

static void *map_ring(uint32_t domid)
{
    char name[32], path[256];
    int fd;
    void *ring;

    snprintf(name, sizeof(name), "ring-%u", domid);
    fd = open(in_rundir(path, sizeof(path), name), O_RDWR);
    ring = mmap(NULL, XC_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return ring == MAP_FAILED ? NULL : ring;
}

xengnttab_handle *xengnttab_open(xentoollog_logger *log, unsigned int flags)
{
    return handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count)
{
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid,
                              uint32_t ref, int prot)
{
    return map_ring(domid);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *ring, uint32_t count)
{
    return munmap(ring, XC_PAGE_SIZE);
}

void *xc_map_foreign_range(xc_interface *xc, uint32_t domid, int size,
                           int prot, unsigned long mfn)
{
    return map_ring(domid);
}

/* --- files ---------------------------------------------------------------- */

/*
 * Those of dom0's kernel, and oxenstored's, which knows no $XENSTORED_RUNDIR;
 * its plugins are in the package
 */
static const char *moved(const char *path)
{
    static const char *const dirs[] = { "/proc/xen", "/var/run/xenstored" };
    static char to[512];

    if (!strncmp(path, "/usr/lib/xen-", 13)) {
        snprintf(to, sizeof(to), "%s%s", getenv("PACKAGES"), path);
        return to;
    }

    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
        if (!strncmp(path, dirs[i], strlen(dirs[i]))) {
            return in_rundir(to, sizeof(to), path + strlen(dirs[i]));
        }
    }
    return path;
}

int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    va_list ap;
    int mode;

    va_start(ap, flags);
    mode = va_arg(ap, int);
    va_end(ap);
    return next(moved(path), flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int stat64(const char *path, struct stat64 *st)
{
    int (*next)(const char *, struct stat64 *) = dlsym(RTLD_NEXT, "stat64");

    return next(moved(path), st);
}

DIR *opendir(const char *path)
{
    DIR *(*next)(const char *) = dlsym(RTLD_NEXT, "opendir");

    return next(moved(path));
}

void *dlopen(const char *path, int flags)
{
    void *(*next)(const char *, int) = dlsym(RTLD_NEXT, "dlopen");

    return next(path ? moved(path) : NULL, flags);
}

int mkdir(const char *path, mode_t mode)
{
    int (*next)(const char *, mode_t) = dlsym(RTLD_NEXT, "mkdir");

    return next(moved(path), mode);
}

int unlink(const char *path)
{
    int (*next)(const char *) = dlsym(RTLD_NEXT, "unlink");

    return next(moved(path));
}

int bind(int fd, const struct sockaddr *address, socklen_t len)
{
    int (*next)(int, const struct sockaddr *, socklen_t) =
        dlsym(RTLD_NEXT, "bind");
    struct sockaddr_un un = *(const struct sockaddr_un *)address;

    strcpy(un.sun_path, moved(((struct sockaddr_un *)address)->sun_path));
    return next(fd, (struct sockaddr *)&un, sizeof(un));
}

/* Who runs the test need not be root */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    return 0;
}

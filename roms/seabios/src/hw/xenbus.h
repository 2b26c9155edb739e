#ifndef __XENBUS_H
#define __XENBUS_H

#include "types.h" // u32

// At any time, in 32bit mode
void xen_notify(u32 port);
u32 xen_evtchn_remote(u32 port, u16 domid);
void xen_relax(void);

// While POST runs
int xenbus_setup(void);
int xenbus_read(char *out, u32 size, const char *dir, const char *key);
int xenbus_read_num(u64 *value, const char *dir, const char *key);
int xenbus_write(const char *dir, const char *key, const char *value);
int xenbus_write_num(const char *dir, const char *key, u32 value);
const char *xenbus_list(const char *path, u32 *size);
u32 xen_evtchn_alloc(u16 domid);
int xen_grant(u16 domid, void *page);

#endif // xenbus.h

/*
 * What a firmware and an OS need of the machine and of Xen.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef XEN_H
#define XEN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define PAGE_SIZE 4096u
#define DOMID_SELF 0x7ff0
/* written by the other side, too: a backend, xenstored or Xen */
#define shared volatile

#define mb() __asm__ volatile("lock; addl $0, (%%esp)" : : : "memory")

/*
 * TSC cycles: some 8 seconds until we give up, since a busy machine makes dom0
 * slow; some ms between two looks
 */
#define PATIENCE 20000000000ull
#define MOMENT 20000000u

/* --- memory and text ------------------------------------------------------ */

void *memset(void *dest, int c, size_t n);
void *memcpy(void *dest, const void *src, size_t n);
u32 length(const char *s);
bool starts_with(const void *text, const char *with);

/* whether @word is one of the words of @list */
bool listed(const char *list, const char *word);

u32 number(const char *s);

/* %s and %u are all there is; @size is trusted to be enough for a '\0' */
__attribute__((format(printf, 3, 4)))
void format(char *out, size_t size, const char *fmt, ...);

/* --- the machine ---------------------------------------------------------- */

static inline void outb(u16 port, u8 v)
{
    __asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port));
}

static inline void outw(u16 port, u16 v)
{
    __asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(port));
}

static inline void outl(u16 port, u32 v)
{
    __asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
    u8 v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline u16 inw(u16 port)
{
    u16 v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline u32 inl(u16 port)
{
    u32 v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline u64 tsc(void)
{
    u64 v;

    __asm__ volatile("rdtsc" : "=A"(v));
    return v;
}

extern const char *who;     /* whose lines these are: PVFW or PVOS */

__attribute__((format(printf, 1, 2)))
void say(const char *fmt, ...);

/* COM1's scratch register, which QEMU's monitor can read and write, too */
u8 scratch(void);
void set_scratch(u8 value);

/* where BAR @n of the platform device is, 0 without one */
u32 platform_bar(u32 n);

/* QEMU's fw_cfg: the size of a file, which *@select selects, or 0 */
u32 fw_cfg_find(const char *name, u16 *select);

/* @n bytes of item @select, or the next ones of the same item if that is 0 */
void fw_cfg_read(u16 select, void *to, u32 n);

/* --- Xen ------------------------------------------------------------------ */

enum {
    HVM_PARAM_CALLBACK_IRQ = 0,
    HVM_PARAM_STORE_PFN = 1,
    HVM_PARAM_STORE_EVTCHN = 2,
};

/* of blob.ld */
extern u8 BLOB[], hypercall_page[], pool[], pool_end[];

/* find Xen and its store; false where there is none */
bool begin(void);

/* map the grant table; the rest works without */
bool begin_grants(void);

void yield(void);

/* dom0 has the only other processor time, and something better to do */
void relax(void);

u64 hvm_param(bool set, u32 index, u64 value);
void notify(u32 port);
u32 alloc_event_channel(u16 remote);
void close_event_channel(u32 port);

/* returns only from a soft reset */
void shut_down(u32 reason);

/* let vCPU 1 run @entry, which never returns */
bool start_second(void (*entry)(void));

/* --- xenstore ------------------------------------------------------------- */

enum {
    XS_READ = 2,
    XS_WATCH = 4,
    XS_TRANSACTION_START = 6,
    XS_WRITE = 11,
    XS_RM = 13,
    XS_WATCH_EVENT = 15,
    XS_ERROR = 16,
};

/* @out becomes "" where there is no such key */
void store_read(const char *dir, const char *key, char *out, u32 size);

u32 store_number(const char *dir, const char *key);
void store_write(const char *dir, const char *key, const char *value);
void store_write_number(const char *dir, const char *key, u32 value);
void store_remove(const char *dir, const char *key);

/* all of these return whether xenstored has done it */
bool store_watch(const char *path);
bool store_transaction(void);

/*
 * Send @n bytes of a request, or all of the rest, from byte @from on, and wait
 * for nothing; returns how far that is.  Who has sent all of it may ask for the
 * reply, which is NULL for an error, or may not.
 */
u32 store_request(u32 type, const char *text, u32 from, u32 n);
const char *store_reply(void);

/* that came before a reply, of all watches */
extern u32 store_events;

/* whether lab/@name is "1" */
bool option(const char *name);

/* tell dom0 that we are at @point, and let it look if it wants to */
void point(const char *name);

/* --- pages and grants ----------------------------------------------------- */

/*
 * Never given back, so that firmware and OS have different ones.  Those of one
 * call follow each other.
 */
void *new_pages(u32 n);
void *new_page(void);

/* for rounds of the firmware alone: give back all but the first @used */
u32 pages_used(void);
void free_pages(u32 used);

extern u32 next_gref;
extern bool grants_no_ram;      /* frames that there are none of */

u32 grant(u16 domid, shared void *page);

/* take back all from @gref on; returns how many a backend still uses */
u32 revoke(u32 gref);

#endif

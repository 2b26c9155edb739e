/*
 * A battery for INT 13h: everything that a boot loader may ask a BIOS for about
 * hard disks, and whether exactly that was done.  In real mode, started by the
 * boot sector int13.S from a disk that tools/int13disk.c has made.
 *
 * The boot sector has a plan, a letter for each step:
 *
 *   b  the battery, on each hard disk in turn
 *   t  how long 4 MiB take, in reads of several sizes
 *   g  the gate "firmware": wait until COM1's scratch register is not 0
 *   a  announce an OS, as Linux does
 *   l  read, late: with a status at once, since nobody is there any more
 *   i  INT 19h: the BIOS boots again, and the plan goes on in another life
 *
 * Results go to the serial port.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "xen.h"
#include "int13.h"

#define CARRY 1
#define GUARD 0x5aa5c33cu

struct registers {
    u16 ax, bx, cx, dx, si, di, es, flags;
};

struct packet {
    u8 size, reserved;
    u16 count, offset, segment;
    u64 sector;
};

struct parameters {
    u16 size, flags;
    u32 cylinders, heads, sectors_per_track;
    u64 sectors;
    u16 bytes_per_sector;
    u8 more[48];
};

/* survives INT 19h, in memory that nobody uses */
#define MAGIC 0x39313331
#define life ((__seg_fs struct { u32 magic, step; } *)0)
#define LIFE 0x80000u

/*
 * Odd ones, some that cross a page, some a line of 64 KiB even with one sector;
 * below all of them is room for a guard.
 */
static const u32 buffers[BUFFERS] = {
    0x20000, 0x20001, 0x20010, 0x20200, 0x20ffe, 0x2fe01, 0x3ff00, 0x4fffe,
    0x60e03
};

static u8 drive;
static u32 disk, checks, failures;

/* --- memory beyond 64 KiB ------------------------------------------------- */

typedef __seg_fs u32 far_u32;

/* @address is at what is returned, for the next loads and stores */
static far_u32 *far(u32 address)
{
    __asm__ volatile("movw %w0, %%fs" : : "r"(address >> 4) : "memory");
    return (far_u32 *)(address & 15);
}

static void fill(u32 buffer, u32 sector, u32 n, u32 salt)
{
    far_u32 *p;
    u32 i;

    for (; n; n--, sector++, buffer += SECTOR) {
        p = far(buffer);
        for (i = 0; i < WORDS; i++) {
            p[i] = pattern(sector, i, salt);
        }
    }
}

static bool is_there(u32 buffer, u32 sector, u32 n, u32 salt)
{
    far_u32 *p;
    u32 i;

    for (; n; n--, sector++, buffer += SECTOR) {
        p = far(buffer);
        for (i = 0; i < WORDS; i++) {
            if (p[i] != pattern(sector, i, salt)) {
                return false;
            }
        }
    }
    return true;
}

static void guard(u32 buffer, u32 n)
{
    *far(buffer - 4) = GUARD;
    *far(buffer + n * SECTOR) = GUARD;
}

static bool guarded(u32 buffer, u32 n)
{
    return *far(buffer - 4) == GUARD && *far(buffer + n * SECTOR) == GUARD;
}

/* --- requests ------------------------------------------------------------- */

enum {
    RESET = 0x00, STATUS = 0x01, CHS_READ = 0x02, CHS_WRITE = 0x03,
    CHS_VERIFY = 0x04, GEOMETRY = 0x08, TYPE = 0x15,
    EDD_CHECK = 0x41, EDD_READ = 0x42, EDD_WRITE = 0x43, EDD_VERIFY = 0x44,
    EDD_SEEK = 0x47, EDD_PARAMETERS = 0x48,
};

enum {
    /* statuses of the BIOS, and what should be none */
    BAD_PARAMETER = 1, WRITE_PROTECTED = 3,
    SHORT = 0x1000, CLOBBERED, NO_STATUS,
};

/* returns the status, 0 without an error */
static u32 status(const struct registers *r)
{
    return !(r->flags & CARRY) ? 0 : r->ax >> 8 ? r->ax >> 8 : NO_STATUS;
}

/* a function that has no more than a drive */
static u32 simple(u8 function, struct registers *r)
{
    *r = (struct registers){ .ax = function << 8, .dx = drive };
    int13(r);
    return status(r);
}

static u32 edd(u8 function, u64 sector, u32 n, u32 buffer)
{
    struct packet packet = { 16, 0, n, buffer & 15, buffer >> 4, sector };
    struct registers r = {
        .ax = function << 8, .bx = 0x1234, .cx = 0x5678, .dx = drive,
        .si = (u32)&packet, .di = 0x4321, .es = 0x8765
    };
    u32 ret;

    int13(&r);
    ret = status(&r);
    if (r.bx != 0x1234 || r.cx != 0x5678 || r.dx != drive ||
        r.si != (u16)(u32)&packet || r.di != 0x4321 || r.es != 0x8765) {
        return CLOBBERED;
    }
    return ret ? ret : packet.count == n ? 0 : SHORT;
}

static u32 cylinders, heads, per_track;

static u32 chs_at(u8 function, u32 c, u32 h, u32 s, u32 n, u32 buffer)
{
    struct registers r = {
        .ax = function << 8 | n, .cx = (c & 255) << 8 | c >> 8 << 6 | s,
        .dx = h << 8 | drive, .bx = buffer & 15, .es = buffer >> 4
    };

    int13(&r);
    return status(&r) ? status(&r) : (r.ax & 255) == n ? 0 : SHORT;
}

static u32 chs(u8 function, u32 sector, u32 n, u32 buffer)
{
    return chs_at(function, sector / per_track / heads,
                  sector / per_track % heads, sector % per_track + 1, n,
                  buffer);
}

/* --- results -------------------------------------------------------------- */

static void check(bool ok, const char *what, u32 n, u32 at, u32 got)
{
    checks++;
    if (!ok && failures++ < 20) {
        say("drive %u FAILS: %s, %u sectors, at %u: %u", drive, what, n, at,
            got);
    }
}

/* --- the battery ---------------------------------------------------------- */

static u32 salt(bool written)
{
    return disk_salt(disk, written);
}

/* what the BIOS tells of the drive; returns its size */
static u32 describe(void)
{
    static struct parameters p;
    struct registers r;
    u32 ret;

    r = (struct registers){ .ax = EDD_CHECK << 8, .bx = 0x55aa, .dx = drive };
    int13(&r);
    check(!status(&r) && r.bx == 0xaa55 && r.cx & 1, "41: there is EDD", 0, 0,
          r.cx);
    memset(&p, 0xee, sizeof(p));
    p.size = 26;
    r = (struct registers){
        .ax = EDD_PARAMETERS << 8, .dx = drive, .si = (u32)&p
    };
    int13(&r);
    check(!status(&r), "48: parameters", 0, 0, status(&r));
    check(p.size == 26 && p.more[0] == 0xee, "48: no more than it may write",
          0, 0, p.size);
    check(p.bytes_per_sector == SECTOR, "48: bytes per sector", 0, 0,
          p.bytes_per_sector);
    ret = simple(GEOMETRY, &r);
    cylinders = (r.cx >> 8 | (r.cx & 0xc0) << 2) + 1;
    heads = (r.dx >> 8) + 1;
    per_track = r.cx & 63;
    check(!ret && cylinders * heads * per_track <= (u32)p.sectors,
          "08: geometry", cylinders, heads, per_track);
    check((r.dx & 255) == *far(0x475) % 256, "08: number of drives", 0, 0,
          r.dx & 255);
    check(!simple(TYPE, &r) && r.ax >> 8 == 3, "15: a hard disk", 0, 0,
          r.ax >> 8);
    check(((u32)r.cx << 16 | r.dx) <= (u32)p.sectors, "15: its size", 0, r.cx,
          r.dx);
    return p.sectors;
}

static void reads(void)
{
    u32 b, i, n, sector, buffer, ret;

    for (b = 0; b < BUFFERS; b++) {
        for (i = 0; i < SIZES; i++) {
            n = sizes[i];
            buffer = buffers[b];
            sector = READ_FROM + i * 131 + b;
            fill(buffer, 0, n, ~0u);
            guard(buffer, n);
            ret = edd(EDD_READ, sector, n, buffer);
            check(!ret, "42: status", n, buffer, ret);
            check(is_there(buffer, sector, n, salt(false)), "42: data", n,
                  buffer, sector);
            check(guarded(buffer, n), "42: guard", n, buffer, sector);
        }
    }
    /* a segment that ends within the buffer, which is no end for EDD */
    for (i = 0; i < 40; i++) {
        n = i * 5 % per_track + 1;
        sector = READ_FROM + i * 97;
        sector -= sector % per_track + n > per_track ? n : 0;
        buffer = buffers[i % BUFFERS];
        fill(buffer, 0, n, ~0u);
        guard(buffer, n);
        ret = chs(CHS_READ, sector, n, buffer);
        check(!ret, "02: status", n, buffer, ret);
        check(is_there(buffer, sector, n, salt(false)), "02: data", n, buffer,
              sector);
        check(guarded(buffer, n), "02: guard", n, buffer, sector);
    }
}

/* dom0 looks at the image afterwards */
static void writes(void)
{
    u32 area, n, sector, buffer, ret;

    for (area = 0; area < WRITES; area++) {
        n = written_size(area);
        buffer = buffers[area * 2 / SIZES];
        sector = WRITE_FROM + area * AREA;
        fill(buffer, sector, n, salt(true));
        guard(buffer, n);
        /* CHS for every fourth, as far as its tracks go */
        if (area % 4 == 3 && sector % per_track + n <= per_track) {
            ret = chs(CHS_WRITE, sector, n, buffer);
        } else {
            ret = edd(EDD_WRITE, sector, n, buffer);
        }
        check(!ret, "43: status", n, buffer, ret);
        check(is_there(buffer, sector, n, salt(true)) && guarded(buffer, n),
              "43: it has changed the buffer", n, buffer, sector);
        fill(buffer, 0, n, ~0u);
        ret = edd(EDD_READ, sector, n, buffer);
        check(!ret && is_there(buffer, sector, n, salt(true)),
              "43: data read back", n, buffer, ret);
    }
}

static void errors(u32 sectors, bool read_only)
{
    const u32 buffer = 0x20000;
    struct registers r;
    u32 ret;

    ret = edd(EDD_READ, sectors - 1, 1, buffer);
    check(!ret, "42: the last sector", 1, sectors - 1, ret);
    guard(buffer, 0);
    ret = edd(EDD_READ, sectors, 1, buffer);
    check(ret == BAD_PARAMETER && guarded(buffer, 0), "42: beyond the end", 1,
          sectors, ret);
    ret = edd(EDD_READ, 1ull << 40, 1, buffer);
    check(ret == BAD_PARAMETER, "42: far beyond the end", 1, sectors, ret);
    guard(buffer, 2);
    ret = edd(EDD_READ, sectors - 1, 2, buffer);
    check(ret && ret < SHORT && guarded(buffer, 2), "42: across the end", 2,
          sectors - 1, ret);
    ret = edd(EDD_WRITE, sectors, 1, buffer);
    check(read_only ? ret : ret == BAD_PARAMETER, "43: beyond the end", 1,
          sectors, ret);
    /* the last one, for diagnostics, is not among those that the BIOS tells */
    ret = chs_at(CHS_READ, cylinders + 1, 0, 1, 1, buffer);
    check(ret == BAD_PARAMETER, "02: beyond the last cylinder", 1, cylinders,
          ret);
    ret = chs_at(CHS_READ, 0, 0, 0, 1, buffer);
    check(ret == BAD_PARAMETER, "02: sector 0, which is none", 1, 0, ret);
    ret = chs_at(CHS_READ, 0, 0, 1, 0, buffer);
    check(ret == BAD_PARAMETER, "02: no sector at all", 0, 0, ret);
    ret = simple(0x77, &r);
    check(ret == BAD_PARAMETER, "77: no such function", 0, 0, ret);
    simple(STATUS, &r);
    check(r.ax >> 8 == BAD_PARAMETER, "01: the last status", 0, 0, r.ax >> 8);
    ret = simple(RESET, &r);
    check(!ret, "00: reset", 0, 0, ret);
    ret = edd(EDD_VERIFY, READ_FROM, 8, buffer);
    check(!ret, "44: verify", 8, READ_FROM, ret);
    ret = edd(EDD_SEEK, READ_FROM, 0, buffer);
    check(!ret, "47: seek", 0, READ_FROM, ret);
    /* after all of that it still works */
    ret = edd(EDD_READ, READ_FROM, 8, buffer);
    check(!ret && is_there(buffer, READ_FROM, 8, salt(false)),
          "42: after the errors", 8, READ_FROM, ret);
}

static void test_drive(void)
{
    const u32 buffer = 0x20000;
    u32 ret, sectors;
    bool read_only;

    checks = failures = 0;
    ret = edd(EDD_READ, READ_FROM, 1, buffer);
    disk = *far(buffer) - pattern(READ_FROM, 0, 0) - 1;
    if (ret || disk >= 64) {
        say("drive %u is no disk of ours, status %u", drive, ret);
        return;
    }
    sectors = describe();
    reads();
    fill(buffer, 0, 1, ~0u);
    /* a sector that no area has, so that it does not matter who gets it */
    read_only = edd(EDD_WRITE, WRITE_FROM - 2, 1, buffer) == WRITE_PROTECTED;
    if (!read_only) {
        writes();
    }
    errors(sectors, read_only);
    say("drive %u is disk %u, %u sectors, read-only %u: %u checks, %u failed",
        drive, disk, sectors, read_only, checks, failures);
}

static void test_all(u8 boot_drive)
{
    u32 drives = *far(0x475) % 256;

    say("%u hard disks", drives);
    for (drive = 0x80; drive < 0x80 + drives; drive++) {
        test_drive();
    }
    drive = boot_drive;
}

/* --- speed ---------------------------------------------------------------- */

static void measure(u32 n)
{
    const u32 buffer = 0x20000, reads = 48;
    u32 i, bad = 0;
    u64 start = tsc();

    for (i = 0; i < reads; i++) {
        bad += !!edd(EDD_READ, READ_FROM + i * n, n, buffer);
    }
    start = tsc() - start;
    say("%u reads of %u sectors: %u million cycles, %u failed",
        reads, n, (u32)(start >> 20), bad);
}

/* --- late ----------------------------------------------------------------- */

static void announce(void)
{
    outw(0x12, 3);
    outl(0x10, 1);
    outw(0x10, 7);
}

static void read_late(void)
{
    u64 start = tsc();
    u32 ret = edd(EDD_READ, READ_FROM, 8, 0x20000);

    start = tsc() - start;
    say("late: status %u after %u million cycles", ret, (u32)(start >> 20));
}

/* --- the plan ------------------------------------------------------------- */

static void gate(const char *name)
{
    say("at %s", name);
    while (!scratch()) {
        __asm__ volatile("hlt");    /* until the timer's next tick */
    }
    set_scratch(0);
}

static void do_step(char step)
{
    static const u8 measured[] = { 1, 8, 64, 127 };
    u32 i;

    switch (step) {
    case 'b':
        test_all(drive);
        break;
    case 't':
        for (i = 0; i < sizeof(measured); i++) {
            measure(measured[i]);
        }
        break;
    case 'g':
        gate("firmware");
        break;
    case 'a':
        announce();
        gate("announced");
        break;
    case 'l':
        read_late();
        break;
    case 'i':
        say("INT 19h");
        int19();
        break;
    default:
        say("no such step");
    }
}

void battery(u32 boot_drive)
{
    u32 step = 0;

    who = "INT13";
    drive = boot_drive;
    far(LIFE);
    if (life->magic == MAGIC) {
        step = life->step;
    }
    say("begins on drive %u at step %u", drive, step);
    while (step < PLAN_SIZE && plan[step]) {
        step++;
        far(LIFE);
        life->magic = MAGIC;
        life->step = step;
        do_step(plan[step - 1]);
    }
    say("done");
}

/*
 * What code of 32 and of 16 bits needs: memory, text, and who to tell it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "xen.h"

/* --- memory and text ------------------------------------------------------ */

void *memset(void *dest, int c, size_t n)
{
    u8 *p = dest;

    while (n--) {
        *p++ = c;
    }
    return dest;
}

void *memcpy(void *dest, const void *src, size_t n)
{
    u8 *p = dest;
    const u8 *q = src;

    while (n--) {
        *p++ = *q++;
    }
    return dest;
}

u32 length(const char *s)
{
    u32 n = 0;

    while (s[n]) {
        n++;
    }
    return n;
}

bool starts_with(const void *text, const char *with)
{
    const char *s = text;

    while (*with && *s == *with) {
        s++;
        with++;
    }
    return !*with;
}

bool listed(const char *list, const char *word)
{
    while (*list) {
        if (starts_with(list, word) &&
            (list[length(word)] == ' ' || !list[length(word)])) {
            return true;
        }
        while (*list && *list++ != ' ') {
            continue;
        }
    }
    return false;
}

u32 number(const char *s)
{
    u32 v = 0;

    while (*s >= '0' && *s <= '9') {
        v = v * 10 + *s++ - '0';
    }
    return v;
}

static void vformat(char *out, size_t size, const char *fmt, va_list ap)
{
    char *end = out + size - 1, digits[12], *p;
    const char *s;
    u32 v;

    for (; *fmt && out < end; fmt++) {
        if (*fmt != '%') {
            *out++ = *fmt;
            continue;
        }
        if (*++fmt == 's') {
            s = va_arg(ap, const char *);
        } else {
            v = va_arg(ap, u32);
            p = digits + sizeof(digits) - 1;
            *p = 0;
            do {
                *--p = '0' + v % 10;
            } while (v /= 10);
            s = p;
        }
        while (*s && out < end) {
            *out++ = *s++;
        }
    }
    *out = 0;
}

void format(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vformat(out, size, fmt, ap);
    va_end(ap);
}

/* --- the serial port ------------------------------------------------------ */

const char *who = "PVFW";

void say(const char *fmt, ...)
{
    char text[256], line[272], *p;
    va_list ap;

    va_start(ap, fmt);
    vformat(text, sizeof(text), fmt, ap);
    va_end(ap);
    format(line, sizeof(line), "%s: %s\r\n", who, text);
    for (p = line; *p; p++) {
        while (!(inb(0x3fd) & 0x20)) {
            continue;
        }
        outb(0x3f8, *p);
    }
}

u8 scratch(void)
{
    return inb(0x3ff);
}

void set_scratch(u8 value)
{
    outb(0x3ff, value);
}

/*
 * What the battery for INT 13h (int13.c) and dom0, which makes its disks and
 * looks at what became of them (tools/int13disk.c), have to agree on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INT13_H
#define INT13_H

#include <stdint.h>
#include "int13-plan.h"

/* of int13.S; code and stack are in segment 0, so that pointers are offsets */
struct registers;
void int13(struct registers *r);
void int19(void);
extern const char plan[PLAN_SIZE];

#define SECTOR 512u
#define WORDS (SECTOR / 4)

/* sectors that are there to be read; 4 MiB and what the benchmark reads more */
#define READ_FROM 2048u
#define READ_SECTORS 8320u

/* places for writes follow: AREA sectors each, the first ones are written */
#define WRITE_FROM 12288u
#define AREA 129u
#define BUFFERS 9u
#define DISK_SECTORS 32768u

/* up to the most that one request of INT 13h may have */
static const uint8_t sizes[] = {
    1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 88, 89, 96, 127
};
#define SIZES (sizeof(sizes) / sizeof(*sizes))
#define WRITES (BUFFERS * SIZES / 2)

/* every second one is written from each buffer, which takes long enough */
static inline uint32_t written_size(uint32_t area)
{
    return sizes[area * 2 % SIZES + 1];
}

/* what is there before and after, of the disk with this number */
static inline uint32_t disk_salt(uint32_t disk, int written)
{
    return disk + 1 + (written ? 0x100 : 0);
}

static inline uint32_t pattern(uint32_t sector, uint32_t word, uint32_t salt)
{
    return sector * 0x9e3779b1u + word * 0x85ebca6bu + salt;
}

#endif

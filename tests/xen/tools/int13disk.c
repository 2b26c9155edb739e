/*
 * int13disk make IMAGE DISK PLAN: the image of disk number DISK for the battery
 * for INT 13h, which begins with a copy of int13.img, gets its data and PLAN.
 * int13disk check IMAGE DISK: what became of it, "disk N: so many sectors
 * written rightly, wrongly, and not at all; and beside them that are not as
 * they were".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../firmware/int13.h"

static uint32_t disk;

static void sector_of(uint32_t *data, uint32_t sector, bool written)
{
    uint32_t i;

    for (i = 0; i < WORDS; i++) {
        data[i] = pattern(sector, i, disk_salt(disk, written));
    }
}

static bool make(FILE *image, const char *plan)
{
    uint32_t data[WORDS], i;
    char text[PLAN_SIZE] = "";

    strncpy(text, plan, sizeof(text) - 1);
    if (fseek(image, PLAN_OFFSET, SEEK_SET) ||
        !fwrite(text, sizeof(text), 1, image) ||
        fseek(image, READ_FROM * SECTOR, SEEK_SET)) {
        return false;
    }
    for (i = 0; i < READ_SECTORS; i++) {
        sector_of(data, READ_FROM + i, false);
        if (!fwrite(data, SECTOR, 1, image)) {
            return false;
        }
    }
    return !fflush(image) && !ftruncate(fileno(image), DISK_SECTORS * SECTOR);
}

static bool check(FILE *image)
{
    static const uint32_t zeros[WORDS];
    uint32_t data[WORDS], wanted[WORDS], i, in_area, sector;
    uint32_t right = 0, wrong = 0, none = 0, beside = 0;

    for (sector = READ_FROM; sector < DISK_SECTORS; sector++) {
        if (fseek(image, sector * SECTOR, SEEK_SET) ||
            !fread(data, SECTOR, 1, image)) {
            return false;
        }
        i = sector < WRITE_FROM ? WRITES : (sector - WRITE_FROM) / AREA;
        in_area = (sector - WRITE_FROM) % AREA;
        if (i < WRITES && in_area < written_size(i)) {
            sector_of(wanted, sector, true);
            if (!memcmp(data, wanted, SECTOR)) {
                right++;
            } else if (!memcmp(data, zeros, SECTOR)) {
                none++;
            } else {
                wrong++;
            }
            continue;
        }
        memset(wanted, 0, sizeof(wanted));
        if (sector < READ_FROM + READ_SECTORS) {
            sector_of(wanted, sector, false);
        }
        /* the test for a read-only disk has written to this one, or not */
        beside += sector != WRITE_FROM - 2 && memcmp(data, wanted, SECTOR);
    }
    printf("disk %u: %u sectors written rightly, %u wrongly, %u not at all; "
           "%u beside them\n", disk, right, wrong, none, beside);
    return true;
}

int main(int argc, char **argv)
{
    FILE *image = argc > 3 ? fopen(argv[2], "r+") : NULL;

    disk = image ? atoi(argv[3]) : 0;
    if (!image ||
        !(argc == 5 && !strcmp(argv[1], "make") ? make(image, argv[4])
          : argc == 4 && !strcmp(argv[1], "check") && check(image))) {
        perror("int13disk");
        return 1;
    }
    return 0;
}

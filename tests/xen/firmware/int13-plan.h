/*
 * In the boot sector: what the battery for INT 13h does, a letter each, see
 * int13.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef INT13_PLAN_H
#define INT13_PLAN_H

#define PLAN_OFFSET 0x1a0
#define PLAN_SIZE 16

#endif

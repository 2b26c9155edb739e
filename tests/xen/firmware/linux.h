/*
 * Linux for a boot sector, from where QEMU has it at hand (fw_cfg).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LINUX_H
#define LINUX_H

#include "xen.h"

/* stop where the one that QEMU has for the BIOS would need memory of ours */
void check_linux(void);

/* as its boot protocol has it; boot.S starts it in real mode */
void load_linux(const char *command_line);

#endif

/*
 * Linux for a boot sector, from where QEMU has it at hand (fw_cfg).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "linux.h"

/* where its parts go; the initrd beyond where the kernel unpacks itself */
#define SETUP ((u8 *)LINUX)
#define COMMAND_LINE (SETUP + LINUX_HEAP_END)
#define KERNEL ((u8 *)0x0100000)
#define INITRD ((u8 *)0x8000000)

/*
 * We would not run on, and nobody would notice Linux in pages that backends
 * still have of us.
 */
static void check_end(const char *what, u32 end, const u8 *limit)
{
    if (end > (u32)limit) {
        say("%s would need memory up to %u KiB, from %u KiB on it is taken",
            what, end >> 10, (u32)limit >> 10);
        for (;;) {
            __asm__ volatile("cli; hlt");
        }
    }
}

/*
 * Linux unpacks itself to its pref_address, and needs init_size from there on:
 * more than its image at 1 MiB.  The header of iPXE is older than these.
 */
static void check_kernel(const u8 *setup)
{
    if (*(const u16 *)(setup + 0x206) >= 0x20a) {
        check_end("Linux", *(const u32 *)(setup + 0x258) +
                  *(const u32 *)(setup + 0x260), INITRD);
    }
}

void check_linux(void)
{
    u8 setup[1024];

    outw(0x510, 0);
    if (inb(0x511) == 'Q') {            /* there is fw_cfg */
        fw_cfg_read(0x18, setup, sizeof(setup));
        check_kernel(setup);
    }
}

void load_linux(const char *command_line)
{
    struct {
        u8 type, flags;
        u16 setup_size;
        u32 code32, initrd, initrd_size, bootsect_kludge;
        u16 heap_end, extended;
        u32 command_line;
    } *header = (void *)(SETUP + 0x210);
    u16 kernel, initrd;
    u32 size = fw_cfg_find("opt/labfw/kernel", &kernel), setup;

    if (!size) {
        say("there is no kernel");
        return;
    }
    fw_cfg_read(kernel, SETUP, 1024);
    setup = (SETUP[0x1f1] + 1) * 512;
    check_kernel(SETUP);
    fw_cfg_read(0, SETUP + 1024, setup - 1024);
    fw_cfg_read(0, KERNEL, size - setup);
    header->type = 0xff;
    header->flags |= 0x80;              /* there is a heap */
    header->heap_end = LINUX_HEAP_END - 0x200;
    header->initrd = (u32)INITRD;
    header->initrd_size = fw_cfg_find("opt/labfw/initrd", &initrd);
    check_end("The initrd", header->initrd + header->initrd_size, BLOB);
    fw_cfg_read(initrd, INITRD, header->initrd_size);
    header->command_line = (u32)COMMAND_LINE;
    memcpy(COMMAND_LINE, command_line, length(command_line) + 1);
}

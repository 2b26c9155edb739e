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

/* @n bytes of item @select, or the next ones of the same item if that is 0 */
static void fw_cfg_read(u16 select, void *to, u32 n)
{
    shared struct {
        u32 control, length, address[2];
    } dma = {
        __builtin_bswap32(select ? select << 16 | 10 : 2),
        __builtin_bswap32(n), { 0, __builtin_bswap32((u32)to) }
    };

    mb();
    outl(0x514, 0);
    outl(0x518, __builtin_bswap32((u32)&dma));
    while (dma.control) {
        continue;
    }
    mb();
}

/* the size of the file, which is selected by *@select, or 0 */
static u32 fw_cfg_find(const char *name, u16 *select)
{
    struct {
        u32 size;
        u16 select, reserved;
        char name[56];
    } file;
    u32 files;

    fw_cfg_read(0x19, &files, sizeof(files));
    for (files = __builtin_bswap32(files); files; files--) {
        fw_cfg_read(0, &file, sizeof(file));
        if (starts_with(file.name, name)) {
            *select = __builtin_bswap16(file.select);
            return __builtin_bswap32(file.size);
        }
    }
    say("no file %s", name);
    return 0;
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
        return;
    }
    fw_cfg_read(kernel, SETUP, 1024);
    setup = (SETUP[0x1f1] + 1) * 512;
    fw_cfg_read(0, SETUP + 1024, setup - 1024);
    fw_cfg_read(0, KERNEL, size - setup);
    header->type = 0xff;
    header->flags |= 0x80;              /* there is a heap */
    header->heap_end = LINUX_HEAP_END - 0x200;
    header->initrd = (u32)INITRD;
    header->initrd_size = fw_cfg_find("opt/labfw/initrd", &initrd);
    fw_cfg_read(initrd, INITRD, header->initrd_size);
    header->command_line = (u32)COMMAND_LINE;
    memcpy(COMMAND_LINE, command_line, length(command_line) + 1);
}

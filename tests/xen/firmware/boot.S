/*
 * First sector of a SAN's disk: load the option ROM that follows it and call
 * it as a BIOS would.  If that has put Linux into memory, start it.  PXE loads
 * both at once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .section .note.GNU-stack, "", @progbits
        .text
        .code16
        .globl _start
_start:
        ljmp    $0, $entry
entry:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
        cmpl    $0x4e455850, %es:(%bx)  /* "PXEN" */
        je      call
        movw    $packet, %si
        movb    $0x42, %ah              /* from the drive that %dl still says */
        int     $0x13
        jc      halt
call:
        lcall   $(ROM >> 4), $3
        movw    $(LINUX >> 4), %ax
        movw    %ax, %ds
        cmpl    $0x53726448, 0x202      /* "HdrS" */
        jne     halt
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        cli
        movw    %ax, %ss
        movw    $LINUX_HEAP_END, %sp
        ljmp    $((LINUX >> 4) + 0x20), $0
halt:
        hlt
        jmp     halt
packet:
        .byte   16, 0
        .word   ROM_SECTORS, 0, ROM >> 4
        .quad   ROM_AT
        .org    510
        .word   0xaa55

/*
 * First sector of a disk that tests INT 13h: load the program that follows and
 * run it, in real mode, with all of its data in the first 64 KiB.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "int13-plan.h"
        .section .note.GNU-stack, "", @progbits
        .text
        .code16
        .globl _start, int13, int19, plan
_start:
        ljmp    $0, $entry
entry:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        sti
        cld
        movzbl  %dl, %ebx
        movw    $packet, %si
        movb    $0x42, %ah
        int     $0x13
        jc      halt
        movl    $__bss_start, %edi
        movl    $_end, %ecx
        subw    %di, %cx
        xorw    %ax, %ax
        rep stosb
        pushl   %ebx
        calll   battery
halt:
        hlt
        jmp     halt
packet:
        .byte   16, 0
        .word   INT13_SECTORS - 1, 0, 0x7e00 >> 4
        .quad   1
        .org    PLAN_OFFSET
plan:
        .space  PLAN_SIZE
        .org    510
        .word   0xaa55

/* void int13(struct registers *r): with these, and what came of them */
int13:
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        pushw   %es
        movl    22(%esp), %ebp
        pushw   %bp
        movw    12(%bp), %es
        movw    (%bp), %ax
        movw    2(%bp), %bx
        movw    4(%bp), %cx
        movw    6(%bp), %dx
        movw    8(%bp), %si
        movw    10(%bp), %di
        int     $0x13
        popw    %bp
        movw    %ax, (%bp)
        pushfw
        popw    %ax
        movw    %ax, 14(%bp)
        movw    %es, 12(%bp)
        movw    %bx, 2(%bp)
        movw    %cx, 4(%bp)
        movw    %dx, 6(%bp)
        movw    %si, 8(%bp)
        movw    %di, 10(%bp)
        popw    %es
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        cld
        retl

int19:
        int     $0x19
        jmp     halt

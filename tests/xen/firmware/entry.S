/*
 * First byte of the 32-bit part: clear .bss, then labfw().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .section .note.GNU-stack, "", @progbits
        .section .text.entry, "ax"
        .code32
        movl    $__load_end, %edi
        movl    $hypercall_page, %ecx
        subl    %edi, %ecx
        xorl    %eax, %eax
        rep stosb
        jmp     labfw

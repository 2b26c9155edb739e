/*
 * Option ROM glue: SeaBIOS far-calls us in real mode during POST.  Copy the
 * 32-bit part to BLOB, run it in flat protected mode, return to the BIOS with
 * its state as it was.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .section .note.GNU-stack, "", @progbits
        .text
        .code16
        .globl _start
_start:
        .byte   0x55, 0xaa, ROM_SECTORS
        jmp     entry
        .org    0x18
        .word   0, 0                    /* no PCIR, no PnP header */
entry:
        pushfl
        pushal
        pushw   %ds
        pushw   %es
        cli
        xorl    %eax, %eax
        movw    %cs, %ax
        shll    $4, %eax
        movl    %eax, %ebp              /* linear base of this ROM */
        /* GDT and the values to restore live on the BIOS's stack: the ROM may be read-only */
        xorl    %ebx, %ebx
        movw    %ss, %bx
        shll    $4, %ebx                /* linear base of the stack segment */
        movzwl  %sp, %esp
        pushl   $0x00009200             /* 0x20: 16-bit data, base 0 */
        pushl   $0x0000ffff
        movl    %ebp, %ecx              /* 0x18: 16-bit code, base = this ROM */
        shrl    $16, %ecx
        orl     $0x00009a00, %ecx
        pushl   %ecx
        movl    %ebp, %ecx
        shll    $16, %ecx
        orl     $0xffff, %ecx
        pushl   %ecx
        pushl   $0x00cf9200             /* 0x10: flat data */
        pushl   $0x0000ffff
        pushl   $0x00cf9a00             /* 0x08: flat code */
        pushl   $0x0000ffff
        pushl   $0
        pushl   $0
        movl    %esp, %eax
        addl    %ebx, %eax
        pushl   %eax                    /* GDTR: base */
        pushw   $0x27                   /* GDTR: limit */
        movw    %sp, %si
        lgdtl   %ss:(%si)
        movw    %ss, %di                /* kept in edi across protected mode */
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        leal    pm32(%ebp), %eax
        pushl   $0x08
        pushl   %eax
        lretl
        .code32
pm32:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %esp, %edx              /* 16-bit stack pointer to come back to */
        movl    $STACK_TOP, %esp
        pushl   %edx
        pushl   %edi
        pushl   %ebp
        leal    blob(%ebp), %esi
        movl    $BLOB, %edi
        movl    $(blob_end - blob), %ecx
        cld
        rep movsb
        movl    $BLOB, %eax
        call    *%eax
        popl    %ebp
        popl    %edi
        popl    %edx
        movl    $0x20, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %edx, %esp
        movl    %eax, %ss
        ljmp    $0x18, $pm16
        .code16
pm16:
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        /* far-return to real mode in this segment: ebp >> 4 */
        shrl    $4, %ebp
        movw    %di, %ss
        pushw   %bp
        pushw   $rm
        lretw
rm:
        addw    $(6 + 40), %sp          /* GDTR and GDT */
        popw    %es
        popw    %ds
        popal
        popfl
        xorw    %ax, %ax
        lretw
        .balign 16
blob:
        .incbin "blob.bin"
blob_end:

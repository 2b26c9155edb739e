/*
 * labfw as an EFI application, which OVMF boots like a loader: put the 32-bit part at BLOB and
 * run it.  It never calls ExitBootServices, so OVMF keeps its connections.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .section .note.GNU-stack, "", @progbits
        .data
        .globl efi_start
efi_start:                              /* %rdx: the system table */
        subq    $40, %rsp
        movq    96(%rdx), %rax          /* boot services */
        movl    $2, %ecx                /* AllocateAddress */
        movl    $2, %edx                /* EfiLoaderData */
        movl    $((STACK_TOP - BLOB) / 4096), %r8d
        leaq    address(%rip), %r9
        call    *40(%rax)               /* AllocatePages */
        testq   %rax, %rax
        jnz     fail
        cli
        cld
        leaq    blob(%rip), %rsi
        movl    $BLOB, %edi
        movl    $(blob_end - blob), %ecx
        rep movsb
        leaq    gdt(%rip), %rax
        movq    %rax, gdtr + 2(%rip)
        lgdt    gdtr(%rip)
        leaq    pm32(%rip), %rax
        pushq   $0x08
        pushq   %rax
        lretq
fail:
        addq    $40, %rsp
        ret
        .code32
pm32:                                   /* OVMF's pages are mapped one to one */
        movl    %cr0, %eax
        andl    $0x7fffffff, %eax
        movl    %eax, %cr0
        movl    $0xc0000080, %ecx       /* EFER: leave long mode */
        rdmsr
        andb    $0xfe, %ah
        wrmsr
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $STACK_TOP, %esp
        movl    $BLOB, %eax
        call    *%eax
halt:
        hlt
        jmp     halt
        .balign 8
address:
        .quad   BLOB
gdt:
        .quad   0
        .quad   0x00cf9a000000ffff      /* flat code */
        .quad   0x00cf92000000ffff      /* flat data */
gdtr:
        .word   0x17
        .quad   0
blob:
        .incbin "blob.bin"
blob_end:

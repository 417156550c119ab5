# A guest in one sector, for tests: it boots in a fraction of a second and writes all the while what says of itself
# where and when it was written.
#
# Each turn counts n up and writes two sectors to the first disk, and then the same two to the second if there is one:
# the newest n to LBA 1, and n to one of 4,096 places from LBA 2048 on, 4 KiB apart. After a restart it does the turn in
# LBA 1 of the first disk again, which may not have come to its end, and goes on. A sector holds 128 words
# (little-endian): "RPG1", n, its LBA, its disk, and n again up to the end.
#
# Build: as --32 -o boot.o boot.S; ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o boot.bin boot.o

.set magic, 0x31475052
.set sector, 0x8000
# What tests read from the guest's memory:
.set packet, 0x7e00       # of int 13h: its LBA is at 0x7e08
.set n, 0x7e10
.set disk, 0x7e14
.set worst, 0x7e18        # the longest write so far, in units of 65,536 ticks of the time stamp counter
.set began, 0x7e20        # the counter, when the last write began
.set ended, 0x7e28        # and when it ended

.code16
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    cld
    movw $packet, %di
    movw $0x80, %cx
    rep stosw
    movw $0x10, packet
    movw $1, packet + 2
    movw $sector, packet + 4
    movw $hello, %si
1:  lodsb
    testb %al, %al
    jz 2f
    call print
    jmp 1b
2:  movb $0x80, disk
    movl $1, packet + 8
    movb $0x42, %ah
    call access
    jc stuck
    cmpl $magic, sector
    jne turn
    movl sector + 4, %eax
    decl %eax
    movl %eax, n
turn:
    incl n
    movb $0x80, disk
    call both
    jc stuck
    movb $0x81, disk
    call both
    movb pause, %cl
3:  testb %cl, %cl
    jz turn
    movl 0x46c, %ebx
4:  hlt
    cmpl 0x46c, %ebx
    je 4b
    decb %cl
    jmp 3b

# A disk that can't be written: says so, once, and does nothing more.
stuck:
    movb $'!', %al
    call print
5:  hlt
    jmp 5b

# Writes the two sectors of this turn; carry when the disk refused.
both:
    movl $1, %eax
    call write
    jc 6f
    movl n, %eax
    movl $0x9e3779b1, %edx
    mull %edx
    shrl $20, %eax
    shll $3, %eax
    addl $2048, %eax
    call write
6:  ret

# Writes the sector of LBA eax.
write:
    movl %eax, packet + 8
    movl n, %eax
    movw $sector, %di
    movw $128, %cx
    rep stosl
    movl $magic, sector
    movl packet + 8, %eax
    movl %eax, sector + 8
    movl disk, %eax
    movl %eax, sector + 12
    rdtsc
    movl %eax, began
    movl %edx, began + 4
    movb $0x43, %ah
    call access
    pushf
    rdtsc
    movl %eax, ended
    movl %edx, ended + 4
    subl began, %eax
    sbbl began + 4, %edx
    shrdl $16, %edx, %eax
    cmpl worst, %eax
    jbe 7f
    movl %eax, worst
7:  popf
    ret

# Reads (ah 42h) or writes (ah 43h) one sector of the packet's LBA.
access:
    movb $0, %al
    movw $packet, %si
    movb disk, %dl
    int $0x13
    ret

# To the first serial port.
print:
    pushw %ax
    movw $0x3fd, %dx
8:  inb %dx, %al
    testb $0x20, %al
    jz 8b
    popw %ax
    movw $0x3f8, %dx
    outb %al, %dx
    ret

hello: .asciz "refpoint test guest\r\n"

# Timer ticks (55 ms) between turns; a test may write another number here, 0 for none.
.org 508
pause: .byte 1, 0
.word 0xaa55

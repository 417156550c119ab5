# The guest of live-qemu.sh: one sector that counts up on its disk, about five times a second, and tells each number on
# the first serial port. When it boots it goes on from the number that its disk holds.
#
# The script has these bytes in base64, so that nobody needs an assembler:
#   as --32 -o tiny-guest.o tiny-guest.S
#   ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o tiny-guest.bin tiny-guest.o
#   base64 tiny-guest.bin
.code16
.globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    cld
    movb $0x42, %ah            # read sector 1
    call disk
    movw $from, %si
    call line
next:
    incw 0x8000                # count up
    movb $0x43, %ah            # write sector 1
    call disk
    movw $to, %si
    call line
    movw $4, %cx               # wait four ticks of the timer, 0.22 s
1:  movw 0x46c, %bx
2:  hlt
    cmpw 0x46c, %bx
    je 2b
    loop 1b
    jmp next
disk:                          # one sector, number 1, at 0x8000
    movw $packet, %si
    xorb %al, %al
    movb $0x80, %dl
    int $0x13
    ret
line:                          # text, number, end of line
    call text
    movw 0x8000, %ax
    movw $end, %di
    movw $10, %bx
3:  xorw %dx, %dx
    divw %bx
    addb $'0', %dl
    decw %di
    movb %dl, (%di)
    testw %ax, %ax
    jnz 3b
    movw %di, %si
text:
    lodsb
    testb %al, %al
    jz 6f
    movw $0x3f8, %dx           # the first serial port
    outb %al, %dx
    jmp text
6:  ret
packet: .byte 16, 0, 1, 0
    .word 0x8000, 0
    .long 1, 0
from: .asciz "booted, found "
to: .asciz "count "
    .ascii "00000"
end: .asciz "\n"
.org 510
.word 0xaa55

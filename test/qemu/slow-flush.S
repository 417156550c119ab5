# A storage whose flush takes 300 ms: fdatasync, put before the C library's in a program (LD_PRELOAD).
#
# Build: as -o slow-flush.o slow-flush.S; ld -shared -o slow-flush.so slow-flush.o

.set nanosleep, 35
.set system_fdatasync, 75

.text
.globl fdatasync
.type fdatasync, @function
fdatasync:
    pushq %rdi
    movl $nanosleep, %eax
    leaq delay(%rip), %rdi
    xorl %esi, %esi
    syscall
    popq %rdi
    movl $system_fdatasync, %eax
    syscall
    testq %rax, %rax
    jns 1f
    movl $-1, %eax
1:  ret

.section .rodata
delay: .quad 0, 300000000

.section .note.GNU-stack, "", @progbits

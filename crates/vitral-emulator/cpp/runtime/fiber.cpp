#include "fiber.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace emu {
// Only what a called function must preserve is kept: the compiler has saved the rest around the call.
#if defined(__x86_64__)
asm(R"(
    .text
    .globl emu_switch_context
    .hidden emu_switch_context
    .type emu_switch_context, @function
emu_switch_context:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size emu_switch_context, . - emu_switch_context
)");

void *new_context(char *top, void (*start)()) {
    void **stack = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--stack = nullptr; // the return address of `start`, which keeps its frame aligned
    *--stack = reinterpret_cast<void *>(start);
    for (int i = 0; i < 6; i++) *--stack = nullptr;
    return stack;
}
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl emu_switch_context
    .hidden emu_switch_context
    .type emu_switch_context, %function
emu_switch_context:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emu_switch_context, . - emu_switch_context
)");

void *new_context(char *top, void (*start)()) {
    char *stack = reinterpret_cast<char *>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15)) - 160;
    memset(stack, 0, 160);
    *reinterpret_cast<void **>(stack + 88) = reinterpret_cast<void *>(start); // x30, the address to return to
    return stack;
}
#else
#error "the emulator knows x86-64 and aarch64"
#endif

static const uint64_t canary = 0x05ca1ab1e0ddba11ull;

Stacks::Stacks() {
    void *mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "emulator: no memory for %zu bytes of stacks\n", size_t(bytes));
        abort();
    }
    memory = static_cast<char *>(mapped);
    reset();
}

Stacks::~Stacks() { munmap(memory, bytes); }

void Stacks::reset() {
    free_count = count;
    for (int i = 0; i < count; i++) free[i] = count - 1 - i;
}

int Stacks::take() {
    int stack = free[--free_count];
    memcpy(memory + margin + stride * stack, &canary, sizeof canary);
    return stack;
}

void Stacks::give_back(int stack) { free[free_count++] = stack; }

char *Stacks::top(int stack) const { return memory + margin + stride * stack + size; }

bool Stacks::overflowed(int stack) const { return memcmp(memory + margin + stride * stack, &canary, sizeof canary) != 0; }
} // namespace emu

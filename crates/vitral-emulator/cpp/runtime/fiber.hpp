// A context of execution with a stack of its own: what a CUDA thread is here.
#pragma once
#include <cstddef>

namespace emu {
// Keeps the running context in `*from` and goes on with `to`.
extern "C" void emu_switch_context(void **from, void *to);

// A context that starts with `start` on the stack that ends below `top`. `start` must not return.
void *new_context(char *top, void (*start)());

// Stacks for the threads of one block, as many as are asked for.
class Stacks {
public:
    static constexpr size_t size = 64 << 10;

    Stacks();
    ~Stacks();
    Stacks(const Stacks &) = delete;
    Stacks &operator=(const Stacks &) = delete;

    int take();
    void give_back(int stack);
    char *top(int stack) const;
    // Whether a thread has written below its stack.
    bool overflowed(int stack) const;
    bool contains(const void *address) const { return size_t((const char *)address - memory) < bytes; }
    // Takes back every stack, after a block that ended early.
    void reset();

private:
    // Not a power of two: tops of stacks 64 KiB apart would all compete for the same lines of the cache.
    static constexpr size_t stride = size + 17 * 64;
    static constexpr int count = 1024;
    // Below the lowest stack, so that its overflow is found when the thread returns, as that of the others.
    static constexpr size_t margin = 1 << 20;
    static constexpr size_t bytes = margin + stride * count;

    char *memory;
    int free[count];
    int free_count = 0;
};
} // namespace emu

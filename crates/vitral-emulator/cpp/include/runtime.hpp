// What a compiled kernel calls in the runtime. Everything that a kernel file sees by its CUDA name is in the other headers.
#pragma once
#include "words.hpp"

// Where a call stands in the kernel file, for messages.
#define EMU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
// A function of the emulator that reads its own state inside a kernel: not the kernel's memory, so not checked.
#define EMU_UNCHECKED __attribute__((no_sanitize("thread")))

namespace emu {
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

// What the running CUDA thread knows of itself.
struct Position {
    uint3 thread, block, block_size, grid_size;
};
// Initial-exec, because every `threadIdx` reads it.
extern __thread Position position __attribute__((tls_model("initial-exec")));

// Shared memory. `key` is an address that belongs to one declaration in one function.
void *shared_memory(const void *key, const char *name, size_t bytes, size_t alignment);
void *dynamic_shared_memory(size_t alignment);

void barrier(const char *file, int line);
// A barrier that combines a truth value of every thread.
enum class Combine { Count, All, Any };
int barrier_combining(Combine kind, bool value, const char *file, int line);
void fence();

enum class Shuffle { Xor, Down, Up, Index };
void sync_warp(u32 mask, const char *file, int line);
u64 shuffle(Shuffle kind, u32 mask, u64 value, int argument, int width, const char *file, int line);
u32 ballot(u32 mask, bool value, const char *file, int line);
enum class Reduce { Add, Min, Max };
u32 reduce(Reduce kind, bool is_signed, u32 mask, u32 value, const char *file, int line);
u32 active_mask();

// An atomic operation: its place is checked, then the value read, then exchanged until nobody else has changed it. In the
// runtime, because compilers report atomic instructions to their sanitizer's library whatever an attribute says.
u32 atomic_begin(const u32 *address, const char *file, int line);
u64 atomic_begin(const u64 *address, const char *file, int line);
bool atomic_exchange(u32 *address, u32 *expected, u32 desired);
bool atomic_exchange(u64 *address, u64 *expected, u64 desired);

void copy_async(uintptr_t to, const void *from, int bytes, bool filled, const char *file, int line);
void copy_commit();
void copy_wait(int left, const char *file, int line);
void load_matrix(u32 *words, int count, bool transposed, uintptr_t row, const char *file, int line);
enum class Product { Bf16, F16, Tf32 };
void multiply(Product kind, float *c, const u32 *a, u32 b0, u32 b1, const char *file, int line);
} // namespace emu

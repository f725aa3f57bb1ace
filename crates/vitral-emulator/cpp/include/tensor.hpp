// What stands in place of a kernel's inline PTX: asynchronous copies, matrix loads and tensor-core products.
// README.md lists the names with the instructions that they stand for.
#pragma once
#include "runtime.hpp"

namespace emu {
// An address in shared memory.
typedef uintptr_t saddr;
static inline saddr smem(const void *shared) { return reinterpret_cast<saddr>(shared); }

// The bytes land at the wait and not before, so that a missing wait is seen.
static inline void cp16(saddr to, const void *from, bool ok = true, EMU_PLACE) { copy_async(to, from, 16, ok, file, line); }
static inline void cp8(saddr to, const void *from, bool ok = true, EMU_PLACE) { copy_async(to, from, 8, ok, file, line); }
static inline void cp4(saddr to, const void *from, bool ok = true, EMU_PLACE) { copy_async(to, from, 4, ok, file, line); }
static inline void cp_commit() { copy_commit(); }
template <int left> static inline void cp_wait(EMU_PLACE) { copy_wait(left, file, line); }
static inline void cp_wait_all(EMU_PLACE) {
    copy_commit();
    copy_wait(0, file, line);
}

// The words are read back from the emulator's own stack frame: not the kernel's memory.
#define EMU_LOAD_MATRIX(suffix, transposed)                                                                                    \
    static inline void ldm1##suffix(u32 &a, saddr row, EMU_PLACE) {                                                            \
        u32 words[1];                                                                                                          \
        load_matrix(words, 1, transposed, row, file, line);                                                                    \
        a = words[0];                                                                                                          \
    }                                                                                                                          \
    static inline void ldm2##suffix(u32 &a, u32 &b, saddr row, EMU_PLACE) {                                                    \
        u32 words[2];                                                                                                          \
        load_matrix(words, 2, transposed, row, file, line);                                                                    \
        a = words[0];                                                                                                          \
        b = words[1];                                                                                                          \
    }                                                                                                                          \
    static inline void ldm4##suffix(u32 &a, u32 &b, u32 &c, u32 &d, saddr row, EMU_PLACE) {                                    \
        u32 words[4];                                                                                                          \
        load_matrix(words, 4, transposed, row, file, line);                                                                    \
        a = words[0];                                                                                                          \
        b = words[1];                                                                                                          \
        c = words[2];                                                                                                          \
        d = words[3];                                                                                                          \
    }
EMU_LOAD_MATRIX(, false)
EMU_LOAD_MATRIX(t, true)
#undef EMU_LOAD_MATRIX

// c += a · b, for a tile that the 32 lanes of a warp hold together.
static inline void mma_bf16(float *c, const u32 *a, u32 b0, u32 b1, EMU_PLACE) {
    multiply(Product::Bf16, c, a, b0, b1, file, line);
}
static inline void mma_f16(float *c, const u32 *a, u32 b0, u32 b1, EMU_PLACE) {
    multiply(Product::F16, c, a, b0, b1, file, line);
}
static inline void mma_tf32(float *c, const u32 *a, u32 b0, u32 b1, EMU_PLACE) {
    multiply(Product::Tf32, c, a, b0, b1, file, line);
}
} // namespace emu

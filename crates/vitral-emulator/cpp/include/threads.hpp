// Who a thread is, and how threads wait for each other and exchange values.
#pragma once
#include "runtime.hpp"

namespace emu {
// By value, so that a checked kernel does not take the emulator's own memory for the GPU's.
EMU_UNCHECKED static inline uint3 thread_index() { return position.thread; }
EMU_UNCHECKED static inline uint3 block_index() { return position.block; }
EMU_UNCHECKED static inline uint3 block_size() { return position.block_size; }
EMU_UNCHECKED static inline uint3 grid_size() { return position.grid_size; }

template <class T>
static inline T shuffle_any(Shuffle kind, u32 mask, T value, int argument, int width, const char *file, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    u64 bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = shuffle(kind, mask, bits, argument, width, file, line);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

// `extern __shared__` memory that is declared outside of functions.
template <class T, size_t alignment> struct DynamicShared {
    operator T *() const { return static_cast<T *>(dynamic_shared_memory(alignment)); }
};
} // namespace emu

#define threadIdx (emu::thread_index())
#define blockIdx (emu::block_index())
#define blockDim (emu::block_size())
#define gridDim (emu::grid_size())

static inline void __syncthreads(EMU_PLACE) { emu::barrier(file, line); }
static inline int __syncthreads_count(int value, EMU_PLACE) {
    return emu::barrier_combining(emu::Combine::Count, value != 0, file, line);
}
static inline int __syncthreads_and(int value, EMU_PLACE) {
    return emu::barrier_combining(emu::Combine::All, value != 0, file, line);
}
static inline int __syncthreads_or(int value, EMU_PLACE) {
    return emu::barrier_combining(emu::Combine::Any, value != 0, file, line);
}
static inline void __syncwarp(unsigned mask = ~0u, EMU_PLACE) { emu::sync_warp(mask, file, line); }
static inline void __threadfence() { emu::fence(); }
static inline void __threadfence_block() {}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMU_PLACE) {
    return emu::shuffle_any(emu::Shuffle::Xor, mask, value, lanes, width, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_PLACE) {
    return emu::shuffle_any(emu::Shuffle::Down, mask, value, int(by), width, file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMU_PLACE) {
    return emu::shuffle_any(emu::Shuffle::Up, mask, value, int(by), width, file, line);
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_PLACE) {
    return emu::shuffle_any(emu::Shuffle::Index, mask, value, lane, width, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int value, EMU_PLACE) { return emu::ballot(mask, value != 0, file, line); }
static inline int __any_sync(unsigned mask, int value, EMU_PLACE) { return emu::ballot(mask, value != 0, file, line) != 0; }
static inline int __all_sync(unsigned mask, int value, EMU_PLACE) { return emu::ballot(mask, value == 0, file, line) == 0; }
static inline unsigned __activemask() { return emu::active_mask(); }

static inline int __reduce_add_sync(unsigned mask, int value, EMU_PLACE) {
    return int(emu::reduce(emu::Reduce::Add, true, mask, unsigned(value), file, line));
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned value, EMU_PLACE) {
    return emu::reduce(emu::Reduce::Add, false, mask, value, file, line);
}
static inline int __reduce_min_sync(unsigned mask, int value, EMU_PLACE) {
    return int(emu::reduce(emu::Reduce::Min, true, mask, unsigned(value), file, line));
}
static inline unsigned __reduce_min_sync(unsigned mask, unsigned value, EMU_PLACE) {
    return emu::reduce(emu::Reduce::Min, false, mask, value, file, line);
}
static inline int __reduce_max_sync(unsigned mask, int value, EMU_PLACE) {
    return int(emu::reduce(emu::Reduce::Max, true, mask, unsigned(value), file, line));
}
static inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMU_PLACE) {
    return emu::reduce(emu::Reduce::Max, false, mask, value, file, line);
}

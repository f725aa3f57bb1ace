// Atomic operations, real ones: blocks may run on several threads of the processor.
#pragma once
#include "runtime.hpp"

namespace emu {
// Replaces the value at `address` by `change(value)` and returns the old one.
template <class T, class Change>
EMU_UNCHECKED static inline T atomic_update(T *address, Change change, const char *file, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "an atomic operation is on 4 or 8 bytes");
    using Word = std::conditional_t<sizeof(T) == 4, u32, u64>;
    Word *word = reinterpret_cast<Word *>(address);
    Word old_bits = atomic_begin(word, file, line), new_bits;
    T old_value;
    do {
        __builtin_memcpy(&old_value, &old_bits, sizeof(T));
        T new_value = change(old_value);
        __builtin_memcpy(&new_bits, &new_value, sizeof(T));
    } while (!atomic_exchange(word, &old_bits, new_bits));
    return old_value;
}
} // namespace emu

#define EMU_ATOMIC(name, type, expression)                                                                                     \
    static inline type name(type *address, type value, EMU_PLACE) {                                                            \
        return emu::atomic_update(                                                                                             \
            address, [=](type old) EMU_UNCHECKED -> type { return expression; }, file, line);                                  \
    }
#define EMU_ATOMIC_INTEGERS(name, expression)                                                                                  \
    EMU_ATOMIC(name, int, expression)                                                                                          \
    EMU_ATOMIC(name, unsigned, expression)                                                                                     \
    EMU_ATOMIC(name, unsigned long long, expression)
EMU_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
EMU_ATOMIC(atomicAdd, unsigned, old + value)
EMU_ATOMIC(atomicAdd, unsigned long long, old + value)
EMU_ATOMIC(atomicAdd, float, old + value)
EMU_ATOMIC(atomicAdd, double, old + value)
EMU_ATOMIC(atomicSub, int, int(unsigned(old) - unsigned(value)))
EMU_ATOMIC(atomicSub, unsigned, old - value)
EMU_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
EMU_ATOMIC_INTEGERS(atomicMax, old < value ? value : old)
EMU_ATOMIC(atomicMax, long long, old < value ? value : old)
EMU_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
EMU_ATOMIC(atomicMin, long long, value < old ? value : old)
EMU_ATOMIC_INTEGERS(atomicAnd, old &value)
EMU_ATOMIC_INTEGERS(atomicOr, old | value)
EMU_ATOMIC_INTEGERS(atomicXor, old ^ value)
EMU_ATOMIC_INTEGERS(atomicExch, value)
EMU_ATOMIC(atomicExch, float, value)
#undef EMU_ATOMIC_INTEGERS
#undef EMU_ATOMIC

#define EMU_COMPARE_AND_SWAP(type)                                                                                             \
    static inline type atomicCAS(type *address, type expected, type value, EMU_PLACE) {                                        \
        return emu::atomic_update(                                                                                             \
            address, [=](type old) EMU_UNCHECKED -> type { return old == expected ? value : old; }, file, line);               \
    }
EMU_COMPARE_AND_SWAP(int)
EMU_COMPARE_AND_SWAP(unsigned)
EMU_COMPARE_AND_SWAP(unsigned long long)
#undef EMU_COMPARE_AND_SWAP

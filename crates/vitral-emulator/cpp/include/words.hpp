// CUDA's qualifiers and vector types.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__

// No macros: `__shared__`, whose declarations `source.cpp` rewrites, so that the memory can be poisoned and checked, and
// `__noinline__`, a word that the standard library's headers use themselves.

#define EMU_VECTOR2(name, type, alignment)                                                                                     \
    struct __align__(alignment) name {                                                                                         \
        type x, y;                                                                                                             \
    };                                                                                                                         \
    static inline name make_##name(type x, type y) { return {x, y}; }
#define EMU_VECTOR3(name, type)                                                                                                \
    struct name {                                                                                                              \
        type x, y, z;                                                                                                          \
    };                                                                                                                         \
    static inline name make_##name(type x, type y, type z) { return {x, y, z}; }
#define EMU_VECTOR4(name, type, alignment)                                                                                     \
    struct __align__(alignment) name {                                                                                         \
        type x, y, z, w;                                                                                                       \
    };                                                                                                                         \
    static inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }

EMU_VECTOR2(uchar2, unsigned char, 2)
EMU_VECTOR4(uchar4, unsigned char, 4)
EMU_VECTOR2(short2, short, 4)
EMU_VECTOR4(short4, short, 8)
EMU_VECTOR2(ushort2, unsigned short, 4)
EMU_VECTOR4(ushort4, unsigned short, 8)
EMU_VECTOR2(int2, int, 8)
EMU_VECTOR3(int3, int)
EMU_VECTOR4(int4, int, 16)
EMU_VECTOR2(uint2, unsigned, 8)
EMU_VECTOR3(uint3, unsigned)
EMU_VECTOR4(uint4, unsigned, 16)
EMU_VECTOR2(float2, float, 8)
EMU_VECTOR3(float3, float)
EMU_VECTOR4(float4, float, 16)
EMU_VECTOR2(double2, double, 16)
EMU_VECTOR2(longlong2, long long, 16)
EMU_VECTOR2(ulonglong2, unsigned long long, 16)

#undef EMU_VECTOR2
#undef EMU_VECTOR3
#undef EMU_VECTOR4

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define warpSize 32

// bfloat16, half precision and TF32 as bits: what the GPU's `cvt` instructions give, rounding to nearest even.
#pragma once
#include "runtime.hpp"

namespace emu {
static inline u32 bits_of(float x) {
    u32 bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
static inline float float_of(u32 bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

static inline u16 to_bf16(float x) {
    u32 bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff; // the GPU's one NaN
    return u16((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
static inline float from_bf16(u16 half) { return float_of(u32(half) << 16); }

static inline u16 to_f16(float x) {
    u32 bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x477ff000u) return u16(sign | 0x7c00u); // 65520 and above round to infinity
    if (magnitude < 0x33000001u) return u16(sign);            // half of the least subnormal and below round to zero
    int exponent = int(magnitude >> 23) - 127;
    u32 mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    int dropped = exponent < -14 ? 13 + (-14 - exponent) : 13; // bits that do not fit
    u32 kept = mantissa >> dropped, rest = mantissa & ((1u << dropped) - 1u), halfway = 1u << (dropped - 1);
    if (rest > halfway || (rest == halfway && (kept & 1u))) kept++;
    // The implicit bit of `kept` adds one to the exponent; a carry out of the mantissa does so too.
    u32 biased = exponent < -14 ? 0u : u32(exponent + 14) << 10;
    return u16(sign | (biased + kept));
}
static inline float from_f16(u16 half) {
    u32 sign = u32(half & 0x8000u) << 16, exponent = half >> 10 & 31u, mantissa = half & 1023u;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return float_of(sign | (exponent + 112u) << 23 | mantissa << 13);
    float magnitude = float(mantissa) * 5.9604644775390625e-8f; // 2^-24
    return sign ? -magnitude : magnitude;
}

static inline u32 pack_bf16(float low, float high) { return u32(to_bf16(low)) | u32(to_bf16(high)) << 16; }
static inline u32 pack_f16(float low, float high) { return u32(to_f16(low)) | u32(to_f16(high)) << 16; }

// To nearest, halves away from zero.
static inline u32 to_tf32(float x) {
    u32 bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
    if ((bits & 0x7fffffffu) == 0x7f800000u) return bits;
    return (bits + 0x1000u) & 0xffffe000u;
}

// The approximate instructions flush subnormal inputs and results to zero.
static inline float flushed(float x) { return fabsf(x) < 1.17549435e-38f ? copysignf(0.f, x) : x; }
static inline float ex2(float x) { return flushed(exp2f(flushed(x))); }
static inline float lg2(float x) { return log2f(flushed(x)); }
static inline float rcp(float x) { return flushed(1.f / flushed(x)); }
static inline float tanh_approx(float x) { return tanhf(x); }
} // namespace emu

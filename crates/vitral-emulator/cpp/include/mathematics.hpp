// CUDA's arithmetic that C's own library does not have.
#pragma once
#include "words.hpp"

// ---- reinterpreting ----
#define EMU_REINTERPRET(name, from, to)                                                                                        \
    static inline to name(from value) {                                                                                        \
        static_assert(sizeof(from) == sizeof(to), "");                                                                         \
        to result;                                                                                                             \
        __builtin_memcpy(&result, &value, sizeof(result));                                                                     \
        return result;                                                                                                         \
    }
EMU_REINTERPRET(__float_as_uint, float, unsigned)
EMU_REINTERPRET(__uint_as_float, unsigned, float)
EMU_REINTERPRET(__float_as_int, float, int)
EMU_REINTERPRET(__int_as_float, int, float)
EMU_REINTERPRET(__double_as_longlong, double, long long)
EMU_REINTERPRET(__longlong_as_double, long long, double)
#undef EMU_REINTERPRET

// ---- conversions: the suffix names the rounding (n nearest even, z to zero, d down, u up) ----
// A value out of range is clamped and NaN becomes 0, as on the GPU; in C++ both are undefined.
namespace emu {
template <class To> static inline To convert(float x, float low, float above) {
    if (x != x) return 0;
    if (x < low) x = low;
    if (x >= above) return ~To(0) ^ (To(-1) < To(0) ? To(1) << (8 * sizeof(To) - 1) : To(0));
    return To(x);
}
static inline int to_int(float x) { return convert<int>(x, -2147483648.f, 2147483648.f); }
static inline unsigned to_uint(float x) { return convert<unsigned>(x, 0.f, 4294967296.f); }
} // namespace emu
static inline int __float2int_rn(float x) { return emu::to_int(rintf(x)); }
static inline int __float2int_rz(float x) { return emu::to_int(truncf(x)); }
static inline int __float2int_rd(float x) { return emu::to_int(floorf(x)); }
static inline int __float2int_ru(float x) { return emu::to_int(ceilf(x)); }
static inline unsigned __float2uint_rn(float x) { return emu::to_uint(rintf(x)); }
static inline unsigned __float2uint_rz(float x) { return emu::to_uint(truncf(x)); }
static inline unsigned __float2uint_rd(float x) { return emu::to_uint(floorf(x)); }
static inline unsigned __float2uint_ru(float x) { return emu::to_uint(ceilf(x)); }
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(unsigned x) { return float(x); }
static inline float __ull2float_rn(unsigned long long x) { return float(x); }
static inline float __double2float_rn(double x) { return float(x); }

// ---- floats ----
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
static inline double rsqrt(double x) { return 1. / std::sqrt(x); }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.f / x; }
static inline float __frsqrt_rn(float x) { return 1.f / sqrtf(x); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline float __saturatef(float x) { return x != x ? 0.f : x < 0.f ? 0.f : x > 1.f ? 1.f : x; }
// Macros, because the C library declares functions of these names.
#define __expf(x) expf(x)
#define __exp10f(x) powf(10.f, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __powf(x, y) powf(x, y)

// ---- bits ----
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) reversed |= (x >> i & 1u) << (31 - i);
    return reversed;
}
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    unsigned long long bytes = (unsigned long long)high << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned choice = selector >> (4 * i) & 15u;
        unsigned byte = unsigned(bytes >> (8 * (choice & 7u))) & 255u;
        if (choice & 8u) byte = byte & 128u ? 255u : 0u;
        result |= byte << (8 * i);
    }
    return result;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)high << 32 | low) << (shift & 31u) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned(((unsigned long long)high << 32 | low) >> (shift & 31u));
}

// ---- loads and stores with a hint for the cache ----
template <class T> static inline T __ldg(const T *from) { return *from; }
template <class T> static inline T __ldcs(const T *from) { return *from; }
template <class T> static inline T __ldcg(const T *from) { return *from; }
template <class T> static inline T __ldca(const T *from) { return *from; }
template <class T> static inline T __ldlu(const T *from) { return *from; }
template <class T, class V> static inline void __stcs(T *to, V value) { *to = value; }
template <class T, class V> static inline void __stcg(T *to, V value) { *to = value; }
template <class T, class V> static inline void __stwb(T *to, V value) { *to = value; }

// ---- min, max, abs ----
#define EMU_MIN_MAX(type)                                                                                                      \
    static inline type min(type a, type b) { return b < a ? b : a; }                                                           \
    static inline type max(type a, type b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
static inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
static inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
static inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
static inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
// Of a number and NaN, the number.
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return std::fmin(a, b); }
static inline double max(double a, double b) { return std::fmax(a, b); }
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;

// What all kernels share. It stands before every kernel file when that is compiled.
//
// There is no header to include: users have a driver and a compiler library, and no CUDA toolkit. The only inline PTX is
// in the section below; the emulator gives the same names on a CPU (see CONTRIBUTING.md).
//
// A tensor is of 32-bit floats (`float`) or of 16-bit ones (`half_t`): bfloat16, or IEEE half where HALF_IS_F16 is
// defined. Arithmetic is in 32 bits everywhere; 16 bits are for memory and for the operands of tensor cores.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__
// Minus infinity.
#define LOWEST __int_as_float(0xff800000)

#ifdef VITRAL_EMULATE
using emu::cp16;
using emu::cp_commit;
using emu::cp_wait;
using emu::ex2;
using emu::from_f16;
using emu::ldm4;
using emu::ldm4t;
using emu::mma_bf16;
using emu::mma_f16;
using emu::pack_bf16;
using emu::pack_f16;
using emu::saddr;
using emu::smem;
using emu::to_bf16;
using emu::to_f16;
#else
typedef u32 saddr;
DEVICE saddr smem(const void* shared) { return (u32)__cvta_generic_to_shared(shared); }
DEVICE u32 pack_bf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
DEVICE u32 pack_f16(float low, float high) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
DEVICE u16 to_bf16(float x) { return (u16)pack_bf16(x, 0.f); }
DEVICE u16 to_f16(float x) { return (u16)pack_f16(x, 0.f); }
DEVICE float from_f16(u16 bits) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
    return r;
}
DEVICE float ex2(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
// Copies 16 bytes to shared memory without waiting; zeros where `ok` is false, and nothing is read then.
DEVICE void cp16(saddr to, const void* from, bool ok = true) {
    int bytes = ok ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
DEVICE void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int left> DEVICE void cp_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }
DEVICE void ldm4(u32& a, u32& b, u32& c, u32& d, saddr row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(row));
}
DEVICE void ldm4t(u32& a, u32& b, u32& c, u32& d, saddr row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(row));
}
DEVICE void mma_bf16(float* c, const u32* a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void mma_f16(float* c, const u32* a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

struct half_t {
    u16 bits;
};

#ifdef HALF_IS_F16
DEVICE u32 pack(float low, float high) { return pack_f16(low, high); }
DEVICE void mma(float* c, const u32* a, u32 b0, u32 b1) { mma_f16(c, a, b0, b1); }
DEVICE float low(u32 pair) { return from_f16((u16)pair); }
DEVICE float high(u32 pair) { return from_f16((u16)(pair >> 16)); }
DEVICE float value(half_t x) { return from_f16(x.bits); }
DEVICE half_t rounded(float x) { return half_t{to_f16(x)}; }
#else
DEVICE u32 pack(float low, float high) { return pack_bf16(low, high); }
DEVICE void mma(float* c, const u32* a, u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); }
DEVICE float low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
DEVICE float value(half_t x) { return __uint_as_float((u32)x.bits << 16); }
DEVICE half_t rounded(float x) { return half_t{to_bf16(x)}; }
#endif

DEVICE float value(float x) { return x; }
DEVICE void put(float* to, float x) { *to = x; }
DEVICE void put(half_t* to, float x) { *to = rounded(x); }

// Eight values at once; addresses are multiples of eight values.
DEVICE void load8(const float* from, float v[8]) {
    float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
DEVICE void load8(const half_t* from, float v[8]) {
    uint4 q = *(const uint4*)from;
    v[0] = low(q.x), v[1] = high(q.x), v[2] = low(q.y), v[3] = high(q.y);
    v[4] = low(q.z), v[5] = high(q.z), v[6] = low(q.w), v[7] = high(q.w);
}
DEVICE void store8(float* to, const float v[8]) {
    ((float4*)to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    ((float4*)to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
DEVICE void store8(half_t* to, const float v[8]) {
    *(uint4*)to = make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}

// Eight values of `count` from `first` on, zeros beyond the end.
template <class T> DEVICE void load_some(const T* from, u64 first, u64 count, float v[8]) {
    if (first + 8 <= count) return load8(from + first, v);
    for (int j = 0; j < 8; j++) v[j] = first + j < count ? value(from[first + j]) : 0.f;
}
template <class T> DEVICE void store_some(T* to, u64 first, u64 count, const float v[8]) {
    if (first + 8 <= count) return store8(to + first, v);
    for (int j = 0; j < 8; j++)
        if (first + j < count) put(to + first + j, v[j]);
}

// The thread's place among all threads of a launch in one dimension.
DEVICE u64 place() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// Over a warp, in an order that does not change: every lane gets the result.
DEVICE float warp_sum(float x) {
    for (int step = 16; step; step >>= 1) x += __shfl_xor_sync(~0u, x, step);
    return x;
}
// The greater of two; a NaN stays, which `fmaxf` would drop.
DEVICE float greater(float x, float y) { return y > x || y != y ? y : x; }
DEVICE float warp_max(float x) {
    for (int step = 16; step; step >>= 1) x = greater(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

// Over a block of whole warps, in an order that does not change: every thread gets the result. `room` is shared memory
// for 32 values, free to be used again after the next barrier.
DEVICE float block_sum(float x, float* room) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = 0.f;
    for (int w = 0; w < warps; w++) x += room[w];
    return x;
}
DEVICE float block_max(float x, float* room) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = room[0];
    for (int w = 1; w < warps; w++) x = greater(x, room[w]);
    return x;
}

// Element `index` of a draw, uniform in [0, 1): the same as `random::uniform`.
DEVICE float uniform(u64 seed, u64 index) {
    u64 x = seed ^ index * 0xd1342543de82ef95ull;
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return (float)(u32)(x >> 40) * (1.f / 16777216.f);
}

// Non-linearities, numbered as `cuda::activation_code` has them; 0 is none.
enum { NONE, GELU, GELU_TANH, QUICK_GELU, RELU, SILU, TANH };

DEVICE float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }

DEVICE float activated(int kind, float x) {
    switch (kind) {
    case GELU: return 0.5f * x * (1.f + erff(0.70710678118654752f * x));
    case GELU_TANH: return 0.5f * x * (1.f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case QUICK_GELU: return x * sigmoid(1.702f * x);
    case RELU: return x > 0.f || x != x ? x : 0.f;
    case SILU: return x * sigmoid(x);
    case TANH: return tanhf(x);
    default: return x;
    }
}

DEVICE float derivative(int kind, float x) {
    switch (kind) {
    case GELU:
        return 0.5f * (1.f + erff(0.70710678118654752f * x)) + x * 0.39894228040143268f * ex2(-0.72134752044448170f * x * x);
    case GELU_TANH: {
        float t = tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.f + t) +
               0.5f * x * (1.f - t * t) * 0.79788456080286536f * (1.f + 3.f * 0.044715f * x * x);
    }
    case QUICK_GELU: {
        float s = sigmoid(1.702f * x);
        return s + 1.702f * x * s * (1.f - s);
    }
    case RELU: return x > 0.f ? 1.f : 0.f;
    case SILU: {
        float s = sigmoid(x);
        return s + x * s * (1.f - s);
    }
    case TANH: {
        float t = tanhf(x);
        return 1.f - t * t;
    }
    default: return 1.f;
    }
}

// Defines a kernel for tensors of 32 bits, `name_f`, and of 16 bits, `name_h`, which call `name` with the arguments.
// `PARAMETERS(T)` is the list of parameters.
#define BOTH(name, PARAMETERS, arguments)                                                                              \
    KERNEL void name##_f PARAMETERS(float) { name<float> arguments; }                                                  \
    KERNEL void name##_h PARAMETERS(half_t) { name<half_t> arguments; }

// Every word that the emulator knows, in kernels small enough to say what they must give.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#ifdef VITRAL_EMULATE
using namespace emu;
#else
// What the emulator's names stand for, so that NVRTC and a GPU can be asked whether the emulator is right.
#define INLINE __device__ __forceinline__
typedef u32 saddr;
INLINE saddr smem(const void *shared) { return (u32)__cvta_generic_to_shared(shared); }
INLINE void cp16(saddr to, const void *from, bool ok = true) {
    int bytes = ok ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
INLINE void cp8(saddr to, const void *from, bool ok = true) {
    int bytes = ok ? 8 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
INLINE void cp4(saddr to, const void *from, bool ok = true) {
    int bytes = ok ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
INLINE void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int left> INLINE void cp_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }
INLINE void cp_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#define LOAD(suffix, trans)                                                                                                    \
    INLINE void ldm1##suffix(u32 &a, saddr row) {                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];" : "=r"(a) : "r"(row) : "memory");         \
    }                                                                                                                          \
    INLINE void ldm2##suffix(u32 &a, u32 &b, saddr row) {                                                                      \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];"                                       \
                     : "=r"(a), "=r"(b)                                                                                        \
                     : "r"(row)                                                                                                \
                     : "memory");                                                                                              \
    }                                                                                                                          \
    INLINE void ldm4##suffix(u32 &a, u32 &b, u32 &c, u32 &d, saddr row) {                                                      \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];"                               \
                     : "=r"(a), "=r"(b), "=r"(c), "=r"(d)                                                                      \
                     : "r"(row)                                                                                                \
                     : "memory");                                                                                              \
    }
LOAD(, "")
LOAD(t, ".trans")
#define MULTIPLY(name, kind)                                                                                                   \
    INLINE void name(float *c, const u32 *a, u32 b0, u32 b1) {                                                                 \
        asm volatile("mma.sync.aligned." kind " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"               \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                          \
    }
MULTIPLY(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
MULTIPLY(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32")
MULTIPLY(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#define CONVERT(result, letter, name, instruction)                                                                             \
    INLINE result name(float x) {                                                                                              \
        result r;                                                                                                              \
        asm(instruction " %0, %1;" : "=" letter(r) : "f"(x));                                                                  \
        return r;                                                                                                              \
    }
CONVERT(u32, "r", to_tf32, "cvt.rna.tf32.f32")
CONVERT(u16, "h", to_bf16, "cvt.rn.bf16.f32")
CONVERT(u16, "h", to_f16, "cvt.rn.f16.f32")
CONVERT(float, "f", ex2, "ex2.approx.ftz.f32")
CONVERT(float, "f", lg2, "lg2.approx.ftz.f32")
CONVERT(float, "f", rcp, "rcp.approx.ftz.f32")
CONVERT(float, "f", tanh_approx, "tanh.approx.f32")
INLINE u32 pack_bf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
INLINE u32 pack_f16(float low, float high) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
INLINE float from_bf16(u16 half) { return __uint_as_float((u32)half << 16); }
INLINE float from_f16(u16 half) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(half));
    return r;
}
#endif

#define KERNEL extern "C" __global__ void

// ---- who a thread is ----
KERNEL indices(u32 *out) {
    u32 block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    u32 thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    u32 i = block * blockDim.x * blockDim.y * blockDim.z + thread;
    out[i] = threadIdx.x | threadIdx.y << 4 | threadIdx.z << 8 | blockIdx.x << 12 | blockIdx.y << 16 | blockIdx.z << 20;
}

// ---- warps ----
KERNEL shuffles(u32 *out) {
    u32 lane = threadIdx.x % warpSize, *row = out + threadIdx.x * 10;
    row[0] = __shfl_sync(~0u, lane, 5);
    row[1] = __shfl_sync(~0u, lane, lane + 1, 8);
    row[2] = __shfl_xor_sync(~0u, lane, 3);
    row[3] = __shfl_xor_sync(~0u, lane, 4, 4);
    row[4] = __shfl_down_sync(~0u, lane, 7);
    row[5] = __shfl_down_sync(~0u, lane, 3, 8);
    row[6] = __shfl_up_sync(~0u, lane, 7);
    row[7] = __shfl_up_sync(~0u, lane, 3, 8);
    row[8] = (u32)(__shfl_xor_sync(~0u, lane * 0.5, 1) * 2);
    row[9] = (u32)(__shfl_down_sync(~0u, (u64)lane << 40, 1u) >> 40);
}
KERNEL half_warps(u32 *out) {
    u32 lane = threadIdx.x, mask = lane < 16 ? 0xffffu : 0xffff0000u;
    u32 value = lane;
    if (lane < 16) value = __shfl_xor_sync(mask, value, 1) + 100;
    else value = __shfl_xor_sync(mask, value, 2) + 200;
    out[lane] = value;
}
KERNEL votes(u32 *out) {
    u32 lane = threadIdx.x;
    out[lane] = __ballot_sync(~0u, lane % 3 == 0);
    out[lane + 32] = __any_sync(~0u, lane == 7) | __any_sync(~0u, lane == 99) << 1;
    out[lane + 64] = __all_sync(~0u, lane < 32) | __all_sync(~0u, lane < 31) << 1;
    out[lane + 96] = __activemask();
    out[lane + 128] = __reduce_add_sync(~0u, lane);
    out[lane + 160] = (u32)__reduce_min_sync(~0u, (int)lane - 5);
    out[lane + 192] = __reduce_max_sync(~0u, lane * 3);
}
// A block that does not fill its last warp.
KERNEL partial_warp(u32 *out) {
    u32 sum = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = __reduce_add_sync(~0u, sum);
    __syncthreads();
}

// ---- blocks ----
KERNEL barriers(u32 *out) {
    __shared__ u32 s[96];
    s[threadIdx.x] = threadIdx.x * threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[95 - threadIdx.x];
    out[threadIdx.x + 96] = __syncthreads_count(threadIdx.x % 5 == 0);
    out[threadIdx.x + 192] = __syncthreads_and(threadIdx.x < 96) | __syncthreads_and(threadIdx.x < 95) << 1;
    out[threadIdx.x + 288] = __syncthreads_or(threadIdx.x == 50) | __syncthreads_or(threadIdx.x == 96) << 1;
}
KERNEL atomics(int *out) {
    __shared__ int s[2];
    __shared__ float f;
    u32 *words = (u32 *)out;
    int before = threadIdx.x;
    if (before == 0) s[0] = 0, s[1] = 1000, f = 0;
    __syncthreads();
    atomicAdd(&s[0], before);
    atomicMin(&s[1], before);
    atomicAdd(&f, 0.5f);
    atomicAdd(&out[0], 2);
    atomicSub(&out[1], 1);
    atomicMax(&out[2], before);
    atomicMin(&out[3], -before);
    atomicOr(&words[4], 1u << before % 32);
    atomicAnd(&words[5], ~(1u << before % 8));
    atomicXor(&words[6], 1u);
    atomicAdd((float *)&out[7], 0.25f);
    atomicAdd((u64 *)&out[8], 1ull << 33);
    atomicAdd((double *)&out[10], 0.125);
    atomicCAS(&out[12], before, before + 1);
    atomicInc(&words[13], 9);
    __syncthreads();
    if (before == 0) out[14] = s[0], out[15] = s[1], out[16] = (int)f, out[17] = atomicExch(&out[18], 77);
}

// ---- arithmetic ----
KERNEL functions(float *out, const float *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = in[i], magnitude = fabsf(x) + 0.001f, *row = out + i * 24;
    row[0] = expf(x);
    row[1] = __expf(x);
    row[2] = logf(magnitude);
    row[3] = __logf(magnitude);
    row[4] = exp2f(x);
    row[5] = erff(x);
    row[6] = erfcf(x);
    row[7] = (float)erf((double)x);
    row[8] = tanhf(x);
    row[9] = rsqrtf(magnitude);
    row[10] = sqrtf(magnitude);
    row[11] = fmaf(x, x, 1.f);
    row[12] = __fdividef(x, magnitude);
    row[13] = fminf(x, 0.5f) + fmaxf(x, 0.25f);
    row[14] = __frcp_rn(magnitude);
    row[15] = __saturatef(x);
    row[16] = min(x, 1.f) + max(x, -1.f) + (float)min(i, 3) + (float)max(7u, (u32)i) + (float)abs(-i);
    row[17] = normcdff(x);
    row[18] = floorf(x) + ceilf(x) + rintf(x) + truncf(x);
    row[19] = powf(magnitude, 1.5f) + __powf(magnitude, 1.5f);
    row[20] = (float)(sqrt((double)magnitude) * exp(-(double)x * x) + rsqrt((double)magnitude));
    row[21] = sinf(x) + cosf(x) + __sinf(x);
    row[22] = log1pf(magnitude) + expm1f(x) + log2f(magnitude) + __log2f(magnitude);
    row[23] = isnan(x) ? 1.f : isfinite(x) && !isinf(x) ? 0.f : 2.f;
}
KERNEL bits(u32 *out, u32 a, u32 b) {
    out[0] = __umulhi(a, b);
    out[1] = (u32)__mulhi((int)a, (int)b);
    out[2] = (u32)(__umul64hi((u64)a << 32 | b, (u64)b << 32 | a) >> 7);
    out[3] = __popc(a) | __clz((int)b) << 8 | __ffs((int)a) << 16;
    out[4] = __brev(a);
    out[5] = __byte_perm(a, b, 0x5140);
    out[6] = __funnelshift_l(a, b, 9);
    out[7] = __funnelshift_r(a, b, 9);
    out[8] = __float_as_uint(__uint_as_float(a)) ^ (u32)__float_as_int(__int_as_float((int)b));
    out[9] = (u32)(__double_as_longlong(__longlong_as_double((long long)a << 20)) >> 20);
    out[10] = (u32)__popcll((u64)a << 32 | b) | (u32)__clzll((long long)b) << 8;
    out[11] = __ldg(out) + __ldcs(out + 1);
    __stcs(out + 12, a + b);
}
KERNEL conversions(int *out, const float *in, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    float x = in[i];
    int *row = out + i * 8;
    row[0] = __float2int_rn(x);
    row[1] = __float2int_rz(x);
    row[2] = __float2int_rd(x);
    row[3] = __float2int_ru(x);
    row[4] = (int)__float2uint_rn(x);
    row[5] = __float_as_int(__int2float_rn(row[1]));
    row[6] = __float_as_int(__uint2float_rn((u32)i));
    row[7] = __float_as_int(__double2float_rn((double)x * 3.));
}

// ---- the small floats ----
KERNEL narrow(u32 *out, const float *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = in[i];
    u32 *row = out + i * 5;
    row[0] = to_bf16(x);
    row[1] = to_f16(x);
    row[2] = to_tf32(x);
    row[3] = pack_bf16(x, -x);
    row[4] = pack_f16(x, 1.f);
}
KERNEL widen(float *out) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = from_f16((u16)i);
    out[i + 65536] = from_bf16((u16)i);
}
KERNEL approximations(float *out, const float *in, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    out[i * 4] = ex2(in[i]);
    out[i * 4 + 1] = lg2(fabsf(in[i]));
    out[i * 4 + 2] = rcp(in[i]);
    out[i * 4 + 3] = tanh_approx(in[i]);
}

// ---- shared memory ----
struct __align__(8) Pair {
    float x, y;
};
template <class A, int width> struct Table { A values[width]; };
template <class T, int width> __device__ __forceinline__ float sum_of(T value) {
    __shared__ T s[width + 1], t[2][width];
    s[threadIdx.x] = value;
    t[1][threadIdx.x] = value * 2;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < width; i++) sum += (float)(s[i] + t[1][i]);
    __syncthreads();
    return sum;
}
KERNEL shared_forms(float *out) {
    __shared__ float scalar;
    __shared__ Pair pairs[32];
    static __shared__ __align__(16) float4 quads[8];
    __shared__ Table<float, 4> tables[2], one_table;
    alignas(16) __shared__ u8 bytes[32];
    int i = threadIdx.x;
    if (i == 0) scalar = 3, one_table.values[3] = 4;
    pairs[i] = Pair{(float)i, 1};
    if (i < 8) quads[i] = make_float4(i, 0, 0, 1), tables[i / 4].values[i % 4] = 10.f * i;
    bytes[i] = (u8)i;
    __syncthreads();
    float a = sum_of<float, 32>((float)i), b = sum_of<int, 32>(i), c = sum_of<float, 16 * 2>(1.f);
    out[i] = scalar + pairs[31 - i].x + pairs[i].y + quads[i / 4].x + quads[i % 8].w + tables[i % 2].values[i % 4] +
             one_table.values[3] + bytes[i ^ 1] + a + b + c;
}
KERNEL shared_dynamic(float *out, int n) {
    extern __shared__ __align__(16) u8 memory[];
    float *left = (float *)memory, *right = left + n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) left[i] = i, right[i] = 2 * i;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = left[n - 1 - i] + right[i];
}
extern __shared__ float outside[];
KERNEL shared_dynamic_outside(float *out, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) outside[i] = i;
    __syncthreads();
    float *again = outside + 1;
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = i + 1 < n ? again[i] : outside[0];
}
KERNEL shared_poison(u32 *out) {
    __shared__ u32 s[32];
    out[threadIdx.x] = s[threadIdx.x];
}

// ---- the forms of a kernel ----
__constant__ float table[3] = {1, 10, 100};
template <int factor> __device__ __noinline__ float times(float x) { return x * factor + table[factor % 3]; }
#define TIMES(name, factor)                                                                                                    \
    extern "C" __launch_bounds__(64, 2) __global__ void name(float *x) { x[threadIdx.x] = times<factor>(x[threadIdx.x]); }
TIMES(times_two, 2)
TIMES(times_three, 3)
extern "C" {
__global__ void __launch_bounds__(32 * 4) in_a_group(float *x);
__global__ void __launch_bounds__(32 * 4) in_a_group(float *x) { x[threadIdx.x] += 1; }
}
template <class T> __global__ void not_a_kernel(T *x) { x[0] = 1; }
struct Sizes {
    int count;
    float scale, more[5];
};
KERNEL by_value(float *out, Sizes sizes, u8 small, double large) {
#pragma unroll
    for (int i = 0; i < 5; i++)
        if ((int)threadIdx.x < sizes.count) out[threadIdx.x * 5 + i] = sizes.scale * sizes.more[i] + small + (float)large;
}

// ---- what stands for PTX ----
KERNEL copies(float *out, const float *in) {
    __shared__ __align__(16) float s[2][128];
    int i = threadIdx.x;
    cp16(smem(&s[0][i * 4]), in + i * 4);
    cp_commit();
    cp16(smem(&s[1][i * 4]), in + 128 + i * 4, i % 2 == 0);
    cp_commit();
    cp_wait<1>();
    __syncthreads();
    out[i] = s[0][i ^ 5];
    cp_wait<0>();
    __syncthreads();
    for (int k = 0; k < 4; k++) out[32 + k * 32 + i] = s[1][k * 32 + i];
    __syncthreads();
    cp8(smem(&s[0][i * 2]), in + i * 2);
    cp4(smem(&s[1][i]), in + i, i < 30);
    cp_wait_all();
    __syncthreads();
    out[160 + i] = s[0][i + 32] + s[1][31 - i];
}
KERNEL matrices(u32 *out) {
    __shared__ __align__(16) u16 s[32 * 8];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) s[i] = (u16)i;
    __syncthreads();
    saddr row = smem(s + lane * 8);
    u32 r[14];
    ldm1(r[0], row);
    ldm2(r[1], r[2], row);
    ldm4(r[3], r[4], r[5], r[6], row);
    ldm1t(r[7], row);
    ldm2t(r[8], r[9], row);
    ldm4t(r[10], r[11], r[12], r[13], row);
    for (int i = 0; i < 14; i++) out[lane * 14 + i] = r[i];
}
// c [16, 8] += a [16, depth] · b [8, depth], with the fragments as PTX gives them to the lanes.
template <class Pack, class Multiply>
__device__ __forceinline__ void product_16(float *c, const float *a, const float *b, Pack pack, Multiply multiply) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    u32 fragment[4];
    for (int q = 0; q < 4; q++) {
        const float *from = a + (g + q % 2 * 8) * 16 + t * 2 + q / 2 * 8;
        fragment[q] = pack(from[0], from[1]);
    }
    const float *column = b + g * 16 + t * 2;
    float sums[4];
    for (int q = 0; q < 4; q++) sums[q] = c[(g + q / 2 * 8) * 8 + t * 2 + q % 2];
    multiply(sums, fragment, pack(column[0], column[1]), pack(column[8], column[9]));
    for (int q = 0; q < 4; q++) c[(g + q / 2 * 8) * 8 + t * 2 + q % 2] = sums[q];
}
KERNEL product_bf16(float *c, const float *a, const float *b) {
    product_16(
        c, a, b, [](float x, float y) { return pack_bf16(x, y); },
        [](float *c, const u32 *a, u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); });
}
KERNEL product_f16(float *c, const float *a, const float *b) {
    product_16(
        c, a, b, [](float x, float y) { return pack_f16(x, y); },
        [](float *c, const u32 *a, u32 b0, u32 b1) { mma_f16(c, a, b0, b1); });
}
KERNEL product_tf32(float *c, const float *a, const float *b) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    u32 fragment[4];
    for (int q = 0; q < 4; q++) fragment[q] = to_tf32(a[(g + q % 2 * 8) * 8 + t + q / 2 * 4]);
    float sums[4];
    for (int q = 0; q < 4; q++) sums[q] = c[(g + q / 2 * 8) * 8 + t * 2 + q % 2];
    mma_tf32(sums, fragment, to_tf32(b[g * 8 + t]), to_tf32(b[g * 8 + t + 4]));
    for (int q = 0; q < 4; q++) c[(g + q / 2 * 8) * 8 + t * 2 + q % 2] = sums[q];
}

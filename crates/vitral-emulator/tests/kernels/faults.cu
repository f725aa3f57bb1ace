// Each kernel has one fault, which the checked build must report; those whose name ends in `_right` have none. For the emulator
// alone: on a GPU most of them give some result.
typedef unsigned int u32;
#ifdef VITRAL_EMULATE
using emu::cp16;
using emu::cp_commit;
using emu::cp_wait;
using emu::smem;
#endif

#define KERNEL(name) extern "C" __global__ void name(float *out, const float *in, int n)

KERNEL(barrier_missed) {
    if (threadIdx.x < 64) __syncthreads();
    out[threadIdx.x] = 1;
}
KERNEL(barriers_differ) {
    if (threadIdx.x < 64) {
        __syncthreads();
    } else {
        out[threadIdx.x] = 0;
        __syncthreads();
    }
}
KERNEL(lane_returned) {
    if (threadIdx.x >= n) return;
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1.f, 1);
}
KERNEL(lane_not_in_mask) { out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.f, 1); }
KERNEL(warp_diverges) {
    float v = 1;
    if (threadIdx.x & 1) v = __shfl_xor_sync(~0u, v, 1);
    else v = __shfl_xor_sync(~0u, v, 2) + 1.f;
    out[threadIdx.x] = v;
}
KERNEL(past_the_end) { out[threadIdx.x + 1] = 1; }
KERNEL(before_the_start) { out[(int)threadIdx.x - 1] = 1; }
KERNEL(null_pointer) {
    float *nothing = (float *)(size_t)(n - 100);
    nothing[threadIdx.x] = 1;
}
KERNEL(misaligned) {
    float4 *p = (float4 *)(out + 1);
    if (threadIdx.x == 0) *p = make_float4(1, 2, 3, 4);
}
KERNEL(unwritten_global) { out[threadIdx.x] = out[threadIdx.x] + 1; }

KERNEL(shared_race) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = s[threadIdx.x ^ 32];
}
KERNEL(shared_race_in_warp) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
KERNEL(shared_warp_right) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
KERNEL(shared_overwritten) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x ^ 32];
    s[threadIdx.x] = 0;
}
KERNEL(shared_unwritten) {
    __shared__ float s[128];
    if (threadIdx.x < 64) s[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
KERNEL(shared_past_the_end) {
    __shared__ float s[128];
    s[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
KERNEL(shared_too_weakly_aligned) {
    __shared__ float s[128];
    if (threadIdx.x < 32) ((float4 *)s)[threadIdx.x] = make_float4(1, 2, 3, 4);
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
KERNEL(shared_too_large) {
    __shared__ float s[13000];
    s[threadIdx.x] = 1;
}
KERNEL(dynamic_past_the_end) {
    extern __shared__ float s[];
    s[threadIdx.x] = 1;
}

KERNEL(copy_not_waited) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4);
    cp_commit();
    out[threadIdx.x] = s[threadIdx.x * 4];
    cp_wait<0>();
}
KERNEL(copy_without_barrier) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4);
    cp_commit();
    cp_wait<0>();
    out[threadIdx.x] = s[(threadIdx.x ^ 1) * 4];
}
KERNEL(copy_waited_too_few) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4);
    cp_commit();
    cp_wait<1>();
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x * 4];
    cp_wait<0>();
}
KERNEL(copy_never_waited) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4);
    out[threadIdx.x] = 0;
}
KERNEL(copy_past_the_end) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4 + 4);
    cp_commit();
    cp_wait<0>();
}
KERNEL(copy_right) {
    __shared__ __align__(16) float s[512];
    cp16(smem(s + threadIdx.x * 4), in + threadIdx.x * 4, threadIdx.x % 2 == 0);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    out[threadIdx.x] = s[(threadIdx.x ^ 1) * 4];
}

KERNEL(blocks_write_the_same) {
    if (blockIdx.x < 2) out[threadIdx.x] = blockIdx.x;
}
KERNEL(block_reads_another) {
    if (blockIdx.x == 0) out[threadIdx.x] = 1;
    else out[threadIdx.x + 32 * blockIdx.x] = out[threadIdx.x];
}
KERNEL(block_overwrites_what_another_read) {
    if (blockIdx.x < 2) out[threadIdx.x + 32 * (blockIdx.x + 1)] = in[threadIdx.x];
    else ((float *)in)[threadIdx.x] = 2;
}
KERNEL(global_race_in_block) {
    out[threadIdx.x] = threadIdx.x;
    out[threadIdx.x ^ 32] += 1;
}
KERNEL(global_barrier_right) {
    out[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x ^ 32] += 1;
}
KERNEL(index_outside) {
    float v[4] = {1, 2, 3, 4};
    out[threadIdx.x] = v[(threadIdx.x + n) & 7];
}
KERNEL(overflows) {
    int k = (int)threadIdx.x * 1000000 * (n + 1);
    out[threadIdx.x] = k;
}
KERNEL(divides_by_zero) { out[threadIdx.x] = 1 / (int)(n - 100 - threadIdx.x); }
// The last block adds what the others published.
KERNEL(last_block_right) {
    __shared__ int last;
    u32 *tickets = (u32 *)(out + 127);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = blockIdx.x;
        __threadfence();
        last = atomicAdd(tickets, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) out[64] = out[0] + out[1] + out[2];
}
KERNEL(last_block_without_fence) {
    __shared__ int last;
    u32 *tickets = (u32 *)(out + 127);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = blockIdx.x;
        last = atomicAdd(tickets, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) out[64] = out[0] + out[1] + out[2];
}
KERNEL(stack_overflow) {
    volatile char large[80000];
    for (int i = 0; i < 80000; i++) large[i] = i;
    out[threadIdx.x] = large[n];
}

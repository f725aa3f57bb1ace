// Attention without a matrix of weights in memory (Dao et al., arXiv:2205.14135 and 2307.08691), of 16-bit queries, keys
// and values packed as [batch, tokens, 3, heads, D]. Products by tensor cores with 32-bit sums, softmax in 32 bits.
//
// A block does a tile of ROWS = 16 · WARPS queries (or keys) of one head of one image, a warp 16 of them, and goes over
// tiles of as many keys (or queries). Tiles are in shared memory, rows padded by 16 bytes: an odd number of 16-byte chunks
// from row to row, so that ldmatrix meets no bank conflict. No atomics: every value has one writer and one order of sums.

#define LOG2E 1.4426950408889634f
#define LN2 0.69314718055994531f
// What hides a key: its weight becomes 0, and no infinity is subtracted from another.
#define HIDDEN -1e30f

template <int D> DEVICE saddr at(const half_t* tile, int row, int chunk) { return smem(tile + row * (D + 8) + chunk * 8); }

// Starts the copy of rows `first` to `first + ROWS` of a head to a tile; rows from `end` on are zeros.
template <int D, int WARPS>
DEVICE void load_tile(half_t* tile, const half_t* from, u64 stride, int first, int end) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        int c = threadIdx.x + i * 32 * WARPS, r = c / (D / 8), chunk = c % (D / 8), row = first + r;
        bool ok = row < end;
        cp16(at<D>(tile, r, chunk), from + (u64)(ok ? row : 0) * stride + chunk * 8, ok);
    }
}

// 16 rows of a tile as the left operand of products over one step of 16 of the depth.
template <int D> DEVICE void left_operand(u32 f[4], const half_t* tile, int row, int step, int lane) {
    ldm4(f[0], f[1], f[2], f[3], at<D>(tile, row + (lane & 15), step * 2 + (lane >> 4)));
}
// 16 rows of a tile as the right operands of two products of 8 columns: rows are columns of the product.
template <int D> DEVICE void right_operand(u32 b[4], const half_t* tile, int row, int step, int lane) {
    ldm4(b[0], b[1], b[2], b[3], at<D>(tile, row + (lane & 7) + ((lane >> 4) << 3), step * 2 + ((lane >> 3) & 1)));
}
// 16 rows of a tile as the right operands of two products of 8 columns: rows are the depth.
template <int D> DEVICE void right_operand_transposed(u32 b[4], const half_t* tile, int row, int pair, int lane) {
    ldm4t(b[0], b[1], b[2], b[3], at<D>(tile, row + (lane & 7) + (((lane >> 3) & 1) << 3), pair * 2 + (lane >> 4)));
}

// What a block does: of every head of every image, one of `tiles` tiles of `rows` rows. All in the grid's first extent: the
// others take 65535 blocks at most, and there may be more images.
DEVICE void this_block(int tiles, int heads, int rows, int& image, int& head, int& first) {
    first = (int)(blockIdx.x % tiles) * rows;
    head = (int)(blockIdx.x / tiles % heads);
    image = (int)(blockIdx.x / tiles / heads);
}

template <int COUNT> DEVICE void clear(float (*sums)[4]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = 0.f;
}

// Two neighboring accumulators of 8 columns, as the left operand of the next product.
DEVICE void as_left(u32 f[4], const float a[4], const float b[4]) {
    f[0] = pack(a[0], a[1]);
    f[1] = pack(a[2], a[3]);
    f[2] = pack(b[0], b[1]);
    f[3] = pack(b[2], b[3]);
}

// Output [batch, queries, heads · D]; where `totals` is there, it gets for every query the logarithm of the sum of its
// exponentials, [batch, heads, queries]. `mask` [batch, tokens], where it is there, is added to scores of keys. Dynamic
// shared memory: 4 · ROWS · (D + 8) values.
template <int D, int WARPS>
DEVICE void attention(const half_t* qkv, const float* mask, half_t* out, float* totals, int tokens, int queries,
                      int heads, float scale) {
    constexpr int ROWS = 16 * WARPS;
    extern __shared__ __align__(128) unsigned char shared[];
    half_t *keys = (half_t*)shared, *values = keys + 2 * ROWS * (D + 8);
    constexpr int TILE = ROWS * (D + 8);
    int tiles_of_queries = (queries + ROWS - 1) / ROWS, image, head, first;
    this_block(tiles_of_queries, heads, ROWS, image, head, first);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    u64 stride = (u64)3 * heads * D;
    const half_t* base = qkv + (u64)image * tokens * stride + head * D;
    const half_t *of_keys = base + heads * D, *of_values = base + 2 * heads * D;
    float to_log2 = scale * LOG2E;

    // Queries go through the room of the second tile of values.
    load_tile<D, WARPS>(values + TILE, base, stride, first, queries);
    cp_commit();
    load_tile<D, WARPS>(keys, of_keys, stride, 0, tokens);
    load_tile<D, WARPS>(values, of_values, stride, 0, tokens);
    cp_commit();
    cp_wait<1>();
    __syncthreads();
    u32 q[D / 16][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++) left_operand<D>(q[k], values + TILE, warp * 16, k, lane);
    __syncthreads();

    float o[D / 8][4], top0 = HIDDEN, top1 = HIDDEN, sum0 = 0.f, sum1 = 0.f;
    clear<D / 8>(o);
    int tiles = (tokens + ROWS - 1) / ROWS;
    for (int t = 0; t < tiles; t++) {
        int now = t & 1, next = now ^ 1;
        if (t + 1 < tiles) {
            load_tile<D, WARPS>(keys + next * TILE, of_keys, stride, (t + 1) * ROWS, tokens);
            load_tile<D, WARPS>(values + next * TILE, of_values, stride, (t + 1) * ROWS, tokens);
        }
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        float s[2 * WARPS][4];
        clear<2 * WARPS>(s);
#pragma unroll
        for (int k = 0; k < D / 16; k++)
#pragma unroll
            for (int n = 0; n < WARPS; n++) {
                u32 b[4];
                right_operand<D>(b, keys + now * TILE, n * 16, k, lane);
                mma(s[2 * n], q[k], b[0], b[1]);
                mma(s[2 * n + 1], q[k], b[2], b[3]);
            }
        int left = tokens - t * ROWS;
        if (mask)
#pragma unroll
            for (int n = 0; n < 2 * WARPS; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    int key = n * 8 + (lane & 3) * 2 + (j & 1);
                    // In units of unscaled scores; a mask of −∞ hides the key.
                    float moved = key < left ? s[n][j] + mask[(u64)image * tokens + t * ROWS + key] / scale : HIDDEN;
                    s[n][j] = moved < HIDDEN ? HIDDEN : moved;
                }
        if (left < ROWS)
#pragma unroll
            for (int n = 0; n < 2 * WARPS; n++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (n * 8 + (lane & 3) * 2 + (j & 1) >= left) s[n][j] = HIDDEN;
        float up0 = top0, up1 = top1;
#pragma unroll
        for (int n = 0; n < 2 * WARPS; n++) {
            up0 = fmaxf(up0, fmaxf(s[n][0], s[n][1]));
            up1 = fmaxf(up1, fmaxf(s[n][2], s[n][3]));
        }
        up0 = fmaxf(up0, __shfl_xor_sync(~0u, up0, 1));
        up0 = fmaxf(up0, __shfl_xor_sync(~0u, up0, 2));
        up1 = fmaxf(up1, __shfl_xor_sync(~0u, up1, 1));
        up1 = fmaxf(up1, __shfl_xor_sync(~0u, up1, 2));
        float shrink0 = ex2((top0 - up0) * to_log2), shrink1 = ex2((top1 - up1) * to_log2);
        top0 = up0;
        top1 = up1;
        sum0 *= shrink0;
        sum1 *= shrink1;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            o[n][0] *= shrink0;
            o[n][1] *= shrink0;
            o[n][2] *= shrink1;
            o[n][3] *= shrink1;
        }
        // Where every key is hidden so far, nothing is taken away: the difference of two huge products need not be 0.
        float less0 = top0 > HIDDEN ? top0 * to_log2 : 0.f, less1 = top1 > HIDDEN ? top1 * to_log2 : 0.f;
#pragma unroll
        for (int n = 0; n < 2 * WARPS; n++) {
            s[n][0] = ex2(s[n][0] * to_log2 - less0);
            s[n][1] = ex2(s[n][1] * to_log2 - less0);
            s[n][2] = ex2(s[n][2] * to_log2 - less1);
            s[n][3] = ex2(s[n][3] * to_log2 - less1);
            sum0 += s[n][0] + s[n][1];
            sum1 += s[n][2] + s[n][3];
        }
#pragma unroll
        for (int k = 0; k < WARPS; k++) {
            u32 p[4];
            as_left(p, s[2 * k], s[2 * k + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                u32 b[4];
                right_operand_transposed<D>(b, values + now * TILE, k * 16, n, lane);
                mma(o[2 * n], p, b[0], b[1]);
                mma(o[2 * n + 1], p, b[2], b[3]);
            }
        }
        __syncthreads();
    }
    sum0 += __shfl_xor_sync(~0u, sum0, 1);
    sum0 += __shfl_xor_sync(~0u, sum0, 2);
    sum1 += __shfl_xor_sync(~0u, sum1, 1);
    sum1 += __shfl_xor_sync(~0u, sum1, 2);
    // A query without keys attends to nothing.
    float share0 = top0 > HIDDEN ? 1.f / sum0 : 0.f, share1 = top1 > HIDDEN ? 1.f / sum1 : 0.f;
    int row0 = first + warp * 16 + (lane >> 2), row1 = row0 + 8;
    if (totals && (lane & 3) == 0) {
        float* to = totals + ((u64)image * heads + head) * queries;
        if (row0 < queries) to[row0] = (top0 * to_log2 + log2f(sum0)) * LN2;
        if (row1 < queries) to[row1] = (top1 * to_log2 + log2f(sum1)) * LN2;
    }
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        int c = head * D + n * 8 + (lane & 3) * 2;
        half_t* to = out + (u64)image * queries * heads * D + c;
        if (row0 < queries) *(u32*)(to + (u64)row0 * heads * D) = pack(o[n][0] * share0, o[n][1] * share0);
        if (row1 < queries) *(u32*)(to + (u64)row1 * heads * D) = pack(o[n][2] * share1, o[n][3] * share1);
    }
}
#define ATTENTION(D, WARPS)                                                                                            \
    KERNEL __launch_bounds__(32 * WARPS) void attention_##D##_##WARPS(                                                 \
        const half_t* qkv, const float* mask, half_t* out, float* totals, int tokens, int queries, int heads,          \
        float scale) {                                                                                                 \
        attention<D, WARPS>(qkv, mask, out, totals, tokens, queries, heads, scale);                                    \
    }
ATTENTION(32, 4) ATTENTION(64, 4) ATTENTION(80, 4) ATTENTION(96, 4) ATTENTION(128, 4)
ATTENTION(32, 7) ATTENTION(64, 7)

// inner [batch, heads, queries]: Σ out · grad of every query, of [batch, queries, heads · D]. LANES threads a query and
// head, a power of two that divides D / 8.
template <int D, int LANES>
DEVICE void attention_inner(const half_t* out, const half_t* grad, float* inner, int queries, int heads, u64 count) {
    u64 i = place(), row = i / LANES;
    float sum = 0.f;
    if (row < count)
        for (int chunk = (int)(i % LANES); chunk < D / 8; chunk += LANES) {
            float a[8], b[8];
            load8(out + row * D + chunk * 8, a);
            load8(grad + row * D + chunk * 8, b);
            for (int j = 0; j < 8; j++) sum += a[j] * b[j];
        }
    for (int step = LANES / 2; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    if (row >= count || i % LANES) return;
    u64 head = row % heads, query = row / heads % queries, image = row / heads / queries;
    inner[(image * heads + head) * queries + query] = sum;
}

// Gradients of the keys and values of a tile of 64; goes over tiles of queries. Scores are made transposed, so that weights
// and their gradients feed the next products from registers. Dynamic shared memory: 6 · 64 · (D + 8) values and 256 floats.
template <int D>
DEVICE void attention_keys_backward(const half_t* qkv, const half_t* grad, const float* totals, const float* inner,
                                    half_t* out, int tokens, int queries, int heads, float scale) {
    constexpr int TILE = 64 * (D + 8);
    // Wide heads leave no registers for keys and values; they are read from shared memory again.
    constexpr bool HELD = D <= 64;
    extern __shared__ __align__(128) unsigned char shared[];
    half_t *keys = (half_t*)shared, *values = keys + TILE, *asked = values + TILE, *grads = asked + 2 * TILE;
    float *of_totals = (float*)(grads + 2 * TILE), *of_inner = of_totals + 128;
    int image, head, first;
    this_block((tokens + 63) / 64, heads, 64, image, head, first);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    float to_log2 = scale * LOG2E;
    u64 stride = (u64)3 * heads * D, row_stride = (u64)heads * D;
    const half_t* base = qkv + (u64)image * tokens * stride + head * D;
    const half_t* of_grad = grad + (u64)image * queries * row_stride + head * D;
    const float* row_totals = totals + ((u64)image * heads + head) * queries;
    const float* row_inner = inner + ((u64)image * heads + head) * queries;
    auto statistics = [&](int to, int start) {
        if (threadIdx.x < 64) {
            int row = start + threadIdx.x;
            of_totals[to * 64 + threadIdx.x] = row < queries ? row_totals[row] * LOG2E : -HIDDEN;
            of_inner[to * 64 + threadIdx.x] = row < queries ? row_inner[row] : 0.f;
        }
    };
    load_tile<D, 4>(keys, base + heads * D, stride, first, tokens);
    load_tile<D, 4>(values, base + 2 * heads * D, stride, first, tokens);
    cp_commit();
    load_tile<D, 4>(asked, base, stride, 0, queries);
    load_tile<D, 4>(grads, of_grad, row_stride, 0, queries);
    statistics(0, 0);
    cp_commit();
    cp_wait<1>();
    __syncthreads();
    u32 k_held[HELD ? D / 16 : 1][4], v_held[HELD ? D / 16 : 1][4];
    if (HELD)
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            left_operand<D>(k_held[HELD ? k : 0], keys, warp * 16, k, lane);
            left_operand<D>(v_held[HELD ? k : 0], values, warp * 16, k, lane);
        }
    float dk[D / 8][4], dv[D / 8][4];
    clear<D / 8>(dk);
    clear<D / 8>(dv);
    int tiles = (queries + 63) / 64;
    for (int t = 0; t < tiles; t++) {
        int now = t & 1, next = now ^ 1;
        if (t + 1 < tiles) {
            load_tile<D, 4>(asked + next * TILE, base, stride, (t + 1) * 64, queries);
            load_tile<D, 4>(grads + next * TILE, of_grad, row_stride, (t + 1) * 64, queries);
            statistics(next, (t + 1) * 64);
        }
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        const half_t *q_tile = asked + now * TILE, *g_tile = grads + now * TILE;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float s[4][4], p[4][4];
            clear<4>(s);
            clear<4>(p);
#pragma unroll
            for (int k = 0; k < D / 16; k++) {
                u32 k_now[4], v_now[4];
                if (!HELD) {
                    left_operand<D>(k_now, keys, warp * 16, k, lane);
                    left_operand<D>(v_now, values, warp * 16, k, lane);
                }
                const u32 *k_left = HELD ? k_held[HELD ? k : 0] : k_now, *v_left = HELD ? v_held[HELD ? k : 0] : v_now;
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    u32 b[4];
                    right_operand<D>(b, q_tile, half * 32 + n * 16, k, lane);
                    mma(s[2 * n], k_left, b[0], b[1]);
                    mma(s[2 * n + 1], k_left, b[2], b[3]);
                    right_operand<D>(b, g_tile, half * 32 + n * 16, k, lane);
                    mma(p[2 * n], v_left, b[0], b[1]);
                    mma(p[2 * n + 1], v_left, b[2], b[3]);
                }
            }
#pragma unroll
            for (int n = 0; n < 4; n++) {
                int c = now * 64 + half * 32 + n * 8 + (lane & 3) * 2;
                float2 less = *(const float2*)(of_totals + c), of = *(const float2*)(of_inner + c);
                s[n][0] = ex2(s[n][0] * to_log2 - less.x);
                s[n][1] = ex2(s[n][1] * to_log2 - less.y);
                s[n][2] = ex2(s[n][2] * to_log2 - less.x);
                s[n][3] = ex2(s[n][3] * to_log2 - less.y);
                p[n][0] = s[n][0] * (p[n][0] - of.x);
                p[n][1] = s[n][1] * (p[n][1] - of.y);
                p[n][2] = s[n][2] * (p[n][2] - of.x);
                p[n][3] = s[n][3] * (p[n][3] - of.y);
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                u32 weights[4], scores[4];
                as_left(weights, s[2 * k], s[2 * k + 1]);
                as_left(scores, p[2 * k], p[2 * k + 1]);
#pragma unroll
                for (int n = 0; n < D / 16; n++) {
                    u32 b[4];
                    right_operand_transposed<D>(b, g_tile, half * 32 + k * 16, n, lane);
                    mma(dv[2 * n], weights, b[0], b[1]);
                    mma(dv[2 * n + 1], weights, b[2], b[3]);
                    right_operand_transposed<D>(b, q_tile, half * 32 + k * 16, n, lane);
                    mma(dk[2 * n], scores, b[0], b[1]);
                    mma(dk[2 * n + 1], scores, b[2], b[3]);
                }
            }
        }
        __syncthreads();
    }
    int row0 = first + warp * 16 + (lane >> 2), row1 = row0 + 8;
    half_t* to = out + (u64)image * tokens * stride + head * D;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        int c = n * 8 + (lane & 3) * 2;
        half_t *to_keys = to + heads * D + c, *to_values = to + 2 * heads * D + c;
        if (row0 < tokens) {
            *(u32*)(to_keys + row0 * stride) = pack(dk[n][0] * scale, dk[n][1] * scale);
            *(u32*)(to_values + row0 * stride) = pack(dv[n][0], dv[n][1]);
        }
        if (row1 < tokens) {
            *(u32*)(to_keys + row1 * stride) = pack(dk[n][2] * scale, dk[n][3] * scale);
            *(u32*)(to_values + row1 * stride) = pack(dv[n][2], dv[n][3]);
        }
    }
}

// Gradients of a tile of 64 queries; goes over tiles of keys. Tokens that do not ask get zeros. Dynamic shared memory:
// 4 · 64 · (D + 8) values.
template <int D>
DEVICE void attention_queries_backward(const half_t* qkv, const half_t* grad, const float* totals, const float* inner,
                                       half_t* out, int tokens, int queries, int heads, float scale) {
    constexpr int TILE = 64 * (D + 8);
    extern __shared__ __align__(128) unsigned char shared[];
    half_t *keys = (half_t*)shared, *values = keys + 2 * TILE;
    int image, head, first;
    this_block((tokens + 63) / 64, heads, 64, image, head, first);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    float to_log2 = scale * LOG2E;
    u64 stride = (u64)3 * heads * D, row_stride = (u64)heads * D;
    const half_t* base = qkv + (u64)image * tokens * stride + head * D;
    const half_t *of_keys = base + heads * D, *of_values = base + 2 * heads * D;
    const half_t* of_grad = grad + (u64)image * queries * row_stride + head * D;
    u64 at_rows = ((u64)image * heads + head) * queries;
    load_tile<D, 4>(keys + TILE, base, stride, first, queries);
    load_tile<D, 4>(values + TILE, of_grad, row_stride, first, queries);
    cp_commit();
    load_tile<D, 4>(keys, of_keys, stride, 0, tokens);
    load_tile<D, 4>(values, of_values, stride, 0, tokens);
    cp_commit();
    int row0 = first + warp * 16 + (lane >> 2), row1 = row0 + 8;
    float less0 = row0 < queries ? totals[at_rows + row0] * LOG2E : -HIDDEN;
    float less1 = row1 < queries ? totals[at_rows + row1] * LOG2E : -HIDDEN;
    float inner0 = row0 < queries ? inner[at_rows + row0] : 0.f, inner1 = row1 < queries ? inner[at_rows + row1] : 0.f;
    cp_wait<1>();
    __syncthreads();
    u32 q[D / 16][4], g[D / 16][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        left_operand<D>(q[k], keys + TILE, warp * 16, k, lane);
        left_operand<D>(g[k], values + TILE, warp * 16, k, lane);
    }
    __syncthreads();
    float dq[D / 8][4];
    clear<D / 8>(dq);
    int tiles = (tokens + 63) / 64;
    for (int t = 0; t < tiles; t++) {
        int now = t & 1, next = now ^ 1, left = tokens - t * 64;
        if (t + 1 < tiles) {
            load_tile<D, 4>(keys + next * TILE, of_keys, stride, (t + 1) * 64, tokens);
            load_tile<D, 4>(values + next * TILE, of_values, stride, (t + 1) * 64, tokens);
        }
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        const half_t *k_tile = keys + now * TILE, *v_tile = values + now * TILE;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float s[4][4], p[4][4];
            clear<4>(s);
            clear<4>(p);
#pragma unroll
            for (int k = 0; k < D / 16; k++)
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    u32 b[4];
                    right_operand<D>(b, k_tile, half * 32 + n * 16, k, lane);
                    mma(s[2 * n], q[k], b[0], b[1]);
                    mma(s[2 * n + 1], q[k], b[2], b[3]);
                    right_operand<D>(b, v_tile, half * 32 + n * 16, k, lane);
                    mma(p[2 * n], g[k], b[0], b[1]);
                    mma(p[2 * n + 1], g[k], b[2], b[3]);
                }
#pragma unroll
            for (int n = 0; n < 4; n++) {
                s[n][0] = ex2(s[n][0] * to_log2 - less0) * (p[n][0] - inner0);
                s[n][1] = ex2(s[n][1] * to_log2 - less0) * (p[n][1] - inner0);
                s[n][2] = ex2(s[n][2] * to_log2 - less1) * (p[n][2] - inner1);
                s[n][3] = ex2(s[n][3] * to_log2 - less1) * (p[n][3] - inner1);
            }
            if (left < 64)
#pragma unroll
                for (int n = 0; n < 4; n++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        if (half * 32 + n * 8 + (lane & 3) * 2 + (j & 1) >= left) s[n][j] = 0.f;
#pragma unroll
            for (int k = 0; k < 2; k++) {
                u32 scores[4];
                as_left(scores, s[2 * k], s[2 * k + 1]);
#pragma unroll
                for (int n = 0; n < D / 16; n++) {
                    u32 b[4];
                    right_operand_transposed<D>(b, k_tile, half * 32 + k * 16, n, lane);
                    mma(dq[2 * n], scores, b[0], b[1]);
                    mma(dq[2 * n + 1], scores, b[2], b[3]);
                }
            }
        }
        __syncthreads();
    }
    half_t* to = out + (u64)image * tokens * stride + head * D;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        int c = n * 8 + (lane & 3) * 2;
        if (row0 < tokens) *(u32*)(to + row0 * stride + c) = pack(dq[n][0] * scale, dq[n][1] * scale);
        if (row1 < tokens) *(u32*)(to + row1 * stride + c) = pack(dq[n][2] * scale, dq[n][3] * scale);
    }
}
#define BACKWARD(D, LANES)                                                                                             \
    KERNEL void attention_inner_##D(const half_t* out, const half_t* grad, float* inner, int queries, int heads,       \
                                    u64 count) {                                                                       \
        attention_inner<D, LANES>(out, grad, inner, queries, heads, count);                                            \
    }                                                                                                                  \
    KERNEL __launch_bounds__(128) void attention_keys_backward_##D(                                                    \
        const half_t* qkv, const half_t* grad, const float* totals, const float* inner, half_t* out, int tokens,       \
        int queries, int heads, float scale) {                                                                         \
        attention_keys_backward<D>(qkv, grad, totals, inner, out, tokens, queries, heads, scale);                      \
    }                                                                                                                  \
    KERNEL __launch_bounds__(128) void attention_queries_backward_##D(                                                 \
        const half_t* qkv, const half_t* grad, const float* totals, const float* inner, half_t* out, int tokens,       \
        int queries, int heads, float scale) {                                                                         \
        attention_queries_backward<D>(qkv, grad, totals, inner, out, tokens, queries, heads, scale);                   \
    }
BACKWARD(32, 4) BACKWARD(64, 8) BACKWARD(80, 2) BACKWARD(96, 4) BACKWARD(128, 8)

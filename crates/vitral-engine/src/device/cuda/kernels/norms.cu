// LayerNorm, RMSNorm, batch norm and group norm.
//
// Segments: of every group of `per_group` runs of `width` values, those from `first` on, `held` of them, are normalized;
// whole rows are segments with all three 1, 0 and 1.

DEVICE u64 segment_of(u64 i, int per_group, int first, int held) {
    return held == per_group ? i : i / held * per_group + first + i % held;
}

// A warp a segment, all of it in registers: the width is a multiple of 8 and at most 256 · V.
template <int V, class T, class O>
DEVICE void norm(const T* x, const float* weight, const float* bias, O* out, u64 segments, int width, int per_group,
                 int first, int held, float epsilon, int rms) {
    u64 i = (u64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    int lane = threadIdx.x & 31, chunks = width >> 3;
    if (i >= segments) return;
    u64 start = segment_of(i, per_group, first, held) * width;
    float v[V][8], sum = 0.f, square = 0.f, share = 1.f / width;
#pragma unroll
    for (int k = 0; k < V; k++) {
        int chunk = k * 32 + lane;
        if (chunk < chunks) load8(x + start + chunk * 8, v[k]);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (chunk >= chunks) v[k][j] = 0.f;
            sum += v[k][j];
        }
    }
    float mean = rms ? 0.f : warp_sum(sum) * share;
#pragma unroll
    for (int k = 0; k < V; k++)
        if (k * 32 + lane < chunks)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                v[k][j] -= mean;
                square += v[k][j] * v[k][j];
            }
    float reciprocal = rsqrtf(warp_sum(square) * share + epsilon);
#pragma unroll
    for (int k = 0; k < V; k++) {
        int chunk = k * 32 + lane;
        if (chunk >= chunks) continue;
        float w[8], b[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
        load8(weight + chunk * 8, w);
        if (bias) load8(bias + chunk * 8, b);
#pragma unroll
        for (int j = 0; j < 8; j++) v[k][j] = v[k][j] * reciprocal * w[j] + b[j];
        store8(out + start + chunk * 8, v[k]);
    }
}
#define NORM(V, name, T, O)                                                                                            \
    KERNEL void norm_##V##_##name(const T* x, const float* weight, const float* bias, O* out, u64 segments, int width, \
                                  int per_group, int first, int held, float epsilon, int rms) {                        \
        norm<V>(x, weight, bias, out, segments, width, per_group, first, held, epsilon, rms);                          \
    }
#define NORMS(V) NORM(V, f, float, float) NORM(V, h, half_t, half_t)
NORMS(1) NORMS(2) NORMS(3) NORMS(4) NORMS(5) NORMS(6) NORMS(8)

// A warp a segment of any width. Three passes over it.
template <class T, class O>
DEVICE void norm_any(const T* x, const float* weight, const float* bias, O* out, u64 segments, int width,
                     int per_group, int first, int held, float epsilon, int rms) {
    u64 i = (u64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    int lane = threadIdx.x & 31;
    if (i >= segments) return;
    u64 start = segment_of(i, per_group, first, held) * width;
    float sum = 0.f, square = 0.f;
    for (int c = lane; c < width; c += 32) sum += value(x[start + c]);
    float mean = rms ? 0.f : warp_sum(sum) / width;
    for (int c = lane; c < width; c += 32) {
        float d = value(x[start + c]) - mean;
        square += d * d;
    }
    float reciprocal = rsqrtf(warp_sum(square) / width + epsilon);
    for (int c = lane; c < width; c += 32) {
        float b = bias ? bias[c] : 0.f;
        put(out + start + c, (value(x[start + c]) - mean) * reciprocal * weight[c] + b);
    }
}
#define P(T)                                                                                                           \
    (const T* x, const float* weight, const float* bias, T* out, u64 segments, int width, int per_group, int first,    \
     int held, float epsilon, int rms)
BOTH(norm_any, P, (x, weight, bias, out, segments, width, per_group, first, held, epsilon, rms))
#undef P

// The gradient of `norm`, a warp a segment at a time, added to `onto` where that is there. Gradients of weight and bias are
// summed over the segments of a block: partial [blocks, 2 · width]. Dynamic shared memory: 2 · width floats.
template <int V, class T>
DEVICE void norm_backward(const T* x, const T* grad, const float* weight, const T* onto, T* out, float* partial,
                          u64 segments, int width, int per_group, int first, int held, float epsilon, int rms) {
    extern __shared__ float sums[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5, chunks = width >> 3;
    float share = 1.f / width, dw[V][8], db[V][8];
#pragma unroll
    for (int k = 0; k < V; k++)
#pragma unroll
        for (int j = 0; j < 8; j++) dw[k][j] = db[k][j] = 0.f;
    for (u64 i = (u64)blockIdx.x * warps + warp; i < segments; i += (u64)gridDim.x * warps) {
        u64 start = segment_of(i, per_group, first, held) * width;
        float v[V][8], g[V][8], sum = 0.f, square = 0.f, average = 0.f, along = 0.f;
#pragma unroll
        for (int k = 0; k < V; k++) {
            int chunk = k * 32 + lane;
            if (chunk < chunks) {
                load8(x + start + chunk * 8, v[k]);
                load8(grad + start + chunk * 8, g[k]);
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (chunk >= chunks) v[k][j] = g[k][j] = 0.f;
                sum += v[k][j];
            }
        }
        float mean = rms ? 0.f : warp_sum(sum) * share;
#pragma unroll
        for (int k = 0; k < V; k++)
            if (k * 32 + lane < chunks)
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    v[k][j] -= mean;
                    square += v[k][j] * v[k][j];
                }
        float reciprocal = rsqrtf(warp_sum(square) * share + epsilon);
#pragma unroll
        for (int k = 0; k < V; k++) {
            int chunk = k * 32 + lane;
            if (chunk >= chunks) continue;
            float w[8];
            load8(weight + chunk * 8, w);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float normed = v[k][j] * reciprocal, e = g[k][j];
                db[k][j] += e;
                dw[k][j] += e * normed;
                e *= w[j];
                average += e;
                along += e * normed;
                v[k][j] = normed;
                g[k][j] = e;
            }
        }
        average = rms ? 0.f : warp_sum(average) * share;
        along = warp_sum(along) * share;
#pragma unroll
        for (int k = 0; k < V; k++) {
            int chunk = k * 32 + lane;
            if (chunk >= chunks) continue;
#pragma unroll
            for (int j = 0; j < 8; j++) g[k][j] = reciprocal * (g[k][j] - average - v[k][j] * along);
            if (onto) {
                load8(onto + start + chunk * 8, v[k]);
#pragma unroll
                for (int j = 0; j < 8; j++) g[k][j] += v[k][j];
            }
            store8(out + start + chunk * 8, g[k]);
        }
    }
    for (int turn = 0; turn < warps; turn++) {
        if (warp == turn)
#pragma unroll
            for (int k = 0; k < V; k++) {
                int chunk = k * 32 + lane;
                if (chunk < chunks)
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        int c = chunk * 8 + j;
                        sums[c] = dw[k][j] + (turn ? sums[c] : 0.f);
                        sums[width + c] = db[k][j] + (turn ? sums[width + c] : 0.f);
                    }
            }
        __syncthreads();
    }
    for (int c = threadIdx.x; c < 2 * width; c += blockDim.x) partial[(u64)blockIdx.x * 2 * width + c] = sums[c];
}
#define BACKWARD(V, name, T)                                                                                           \
    KERNEL __launch_bounds__(256) void norm_backward_##V##_##name(                                                     \
        const T* x, const T* grad, const float* weight, const T* onto, T* out, float* partial, u64 segments, int width, \
        int per_group, int first, int held, float epsilon, int rms) {                                                  \
        norm_backward<V>(x, grad, weight, onto, out, partial, segments, width, per_group, first, held, epsilon, rms);        \
    }
#define BACKWARDS(V) BACKWARD(V, f, float) BACKWARD(V, h, half_t)
BACKWARDS(1) BACKWARDS(2) BACKWARDS(3) BACKWARDS(4) BACKWARDS(5) BACKWARDS(6)

// The same for any width, a block a segment at a time; its dynamic shared memory holds 2 · width sums.
template <class T>
DEVICE void norm_backward_any(const T* x, const T* grad, const float* weight, const T* onto, T* out, float* partial,
                              u64 segments, int width, int per_group, int first, int held, float epsilon, int rms) {
    extern __shared__ float sums[];
    __shared__ float room[32];
    for (int c = threadIdx.x; c < 2 * width; c += blockDim.x) sums[c] = 0.f;
    for (u64 i = blockIdx.x; i < segments; i += gridDim.x) {
        u64 start = segment_of(i, per_group, first, held) * width;
        float sum = 0.f, square = 0.f, average = 0.f, along = 0.f;
        for (int c = threadIdx.x; c < width; c += blockDim.x) sum += value(x[start + c]);
        sum = block_sum(sum, room);
        float mean = rms ? 0.f : sum / width;
        for (int c = threadIdx.x; c < width; c += blockDim.x) {
            float d = value(x[start + c]) - mean;
            square += d * d;
        }
        float reciprocal = rsqrtf(block_sum(square, room) / width + epsilon);
        for (int c = threadIdx.x; c < width; c += blockDim.x) {
            float normed = (value(x[start + c]) - mean) * reciprocal, g = value(grad[start + c]);
            sums[c] += g * normed;
            sums[width + c] += g;
            average += g * weight[c];
            along += g * weight[c] * normed;
        }
        average = block_sum(average, room);
        average = rms ? 0.f : average / width;
        along = block_sum(along, room) / width;
        for (int c = threadIdx.x; c < width; c += blockDim.x) {
            float normed = (value(x[start + c]) - mean) * reciprocal;
            float made = reciprocal * (value(grad[start + c]) * weight[c] - average - normed * along);
            put(out + start + c, onto ? value(onto[start + c]) + made : made);
        }
    }
    for (int c = threadIdx.x; c < 2 * width; c += blockDim.x) partial[(u64)blockIdx.x * 2 * width + c] = sums[c];
}
#define P(T)                                                                                                           \
    (const T* x, const T* grad, const float* weight, const T* onto, T* out, float* partial, u64 segments, int width,   \
     int per_group, int first, int held, float epsilon, int rms)
BOTH(norm_backward_any, P, (x, grad, weight, onto, out, partial, segments, width, per_group, first, held, epsilon, rms))
#undef P

// Batch norm by given statistics, over the innermost extent.
KERNEL void batch_norm(const float* x, const float* weight, const float* bias, const float* mean,
                       const float* variance, float* out, u64 count, int channels, float epsilon) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % channels);
    out[i] = (x[i] - mean[c]) * rsqrtf(variance[c] + epsilon) * weight[c] + bias[c];
}
// Its gradient; `normed` becomes the normalized input, whose product with the gradient is the weight's.
KERNEL void batch_norm_backward(const float* x, const float* grad, const float* weight, const float* mean,
                                const float* variance, float* out, float* normed, u64 count, int channels,
                                float epsilon) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % channels);
    float reciprocal = rsqrtf(variance[c] + epsilon);
    out[i] = grad[i] * weight[c] * reciprocal;
    normed[i] = (x[i] - mean[c]) * reciprocal;
}

// The block's group of one sample of x [batch, places, channels]: its mean and reciprocal deviation.
DEVICE void group_statistics(const float* x, u64 start, int places, int channels, int width, float epsilon,
                             float* room, float& mean, float& reciprocal) {
    int members = places * width;
    float sum = 0.f, square = 0.f;
    for (int i = threadIdx.x; i < members; i += blockDim.x) sum += x[start + (u64)(i / width) * channels + i % width];
    mean = block_sum(sum, room) / members;
    for (int i = threadIdx.x; i < members; i += blockDim.x) {
        float d = x[start + (u64)(i / width) * channels + i % width] - mean;
        square += d * d;
    }
    reciprocal = rsqrtf(block_sum(square, room) / members + epsilon);
}
// Group norm, a block a group of a sample.
KERNEL void group_norm(const float* x, const float* weight, const float* bias, float* out, int places, int channels,
                       int groups, float epsilon) {
    __shared__ float room[32];
    int group = blockIdx.x % groups, width = channels / groups, members = places * width;
    u64 start = (u64)(blockIdx.x / groups) * places * channels + group * width;
    float mean, reciprocal;
    group_statistics(x, start, places, channels, width, epsilon, room, mean, reciprocal);
    for (int i = threadIdx.x; i < members; i += blockDim.x) {
        u64 at = start + (u64)(i / width) * channels + i % width;
        int c = group * width + i % width;
        out[at] = (x[at] - mean) * reciprocal * weight[c] + bias[c];
    }
}
KERNEL void group_norm_backward(const float* x, const float* grad, const float* weight, float* out, float* normed,
                                int places, int channels, int groups, float epsilon) {
    __shared__ float room[32];
    int group = blockIdx.x % groups, width = channels / groups, members = places * width;
    u64 start = (u64)(blockIdx.x / groups) * places * channels + group * width;
    float mean, reciprocal, average = 0.f, along = 0.f;
    group_statistics(x, start, places, channels, width, epsilon, room, mean, reciprocal);
    for (int i = threadIdx.x; i < members; i += blockDim.x) {
        u64 at = start + (u64)(i / width) * channels + i % width;
        float n = (x[at] - mean) * reciprocal, g = grad[at] * weight[group * width + i % width];
        normed[at] = n;
        average += g;
        along += g * n;
    }
    average = block_sum(average, room) / members;
    along = block_sum(along, room) / members;
    for (int i = threadIdx.x; i < members; i += blockDim.x) {
        u64 at = start + (u64)(i / width) * channels + i % width;
        float n = (x[at] - mean) * reciprocal, g = grad[at] * weight[group * width + i % width];
        out[at] = reciprocal * (g - average - n * along);
    }
}

// One value at a time, or one row.

#define P(T) (T* out, u64 count, float x)
template <class T> DEVICE void fill(T* out, u64 count, float x) {
    u64 first = 8 * place();
    float v[8] = {x, x, x, x, x, x, x, x};
    if (first < count) store_some(out, first, count, v);
}
BOTH(fill, P, (out, count, x))
#undef P

template <class T, class O> DEVICE void convert(const T* x, O* out, u64 count) {
    u64 first = 8 * place();
    float v[8];
    if (first >= count) return;
    load_some(x, first, count, v);
    store_some(out, first, count, v);
}
KERNEL void copied(const float* x, float* out, u64 count) { convert(x, out, count); }
KERNEL void narrowed(const float* x, half_t* out, u64 count) { convert(x, out, count); }
KERNEL void widened(const half_t* x, float* out, u64 count) { convert(x, out, count); }

#define P(T) (const T* a, const T* b, T* out, u64 count)
template <class T> DEVICE void add(const T* a, const T* b, T* out, u64 count) {
    u64 first = 8 * place();
    float v[8], w[8];
    if (first >= count) return;
    load_some(a, first, count, v);
    load_some(b, first, count, w);
    for (int j = 0; j < 8; j++) v[j] += w[j];
    store_some(out, first, count, v);
}
BOTH(add, P, (a, b, out, count))
#undef P

#define P(T) (const T* x, T* out, u64 count, float factor)
template <class T> DEVICE void scale(const T* x, T* out, u64 count, float factor) {
    u64 first = 8 * place();
    float v[8];
    if (first >= count) return;
    load_some(x, first, count, v);
    for (int j = 0; j < 8; j++) v[j] *= factor;
    store_some(out, first, count, v);
}
BOTH(scale, P, (x, out, count, factor))
#undef P

// Planes of `plane` values, each by its channel's factor and shift, one after the other in `lines`.
#define P(T) (const T* x, T* out, u64 count, u64 plane, int channels, const float* lines)
template <class T>
DEVICE void affine_channels(const T* x, T* out, u64 count, u64 plane, int channels, const float* lines) {
    u64 i = place();
    if (i >= count) return;
    int channel = (int)(i / plane % channels);
    put(out + i, value(x[i]) * lines[2 * channel] + lines[2 * channel + 1]);
}
BOTH(affine_channels, P, (x, out, count, plane, channels, lines))
#undef P

// x, times a row where there is one, plus a row where there is one. A thread does eight columns of one row where the
// width allows, else one.
#define P(T) (const T* x, const float* times, const float* plus, T* out, u64 rows, int width)
template <class T>
DEVICE void row_affine(const T* x, const float* times, const float* plus, T* out, u64 rows, int width) {
    u64 i = place();
    if (width % 8 == 0) {
        u64 first = 8 * i;
        if (first >= rows * width) return;
        int column = (int)(first % width);
        float v[8], w[8];
        load8(x + first, v);
        if (times) {
            load8(times + column, w);
            for (int j = 0; j < 8; j++) v[j] *= w[j];
        }
        if (plus) {
            load8(plus + column, w);
            for (int j = 0; j < 8; j++) v[j] += w[j];
        }
        store8(out + first, v);
        return;
    }
    for (u64 k = 8 * i; k < 8 * i + 8 && k < rows * width; k++) {
        int column = (int)(k % width);
        float v = value(x[k]);
        if (times) v *= times[column];
        if (plus) v += plus[column];
        put(out + k, v);
    }
}
BOTH(row_affine, P, (x, times, plus, out, rows, width))
#undef P

// What follows a product: out = residual + scale ∘ activation(x); scale and residual may be absent.
#define P(T) (const T* x, const float* scale, const T* residual, T* out, u64 rows, int width, int kind)
template <class T>
DEVICE void finish(const T* x, const float* scale, const T* residual, T* out, u64 rows, int width, int kind) {
    u64 first = 8 * place(), count = rows * width;
    if (first >= count) return;
    float v[8], w[8];
    load_some(x, first, count, v);
    if (kind != NONE)
        for (int j = 0; j < 8; j++) v[j] = activated(kind, v[j]);
    if (scale) {
        if (width % 8 == 0) {
            load8(scale + first % width, w);
            for (int j = 0; j < 8; j++) v[j] *= w[j];
        } else {
            for (int j = 0; j < 8; j++) v[j] *= scale[(first + j) % width];
        }
    }
    if (residual) {
        load_some(residual, first, count, w);
        for (int j = 0; j < 8; j++) v[j] += w[j];
    }
    store_some(out, first, count, v);
}
BOTH(finish, P, (x, scale, residual, out, rows, width, kind))
#undef P

// Sums of columns of x, or of x ∘ y where y is there, over the rows of one block: partial [blocks, width]. A block has
// 32 × 8 threads, each with `LANES` columns, and does `share` rows.
template <int LANES, class T>
DEVICE void column_sums(const T* x, const T* y, float* partial, u64 rows, int width, int share) {
    __shared__ float room[7][32 * LANES];
    int lane = threadIdx.x & 31, strip = threadIdx.x >> 5, column = (blockIdx.x * 32 + lane) * LANES;
    u64 first = (u64)blockIdx.y * share, last = first + share < rows ? first + share : rows;
    float sum[LANES];
    for (int j = 0; j < LANES; j++) sum[j] = 0.f;
    if (column < width)
        for (u64 row = first + strip; row < last; row += 8) {
            if (LANES == 8) {
                float v[8], w[8];
                load8(x + row * width + column, v);
                if (y) {
                    load8(y + row * width + column, w);
                    for (int j = 0; j < 8; j++) v[j] *= w[j];
                }
                for (int j = 0; j < LANES; j++) sum[j] += v[j];
            } else {
                float v = value(x[row * width + column]);
                sum[0] += y ? v * value(y[row * width + column]) : v;
            }
        }
    if (strip)
        for (int j = 0; j < LANES; j++) room[strip - 1][lane * LANES + j] = sum[j];
    __syncthreads();
    if (strip || column >= width) return;
    for (int j = 0; j < LANES; j++) {
        for (int s = 0; s < 7; s++) sum[j] += room[s][lane * LANES + j];
        partial[(u64)blockIdx.y * width + column + j] = sum[j];
    }
}
#define P(T) (const T* x, const T* y, float* partial, u64 rows, int width, int share)
template <class T>
DEVICE void column_sums_1(const T* x, const T* y, float* partial, u64 rows, int width, int share) {
    column_sums<1>(x, y, partial, rows, width, share);
}
template <class T>
DEVICE void column_sums_8(const T* x, const T* y, float* partial, u64 rows, int width, int share) {
    column_sums<8>(x, y, partial, rows, width, share);
}
BOTH(column_sums_1, P, (x, y, partial, rows, width, share))
BOTH(column_sums_8, P, (x, y, partial, rows, width, share))
#undef P

// out[column] (added to, or written) = the sum of partial [blocks, stride] over its blocks. 32 columns a block of 256.
KERNEL void sum_blocks(const float* partial, float* out, int blocks, int width, int stride, int accumulate) {
    __shared__ float room[8][32];
    int lane = threadIdx.x & 31, strip = threadIdx.x >> 5, column = blockIdx.x * 32 + lane;
    float sum = 0.f;
    if (column < width)
        for (int block = strip; block < blocks; block += 8) sum += partial[(u64)block * stride + column];
    room[strip][lane] = sum;
    __syncthreads();
    if (strip || column >= width) return;
    for (int s = 1; s < 8; s++) sum += room[s][lane];
    out[column] = accumulate ? out[column] + sum : sum;
}

// Zeroes runs of `group` values; `first` is the place of the first value among those of the whole batch.
#define P(T) (const T* x, T* out, u64 count, u64 key, u64 first, u64 group, float rate)
template <class T> DEVICE void drop(const T* x, T* out, u64 count, u64 key, u64 first, u64 group, float rate) {
    u64 start = 8 * place();
    if (start >= count) return;
    float keep = rate < 1.f ? 1.f / (1.f - rate) : 0.f, v[8];
    load_some(x, start, count, v);
    if (group % 8 == 0 && first % 8 == 0) {
        bool dropped = uniform(key, (first + start) / group) < rate;
        for (int j = 0; j < 8; j++) v[j] = dropped ? 0.f : keep * v[j];
    } else {
        for (int j = 0; j < 8; j++) v[j] = uniform(key, (first + start + j) / group) < rate ? 0.f : keep * v[j];
    }
    store_some(out, start, count, v);
}
BOTH(drop, P, (x, out, count, key, first, group, rate))
#undef P

#define P(T) (const T* x, T* out, u64 count, int kind)
template <class T> DEVICE void activation(const T* x, T* out, u64 count, int kind) {
    u64 first = 8 * place();
    float v[8];
    if (first >= count) return;
    load_some(x, first, count, v);
    for (int j = 0; j < 8; j++) v[j] = activated(kind, v[j]);
    store_some(out, first, count, v);
}
BOTH(activation, P, (x, out, count, kind))
#undef P

#define P(T) (const T* x, const T* grad, T* out, u64 count, int kind)
template <class T> DEVICE void activation_backward(const T* x, const T* grad, T* out, u64 count, int kind) {
    u64 first = 8 * place();
    float v[8], g[8];
    if (first >= count) return;
    load_some(x, first, count, v);
    load_some(grad, first, count, g);
    for (int j = 0; j < 8; j++) g[j] *= derivative(kind, v[j]);
    store_some(out, first, count, g);
}
BOTH(activation_backward, P, (x, grad, out, count, kind))
#undef P

// Rows of a gate and what it gates, `width` values each.
#define P(T) (const T* pair, T* out, u64 count, int width, int kind)
template <class T> DEVICE void gated(const T* pair, T* out, u64 count, int width, int kind) {
    u64 i = place();
    if (i >= count) return;
    const T* gate = pair + i / width * 2 * width + i % width;
    put(out + i, activated(kind, value(gate[0])) * value(gate[width]));
}
BOTH(gated, P, (pair, out, count, width, kind))
#undef P

#define P(T) (const T* pair, const T* grad, T* out, u64 count, int width, int kind)
template <class T> DEVICE void gated_backward(const T* pair, const T* grad, T* out, u64 count, int width, int kind) {
    u64 i = place();
    if (i >= count) return;
    u64 at = i / width * 2 * width + i % width;
    float gate = value(pair[at]), x = value(pair[at + width]), g = value(grad[i]);
    put(out + at, g * x * derivative(kind, gate));
    put(out + at + width, g * activated(kind, gate));
}
BOTH(gated_backward, P, (pair, grad, out, count, width, kind))
#undef P

// Softmax of the rows of x, a block a row. A row that is −∞ throughout becomes zeros.
KERNEL void softmax(const float* x, float* out, int width) {
    __shared__ float room[32];
    const float* row = x + (u64)blockIdx.x * width;
    float* to = out + (u64)blockIdx.x * width;
    float top = LOWEST, total = 0.f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) top = greater(top, row[i]);
    top = block_max(top, room);
    for (int i = threadIdx.x; i < width; i += blockDim.x) total += top == LOWEST ? 0.f : expf(row[i] - top);
    total = block_sum(total, room);
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        to[i] = top == LOWEST ? 0.f : expf(row[i] - top) / total;
}

KERNEL void softmax_backward(const float* y, const float* grad, float* out, int width) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * width;
    float inner = 0.f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) inner += y[start + i] * grad[start + i];
    inner = block_sum(inner, room);
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[start + i] = y[start + i] * (grad[start + i] - inner);
}

// Convolutions as products: what is under the kernel at every place becomes a row.

struct Extents {
    int height, width, channels, kernel_height, kernel_width, rows, columns, above, left, stride;
};

// [batch, height, width, channels] to [batch · rows · columns, channels · kernel_height · kernel_width], in the order of
// a weight's values; pixels beyond the image are 0.
#define P(T) (const T* x, T* out, u64 count, Extents e)
template <class T> DEVICE void unfold(const T* x, T* out, u64 count, Extents e) {
    u64 i = place();
    if (i >= count) return;
    int taps = e.kernel_height * e.kernel_width, depth = e.channels * taps, k = (int)(i % depth);
    u64 at = i / depth;
    int c = k / taps, tap = k % taps;
    int y = (int)(at / e.columns % e.rows) * e.stride + tap / e.kernel_width - e.above;
    int px = (int)(at % e.columns) * e.stride + tap % e.kernel_width - e.left;
    u64 image = at / e.columns / e.rows;
    bool inside = y >= 0 && y < e.height && px >= 0 && px < e.width;
    put(out + i, inside ? value(x[((image * e.height + y) * e.width + px) * e.channels + c]) : 0.f);
}
BOTH(unfold, P, (x, out, count, e))
#undef P

// The gradient of the same: a thread a pixel and channel adds up the rows that it is in.
#define P(T) (const T* grad, T* out, u64 count, Extents e)
template <class T> DEVICE void fold(const T* grad, T* out, u64 count, Extents e) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % e.channels), px = (int)(i / e.channels % e.width);
    int y = (int)(i / e.channels / e.width % e.height);
    u64 image = i / e.channels / e.width / e.height;
    int taps = e.kernel_height * e.kernel_width;
    float sum = 0.f;
    for (int tap = taps - 1; tap >= 0; tap--) {
        int row = y + e.above - tap / e.kernel_width, column = px + e.left - tap % e.kernel_width;
        if (row < 0 || column < 0 || row % e.stride || column % e.stride) continue;
        row /= e.stride;
        column /= e.stride;
        if (row >= e.rows || column >= e.columns) continue;
        sum += value(grad[((image * e.rows + row) * e.columns + column) * e.channels * taps + c * taps + tap]);
    }
    put(out + i, sum);
}
BOTH(fold, P, (grad, out, count, e))
#undef P

// Weights with mean 0 and variance 1 for each output (arXiv:1903.10520), a block an output.
KERNEL void standardize(const float* weight, float* out, int depth, float epsilon) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * depth;
    float sum = 0.f, square = 0.f;
    for (int i = threadIdx.x; i < depth; i += blockDim.x) sum += weight[start + i];
    float mean = block_sum(sum, room) / depth;
    for (int i = threadIdx.x; i < depth; i += blockDim.x) square += (weight[start + i] - mean) * (weight[start + i] - mean);
    float reciprocal = rsqrtf(block_sum(square, room) / depth + epsilon);
    for (int i = threadIdx.x; i < depth; i += blockDim.x) out[start + i] = (weight[start + i] - mean) * reciprocal;
}
// Adds the gradient of the weights, from that of the standardized ones.
KERNEL void standardize_backward(const float* weight, const float* grad, float* out, int depth, float epsilon) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * depth;
    float sum = 0.f, square = 0.f, average = 0.f, along = 0.f;
    for (int i = threadIdx.x; i < depth; i += blockDim.x) sum += weight[start + i];
    float mean = block_sum(sum, room) / depth;
    for (int i = threadIdx.x; i < depth; i += blockDim.x) square += (weight[start + i] - mean) * (weight[start + i] - mean);
    float reciprocal = rsqrtf(block_sum(square, room) / depth + epsilon);
    for (int i = threadIdx.x; i < depth; i += blockDim.x) {
        average += grad[start + i];
        along += grad[start + i] * (weight[start + i] - mean) * reciprocal;
    }
    average = block_sum(average, room) / depth;
    along = block_sum(along, room) / depth;
    for (int i = threadIdx.x; i < depth; i += blockDim.x)
        out[start + i] += reciprocal * (grad[start + i] - average - (weight[start + i] - mean) * reciprocal * along);
}

// Losses, and counts of correct answers; a block a row of logits [batch, classes].

enum { CROSS_ENTROPY, BINARY_CROSS_ENTROPY, SQUARED_ERROR, KL_DIVERGENCE };

// The logarithm of the sum of exponentials of a row, divided by a temperature.
DEVICE float log_total(const float* row, int classes, float cool, float* room) {
    float top = LOWEST, total = 0.f;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) top = fmaxf(top, row[c] * cool);
    top = block_max(top, room);
    for (int c = threadIdx.x; c < classes; c += blockDim.x) total += expf(row[c] * cool - top);
    return top + logf(block_sum(total, room));
}

// The loss of each row; means over the batch, or over all values, come after.
KERNEL void row_losses(const float* logits, const float* targets, float* out, int classes, int kind, float cool) {
    __shared__ float room[32];
    const float* x = logits + (u64)blockIdx.x * classes;
    const float* t = targets + (u64)blockIdx.x * classes;
    float sum = 0.f;
    if (kind == CROSS_ENTROPY) {
        float total = log_total(x, classes, 1.f, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x) sum += t[c] == 0.f ? 0.f : t[c] * (total - x[c]);
    } else if (kind == KL_DIVERGENCE) {
        float student = log_total(x, classes, cool, room), teacher = log_total(t, classes, cool, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float p = t[c] * cool - teacher;
            sum += expf(p) * (p - (x[c] * cool - student));
        }
    } else if (kind == BINARY_CROSS_ENTROPY) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float above = x[c] > 0.f || x[c] != x[c] ? x[c] : 0.f;
            sum += above - x[c] * t[c] + log1pf(expf(-fabsf(x[c])));
        }
    } else {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) sum += (x[c] - t[c]) * (x[c] - t[c]);
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// out[0] = share · the sum of `count` values; one block.
KERNEL void total(const float* x, float* out, u64 count, float share) {
    __shared__ float room[32];
    float sum = 0.f;
    for (u64 i = threadIdx.x; i < count; i += blockDim.x) sum += x[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) out[0] = sum * share;
}

// The gradient of the logits; `share` is 1 over the batch, or over all values.
KERNEL void loss_backward(const float* logits, const float* targets, const float* grad, float* out, int classes,
                          int kind, float cool, float share) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * classes;
    const float *x = logits + start, *t = targets + start;
    float g = grad[0] * share;
    if (kind == CROSS_ENTROPY) {
        float total = log_total(x, classes, 1.f, room), mass = 0.f;
        for (int c = threadIdx.x; c < classes; c += blockDim.x) mass += t[c];
        mass = block_sum(mass, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x) out[start + c] = g * (mass * expf(x[c] - total) - t[c]);
    } else if (kind == KL_DIVERGENCE) {
        float student = log_total(x, classes, cool, room), teacher = log_total(t, classes, cool, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x)
            out[start + c] = g * cool * (expf(x[c] * cool - student) - expf(t[c] * cool - teacher));
    } else if (kind == BINARY_CROSS_ENTROPY) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) out[start + c] = g * (1.f / (1.f + expf(-x[c])) - t[c]);
    } else {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) out[start + c] = g * 2.f * (x[c] - t[c]);
    }
}

// The class with the greatest number of the block's row, the first of equals. A NaN never wins, except at the first class,
// where it stays.
DEVICE int argmax(const float* x, int classes) {
    __shared__ float tops[256];
    __shared__ int places[256];
    float top = LOWEST;
    int best = 0x7fffffff;
    for (int c = threadIdx.x; c < classes; c += blockDim.x)
        if (best == 0x7fffffff ? x[c] == x[c] : x[c] > top) {
            top = x[c];
            best = c;
        }
    tops[threadIdx.x] = top;
    places[threadIdx.x] = best;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half >>= 1) {
        if (threadIdx.x < half) {
            float other = tops[threadIdx.x + half];
            int at = places[threadIdx.x + half];
            bool wins = other > tops[threadIdx.x] || (other == tops[threadIdx.x] && at < places[threadIdx.x]);
            if (wins) {
                tops[threadIdx.x] = other;
                places[threadIdx.x] = at;
            }
        }
        __syncthreads();
    }
    return x[0] != x[0] || places[0] == 0x7fffffff ? 0 : places[0];
}
KERNEL void one_hot_argmax(const float* logits, float* out, int classes) {
    u64 start = (u64)blockIdx.x * classes;
    int best = argmax(logits + start, classes);
    for (int c = threadIdx.x; c < classes; c += blockDim.x) out[start + c] = c == best ? 1.f : 0.f;
}
KERNEL void correct(const float* logits, const float* labels, float* out, int classes) {
    int best = argmax(logits + (u64)blockIdx.x * classes, classes);
    if (threadIdx.x == 0) out[blockIdx.x] = (float)best == labels[blockIdx.x] ? 1.f : 0.f;
}

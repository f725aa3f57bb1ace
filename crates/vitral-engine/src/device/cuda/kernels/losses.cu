// Losses, and counts of correct answers; a block a row of logits [batch, classes].

enum { CROSS_ENTROPY, BINARY_CROSS_ENTROPY, SQUARED_ERROR, KL_DIVERGENCE, FOCAL, BINARY_FOCAL };

// The logarithm of the sum of exponentials of a row, divided by a temperature.
DEVICE float log_total(const float* row, int classes, float cool, float* room) {
    float top = LOWEST, total = 0.f;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) top = fmaxf(top, row[c] * cool);
    top = block_max(top, room);
    for (int c = threadIdx.x; c < classes; c += blockDim.x) total += expf(row[c] * cool - top);
    return top + logf(block_sum(total, room));
}

// The weight of a class, 1 where there are none.
DEVICE float weight(const float* weights, int c) { return weights ? weights[c] : 1.f; }

// The logarithm of a probability, which rounding may leave above 0. What is no number stays so.
DEVICE float at_most_zero(float log) { return log > 0.f ? 0.f : log; }

// The logarithm of the sigmoid of x; with -x, that of one less it.
DEVICE float log_sigmoid(float x) { return (x < 0.f ? x : 0.f) - log1pf(expf(-fabsf(x))); }

// What the target's share of class c, times its weight, has for a slope by the logarithm of its probability.
DEVICE float focal_slope(float yes, float log, float gamma) {
    if (yes == 0.f) return 0.f;
    log = at_most_zero(log);
    float p = expf(log), rest = -expm1f(log);
    // The limit of log / rest, where p is 1; and p · log is 0, where p is.
    float ratio = rest == 0.f ? -1.f : log / rest;
    return yes * powf(rest, gamma) * ((p == 0.f ? 0.f : gamma * p * ratio) - 1.f);
}

// The loss of each row; means over the batch, or over all values, come after. `number` is what logits are multiplied by, or
// the exponent of a focal loss; there may be a weight for each class, of the part of a loss that its target has of 1.
KERNEL void row_losses(const float* logits, const float* targets, const float* weights, float* out, int classes, int kind,
                       float number) {
    __shared__ float room[32];
    const float* x = logits + (u64)blockIdx.x * classes;
    const float* t = targets + (u64)blockIdx.x * classes;
    float sum = 0.f;
    if (kind == CROSS_ENTROPY || kind == FOCAL) {
        float total = log_total(x, classes, 1.f, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float yes = t[c] * weight(weights, c), log = x[c] - total;
            if (kind == FOCAL) {
                log = at_most_zero(log);
                sum -= yes == 0.f ? 0.f : yes * powf(-expm1f(log), number) * log;
            } else {
                sum -= yes == 0.f ? 0.f : yes * log;
            }
        }
    } else if (kind == KL_DIVERGENCE) {
        float student = log_total(x, classes, number, room), teacher = log_total(t, classes, number, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float p = t[c] * number - teacher;
            sum += expf(p) * (p - (x[c] * number - student));
        }
    } else if (kind == BINARY_CROSS_ENTROPY) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float above = x[c] > 0.f || x[c] != x[c] ? x[c] : 0.f, w = weight(weights, c);
            // Exactly 1 without a weight.
            float mass = 1.f + (w - 1.f) * t[c];
            sum += mass * above - x[c] * (w * t[c]) + mass * log1pf(expf(-fabsf(x[c])));
        }
    } else if (kind == BINARY_FOCAL) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float log = log_sigmoid(x[c]), log_rest = log_sigmoid(-x[c]);
            sum -= weight(weights, c) * t[c] * powf(expf(log_rest), number) * log +
                   (1.f - t[c]) * powf(expf(log), number) * log_rest;
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
KERNEL void loss_backward(const float* logits, const float* targets, const float* weights, const float* grad, float* out,
                          int classes, int kind, float number, float share) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * classes;
    const float *x = logits + start, *t = targets + start;
    float g = grad[0] * share;
    if (kind == CROSS_ENTROPY) {
        float total = log_total(x, classes, 1.f, room), mass = 0.f;
        for (int c = threadIdx.x; c < classes; c += blockDim.x) mass += t[c] * weight(weights, c);
        mass = block_sum(mass, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x)
            out[start + c] = g * (mass * expf(x[c] - total) - t[c] * weight(weights, c));
    } else if (kind == FOCAL) {
        float total = log_total(x, classes, 1.f, room), slopes = 0.f;
        for (int c = threadIdx.x; c < classes; c += blockDim.x)
            slopes += focal_slope(t[c] * weight(weights, c), x[c] - total, number);
        slopes = block_sum(slopes, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x)
            out[start + c] = g * (focal_slope(t[c] * weight(weights, c), x[c] - total, number) - slopes * expf(x[c] - total));
    } else if (kind == KL_DIVERGENCE) {
        float student = log_total(x, classes, number, room), teacher = log_total(t, classes, number, room);
        for (int c = threadIdx.x; c < classes; c += blockDim.x)
            out[start + c] = g * number * (expf(x[c] * number - student) - expf(t[c] * number - teacher));
    } else if (kind == BINARY_CROSS_ENTROPY) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float w = weight(weights, c), mass = 1.f + (w - 1.f) * t[c];
            out[start + c] = g * (mass / (1.f + expf(-x[c])) - w * t[c]);
        }
    } else if (kind == BINARY_FOCAL) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            float log = log_sigmoid(x[c]), log_rest = log_sigmoid(-x[c]), p = expf(log), rest = expf(log_rest);
            float gained = weight(weights, c) * t[c] * powf(rest, number) * (number * p * log - rest);
            out[start + c] = g * (gained + (1.f - t[c]) * powf(p, number) * (p - number * rest * log_rest));
        }
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

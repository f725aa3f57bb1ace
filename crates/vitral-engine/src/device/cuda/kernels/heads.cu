// Attention in plain steps, for what the fused kernel does not do: any width of heads, biases, dropout, weights that are
// wanted. Packed qkv is taken apart into one matrix a head, cuBLASLt multiplies them, and these kernels do the rest. Where
// a batch is taken in parts, `first` is its first image.

// Part `which` of packed [batch, tokens, parts, heads, width] as [batch, heads, tokens, width].
#define P(T) (const T* packed, float* out, u64 count, int tokens, int heads, int width, int parts, int which)
template <class T>
DEVICE void split_heads(const T* packed, float* out, u64 count, int tokens, int heads, int width, int parts, int which) {
    u64 i = place();
    if (i >= count) return;
    u64 d = i % width, token = i / width % tokens, head = i / width / tokens % heads, image = i / width / tokens / heads;
    out[i] = value(packed[(((image * tokens + token) * parts + which) * heads + head) * width + d]);
}
BOTH(split_heads, P, (packed, out, count, tokens, heads, width, parts, which))
#undef P

// The reverse: writes part `which`.
#define P(T) (const float* x, T* packed, u64 count, int tokens, int heads, int width, int parts, int which)
template <class T>
DEVICE void merge_heads(const float* x, T* packed, u64 count, int tokens, int heads, int width, int parts, int which) {
    u64 i = place();
    if (i >= count) return;
    u64 d = i % width, head = i / width % heads, token = i / width / heads % tokens, image = i / width / heads / tokens;
    u64 from = ((image * heads + head) * tokens + token) * width + d;
    put(packed + (((image * tokens + token) * parts + which) * heads + head) * width + d, x[from]);
}
BOTH(merge_heads, P, (x, packed, count, tokens, heads, width, parts, which))
#undef P

// Which weights of [batch, heads, tokens, tokens] are dropped: 0, or what the others are multiplied by.
struct Dropout {
    u64 key, first_image;
    float rate;
    int on;
};
DEVICE float kept(Dropout dropout, u64 image, int heads, int head, int tokens, int query, int key) {
    if (!dropout.on) return 1.f;
    u64 at = (((dropout.first_image + image) * heads + head) * tokens + query) * tokens + key;
    return uniform(dropout.key, at) < dropout.rate ? 0.f : 1.f / (1.f - dropout.rate);
}

// Weights of scores [batch, heads, queries, tokens], in place, a block a row; `used` gets what dropout leaves of them.
KERNEL void attention_weights(float* scores, float* used, const float* mask, const float* bias, int heads, int queries,
                              int tokens, float scale, Dropout dropout) {
    __shared__ float room[32];
    u64 row = blockIdx.x, image = row / queries / heads;
    int query = (int)(row % queries), head = (int)(row / queries % heads);
    float* x = scores + row * tokens;
    float top = LOWEST, total = 0.f;
    for (int key = threadIdx.x; key < tokens; key += blockDim.x) {
        float s = x[key] * scale;
        if (bias) s += bias[((u64)head * tokens + query) * tokens + key];
        if (mask) s += mask[image * tokens + key];
        x[key] = s;
        top = greater(top, s);
    }
    top = block_max(top, room);
    for (int key = threadIdx.x; key < tokens; key += blockDim.x) {
        float e = top == LOWEST ? 0.f : expf(x[key] - top);
        x[key] = e;
        total += e;
    }
    total = block_sum(total, room);
    for (int key = threadIdx.x; key < tokens; key += blockDim.x) {
        float w = total == 0.f ? 0.f : x[key] / total;
        x[key] = w;
        if (used) used[row * tokens + key] = w * kept(dropout, image, heads, head, tokens, query, key);
    }
}

// From gradients of what was used to those of the weights: what was dropped has none. In place.
KERNEL void undrop(float* grad, u64 count, int heads, int queries, int tokens, Dropout dropout) {
    u64 i = place();
    if (i >= count) return;
    int key = (int)(i % tokens), query = (int)(i / tokens % queries), head = (int)(i / tokens / queries % heads);
    grad[i] *= kept(dropout, i / tokens / queries / heads, heads, head, tokens, query, key);
}

// From gradients of the weights to those of the scores, in place, a block a row.
KERNEL void weights_backward(const float* weights, float* grad, int tokens) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * tokens;
    float inner = 0.f;
    for (int key = threadIdx.x; key < tokens; key += blockDim.x) inner += weights[start + key] * grad[start + key];
    inner = block_sum(inner, room);
    for (int key = threadIdx.x; key < tokens; key += blockDim.x)
        grad[start + key] = weights[start + key] * (grad[start + key] - inner);
}

// The gradient of the bias [heads, tokens, tokens]: that of the scores, summed over the batch and added.
KERNEL void bias_gradient(const float* scores, float* out, u64 count, int batch, int heads, int queries, int tokens) {
    u64 i = place();
    if (i >= count) return;
    int key = (int)(i % tokens), query = (int)(i / tokens % tokens), head = (int)(i / tokens / tokens);
    if (query >= queries) return;
    float sum = 0.f;
    for (int image = 0; image < batch; image++)
        sum += scores[(((u64)image * heads + head) * queries + query) * tokens + key];
    out[i] += sum;
}

// Attention of one query [width] to keys and values [batch, tokens, 2 · width]; a block a head of a sample.
KERNEL void probe_attention(const float* query, const float* both, float* out, float* weights, int tokens, int heads,
                            int head_width, float scale) {
    __shared__ float room[32];
    int head = blockIdx.x % heads, width = heads * head_width;
    u64 sample = blockIdx.x / heads;
    float* w = weights + (u64)blockIdx.x * tokens;
    const float* q = query + head * head_width;
    float top = LOWEST, sum = 0.f;
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) {
        const float* key = both + (sample * tokens + token) * 2 * width + head * head_width;
        float s = 0.f;
        for (int d = 0; d < head_width; d++) s += q[d] * key[d];
        w[token] = s * scale;
        top = greater(top, w[token]);
    }
    top = block_max(top, room);
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) {
        w[token] = expf(w[token] - top);
        sum += w[token];
    }
    sum = block_sum(sum, room);
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) w[token] /= sum;
    __syncthreads();
    for (int d = threadIdx.x; d < head_width; d += blockDim.x) {
        float o = 0.f;
        for (int token = 0; token < tokens; token++)
            o += w[token] * both[((sample * tokens + token) * 2 + 1) * width + head * head_width + d];
        out[sample * width + head * head_width + d] = o;
    }
}
// Its gradients: of keys and values, and each sample's share of the query's, [batch, width]. `scores` is room for as many
// values as `weights` has.
KERNEL void probe_attention_backward(const float* query, const float* both, const float* weights, const float* grad,
                                     float* of_query, float* out, float* scores, int tokens, int heads, int head_width,
                                     float scale) {
    __shared__ float room[32];
    int head = blockIdx.x % heads, width = heads * head_width;
    u64 sample = blockIdx.x / heads;
    const float* w = weights + (u64)blockIdx.x * tokens;
    float* s = scores + (u64)blockIdx.x * tokens;
    const float *q = query + head * head_width, *up = grad + sample * width + head * head_width;
    float inner = 0.f;
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) {
        const float* values = both + ((sample * tokens + token) * 2 + 1) * width + head * head_width;
        float sum = 0.f;
        for (int d = 0; d < head_width; d++) sum += up[d] * values[d];
        s[token] = sum;
        inner += w[token] * sum;
    }
    inner = block_sum(inner, room);
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) {
        s[token] = w[token] * (s[token] - inner) * scale;
        u64 key = (sample * tokens + token) * 2 * width + head * head_width;
        for (int d = 0; d < head_width; d++) {
            out[key + d] = s[token] * q[d];
            out[key + width + d] = w[token] * up[d];
        }
    }
    __syncthreads();
    for (int d = threadIdx.x; d < head_width; d += blockDim.x) {
        float sum = 0.f;
        for (int token = 0; token < tokens; token++)
            sum += s[token] * both[(sample * tokens + token) * 2 * width + head * head_width + d];
        of_query[sample * width + head * head_width + d] = sum;
    }
}

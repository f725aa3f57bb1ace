// Choosing tokens, adding positions to them, and pooling them; all of [batch, tokens, width].

#define P(T) (const T* x, T* out, u64 count, int tokens, int chosen, int width, const u32* kept)
template <class T>
DEVICE void gather_tokens(const T* x, T* out, u64 count, int tokens, int chosen, int width, const u32* kept) {
    u64 i = place();
    if (i >= count) return;
    u64 row = i / width;
    out[i] = x[(row / chosen * tokens + kept[row]) * width + i % width];
}
BOTH(gather_tokens, P, (x, out, count, tokens, chosen, width, kept))
#undef P

// Rows are added back to where they came from, in their order.
#define P(T) (const T* grad, T* out, u64 count, int tokens, int chosen, int width, const u32* kept)
template <class T>
DEVICE void scatter_tokens(const T* grad, T* out, u64 count, int tokens, int chosen, int width, const u32* kept) {
    u64 i = place();
    if (i >= count) return;
    u64 row = i / width, sample = row / tokens, token = row % tokens;
    float sum = 0.f;
    for (int k = 0; k < chosen; k++)
        if (kept[sample * chosen + k] == token) sum += value(grad[(sample * chosen + k) * width + i % width]);
    put(out + i, sum);
}
BOTH(scatter_tokens, P, (grad, out, count, tokens, chosen, width, kept))
#undef P

// One [tokens, width], of `item` values in all, is added to every sample.
#define P(T) (const T* x, const float* positions, T* out, u64 count, u64 item)
template <class T> DEVICE void add_positions(const T* x, const float* positions, T* out, u64 count, u64 item) {
    u64 first = 8 * place();
    if (first >= count) return;
    float v[8], w[8];
    load_some(x, first, count, v);
    if (item % 8 == 0) load8(positions + first % item, w);
    else
        for (int j = 0; j < 8; j++) w[j] = positions[(first + j) % item];
    for (int j = 0; j < 8; j++) v[j] += w[j];
    store_some(out, first, count, v);
}
BOTH(add_positions, P, (x, positions, out, count, item))
#undef P

// The mean over the tokens from `first` on, a thread a channel of a sample.
#define P(T) (const T* x, float* out, int batch, int tokens, int width, int first)
template <class T> DEVICE void mean_tokens(const T* x, float* out, int batch, int tokens, int width, int first) {
    u64 i = place();
    if (i >= (u64)batch * width) return;
    u64 start = i / width * tokens * width + i % width;
    float sum = 0.f;
    for (int token = first; token < tokens; token++) sum += value(x[start + (u64)token * width]);
    out[i] = sum / (tokens - first);
}
BOTH(mean_tokens, P, (x, out, batch, tokens, width, first))
#undef P

#define P(T) (const float* grad, T* out, u64 count, int tokens, int width, int first)
template <class T> DEVICE void mean_tokens_backward(const float* grad, T* out, u64 count, int tokens, int width, int first) {
    u64 i = place();
    if (i >= count) return;
    u64 row = i / width, sample = row / tokens;
    int token = (int)(row % tokens);
    put(out + i, token < first ? 0.f : grad[sample * width + i % width] / (tokens - first));
}
BOTH(mean_tokens_backward, P, (grad, out, count, tokens, width, first))
#undef P

// The maximum over the tokens from `first` on. A NaN stays.
#define P(T) (const T* x, float* out, int batch, int tokens, int width, int first)
template <class T> DEVICE void max_tokens(const T* x, float* out, int batch, int tokens, int width, int first) {
    u64 i = place();
    if (i >= (u64)batch * width) return;
    u64 start = i / width * tokens * width + i % width;
    float top = LOWEST;
    for (int token = first; token < tokens; token++) {
        top = greater(top, value(x[start + (u64)token * width]));
    }
    out[i] = top;
}
BOTH(max_tokens, P, (x, out, batch, tokens, width, first))
#undef P

// The gradient is shared among equal maxima.
#define P(T) (const T* x, const float* top, const float* grad, T* out, int batch, int tokens, int width, int first)
template <class T>
DEVICE void max_tokens_backward(const T* x, const float* top, const float* grad, T* out, int batch, int tokens,
                                int width, int first) {
    u64 i = place();
    if (i >= (u64)batch * width) return;
    u64 start = i / width * tokens * width + i % width;
    int winners = 0;
    for (int token = first; token < tokens; token++) winners += value(x[start + (u64)token * width]) == top[i];
    for (int token = 0; token < tokens; token++) {
        u64 at = start + (u64)token * width;
        put(out + at, token >= first && value(x[at]) == top[i] ? grad[i] / winners : 0.f);
    }
}
BOTH(max_tokens_backward, P, (x, top, grad, out, batch, tokens, width, first))
#undef P

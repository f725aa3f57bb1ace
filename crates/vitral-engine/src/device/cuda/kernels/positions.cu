// Rotary positions, relative positions, and resampled grids.

// Turns queries and keys of packed qkv [batch, tokens, packed]; values, and tokens before `prefix`, stay. `sign` is −1
// to turn back.
#define P(T)                                                                                                           \
    (const T* x, T* out, u64 count, int tokens, int packed, int prefix, int pairs, const float* cosines,               \
     const float* sines, float sign)
template <class T>
DEVICE void rotate(const T* x, T* out, u64 count, int tokens, int packed, int prefix, int pairs, const float* cosines,
                   const float* sines, float sign) {
    u64 i = place();
    if (i >= count) return;
    int token = (int)(i / packed % tokens), channel = (int)(i % packed);
    if (token < prefix || channel >= packed / 3 * 2) {
        out[i] = x[i];
        return;
    }
    int at = (token - prefix) * pairs + channel % pairs;
    float other = channel % (2 * pairs) < pairs ? -value(x[i + pairs]) : value(x[i - pairs]);
    put(out + i, value(x[i]) * cosines[at] + sign * other * sines[at]);
}
BOTH(rotate, P, (x, out, count, tokens, packed, prefix, pairs, cosines, sines, sign))
#undef P

// As rotate, by angles that are a token's place on a grid of `columns` times frequencies [2, packed / 6]: those of rows
// first, or those of columns.
#define P(T)                                                                                                           \
    (const T* x, const float* frequencies, T* out, u64 count, int tokens, int packed, int prefix, int pairs,           \
     int columns, int rows_first, float sign)
template <class T>
DEVICE void rotate_by(const T* x, const float* frequencies, T* out, u64 count, int tokens, int packed, int prefix,
                      int pairs, int columns, int rows_first, float sign) {
    u64 i = place();
    if (i >= count) return;
    int token = (int)(i / packed % tokens) - prefix, channel = (int)(i % packed), width = packed / 3;
    if (token < 0 || channel >= 2 * width) {
        out[i] = x[i];
        return;
    }
    int row = token / columns, column = token % columns;
    int pair = channel % width / (2 * pairs) * pairs + channel % pairs;
    float first = (float)(rows_first ? row : column), second = (float)(rows_first ? column : row);
    float angle = first * frequencies[pair] + second * frequencies[width / 2 + pair];
    float other = channel % (2 * pairs) < pairs ? -value(x[i + pairs]) : value(x[i - pairs]);
    put(out + i, value(x[i]) * cosf(angle) + sign * other * sinf(angle));
}
BOTH(rotate_by, P, (x, frequencies, out, count, tokens, packed, prefix, pairs, columns, rows_first, sign))
#undef P
// A block a pair: the derivatives of its angle at every token that turns, times the token's places.
KERNEL void rotate_by_backward(const float* turned, const float* grad, float* out, u64 count, int tokens, int packed,
                               int prefix, int pairs, int columns, int rows_first) {
    __shared__ float room[32];
    int width = packed / 3, pair = (int)blockIdx.x, channel = pair / pairs * 2 * pairs + pair % pairs;
    int turning = tokens - prefix;
    float by_row = 0.f, by_column = 0.f;
    for (u64 i = threadIdx.x; i < count; i += blockDim.x) {
        int token = (int)(i % turning);
        u64 at = (i / turning * tokens + prefix + token) * packed + channel;
        float angle = 0.f;
        for (int part = 0; part < 2; part++, at += width)
            angle += turned[at] * grad[at + pairs] - turned[at + pairs] * grad[at];
        by_row += angle * (float)(token / columns);
        by_column += angle * (float)(token % columns);
    }
    by_row = block_sum(by_row, room);
    by_column = block_sum(by_column, room);
    if (threadIdx.x == 0) {
        out[pair] = rows_first ? by_row : by_column;
        out[width / 2 + pair] = rows_first ? by_column : by_row;
    }
}

// Adds biases to queries and values of packed qkv, three times `width` values; keys have none.
#define P(T) (const T* x, const float* query, const float* values, T* out, u64 count, int width)
template <class T>
DEVICE void add_query_value_bias(const T* x, const float* query, const float* values, T* out, u64 count, int width) {
    u64 i = place();
    if (i >= count) return;
    int channel = (int)(i % (3 * width));
    float bias = channel < width ? query[channel] : channel < 2 * width ? 0.f : values[channel - 2 * width];
    put(out + i, value(x[i]) + bias);
}
BOTH(add_query_value_bias, P, (x, query, values, out, count, width))
#undef P

// [heads, area] from a table [entries, heads] by the entry of every pair of tokens.
KERNEL void relation_bias(const float* table, float* out, u64 count, u64 area, int heads, const u32* indices) {
    u64 i = place();
    if (i < count) out[i] = table[indices[i % area] * heads + i / area];
}
// A block an entry and head: the pairs that have it, in their order within each thread, then over the block.
KERNEL void relation_bias_backward(const float* grad, float* out, u64 area, int heads, const u32* indices) {
    __shared__ float room[32];
    u32 entry = blockIdx.x;
    const float* of_head = grad + (u64)blockIdx.y * area;
    float sum = 0.f;
    for (u64 i = threadIdx.x; i < area; i += blockDim.x)
        if (indices[i] == entry) sum += of_head[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) out[(u64)entry * heads + blockIdx.y] = sum;
}

// Grids [grids, from_rows · from_columns, width] to [grids, to_rows · to_columns, width]. The weight of input j for
// output i of an axis is weights[i · stride + j · step].
KERNEL void resample(const float* grid, float* out, u64 count, int width, int from_rows, int from_columns, int to_rows,
                     int to_columns, const float* rows, int row_stride, int row_step, const float* columns,
                     int column_stride, int column_step) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % width), x = (int)(i / width % to_columns), y = (int)(i / width / to_columns % to_rows);
    const float* from = grid + i / width / to_columns / to_rows * from_rows * from_columns * width + c;
    float sum = 0.f;
    for (int fy = 0; fy < from_rows; fy++) {
        float wy = rows[y * row_stride + fy * row_step], line = 0.f;
        if (wy == 0.f) continue;
        for (int fx = 0; fx < from_columns; fx++)
            line += columns[x * column_stride + fx * column_step] * from[((u64)fy * from_columns + fx) * width];
        sum += wy * line;
    }
    out[i] = sum;
}

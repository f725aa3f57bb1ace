// Copies of parts of tensors.

// Runs of `length` values, counted in two levels, from one place to another: run (i, j) begins at
// start + i · outer + j · inner. A thread copies `LANES` values of a run.
template <int LANES, class S, class T>
DEVICE void copy_runs(const S* x, T* out, u64 count, u64 inner_count, u64 length, u64 from, u64 from_outer,
                      u64 from_inner, u64 to, u64 to_outer, u64 to_inner) {
    u64 first = LANES * place();
    if (first >= count) return;
    u64 run = first / length, within = first % length, i = run / inner_count, j = run % inner_count;
    const S* source = x + from + i * from_outer + j * from_inner + within;
    T* target = out + to + i * to_outer + j * to_inner + within;
    if (LANES == 8) {
        float v[8];
        load8(source, v);
        store8(target, v);
    } else {
        put(target, value(*source));
    }
}
#define COPY(LANES, name, S, T)                                                                                        \
    KERNEL void copy_runs_##LANES##_##name(const S* x, T* out, u64 count, u64 inner_count, u64 length, u64 from,       \
                                           u64 from_outer, u64 from_inner, u64 to, u64 to_outer, u64 to_inner) {       \
        copy_runs<LANES>(x, out, count, inner_count, length, from, from_outer, from_inner, to, to_outer, to_inner);    \
    }
COPY(1, ff, float, float) COPY(1, hh, half_t, half_t) COPY(1, fh, float, half_t)
COPY(8, ff, float, float) COPY(8, hh, half_t, half_t) COPY(8, fh, float, half_t)

// [batch, rows, columns] to [batch, columns, rows], in tiles of 32 × 32, a block of 32 × 8 threads each. All tiles are in the
// grid's first extent: the others take 65535 blocks at most.
#define P(T) (const T* x, T* out, int rows, int columns)
template <class T> DEVICE void transpose(const T* x, T* out, int rows, int columns) {
    __shared__ float tile[32][33];
    int lane = threadIdx.x & 31, strip = threadIdx.x >> 5;
    u32 across = (columns + 31) / 32, down = (rows + 31) / 32;
    int first_column = (int)(blockIdx.x % across) * 32, first_row = (int)(blockIdx.x / across % down) * 32;
    u64 base = (u64)(blockIdx.x / across / down) * rows * columns;
    for (int r = strip; r < 32; r += 8) {
        int row = first_row + r, column = first_column + lane;
        if (row < rows && column < columns) tile[r][lane] = value(x[base + (u64)row * columns + column]);
    }
    __syncthreads();
    for (int r = strip; r < 32; r += 8) {
        int row = first_row + lane, column = first_column + r;
        if (row < rows && column < columns) put(out + base + (u64)column * rows + row, tile[lane][r]);
    }
}
BOTH(transpose, P, (x, out, rows, columns))
#undef P

#define P(T) (const T* x, T* out, u64 count, int from, int to, const u32* columns)
template <class T> DEVICE void select_columns(const T* x, T* out, u64 count, int from, int to, const u32* columns) {
    u64 i = place();
    if (i < count) out[i] = x[i / to * from + columns[i % to]];
}
BOTH(select_columns, P, (x, out, count, from, to, columns))
#undef P

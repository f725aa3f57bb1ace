// Products that cuBLASLt has no algorithm for: C [batch, m, n] = alpha · op(A) op(B) + beta · C, row by row, in tiles of
// 16 × 16. A is [m, k], or [k, m] where it is transposed; B is [k, n], or [n, k].
template <class T, class O>
DEVICE void plain_product(const T* a, const T* b, const float* bias, const O* from, O* c, int m, int n, int k,
                          int transpose_a, int transpose_b, u64 stride_a, u64 stride_b, u64 stride_c, float alpha,
                          float beta) {
    __shared__ float A[16][17], B[16][17];
    // All tiles are in the grid's first extent: the others take 65535 blocks at most.
    u32 across = (n + 15) / 16, down = (m + 15) / 16;
    u64 matrix = blockIdx.x / across / down;
    int x = threadIdx.x & 15, y = threadIdx.x >> 4;
    int row = (int)(blockIdx.x / across % down) * 16 + y, column = (int)(blockIdx.x % across) * 16 + x;
    a += matrix * stride_a;
    b += matrix * stride_b;
    float sum = 0.f;
    for (int start = 0; start < k; start += 16) {
        int at_a = start + x, at_b = start + y;
        A[y][x] = row < m && at_a < k ? value(transpose_a ? a[(u64)at_a * m + row] : a[(u64)row * k + at_a]) : 0.f;
        B[y][x] = column < n && at_b < k ? value(transpose_b ? b[(u64)column * k + at_b] : b[(u64)at_b * n + column]) : 0.f;
        __syncthreads();
        for (int i = 0; i < 16; i++) sum += A[y][i] * B[i][x];
        __syncthreads();
    }
    if (row >= m || column >= n) return;
    u64 at = matrix * stride_c + (u64)row * n + column;
    sum *= alpha;
    if (bias) sum += bias[column];
    if (beta != 0.f) sum += beta * value(from[at]);
    put(c + at, sum);
}
#define PRODUCT(name, T, O)                                                                                            \
    KERNEL void plain_product_##name(const T* a, const T* b, const float* bias, const O* from, O* c, int m, int n,     \
                                     int k, int transpose_a, int transpose_b, u64 stride_a, u64 stride_b,              \
                                     u64 stride_c, float alpha, float beta) {                                          \
        plain_product(a, b, bias, from, c, m, n, k, transpose_a, transpose_b, stride_a, stride_b, stride_c, alpha,     \
                      beta);                                                                                           \
    }
PRODUCT(ff, float, float) PRODUCT(hh, half_t, half_t) PRODUCT(hf, half_t, float)

// Patches, and maxima and means over windows.

// [batch, channels, height, width] to [batch, patches, row], row = channels · patch_height · patch_width; pixels beyond
// the image are 0. A thread makes `LANES` values of one line of a patch; eight only where lines of patches and of images
// are multiples of eight, and no patch reaches beyond the image.
template <int LANES, class S, class T>
DEVICE void patches(const S* x, T* out, u64 count, int channels, int height, int width, int patch_height,
                    int patch_width, int grid_height, int grid_width) {
    u64 i = LANES * place();
    if (i >= count) return;
    u32 area = patch_height * patch_width, row = channels * area, k = (u32)(i % row);
    u32 patch = (u32)(i / row), image = patch / (grid_height * grid_width);
    u32 c = k / area, y = k % area / patch_width, px = k % patch_width;
    y += patch / grid_width % grid_height * patch_height;
    px += patch % grid_width * patch_width;
    const S* from = x + (((u64)image * channels + c) * height + y) * width + px;
    if (LANES == 8) {
        float v[8];
        load8(from, v);
        store8(out + i, v);
    } else {
        put(out + i, y < (u32)height && px < (u32)width ? value(*from) : 0.f);
    }
}
#define PATCHES(LANES, name, S, T)                                                                                     \
    KERNEL void patches_##LANES##_##name(const S* x, T* out, u64 count, int channels, int height, int width,           \
                                         int patch_height, int patch_width, int grid_height, int grid_width) {         \
        patches<LANES>(x, out, count, channels, height, width, patch_height, patch_width, grid_height, grid_width);    \
    }
PATCHES(1, ff, float, float) PATCHES(1, fh, float, half_t) PATCHES(1, hh, half_t, half_t)
PATCHES(8, ff, float, float) PATCHES(8, fh, float, half_t) PATCHES(8, hh, half_t, half_t)

KERNEL void patches_backward(const float* grad, float* out, u64 count, int channels, int height, int width,
                             int patch_height, int patch_width, int grid_height, int grid_width) {
    u64 i = place();
    if (i >= count) return;
    int x = (int)(i % width), y = (int)(i / width % height), c = (int)(i / width / height % channels);
    u64 image = i / width / height / channels;
    int row = y / patch_height, column = x / patch_width;
    if (row >= grid_height || column >= grid_width) {
        out[i] = 0.f;
        return;
    }
    u64 patch = (image * grid_height + row) * grid_width + column;
    int k = (c * patch_height + y % patch_height) * patch_width + x % patch_width;
    out[i] = grad[patch * channels * patch_height * patch_width + k];
}

// Windows of `size` × `size` over [batch, height, width, channels].
struct Windows {
    int height, width, channels, rows, columns, above, left, size, stride;
};

KERNEL void max_pool(const float* x, float* out, float* winners, u64 count, Windows w) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % w.channels), column = (int)(i / w.channels % w.columns);
    int row = (int)(i / w.channels / w.columns % w.rows);
    u64 image = i / w.channels / w.columns / w.rows;
    float top = LOWEST, winner = -1.f;
    for (int k = 0; k < w.size * w.size; k++) {
        int y = row * w.stride + k / w.size - w.above, px = column * w.stride + k % w.size - w.left;
        if (y < 0 || y >= w.height || px < 0 || px >= w.width) continue;
        float v = x[((image * w.height + y) * w.width + px) * w.channels + c];
        if (winner < 0.f || v > top || v != v) {
            top = v;
            winner = (float)k;
        }
    }
    out[i] = top;
    winners[i] = winner;
}
// A thread a pixel: the windows that it is in, in their order.
KERNEL void max_pool_backward(const float* grad, const float* winners, float* out, u64 count, Windows w) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % w.channels), px = (int)(i / w.channels % w.width), y = (int)(i / w.channels / w.width % w.height);
    u64 image = i / w.channels / w.width / w.height;
    float sum = 0.f;
    for (int k = w.size * w.size - 1; k >= 0; k--) {
        int row = y + w.above - k / w.size, column = px + w.left - k % w.size;
        if (row < 0 || column < 0 || row % w.stride || column % w.stride) continue;
        row /= w.stride;
        column /= w.stride;
        if (row >= w.rows || column >= w.columns) continue;
        u64 at = ((image * w.rows + row) * w.columns + column) * w.channels + c;
        if (winners[at] == (float)k) sum += grad[at];
    }
    out[i] = sum;
}
KERNEL void average_pool(const float* x, float* out, u64 count, Windows w) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % w.channels), column = (int)(i / w.channels % w.columns);
    int row = (int)(i / w.channels / w.columns % w.rows);
    u64 image = i / w.channels / w.columns / w.rows;
    float sum = 0.f;
    for (int k = 0; k < w.size * w.size; k++) {
        int y = row * w.stride + k / w.size - w.above, px = column * w.stride + k % w.size - w.left;
        if (y < 0 || y >= w.height || px < 0 || px >= w.width) continue;
        sum += x[((image * w.height + y) * w.width + px) * w.channels + c];
    }
    out[i] = sum / (w.size * w.size);
}
KERNEL void average_pool_backward(const float* grad, float* out, u64 count, Windows w) {
    u64 i = place();
    if (i >= count) return;
    int c = (int)(i % w.channels), px = (int)(i / w.channels % w.width), y = (int)(i / w.channels / w.width % w.height);
    u64 image = i / w.channels / w.width / w.height;
    float sum = 0.f;
    for (int k = w.size * w.size - 1; k >= 0; k--) {
        int row = y + w.above - k / w.size, column = px + w.left - k % w.size;
        if (row < 0 || column < 0 || row % w.stride || column % w.stride) continue;
        row /= w.stride;
        column /= w.stride;
        if (row < w.rows && column < w.columns) sum += grad[((image * w.rows + row) * w.columns + column) * w.channels + c];
    }
    out[i] = sum / (w.size * w.size);
}

#include "product.hpp"
#include "../include/floats.hpp"
#include "state.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace driver {
size_t element_bytes(int type) {
    switch (Type(type)) {
    case Type::F32: return 4;
    case Type::F64: return 0; // cuBLASLt has it, this project has no use for it
    case Type::F16:
    case Type::Bf16: return 2;
    }
    return 0;
}

// ---- matrices ----
static float load(const void *memory, int type, size_t index) {
    if (Type(type) == Type::F32) return static_cast<const float *>(memory)[index];
    uint16_t half = static_cast<const uint16_t *>(memory)[index];
    return Type(type) == Type::F16 ? emu::from_f16(half) : emu::from_bf16(half);
}

static void store(void *memory, int type, size_t index, float value) {
    if (Type(type) == Type::F32) static_cast<float *>(memory)[index] = value;
    else static_cast<uint16_t *>(memory)[index] = Type(type) == Type::F16 ? emu::to_f16(value) : emu::to_bf16(value);
}

static size_t offset(const Matrix &m, size_t batch, size_t row, size_t column) {
    return size_t(int64_t(batch) * m.batch_stride) + (m.row_major ? row * m.leading + column : column * m.leading + row);
}

float Matrix::get(size_t batch_index, size_t row, size_t column) const {
    return load(reinterpret_cast<const void *>(address), type, offset(*this, batch_index, row, column));
}

void Matrix::set(size_t batch_index, size_t row, size_t column, float value) const {
    store(reinterpret_cast<void *>(address), type, offset(*this, batch_index, row, column), value);
}

// ---- epilogues ----
bool Epilogue::from_number(unsigned number, Epilogue *epilogue) {
    // The numbers are sums: 1 nothing, 2 ReLU, 4 bias, 8 derivative of ReLU, 16 gradient of the bias, 32 GELU, 64 its
    // derivative, 128 auxiliary, 256 and 512 gradients of the bias from A and from B.
    static const unsigned known[] = {1, 2, 4, 6, 130, 134, 136, 152, 32, 36, 160, 164, 192, 208, 256, 512};
    bool found = false;
    for (unsigned one : known) found |= one == number;
    if (!found) return false;
    *epilogue = Epilogue{};
    if (number & (2 | 8)) epilogue->activation = Activation::Relu;
    if (number & (32 | 64)) epilogue->activation = Activation::Gelu;
    epilogue->derivative = number & (8 | 64);
    epilogue->bias = number & 4;
    epilogue->auxiliary = number & 128;
    if (number & 16) epilogue->gradient = Gradient::D;
    if (number & 256) epilogue->gradient = Gradient::A;
    if (number & 512) epilogue->gradient = Gradient::B;
    return true;
}

// cuBLASLt's GELU is the one with tanh.
static const float gelu_scale = 0.7978845608028654f, gelu_cubic = 0.044715f;

static float gelu(float x) { return 0.5f * x * (1 + tanhf(gelu_scale * (x + gelu_cubic * x * x * x))); }

static float gelu_derivative(float x) {
    float t = tanhf(gelu_scale * (x + gelu_cubic * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * gelu_scale * (1 + 3 * gelu_cubic * x * x);
}

// ---- checks ----
bool Multiplication::fits() const {
    size_t a_rows = transpose_a ? a.columns : a.rows, b_rows = transpose_b ? b.columns : b.rows;
    size_t b_columns = transpose_b ? b.rows : b.columns;
    if (a_rows != m() || b_columns != n() || b_rows != k()) return false;
    if (c.rows != d.rows || c.columns != d.columns) return false;
    for (const Matrix *one : {&a, &b, &c, &d}) {
        if (one->batch != d.batch) return false;
        if (one->leading < (one->row_major ? one->columns : one->rows)) return false;
    }
    return true;
}

// Checks, and with `writes` marks as written, every element of a matrix.
static bool check_matrix(const Matrix &matrix, bool writes, const char *what) {
    size_t bytes = element_bytes(matrix.type);
    size_t lines = matrix.row_major ? matrix.rows : matrix.columns, length = matrix.row_major ? matrix.columns : matrix.rows;
    if (matrix.address % bytes) {
        report("product: %s is not aligned to its type", what);
        stick(IllegalAddress);
        return false;
    }
    for (size_t batch = 0; batch < matrix.batch; batch++)
        for (size_t line = 0; line < lines; line++) {
            uint64_t first =
                matrix.address + uint64_t(int64_t(batch) * matrix.batch_stride + int64_t(line * matrix.leading)) * bytes;
            if (!require_allocation(first, length * bytes, what)) return false;
            if (!emu::checked || length == 0) continue;
            emu::Region *region = emu::find_allocation(first);
            if (writes) {
                region->set_written(first, length * bytes, true);
            } else if (!region->written(first, length * bytes)) {
                report("product: %s has elements that nothing has written: %s, %zu bytes", what,
                       emu::describe_address(first).c_str(), length * bytes);
                stick(emu::LaunchFailed);
                return false;
            }
        }
    return true;
}

bool Multiplication::check_memory() const {
    if (!check_matrix(a, false, "the product's A") || !check_matrix(b, false, "the product's B")) return false;
    if (beta != 0 && !check_matrix(c, false, "the product's C")) return false;
    bool reads_bias = epilogue.bias, writes_bias = epilogue.gradient != Epilogue::Gradient::None;
    if ((reads_bias || writes_bias) && !check_matrix(bias, writes_bias, "the product's bias")) return false;
    if (epilogue.auxiliary && !auxiliary_is_mask && !check_matrix(auxiliary, !epilogue.derivative, "the product's auxiliary"))
        return false;
    return check_matrix(d, true, "the product's D");
}

// ---- arithmetic ----
// A copy in f32: element (row, column) of the (transposed) matrix at `column * rows + row`.
static std::vector<float> unpacked(const Matrix &matrix, size_t batch, bool transposed, bool tf32) {
    size_t rows = transposed ? matrix.columns : matrix.rows, columns = transposed ? matrix.rows : matrix.columns;
    std::vector<float> values(rows * columns);
    // As the matrix lies in memory, line by line.
    bool turned = transposed != matrix.row_major;
    size_t lines = turned ? rows : columns, length = turned ? columns : rows;
    const void *memory = reinterpret_cast<const void *>(matrix.address);
    const size_t begin = size_t(int64_t(batch) * matrix.batch_stride);
    // Some lines at a time, so that both sides of a transpose stay in the cache.
    const size_t strip = turned ? 16 : 1;
    for (size_t start = 0; start < lines; start += strip)
        for (size_t i = 0; i < length; i++)
            for (size_t line = start; line < std::min(lines, start + strip); line++) {
                float value = load(memory, matrix.type, begin + line * matrix.leading + i);
                values[turned ? i * rows + line : line * rows + i] = tf32 ? emu::float_of(emu::to_tf32(value)) : value;
            }
    return values;
}

// How many columns of the result are summed at a time.
static const size_t group = 4;

// Wider registers where the processor has them; the bits are the same, since nothing is fused.
#if defined(__x86_64__)
#define EMU_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define EMU_WIDE
#endif

// Adds to the sums of `group` columns what the depths from `begin` to `end` give.
EMU_WIDE static void add_products(float *sums, const float *left, const float *right, size_t rows, size_t depth, size_t begin,
                                  size_t end) {
    float *__restrict__ s0 = sums, *__restrict__ s1 = s0 + rows, *__restrict__ s2 = s1 + rows, *__restrict__ s3 = s2 + rows;
    for (size_t q = begin; q < end; q++) {
        const float *__restrict__ column = left + q * rows;
        const float f0 = right[q], f1 = right[depth + q], f2 = right[2 * depth + q], f3 = right[3 * depth + q];
        for (size_t i = 0; i < rows; i++) {
            s0[i] += f0 * column[i];
            s1[i] += f1 * column[i];
            s2[i] += f2 * column[i];
            s3[i] += f3 * column[i];
        }
    }
}

static bool mask_bit(const Matrix &mask, size_t batch, size_t row, size_t column) {
    size_t bit = size_t(int64_t(batch) * mask.batch_stride) + column * mask.leading + row;
    return reinterpret_cast<const uint8_t *>(mask.address)[bit / 8] >> (bit % 8) & 1;
}

static void set_mask_bit(const Matrix &mask, size_t batch, size_t row, size_t column, bool value) {
    size_t bit = size_t(int64_t(batch) * mask.batch_stride) + column * mask.leading + row;
    uint8_t &byte = reinterpret_cast<uint8_t *>(mask.address)[bit / 8];
    byte = uint8_t((byte & ~(1u << (bit % 8))) | unsigned(value) << (bit % 8));
}

void Multiplication::run() const {
    const size_t rows = m(), columns = n(), depth = k();
    // Sums over blocks of the depth, added up: as exact as the tensor core's own order, and fast.
    const size_t block = 128;
    for (size_t batch = 0; batch < d.batch; batch++) {
        const std::vector<float> left = unpacked(a, batch, transpose_a, tf32);
        std::vector<float> right = unpacked(b, batch, transpose_b, tf32);
        right.resize((columns + group - 1) / group * group * depth); // zeros up to a whole group
        std::vector<float> totals(group * rows), part(group * rows);
        std::vector<double> gradient(epilogue.gradient == Epilogue::Gradient::B ? columns : rows);
        for (size_t j = 0; j < columns; j++) {
            if (j % group == 0) {
                std::fill(totals.begin(), totals.end(), 0.f);
                for (size_t begin = 0; begin < depth; begin += block) {
                    std::fill(part.begin(), part.end(), 0.f);
                    add_products(part.data(), left.data(), &right[j * depth], rows, depth, begin,
                                 std::min(depth, begin + block));
                    for (size_t i = 0; i < totals.size(); i++) totals[i] += part[i];
                }
            }
            const float *total = &totals[j % group * rows];
            for (size_t i = 0; i < rows; i++) {
                float value = alpha * total[i];
                if (beta != 0) value += beta * c.get(batch, i, j);
                if (epilogue.bias) value += bias.get(batch, i, 0);
                if (epilogue.derivative) {
                    if (epilogue.activation == Activation::Gelu) value *= gelu_derivative(auxiliary.get(batch, i, j));
                    else if (!mask_bit(auxiliary, batch, i, j)) value = 0;
                } else {
                    if (epilogue.auxiliary && auxiliary_is_mask) set_mask_bit(auxiliary, batch, i, j, value > 0);
                    else if (epilogue.auxiliary) auxiliary.set(batch, i, j, value);
                    if (epilogue.activation == Activation::Gelu) value = gelu(value);
                    if (epilogue.activation == Activation::Relu) value = value > 0 ? value : 0;
                }
                if (epilogue.gradient == Epilogue::Gradient::D) gradient[i] += value;
                d.set(batch, i, j, value);
            }
        }
        if (epilogue.gradient == Epilogue::Gradient::A)
            for (size_t q = 0; q < depth; q++)
                for (size_t i = 0; i < rows; i++) gradient[i] += left[q * rows + i];
        if (epilogue.gradient == Epilogue::Gradient::B)
            for (size_t j = 0; j < columns; j++)
                for (size_t q = 0; q < depth; q++) gradient[j] += right[j * depth + q];
        if (epilogue.gradient != Epilogue::Gradient::None)
            for (size_t i = 0; i < gradient.size(); i++) bias.set(batch, i, 0, float(gradient[i]));
    }
}
} // namespace driver

// The matrix product that stands for cuBLASLt's.
#pragma once
#include <cstddef>
#include <cstdint>

namespace driver {
enum class Type : int { F32 = 0, F64 = 1, F16 = 2, Bf16 = 14 };

// How many bytes an element has; 0 for a type that the product does not know.
size_t element_bytes(int type);

// A matrix in memory, columns after each other (or rows, if `row_major`).
struct Matrix {
    uint64_t address = 0;
    int type = 0;
    size_t rows = 0, columns = 0;
    size_t leading = 0; // from one column to the next, in elements
    bool row_major = false;
    size_t batch = 1;
    int64_t batch_stride = 0; // in elements

    float get(size_t batch_index, size_t row, size_t column) const;
    void set(size_t batch_index, size_t row, size_t column, float value) const;
};

enum class Activation { None, Relu, Gelu };

// What happens to the product before it is stored.
struct Epilogue {
    Activation activation = Activation::None;
    // The derivative of the activation at the auxiliary input takes the place of the activation.
    bool derivative = false;
    bool bias = false;
    // The value before the activation is stored in (or, with `derivative`, read from) the auxiliary matrix.
    bool auxiliary = false;
    // The sums over D's columns, A's or B's rows are stored where the bias is.
    enum class Gradient { None, D, A, B } gradient = Gradient::None;

    // From cuBLASLt's number; false if there is no such epilogue.
    static bool from_number(unsigned number, Epilogue *epilogue);
};

// D = epilogue(alpha · op(A) · op(B) + beta · C + bias), all sums in f32.
struct Multiplication {
    Matrix a, b, c, d;
    bool transpose_a = false, transpose_b = false;
    bool tf32 = false;
    float alpha = 1, beta = 0;
    Epilogue epilogue;
    // One column: the bias, or where its gradient goes.
    Matrix bias;
    // For RELU the mask of cuBLASLt, one bit an element.
    Matrix auxiliary;
    bool auxiliary_is_mask = false;

    size_t m() const { return d.rows; }
    size_t n() const { return d.columns; }
    size_t k() const { return transpose_a ? a.rows : a.columns; }
    // The shapes fit each other.
    bool fits() const;
    // Every matrix lies in memory of the device, and what is read has been written. Reports and sticks if not.
    bool check_memory() const;
    void run() const;
};
} // namespace driver

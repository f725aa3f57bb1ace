// Asynchronous copies, matrix loads and tensor-core products.
#include "../include/floats.hpp"
#include "block.hpp"

#include <cstdio>
#include <cstring>

namespace emu {
// ---- cp.async ----
void copy_async(uintptr_t to, const void *from, int bytes, bool filled, const char *file, int line) {
    Multiprocessor &m = *here;
    require_shared(to, size_t(bytes), "cp.async", file, line);
    char what[200];
    snprintf(what, sizeof what, "cp.async (%s:%d)", file_name(file), line);
    if (filled) { // with a length of 0 the source is never read
        if (uintptr_t(from) % unsigned(bytes)) fail(MisalignedAddress, "%s: the source is not a multiple of %d", what, bytes);
        check_global(uintptr_t(from), size_t(bytes), Kind::Read, what);
    }
    check_shared(to, size_t(bytes), Kind::Write, what);
    set_in_flight(to, size_t(bytes), true);
    m.current->copies.push_back({to, from, bytes, filled, m.current->copy_group});
}

void copy_commit() { here->current->copy_group++; }

void copy_wait(int left, const char *file, int line) {
    Multiprocessor &m = *here;
    Thread &me = *m.current;
    char what[200];
    snprintf(what, sizeof what, "cp.async landing at the wait (%s:%d)", file_name(file), line);
    size_t kept = 0;
    for (Copy copy : me.copies) {
        if (int(me.copy_group - copy.group) <= left) {
            me.copies[kept++] = copy;
            continue;
        }
        void *to = reinterpret_cast<void *>(copy.to);
        if (copy.filled) memcpy(to, copy.from, size_t(copy.bytes));
        else memset(to, 0, size_t(copy.bytes));
        set_in_flight(copy.to, size_t(copy.bytes), false);
        // A write at this moment: whoever reads it needs a barrier after this wait.
        check_shared(copy.to, size_t(copy.bytes), Kind::Write, what);
    }
    me.copies.resize(kept);
}

// ---- ldmatrix ----
struct LoadArgument {
    u32 *words;
    uintptr_t row;
};

// How often the eight rows of one matrix meet in the same banks, beyond the first time.
static u64 conflicts(const u16 *const *rows) {
    u32 seen = 0;
    u64 count = 0;
    for (int i = 0; i < 8; i++) {
        bool repeated = false;
        for (int k = 0; k < i; k++) repeated |= rows[k] == rows[i];
        if (repeated) continue;
        u32 bank = 1u << (uintptr_t(rows[i]) >> 4 & 7);
        if (seen & bank) count++;
        seen |= bank;
    }
    return count;
}

static void perform_load(void **arguments, u32, int option) {
    Multiprocessor &m = *here;
    int count = option >> 1;
    bool transposed = option & 1;
    m.counts.matrix_loads++;
    for (int matrix = 0; matrix < count; matrix++) {
        const u16 *rows[8];
        for (int i = 0; i < 8; i++)
            rows[i] = reinterpret_cast<const u16 *>(static_cast<LoadArgument *>(arguments[matrix * 8 + i])->row);
        m.counts.matrix_load_conflicts += conflicts(rows);
        for (int lane = 0; lane < 32; lane++) {
            int i = lane >> 2, j = (lane & 3) * 2;
            u32 low = transposed ? rows[j][i] : rows[i][j], high = transposed ? rows[j + 1][i] : rows[i][j + 1];
            static_cast<LoadArgument *>(arguments[lane])->words[matrix] = low | high << 16;
        }
    }
}

void load_matrix(u32 *words, int count, bool transposed, uintptr_t row, const char *file, int line) {
    // Lane i gives the row i of the matrices; with fewer than four, the last lanes' addresses are not used.
    if (here->current->lane < unsigned(8 * count)) {
        require_shared(row, 16, "ldmatrix", file, line);
        if (checked) {
            char what[200];
            snprintf(what, sizeof what, "ldmatrix (%s:%d)", file_name(file), line);
            check_shared(row, 16, Kind::Read, what);
        }
    }
    LoadArgument mine{words, row};
    collective(transposed ? "ldmatrix.trans" : "ldmatrix", ~0u, &mine, count << 1 | transposed, perform_load, file, line);
}

// ---- mma ----
struct MultiplyArgument {
    float *c;
    const u32 *a;
    u32 b[2];
};

static float decode(u32 half, Product kind) { return kind == Product::Bf16 ? from_bf16(u16(half)) : from_f16(u16(half)); }

// Which parts of the 16 × 8 tile a lane holds: rows `row` and `row + 8`, columns `column` and `column + 1`.
struct Share {
    int row, column;
    explicit Share(int lane) : row(lane >> 2), column((lane & 3) * 2) {}
};

static void perform_multiply(void **arguments, u32, int option) {
    Product kind = Product(option);
    int depth = kind == Product::Tf32 ? 8 : 16;
    float a[16][16], b[16][8], c[16][8];
    here->counts.products++;
    for (int lane = 0; lane < 32; lane++) {
        const auto &mine = *static_cast<MultiplyArgument *>(arguments[lane]);
        Share share(lane);
        for (int q = 0; q < 4; q++) {
            int i = share.row + (q & 1) * 8;
            if (kind == Product::Tf32) {
                a[i][(lane & 3) + (q >> 1) * 4] = float_of(mine.a[q] & 0xffffe000u);
            } else {
                int k = share.column + (q >> 1) * 8;
                a[i][k] = decode(mine.a[q] & 0xffffu, kind);
                a[i][k + 1] = decode(mine.a[q] >> 16, kind);
            }
        }
        for (int q = 0; q < 2; q++) {
            if (kind == Product::Tf32) {
                b[(lane & 3) + q * 4][share.row] = float_of(mine.b[q] & 0xffffe000u);
            } else {
                b[share.column + q * 8][share.row] = decode(mine.b[q] & 0xffffu, kind);
                b[share.column + q * 8 + 1][share.row] = decode(mine.b[q] >> 16, kind);
            }
        }
        for (int q = 0; q < 4; q++) c[share.row + (q >> 1) * 8][share.column + (q & 1)] = mine.c[q];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < depth; k++)
            for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < 32; lane++) {
        const auto &mine = *static_cast<MultiplyArgument *>(arguments[lane]);
        Share share(lane);
        for (int q = 0; q < 4; q++) mine.c[q] = c[share.row + (q >> 1) * 8][share.column + (q & 1)];
    }
}

void multiply(Product kind, float *c, const u32 *a, u32 b0, u32 b1, const char *file, int line) {
    static const char *const names[] = {"mma (bf16)", "mma (f16)", "mma (tf32)"};
    MultiplyArgument mine{c, a, {b0, b1}};
    collective(names[int(kind)], ~0u, &mine, int(kind), perform_multiply, file, line);
}
} // namespace emu

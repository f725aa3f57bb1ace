// cuBLASLt's interface: descriptions of products, and the choice of an algorithm, of which there is one.
#include "product.hpp"
#include "state.hpp"

#include <cstring>

namespace driver {
namespace {
enum Status : int { Worked = 0, NotReadyYet = 1, InvalidArgument = 7, ExecutionFailed = 13, Unsupported = 15 };

struct Description {
    int compute_type, scale_type;
    int pointer_mode = 0;
    int transpose_a = 0, transpose_b = 0, transpose_c = 0;
    unsigned epilogue = 1;
    uint64_t bias = 0, auxiliary = 0;
    int64_t bias_batch_stride = 0, auxiliary_leading = 0, auxiliary_batch_stride = 0;
    int bias_type = -1, auxiliary_type = -1;
    char ignored[16] = {};
};

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
    int order = 0;
    int batch = 1;
    int64_t batch_stride = 0;
};

struct Algorithm {
    uint64_t data[8];
};

struct Choice {
    Algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

struct Preference {
    uint64_t workspace_bytes = 0;
    // Of A, B, C and D: an algorithm may need as much as is not ruled out here.
    uint32_t alignments[4] = {256, 256, 256, 256};
};

// What an algorithm keeps of its choice in its opaque words.
struct AlgorithmWords {
    uint64_t mark, workspace_bytes;
    uint32_t alignments[4];
};
static_assert(sizeof(AlgorithmWords) <= sizeof(Algorithm), "");

AlgorithmWords words_of(const Algorithm &algorithm) {
    AlgorithmWords words;
    memcpy(&words, &algorithm, sizeof words);
    return words;
}

// A field that an attribute sets: where it is and how many bytes it has.
struct Field {
    void *address;
    size_t bytes;
};

int write_field(Field field, const void *from, size_t bytes) {
    if (!field.address) return Unsupported;
    if (!from || bytes != field.bytes) return InvalidArgument;
    memcpy(field.address, from, bytes);
    return Worked;
}

int read_field(Field field, void *into, size_t bytes, size_t *written) {
    if (!field.address) return Unsupported;
    if (written) *written = field.bytes;
    if (bytes == 0) return Worked;
    if (!into || bytes < field.bytes) return InvalidArgument;
    memcpy(into, field.address, field.bytes);
    return Worked;
}

Field field_of(Description &d, int attribute) {
    switch (attribute) {
    case 0: return {&d.compute_type, 4};
    case 1: return {&d.scale_type, 4};
    case 2: return {&d.pointer_mode, 4};
    case 3: return {&d.transpose_a, 4};
    case 4: return {&d.transpose_b, 4};
    case 5: return {&d.transpose_c, 4};
    case 7: return {&d.epilogue, 4};
    case 8: return {&d.bias, 8};
    case 10: return {&d.bias_batch_stride, 8};
    case 11: return {&d.auxiliary, 8};
    case 12: return {&d.auxiliary_leading, 8};
    case 13: return {&d.auxiliary_batch_stride, 8};
    case 15: return {&d.ignored, 4}; // how many multiprocessors to use
    case 22: return {&d.auxiliary_type, 4};
    case 25: return {&d.ignored, 1}; // fast accumulation of 8-bit floats
    case 26: return {&d.bias_type, 4};
    default: return {nullptr, 0};
    }
}

Field field_of(Layout &l, int attribute) {
    switch (attribute) {
    case 0: return {&l.type, 4};
    case 1: return {&l.order, 4};
    case 2: return {&l.rows, 8};
    case 3: return {&l.columns, 8};
    case 4: return {&l.leading, 8};
    case 5: return {&l.batch, 4};
    case 6: return {&l.batch_stride, 8};
    default: return {nullptr, 0};
    }
}

Matrix matrix(const Layout &layout, uint64_t address) {
    Matrix result;
    result.address = address;
    result.type = layout.type;
    result.rows = layout.rows;
    result.columns = layout.columns;
    result.leading = size_t(layout.leading);
    result.row_major = layout.order == 1;
    result.batch = size_t(layout.batch);
    result.batch_stride = layout.batch_stride;
    return result;
}

bool has_bias(const Epilogue &epilogue) { return epilogue.bias || epilogue.gradient != Epilogue::Gradient::None; }

// The product that the descriptions ask for; the status says what is wrong with them.
int describe(const Description &d, const Layout &a, const Layout &b, const Layout &c, const Layout &output, Multiplication *p) {
    const int f32 = int(Type::F32), compute_f32 = 68, compute_f32_pedantic = 69, compute_fast_f16 = 74, compute_fast_bf16 = 75,
              compute_tf32 = 77;
    bool known = d.compute_type == compute_f32 || d.compute_type == compute_f32_pedantic || d.compute_type == compute_tf32 ||
                 d.compute_type == compute_fast_f16 || d.compute_type == compute_fast_bf16;
    if (!known || d.scale_type != f32 || d.pointer_mode != 0 || d.transpose_c) return Unsupported;
    for (const Layout *layout : {&a, &b, &c, &output})
        if (!element_bytes(layout->type) || layout->order > 1) return Unsupported;
    // A and B of one type; C and D of one type, the same or f32.
    if (a.type != b.type || c.type != output.type) return Unsupported;
    if (output.type != a.type && output.type != f32) return Unsupported;
    if (!Epilogue::from_number(d.epilogue, &p->epilogue)) return Unsupported;

    p->a = matrix(a, 0);
    p->b = matrix(b, 0);
    p->c = matrix(c, 0);
    p->d = matrix(output, 0);
    p->transpose_a = d.transpose_a != 0;
    p->transpose_b = d.transpose_b != 0;
    p->tf32 = d.compute_type == compute_tf32 && a.type == f32;
    if (!p->fits()) {
        report("product: the shapes do not fit");
        return InvalidArgument;
    }

    if (has_bias(p->epilogue)) {
        p->bias.address = d.bias;
        p->bias.type = d.bias_type < 0 ? output.type : d.bias_type;
        // The table of supported types knows no other.
        if (p->bias.type != output.type) return Unsupported;
        p->bias.rows = p->epilogue.gradient == Epilogue::Gradient::B ? p->n() : p->m();
        p->bias.columns = 1;
        p->bias.leading = p->bias.rows;
        p->bias.batch = p->d.batch;
        p->bias.batch_stride = d.bias_batch_stride;
    }
    if (p->epilogue.auxiliary) {
        bool mask = p->epilogue.activation == Activation::Relu;
        p->auxiliary_is_mask = mask;
        p->auxiliary.address = d.auxiliary;
        p->auxiliary.type = d.auxiliary_type < 0 ? output.type : d.auxiliary_type;
        p->auxiliary.rows = p->m();
        p->auxiliary.columns = p->n();
        p->auxiliary.leading = size_t(d.auxiliary_leading);
        p->auxiliary.batch = p->d.batch;
        p->auxiliary.batch_stride = d.auxiliary_batch_stride;
        if (!d.auxiliary || p->auxiliary.leading < p->m() || (mask && p->auxiliary.leading % 128) ||
            (!mask && p->auxiliary.leading % 8)) {
            report("product: the auxiliary matrix is missing, or its leading dimension is not a multiple of %d",
                   mask ? 128 : 8);
            return InvalidArgument;
        }
    }
    return Worked;
}

const uint64_t algorithm_mark = 0x6c61727469760002ull;

// An operand as aligned as the algorithm was chosen for.
bool is_aligned(const void *operand, uint32_t alignment, const char *name) {
    if (alignment == 0 || reinterpret_cast<uintptr_t>(operand) % alignment == 0) return true;
    report("product: %s is not aligned by the %u bytes that the algorithm was chosen for", name, alignment);
    return false;
}
} // namespace
} // namespace driver

using namespace driver;

EMU_API size_t cublasLtGetVersion() { return 130100; }
EMU_API size_t cublasLtGetCudartVersion() { return 13000; }
EMU_API int cublasLtGetProperty(int which, int *value) {
    const int version[] = {13, 1, 0};
    if (which < 0 || which > 2) return InvalidArgument;
    *value = version[which];
    return Worked;
}

EMU_API const char *cublasLtGetStatusName(int status) {
    switch (status) {
    case 0: return "CUBLAS_STATUS_SUCCESS";
    case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3: return "CUBLAS_STATUS_ALLOC_FAILED";
    case 7: return "CUBLAS_STATUS_INVALID_VALUE";
    case 8: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 11: return "CUBLAS_STATUS_MAPPING_ERROR";
    case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case 16: return "CUBLAS_STATUS_LICENSE_ERROR";
    default: return "CUBLAS_STATUS_UNKNOWN";
    }
}
EMU_API const char *cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

// ---- handles and descriptions ----
EMU_API int cublasLtCreate(void **handle) {
    Guard guard(lock());
    if (!initialized() || sticky()) return NotReadyYet;
    *handle = new char;
    return Worked;
}
EMU_API int cublasLtDestroy(void *handle) {
    delete static_cast<char *>(handle);
    return Worked;
}

EMU_API int cublasLtMatmulDescCreate(Description **description, int compute_type, int scale_type) {
    *description = new Description{compute_type, scale_type};
    return Worked;
}
EMU_API int cublasLtMatmulDescDestroy(Description *description) {
    delete description;
    return Worked;
}
EMU_API int cublasLtMatmulDescSetAttribute(Description *description, int attribute, const void *from, size_t bytes) {
    return write_field(field_of(*description, attribute), from, bytes);
}
EMU_API int cublasLtMatmulDescGetAttribute(Description *description, int attribute, void *into, size_t bytes, size_t *written) {
    return read_field(field_of(*description, attribute), into, bytes, written);
}

EMU_API int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    *layout = new Layout{type, rows, columns, leading};
    return Worked;
}
EMU_API int cublasLtMatrixLayoutDestroy(Layout *layout) {
    delete layout;
    return Worked;
}
EMU_API int cublasLtMatrixLayoutSetAttribute(Layout *layout, int attribute, const void *from, size_t bytes) {
    return write_field(field_of(*layout, attribute), from, bytes);
}
EMU_API int cublasLtMatrixLayoutGetAttribute(Layout *layout, int attribute, void *into, size_t bytes, size_t *written) {
    return read_field(field_of(*layout, attribute), into, bytes, written);
}

EMU_API int cublasLtMatmulPreferenceCreate(Preference **preference) {
    *preference = new Preference;
    return Worked;
}
EMU_API int cublasLtMatmulPreferenceDestroy(Preference *preference) {
    delete preference;
    return Worked;
}
EMU_API int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *from, size_t bytes) {
    if (attribute == 1) return write_field({&preference->workspace_bytes, 8}, from, bytes);
    if (attribute >= 5 && attribute <= 8) return write_field({&preference->alignments[attribute - 5], 4}, from, bytes);
    return attribute >= 0 && attribute <= 13 ? Worked : InvalidArgument;
}

// ---- algorithms ----
EMU_API int cublasLtMatmulAlgoGetHeuristic(void *, Description *description, Layout *a, Layout *b, Layout *c, Layout *d,
                                           Preference *preference, int wanted, Choice *choices, int *count) {
    Guard guard(lock());
    *count = 0;
    if (wanted < 1) return InvalidArgument;
    Multiplication product;
    if (int status = describe(*description, *a, *b, *c, *d, &product)) return status;
    // As many as are wanted, up to three, so that choosing among them is tried.
    for (int i = 0; i < wanted && i < 3; i++) {
        // The others need some workspace, which they spoil.
        AlgorithmWords words{algorithm_mark, uint64_t(i) * 256, {256, 256, 256, 256}};
        if (i && preference && words.workspace_bytes > preference->workspace_bytes) break;
        if (preference) memcpy(words.alignments, preference->alignments, sizeof words.alignments);
        memset(&choices[i], 0, sizeof choices[i]);
        memcpy(&choices[i].algorithm, &words, sizeof words);
        choices[i].workspace_bytes = words.workspace_bytes;
        choices[i].waves = 1;
        *count = i + 1;
    }
    return Worked;
}

EMU_API int cublasLtMatmulAlgoCheck(void *, Description *description, Layout *a, Layout *b, Layout *c, Layout *d,
                                    const Algorithm *algorithm, Choice *result) {
    Guard guard(lock());
    Multiplication product;
    AlgorithmWords words = words_of(*algorithm);
    int status = words.mark == algorithm_mark ? describe(*description, *a, *b, *c, *d, &product) : InvalidArgument;
    memset(result, 0, sizeof *result);
    result->algorithm = *algorithm;
    result->state = status;
    result->workspace_bytes = words.workspace_bytes;
    result->waves = 1;
    return status;
}

EMU_API int cublasLtMatmul(void *handle, Description *description, const void *alpha, const void *a, Layout *a_layout,
                           const void *b, Layout *b_layout, const void *beta, const void *c, Layout *c_layout, void *d,
                           Layout *d_layout, const Algorithm *algorithm, void *workspace, size_t workspace_bytes,
                           void *stream_handle) {
    Guard guard(lock());
    if (!handle || sticky()) return handle ? ExecutionFailed : NotReadyYet;
    Stream *stream = find_stream(stream_handle);
    if (!stream || !alpha || !beta || (algorithm && words_of(*algorithm).mark != algorithm_mark)) return InvalidArgument;
    Multiplication product;
    if (int status = describe(*description, *a_layout, *b_layout, *c_layout, *d_layout, &product)) return status;
    if (algorithm) {
        AlgorithmWords words = words_of(*algorithm);
        if (workspace_bytes < words.workspace_bytes) return InvalidArgument;
        const char *const names[] = {"A", "B", "C", "D"};
        const void *const operands[] = {a, b, beta && *static_cast<const float *>(beta) != 0 ? c : nullptr, d};
        for (int i = 0; i < 4; i++)
            if (!is_aligned(operands[i], words.alignments[i], names[i])) return InvalidArgument;
    }
    // What the epilogues need of these is written nowhere; 16 bytes are enough.
    if (has_bias(product.epilogue) && !is_aligned((const void *)product.bias.address, 16, "the bias")) return InvalidArgument;
    if (product.epilogue.auxiliary && !is_aligned((const void *)product.auxiliary.address, 16, "the auxiliary matrix"))
        return InvalidArgument;
    if (workspace_bytes &&
        !require_allocation(reinterpret_cast<uint64_t>(workspace), workspace_bytes, "the product's workspace"))
        return ExecutionFailed;
    product.a.address = reinterpret_cast<uint64_t>(a);
    product.b.address = reinterpret_cast<uint64_t>(b);
    product.c.address = reinterpret_cast<uint64_t>(c);
    product.d.address = reinterpret_cast<uint64_t>(d);
    memcpy(&product.alpha, alpha, 4);
    memcpy(&product.beta, beta, 4);
    int code = enqueue(stream, [=] {
        if (!product.check_memory()) return sticky();
        product.run();
        if (workspace_bytes) memset(workspace, 0xff, workspace_bytes);
        return int(Success);
    });
    return code ? ExecutionFailed : Worked;
}

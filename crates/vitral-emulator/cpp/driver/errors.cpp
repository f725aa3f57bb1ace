// Errors: their names, the one that sticks, and what is printed.
#include "state.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace driver {
std::recursive_mutex &lock() {
    static auto *mutex = new std::recursive_mutex;
    return *mutex;
}

static std::string &last_message() {
    static auto *text = new std::string;
    return *text;
}

void report(const char *format, ...) {
    char text[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    last_message() = text;
    fprintf(stderr, "emulated CUDA: %s\n", text);
}

static int stuck = 0;

int sticky() { return stuck; }

int stick(int code) {
    if (!stuck) stuck = code;
    return stuck;
}

uint64_t setting(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

struct Description {
    int code;
    const char *name, *text;
};

static const Description descriptions[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {301, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
};

static const Description *describe(int code) {
    for (const Description &one : descriptions)
        if (one.code == code) return &one;
    return nullptr;
}
} // namespace driver

EMU_API int cuGetErrorName(int code, const char **name) {
    const driver::Description *found = driver::describe(code);
    *name = found ? found->name : nullptr;
    return found ? driver::Success : driver::InvalidValue;
}

EMU_API int cuGetErrorString(int code, const char **text) {
    const driver::Description *found = driver::describe(code);
    *text = found ? found->text : nullptr;
    return found ? driver::Success : driver::InvalidValue;
}

// The last fault in words, or an empty text. For tests; the real driver has no such function.
EMU_API const char *vitral_emulator_message() { return driver::last_message().c_str(); }

// Forgets an error that stuck and its message, so that a test of faults can go on.
EMU_API void vitral_emulator_reset() {
    driver::Guard guard(driver::lock());
    driver::run_all();
    driver::stuck = 0;
    driver::last_message().clear();
}

// What has run since the last call.
EMU_API void vitral_emulator_counts(emu::Counts *into) {
    driver::Guard guard(driver::lock());
    *into = emu::counts();
    emu::counts() = emu::Counts{};
}

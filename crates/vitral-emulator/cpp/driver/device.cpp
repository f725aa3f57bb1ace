// The driver's start, its one device and its context.
#include "state.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

namespace driver {
static bool started = false;
static int context_object, context_users = 0;
static thread_local void *current_context = nullptr;

bool initialized() { return started; }

int check_context() {
    if (!started) return NotInitialized;
    if (sticky()) return sticky();
    if (!current_context || !context_users) return InvalidContext;
    return Success;
}

static void at_exit() {
    if (setting("VITRAL_EMULATOR_LEAKS", 0)) print_leaks();
    if (setting("VITRAL_EMULATOR_COUNTS", 0)) {
        const emu::Counts &c = emu::counts();
        fprintf(stderr,
                "emulated CUDA: %llu launches, %llu blocks, %llu barriers, %llu warp collectives, %llu mma, %llu ldmatrix with "
                "%llu bank conflicts\n",
                (unsigned long long)c.launches, (unsigned long long)c.blocks, (unsigned long long)c.barriers,
                (unsigned long long)c.collectives, (unsigned long long)c.products, (unsigned long long)c.matrix_loads,
                (unsigned long long)c.matrix_load_conflicts);
        fputs(emu::bank_conflicts().c_str(), stderr);
    }
}

static bool is_old() {
    const char *which = getenv("VITRAL_EMULATOR_DRIVER");
    return which && !strcmp(which, "old");
}

// As an H100 answers, where it matters.
static int attribute(int which) {
    switch (which) {
    case 1: return 1024; // threads in a block
    case 2:
    case 3: return 1024;       // of them along x, y
    case 4: return 64;         // along z
    case 5: return 0x7fffffff; // blocks along x
    case 6:
    case 7: return 65535;     // along y, z
    case 8: return 48 << 10;  // shared memory of a block, in bytes
    case 9: return 64 << 10;  // constant memory
    case 10: return 32;       // threads in a warp
    case 12: return 65536;    // registers of a block
    case 13: return 1980000;  // clock, in kHz
    case 14: return 512;      // alignment of textures
    case 16: return 132;      // multiprocessors
    case 19: return 1;        // can map host memory
    case 31: return 1;        // concurrent kernels
    case 36: return 2619000;  // clock of the memory, in kHz
    case 37: return 5120;     // width of its bus, in bits
    case 38: return 50 << 20; // second-level cache
    case 39: return 2048;     // threads of a multiprocessor
    case 40: return 3;        // engines for copies
    case 41: return 1;        // unified addresses
    case 75: return 9;        // compute capability
    case 76: return 0;
    case 78: return 1;         // priorities of streams
    case 81: return 228 << 10; // shared memory of a multiprocessor
    case 82: return 65536;     // its registers
    case 95: return 1;         // cooperative launches
    case 97: return 227 << 10; // shared memory of a block that asks for more
    case 102: return 0;        // virtual memory management
    case 106: return 32;       // blocks of a multiprocessor
    case 111: return 1 << 10;  // shared memory of a block that the system keeps
    case 115: return 1;        // memory pools
    case 120: return 1;        // clusters
    default: return 0;
    }
}
} // namespace driver

using namespace driver;

EMU_API int cuInit(unsigned flags) {
    Guard guard(lock());
    if (flags) return InvalidValue;
    if (const char *which = getenv("VITRAL_EMULATOR_DRIVER"))
        if (!strcmp(which, "none")) return NoDevice;
    if (!started) atexit(at_exit);
    started = true;
    return Success;
}

EMU_API int cuDriverGetVersion(int *version) {
    *version = is_old() ? 11000 : 13000;
    return Success;
}

EMU_API int cuDeviceGetCount(int *count) {
    if (!started) return NotInitialized;
    *count = 1;
    return Success;
}

EMU_API int cuDeviceGet(int *device, int ordinal) {
    if (!started) return NotInitialized;
    *device = ordinal;
    return ordinal == 0 ? Success : InvalidDevice;
}

EMU_API int cuDeviceGetName(char *name, int length, int device) {
    if (device) return InvalidDevice;
    snprintf(name, size_t(length), "%s", emu::checked ? "Vitral emulator (checked)" : "Vitral emulator");
    return Success;
}

EMU_API int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    if (device) return InvalidDevice;
    memcpy(uuid, emu::checked ? "vitral-checked-1" : "vitral-emulator1", 16);
    return Success;
}
EMU_API int cuDeviceGetUuid(unsigned char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

EMU_API int cuDeviceGetAttribute(int *value, int which, int device) {
    if (device) return InvalidDevice;
    *value = attribute(which);
    return Success;
}

EMU_API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    if (device) return InvalidDevice;
    *bytes = total_memory();
    return Success;
}

EMU_API int cuDeviceGetPCIBusId(char *text, int length, int device) {
    if (device) return InvalidDevice;
    snprintf(text, size_t(length), "0000:00:00.0");
    return Success;
}

// ---- context ----
EMU_API int cuDevicePrimaryCtxRetain(void **context, int device) {
    Guard guard(lock());
    if (!started) return NotInitialized;
    if (device) return InvalidDevice;
    if (sticky()) return sticky();
    context_users++;
    *context = &context_object;
    return Success;
}

EMU_API int cuDevicePrimaryCtxRelease_v2(int device) {
    Guard guard(lock());
    if (device) return InvalidDevice;
    if (context_users == 0) return InvalidContext;
    context_users--;
    return Success;
}

EMU_API int cuCtxSetCurrent(void *context) {
    if (!started) return NotInitialized;
    if (context && context != &context_object) return InvalidContext;
    current_context = context;
    return Success;
}

EMU_API int cuCtxGetCurrent(void **context) {
    if (!started) return NotInitialized;
    *context = current_context;
    return Success;
}

EMU_API int cuCtxPushCurrent_v2(void *context) { return cuCtxSetCurrent(context); }
EMU_API int cuCtxPopCurrent_v2(void **context) {
    if (context) *context = current_context;
    current_context = nullptr;
    return Success;
}

EMU_API int cuCtxGetDevice(int *device) {
    if (!current_context) return InvalidContext;
    *device = 0;
    return Success;
}

EMU_API int cuCtxSynchronize() {
    EMU_CHECK_CONTEXT();
    if (int code = refuse_any_capture("cuCtxSynchronize")) return code;
    if (int code = run_all()) return code;
    return check_guards();
}

EMU_API int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return Success;
}

// ---- addresses of functions ----
EMU_API int cuGetProcAddress_v2(const char *name, void **function, int, uint64_t, int *status) {
    Dl_info mine;
    dladdr(reinterpret_cast<void *>(&cuInit), &mine);
    void *self = dlopen(mine.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *function = nullptr;
    // A name of the interface stands for its newest version.
    for (const char *suffix : {"_v2", ""})
        if (self && !*function) *function = dlsym(self, (std::string(name) + suffix).c_str());
    if (self) dlclose(self);
    if (status) *status = *function ? 0 : 1;
    return *function ? Success : NotFound;
}
EMU_API int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

// Loaded kernel files, their functions, and launches.
#include "compile.hpp"
#include "state.hpp"

#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <set>

namespace driver {
struct Module {
    void *library;
    uintptr_t image;
    const emu::Entry *table;
    std::vector<std::unique_ptr<struct Function>> functions;
};

struct Function {
    const emu::Entry *entry;
    unsigned most_dynamic_bytes = 48 << 10;
};

static std::set<Module *> &modules() {
    static auto *set = new std::set<Module *>;
    return *set;
}

static Function *find_function(void *handle) {
    for (Module *module : modules())
        for (auto &function : module->functions)
            if (function.get() == handle) return function.get();
    return nullptr;
}

int count_launch() {
    static uint64_t count = 0;
    if (++count != setting("VITRAL_EMULATOR_LOSE", 0)) return Success;
    report("the device is lost, as VITRAL_EMULATOR_LOSE asks");
    return stick(EccUncorrectable);
}

// The range of memory that a library was loaded into.
struct Image {
    const void *inside;
    uintptr_t begin = 0, end = 0;
};

static int visit_library(dl_phdr_info *info, size_t, void *data) {
    auto *image = static_cast<Image *>(data);
    uintptr_t begin = ~uintptr_t(0), end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto &header = info->dlpi_phdr[i];
        if (header.p_type != PT_LOAD) continue;
        uintptr_t from = info->dlpi_addr + header.p_vaddr;
        if (from < begin) begin = from;
        if (from + header.p_memsz > end) end = from + header.p_memsz;
    }
    uintptr_t address = reinterpret_cast<uintptr_t>(image->inside);
    if (address < begin || address >= end) return 0;
    image->begin = begin;
    image->end = end;
    return 1;
}

static int launch(void *handle, dim3 grid, dim3 block, unsigned dynamic_bytes, void *stream_handle, void **parameters) {
    Stream *stream = find_stream(stream_handle);
    Function *function = find_function(handle);
    if (!stream || !function) return InvalidHandle;
    if (int code = count_launch()) return code;
    emu::Launch request{function->entry, grid, block, dynamic_bytes, nullptr};
    std::string wrong = emu::check_launch(request);
    if (wrong.empty() && dynamic_bytes > function->most_dynamic_bytes)
        wrong = std::to_string(dynamic_bytes) + " bytes of dynamic shared memory, and the function is set to at most " +
                std::to_string(function->most_dynamic_bytes);
    if (wrong.empty() && !parameters && function->entry->arguments) wrong = "no parameters";
    if (!wrong.empty()) {
        report("launch of `%s`: %s", function->entry->name, wrong.c_str());
        return InvalidValue;
    }
    // The values are copied now: the launch runs later, in a graph several times.
    struct alignas(16) Unit {
        char bytes[16];
    };
    std::vector<size_t> offsets;
    std::vector<Unit> values;
    for (unsigned i = 0; i < function->entry->arguments; i++) {
        size_t bytes = function->entry->argument_bytes[i];
        offsets.push_back(values.size());
        values.resize(values.size() + (bytes + 15) / 16);
        memcpy(&values[offsets.back()], parameters[i], bytes);
    }
    return enqueue(stream, [=]() mutable {
        std::vector<void *> pointers;
        for (size_t offset : offsets) pointers.push_back(&values[offset]);
        request.arguments = pointers.data();
        emu::Outcome outcome = emu::run(request);
        if (!outcome.fault) return int(Success);
        report("kernel `%s`: %s", request.kernel->name, outcome.message.c_str());
        return outcome.fault;
    });
}
} // namespace driver

using namespace driver;

EMU_API int cuModuleLoadData(void **handle, const void *data) {
    EMU_CHECK_CONTEXT();
    std::string path;
    if (int code = object_of_image(static_cast<const char *>(data), &path)) return code;
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        report("%s", dlerror());
        return InvalidImage;
    }
    const void *table = dlsym(library, "vitral_kernels");
    if (!table) {
        dlclose(library);
        return InvalidImage;
    }
    Image image{table};
    dl_iterate_phdr(visit_library, &image);
    emu::add_image(image.begin, image.end);
    auto *module = new Module{library, image.begin, static_cast<const emu::Entry *>(table), {}};
    modules().insert(module);
    *handle = module;
    return Success;
}
EMU_API int cuModuleLoadDataEx(void **handle, const void *data, unsigned, void *, void **) {
    return cuModuleLoadData(handle, data);
}

EMU_API int cuModuleUnload(void *handle) {
    Guard guard(lock());
    auto *module = static_cast<Module *>(handle);
    if (!modules().count(module)) return InvalidHandle;
    run_all();
    modules().erase(module);
    emu::remove_image(module->image);
    dlclose(module->library);
    delete module;
    return sticky();
}

EMU_API int cuModuleGetFunction(void **handle, void *module_handle, const char *name) {
    EMU_CHECK_CONTEXT();
    auto *module = static_cast<Module *>(module_handle);
    if (!modules().count(module)) return InvalidHandle;
    for (auto &function : module->functions)
        if (!strcmp(function->entry->name, name)) {
            *handle = function.get();
            return Success;
        }
    for (const emu::Entry *entry = module->table; entry->name; entry++)
        if (!strcmp(entry->name, name)) {
            module->functions.push_back(std::make_unique<Function>(Function{entry}));
            *handle = module->functions.back().get();
            return Success;
        }
    return NotFound;
}

EMU_API int cuFuncGetAttribute(int *value, int attribute, void *handle) {
    EMU_CHECK_CONTEXT();
    Function *function = find_function(handle);
    if (!function) return InvalidHandle;
    switch (attribute) {
    case 0: *value = int(function->entry->most_threads); return Success;
    case 4: *value = 32; return Success; // registers
    case 5:
    case 6: *value = 90; return Success; // versions of PTX and binary
    case 8: *value = int(function->most_dynamic_bytes); return Success;
    case 1:
    case 2:
    case 3:
    case 7:
    case 9: *value = 0; return Success;
    default: return InvalidValue;
    }
}

EMU_API int cuFuncSetAttribute(void *handle, int attribute, int value) {
    EMU_CHECK_CONTEXT();
    Function *function = find_function(handle);
    if (!function) return InvalidHandle;
    if (attribute == 9) return Success; // how much of the cache is shared memory
    if (attribute != 8 || value < 0 || size_t(value) > emu::most_shared) return InvalidValue;
    function->most_dynamic_bytes = unsigned(value);
    return Success;
}
EMU_API int cuFuncSetCacheConfig(void *, int) { return Success; }

EMU_API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *handle, int threads, size_t dynamic_bytes) {
    EMU_CHECK_CONTEXT();
    if (!find_function(handle)) return InvalidHandle;
    if (threads < 1) return InvalidValue;
    int by_threads = 2048 / ((threads + 31) / 32 * 32), by_memory = int((228 << 10) / (dynamic_bytes + 1024));
    *blocks = by_threads < by_memory ? by_threads : by_memory;
    if (*blocks > 32) *blocks = 32;
    return Success;
}

EMU_API int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                           unsigned block_y, unsigned block_z, unsigned dynamic_bytes, void *stream, void **parameters,
                           void **extra) {
    EMU_CHECK_CONTEXT();
    if (extra) return NotSupported;
    return launch(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_bytes, stream, parameters);
}

struct LaunchConfiguration {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_bytes;
    void *stream;
    void *attributes;
    unsigned attribute_count;
};

EMU_API int cuLaunchKernelEx(const LaunchConfiguration *c, void *function, void **parameters, void **extra) {
    return cuLaunchKernel(function, c->grid_x, c->grid_y, c->grid_z, c->block_x, c->block_y, c->block_z, c->dynamic_bytes,
                          c->stream, parameters, extra);
}

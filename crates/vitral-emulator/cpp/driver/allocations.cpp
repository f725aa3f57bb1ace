// Device memory, which is host memory: allocation, copies, fills.
#include "state.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace driver {
// Around every allocation, to see in the fast build too that something was written outside.
static const size_t guard_bytes = 256;
static const unsigned char guard_value = 0xab, poison_value = 0xff;
// Freed memory is kept poisoned for a while, so that its use after it was freed is seen.
static const size_t most_quarantine = size_t(256) << 20;

struct Allocation {
    size_t bytes;
    std::string name;
    // Freed in the order of a stream that has not come to it yet.
    bool free_is_queued = false;
    // Allocated while a graph was captured: it is live from one node of the graph to another, each time that the graph runs.
    bool of_graph = false;
};

static std::map<DevicePointer, Allocation> &allocations() {
    static auto *map = new std::map<DevicePointer, Allocation>;
    return *map;
}
static std::map<const void *, size_t> &pinned() {
    static auto *map = new std::map<const void *, size_t>;
    return *map;
}
static std::deque<std::pair<char *, size_t>> &quarantine() {
    static auto *list = new std::deque<std::pair<char *, size_t>>;
    return *list;
}
static size_t used_bytes = 0, most_used_bytes = 0, quarantined_bytes = 0, allocation_count = 0;

uint64_t total_memory() { return setting("VITRAL_EMULATOR_MEMORY", uint64_t(8) << 30); }

bool is_pinned(const void *host) {
    auto next = pinned().upper_bound(host);
    if (next == pinned().begin()) return false;
    --next;
    return static_cast<const char *>(host) < static_cast<const char *>(next->first) + next->second;
}

bool require_allocation(DevicePointer address, size_t bytes, const char *what) {
    emu::Region *region = emu::find_allocation(address);
    if (bytes == 0 || (region && region->contains(address, bytes))) return true;
    report("%s of %zu bytes: %s", what, bytes, emu::describe_address(address).c_str());
    stick(IllegalAddress);
    return false;
}

static size_t padded(size_t bytes) { return guard_bytes + (bytes + 255) / 256 * 256 + guard_bytes; }

static bool guards_hold(DevicePointer address, const Allocation &allocation) {
    const auto *before = reinterpret_cast<const unsigned char *>(address) - guard_bytes;
    const auto *after = reinterpret_cast<const unsigned char *>(address) + allocation.bytes;
    for (size_t i = 0; i < guard_bytes; i++)
        if (before[i] != guard_value || after[i] != guard_value) return false;
    return true;
}

static int check_guard(DevicePointer address, const Allocation &allocation) {
    if (guards_hold(address, allocation)) return Success;
    report("something was written just outside of %s (%zu bytes)", allocation.name.c_str(), allocation.bytes);
    return stick(IllegalAddress);
}

int check_guards() {
    for (auto &[address, allocation] : allocations())
        if (int code = check_guard(address, allocation)) return code;
    return Success;
}

void print_leaks() {
    fprintf(stderr, "emulated CUDA: %zu live allocations, %zu bytes\n", allocations().size(), used_bytes);
    for (auto &[address, allocation] : allocations())
        fprintf(stderr, "emulated CUDA: live: %s, %zu bytes\n", allocation.name.c_str(), allocation.bytes);
}

static int allocate(DevicePointer *address, size_t bytes) {
    if (bytes == 0) return InvalidValue;
    allocation_count++;
    if (allocation_count == setting("VITRAL_EMULATOR_FAIL", 0)) return OutOfMemory;
    if (allocation_count >= setting("VITRAL_EMULATOR_FAIL_FROM", UINT64_MAX)) return OutOfMemory;
    if (used_bytes + bytes > total_memory()) {
        run_all(); // memory that is freed later in a stream's order
        if (sticky()) return sticky();
        if (used_bytes + bytes > total_memory()) return OutOfMemory;
    }
    // Aligned as CUDA promises and no better.
    char *memory = static_cast<char *>(aligned_alloc(512, (padded(bytes) + 256 + 511) / 512 * 512));
    if (!memory) return OutOfMemory;
    char *first = memory + guard_bytes;
    memset(memory, guard_value, padded(bytes));
    memset(first, poison_value, bytes);
    *address = reinterpret_cast<DevicePointer>(first);
    std::string name = "allocation " + std::to_string(allocation_count);
    emu::add_allocation(*address, bytes, name);
    allocations()[*address] = {bytes, name};
    used_bytes += bytes;
    if (used_bytes > most_used_bytes) most_used_bytes = used_bytes;
    return Success;
}

static int release(DevicePointer address) {
    auto found = allocations().find(address);
    if (found == allocations().end()) {
        report("free: %s", emu::describe_address(address).c_str());
        return InvalidValue;
    }
    int code = check_guard(address, found->second);
    size_t bytes = found->second.bytes;
    used_bytes -= bytes;
    memset(reinterpret_cast<void *>(address), poison_value, bytes);
    quarantine().emplace_back(reinterpret_cast<char *>(address) - guard_bytes, bytes);
    quarantined_bytes += bytes;
    emu::remove_allocation(address);
    allocations().erase(found);
    while (quarantined_bytes > most_quarantine) {
        free(quarantine().front().first);
        quarantined_bytes -= quarantine().front().second;
        quarantine().pop_front();
    }
    return code;
}

// ---- memory of graphs ----
struct GraphMemory {
    DevicePointer address;
    explicit GraphMemory(DevicePointer address) : address(address) {}
    ~GraphMemory() { release(address); }
    GraphMemory(const GraphMemory &) = delete;
    GraphMemory &operator=(const GraphMemory &) = delete;
};

// What an allocation and a free are for memory that keeps its address: nothing that it held is left.
static int forget_contents(DevicePointer address) {
    auto found = allocations().find(address);
    if (found == allocations().end()) return Success;
    memset(reinterpret_cast<void *>(address), poison_value, found->second.bytes);
    emu::find_allocation(address)->set_written(address, found->second.bytes, false);
    return Success;
}

static int allocate_in_graph(Stream *stream, DevicePointer *address, size_t bytes) {
    if (stream->capture->invalidated) return CaptureInvalidated;
    if (int code = allocate(address, bytes)) return code;
    allocations()[*address].of_graph = true;
    stream->capture->memory.push_back(std::make_shared<GraphMemory>(*address));
    DevicePointer fixed = *address;
    return enqueue(stream, [=] { return forget_contents(fixed); });
}

// ---- copies ----
static void mark_written(DevicePointer address, size_t bytes) {
    if (emu::Region *region = emu::find_allocation(address)) region->set_written(address, bytes, true);
}

static int copy_to_device(DevicePointer to, const void *from, size_t bytes) {
    if (!require_allocation(to, bytes, "copy to the device")) return sticky();
    memcpy(reinterpret_cast<void *>(to), from, bytes);
    mark_written(to, bytes);
    return Success;
}

static int copy_to_host(void *to, DevicePointer from, size_t bytes) {
    if (!require_allocation(from, bytes, "copy to the host")) return sticky();
    memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return Success;
}

static int copy_on_device(DevicePointer to, DevicePointer from, size_t bytes) {
    if (!require_allocation(to, bytes, "copy on the device, destination")) return sticky();
    if (!require_allocation(from, bytes, "copy on the device, source")) return sticky();
    if (bytes == 0) return Success;
    memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    emu::find_allocation(to)->copy_written(to, *emu::find_allocation(from), from, bytes);
    return Success;
}

template <class T> static int fill(DevicePointer to, T value, size_t count) {
    if (to % sizeof(T)) return InvalidValue;
    if (!require_allocation(to, count * sizeof(T), "fill")) return sticky();
    T *memory = reinterpret_cast<T *>(to);
    for (size_t i = 0; i < count; i++) memory[i] = value;
    mark_written(to, count * sizeof(T));
    return Success;
}

template <class T> static int queue_fill(DevicePointer to, T value, size_t count, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (!require_allocation(to, count * sizeof(T), "fill")) return sticky();
    return enqueue(stream, [=] { return fill(to, value, count); });
}
} // namespace driver

using namespace driver;

// ---- allocation ----
EMU_API int cuMemAlloc_v2(DevicePointer *address, size_t bytes) {
    EMU_CHECK_CONTEXT();
    if (int code = refuse_captures_here("cuMemAlloc")) return code;
    return allocate(address, bytes);
}

EMU_API int cuMemFree_v2(DevicePointer address) {
    EMU_CHECK_CONTEXT();
    if (address == 0) return Success;
    if (int code = refuse_captures_here("cuMemFree")) return code;
    if (int code = run_all()) return code; // the driver waits for the device, too
    return release(address);
}

EMU_API int cuMemAllocAsync(DevicePointer *address, size_t bytes, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (stream->capture) return allocate_in_graph(stream, address, bytes);
    return allocate(address, bytes);
}
EMU_API int cuMemAllocFromPoolAsync(DevicePointer *address, size_t bytes, void *, void *handle) {
    return cuMemAllocAsync(address, bytes, handle);
}

EMU_API int cuMemFreeAsync(DevicePointer address, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (address == 0) return Success;
    auto found = allocations().find(address);
    if (found != allocations().end() && found->second.of_graph)
        return enqueue(stream, [=] { return forget_contents(address); });
    if (int code = refuse_capture(stream, "cuMemFreeAsync of memory that was allocated outside of the graph")) return code;
    if (found == allocations().end() || found->second.free_is_queued) {
        report("free: %s", found == allocations().end() ? emu::describe_address(address).c_str() : "freed twice");
        return InvalidValue;
    }
    found->second.free_is_queued = true;
    return enqueue(stream, [=] { return release(address); });
}

EMU_API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    EMU_CHECK_CONTEXT();
    *total = total_memory();
    *free = *total > used_bytes ? *total - used_bytes : 0;
    return Success;
}

// ---- the pool ----
static int pool_object;
static uint64_t release_threshold = 0;

EMU_API int cuDeviceGetDefaultMemPool(void **pool, int device) {
    if (device) return InvalidDevice;
    *pool = &pool_object;
    return Success;
}
EMU_API int cuDeviceGetMemPool(void **pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }

EMU_API int cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    Guard guard(lock());
    if (pool != &pool_object) return InvalidValue;
    switch (attribute) {
    case 1:
    case 2:
    case 3: return Success; // how the pool reuses memory
    case 4: release_threshold = *static_cast<uint64_t *>(value); return Success;
    case 6:
    case 8: // high-water marks can only be reset
        if (*static_cast<uint64_t *>(value)) return InvalidValue;
        most_used_bytes = used_bytes;
        return Success;
    default: return InvalidValue;
    }
}

EMU_API int cuMemPoolGetAttribute(void *pool, int attribute, void *value) {
    Guard guard(lock());
    if (pool != &pool_object) return InvalidValue;
    switch (attribute) {
    case 1:
    case 2:
    case 3: *static_cast<int *>(value) = 1; return Success;
    case 4: *static_cast<uint64_t *>(value) = release_threshold; return Success;
    case 5:
    case 7: *static_cast<uint64_t *>(value) = used_bytes; return Success;
    case 6:
    case 8: *static_cast<uint64_t *>(value) = most_used_bytes; return Success;
    default: return InvalidValue;
    }
}

EMU_API int cuMemPoolTrimTo(void *pool, size_t) { return pool == &pool_object ? Success : InvalidValue; }

// ---- page-locked host memory ----
EMU_API int cuMemHostAlloc(void **host, size_t bytes, unsigned) {
    EMU_CHECK_CONTEXT();
    if (bytes == 0) return InvalidValue;
    *host = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*host) return OutOfMemory;
    memset(*host, poison_value, bytes);
    pinned()[*host] = bytes;
    return Success;
}
EMU_API int cuMemAllocHost_v2(void **host, size_t bytes) { return cuMemHostAlloc(host, bytes, 0); }

EMU_API int cuMemFreeHost(void *host) {
    EMU_CHECK_CONTEXT();
    if (!host) return Success;
    auto found = pinned().find(host);
    if (found == pinned().end()) return InvalidValue;
    if (int code = run_all()) return code;
    pinned().erase(found);
    free(host);
    return Success;
}

EMU_API int cuMemHostRegister_v2(void *host, size_t bytes, unsigned) {
    EMU_CHECK_CONTEXT();
    pinned()[host] = bytes;
    return Success;
}
EMU_API int cuMemHostUnregister(void *host) {
    EMU_CHECK_CONTEXT();
    if (int code = run_all()) return code;
    return pinned().erase(host) ? Success : InvalidValue;
}
EMU_API int cuMemHostGetFlags(unsigned *flags, void *host) {
    Guard guard(lock());
    *flags = 0;
    return is_pinned(host) ? Success : InvalidValue;
}

// ---- copies ----
EMU_API int cuMemcpyHtoDAsync_v2(DevicePointer to, const void *from, size_t bytes, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (!require_allocation(to, bytes, "copy to the device")) return sticky();
    // Page-locked memory is read when the copy's turn comes; other memory is staged before the call returns.
    if (is_pinned(from)) return enqueue(stream, [=] { return copy_to_device(to, from, bytes); });
    // A graph would read it at every launch, wherever it is by then.
    if (int code = refuse_capture(stream, "cuMemcpyHtoDAsync from memory that is not page-locked")) return code;
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
    return enqueue(stream, [=] { return copy_to_device(to, staged->data(), bytes); });
}

EMU_API int cuMemcpyDtoHAsync_v2(void *to, DevicePointer from, size_t bytes, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (!require_allocation(from, bytes, "copy to the host")) return sticky();
    if (is_pinned(to)) return enqueue(stream, [=] { return copy_to_host(to, from, bytes); });
    if (int code = refuse_capture(stream, "cuMemcpyDtoHAsync to memory that is not page-locked")) return code;
    if (int code = enqueue(stream, [=] { return copy_to_host(to, from, bytes); })) return code;
    return run_stream(stream);
}

EMU_API int cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t bytes, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (!require_allocation(to, bytes, "copy on the device, destination")) return sticky();
    if (!require_allocation(from, bytes, "copy on the device, source")) return sticky();
    return enqueue(stream, [=] { return copy_on_device(to, from, bytes); });
}

EMU_API int cuMemcpyHtoD_v2(DevicePointer to, const void *from, size_t bytes) {
    EMU_CHECK_CONTEXT();
    if (int code = refuse_any_capture("cuMemcpyHtoD")) return code;
    return enqueue(find_stream(nullptr), [=] { return copy_to_device(to, from, bytes); });
}
EMU_API int cuMemcpyDtoH_v2(void *to, DevicePointer from, size_t bytes) {
    EMU_CHECK_CONTEXT();
    if (int code = refuse_any_capture("cuMemcpyDtoH")) return code;
    return enqueue(find_stream(nullptr), [=] { return copy_to_host(to, from, bytes); });
}
EMU_API int cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t bytes) {
    EMU_CHECK_CONTEXT();
    if (int code = refuse_any_capture("cuMemcpyDtoD")) return code;
    return enqueue(find_stream(nullptr), [=] { return copy_on_device(to, from, bytes); });
}

// ---- fills ----
EMU_API int cuMemsetD8Async(DevicePointer to, unsigned char value, size_t count, void *stream) {
    return queue_fill(to, value, count, stream);
}
EMU_API int cuMemsetD16Async(DevicePointer to, unsigned short value, size_t count, void *stream) {
    return queue_fill(to, value, count, stream);
}
EMU_API int cuMemsetD32Async(DevicePointer to, unsigned value, size_t count, void *stream) {
    return queue_fill(to, value, count, stream);
}
EMU_API int cuMemsetD8_v2(DevicePointer to, unsigned char value, size_t count) { return queue_fill(to, value, count, nullptr); }
EMU_API int cuMemsetD16_v2(DevicePointer to, unsigned short value, size_t count) {
    return queue_fill(to, value, count, nullptr);
}
EMU_API int cuMemsetD32_v2(DevicePointer to, unsigned value, size_t count) { return queue_fill(to, value, count, nullptr); }

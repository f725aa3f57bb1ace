// Shared memory's variables, and the checks of every access: bounds, alignment, races, memory that nothing has written.
#include "block.hpp"
#include "symbols.hpp"

#include <cstdio>
#include <cstring>

namespace emu {
// ---- shared memory ----
// Poisoned with 0xff bytes, which are NaN as a float and -1 as an integer.
static void poison(Multiprocessor &m, uintptr_t begin, size_t bytes) {
    memset(reinterpret_cast<void *>(begin), 0xff, bytes);
    m.shared->set_written(begin, bytes, false);
}

// An address that is aligned as the declaration says and no better, so that too weak a declaration is seen.
static uintptr_t barely_aligned(uintptr_t address, size_t alignment) {
    return ((address + 2 * alignment - 1) & ~(2 * uintptr_t(alignment) - 1)) + alignment;
}

void *shared_memory(const void *key, const char *name, size_t bytes, size_t alignment) {
    Multiprocessor &m = *here;
    for (SharedVariable &variable : m.variables)
        if (variable.key == key) return reinterpret_cast<void *>(variable.begin);
    m.static_used += bytes;
    if (m.static_used > most_static_shared)
        fail(LaunchFailed, "`__shared__` variables of %zu bytes; 48 KiB is the most", m.static_used);
    if (m.static_used + m.dynamic_bytes > most_shared)
        fail(LaunchFailed, "shared memory of %zu bytes; 227 KiB is the most", m.static_used + m.dynamic_bytes);
    uintptr_t free = m.shared->begin() + (m.dynamic_bytes ? m.dynamic_bytes + 2048 : 0) + m.shared_used;
    uintptr_t begin = barely_aligned(free, alignment);
    // The gap behind a variable belongs to none.
    m.shared_used = begin + bytes + 64 - free + m.shared_used;
    if (begin + bytes > m.shared->end()) fail(LaunchFailed, "too many `__shared__` variables for the emulator");
    m.variables.push_back({key, name, begin, begin + bytes});
    poison(m, begin, bytes);
    return reinterpret_cast<void *>(begin);
}

void *dynamic_shared_memory(size_t alignment) {
    Multiprocessor &m = *here;
    static const char key = 0;
    if (alignment < 16) alignment = 16; // what CUDA gives at least
    if (!m.dynamic_begin) {
        m.dynamic_begin = alignment <= 1024 ? m.shared->begin() + alignment : m.shared->begin();
        m.variables.push_back({&key, "dynamic shared memory", m.dynamic_begin, m.dynamic_begin + m.dynamic_bytes});
        poison(m, m.dynamic_begin, m.dynamic_bytes);
    }
    if (m.dynamic_begin % alignment)
        fail(LaunchFailed, "`extern __shared__` is declared with an alignment of %zu here, and less where it was first used",
             alignment);
    return reinterpret_cast<void *>(m.dynamic_begin);
}

static SharedVariable *variable_at(Multiprocessor &m, uintptr_t address, size_t bytes) {
    for (SharedVariable &variable : m.variables)
        if (address >= variable.begin && address + bytes <= variable.end) return &variable;
    return nullptr;
}

static bool in_shared(Multiprocessor &m, uintptr_t address) {
    return address >= m.shared->begin() && address < m.shared->end();
}

// What an address is, for a message.
static std::string describe(Multiprocessor &m, uintptr_t address) {
    if (!in_shared(m, address)) return describe_address(address);
    for (SharedVariable &variable : m.variables)
        if (address >= variable.begin && address < variable.end)
            return std::string("shared `") + variable.name + "`+" + std::to_string(address - variable.begin);
    std::string text = "shared memory outside every variable";
    for (SharedVariable &variable : m.variables)
        if (address >= variable.end && address < variable.end + 64)
            text += std::string(", ") + std::to_string(address - variable.end) + " bytes past the end of `" + variable.name +
                    "` (" + std::to_string(variable.end - variable.begin) + " bytes)";
    return text;
}

// ---- races ----
// Whether a block that ran earlier in this launch has published its results before this block asked for them: a fence and
// an atomic operation there, an atomic operation here.
static bool was_published(Multiprocessor &m, u32 epoch) {
    size_t low = 0, high = m.finished.size();
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        (m.finished[middle].first_epoch <= epoch ? low : high) = middle;
    }
    return low < high && m.finished[low].published && m.finished[low].published <= m.acquired;
}

// Whether nothing orders an earlier access before one of the running thread.
static bool unordered(Multiprocessor &m, const Region &region, const Access &earlier, const Access &mine) {
    if (!(earlier.bytes & mine.bytes) || earlier.epoch < m.launch_epoch) return false;
    if (earlier.atomic && mine.atomic) return false;
    // Another block: its shared memory was another one.
    if (earlier.epoch < m.block_epoch) return &region != m.shared.get() && !was_published(m, earlier.epoch);
    if (earlier.epoch != m.epoch || earlier.thread == mine.thread) return false;
    bool same_warp = earlier.thread / warp_lanes == mine.thread / warp_lanes;
    return !(same_warp && earlier.warp_epoch != mine.warp_epoch);
}

static std::string whose(Multiprocessor &m, const Access &access) {
    if (access.epoch >= m.block_epoch) return "thread " + std::to_string(access.thread) + " of this block";
    const FinishedBlock *block = nullptr;
    for (const FinishedBlock &one : m.finished)
        if (one.first_epoch <= access.epoch) block = &one;
    return "block " + (block ? std::to_string(block->index) : std::string("?")) + " of the same launch";
}

[[noreturn]] static void fail_race(Multiprocessor &m, uintptr_t address, const char *what, const char *does,
                                   const Access &earlier, const char *did) {
    fail(LaunchFailed, "race: %s %s %s, which %s %s, with no barrier between", what, does, describe(m, address).c_str(),
         whose(m, earlier).c_str(), did);
}

static void check_order(Multiprocessor &m, Region &region, uintptr_t address, size_t bytes, Kind kind, const char *what) {
    Access mine;
    mine.epoch = m.epoch;
    mine.thread = m.current->index;
    mine.warp_epoch = m.warps[m.current->warp].epoch & ((1u << 19) - 1);
    mine.atomic = kind == Kind::Atomic;
    const char *does = kind == Kind::Read ? "reads" : kind == Kind::Write ? "writes" : "updates";
    for (uintptr_t granule = address & ~uintptr_t(1); granule < address + bytes; granule += 2) {
        mine.bytes = (granule >= address ? 1u : 0u) | (granule + 1 < address + bytes ? 2u : 0u);
        Shadow &shadow = region.shadow(granule);
        if (unordered(m, region, shadow.write, mine)) fail_race(m, granule, what, does, shadow.write, "wrote");
        if (kind == Kind::Read) {
            Access &last = shadow.read;
            if (last.epoch != mine.epoch || last.thread != mine.thread) {
                bool same_warp = last.epoch >= m.block_epoch && last.thread / warp_lanes == mine.thread / warp_lanes;
                (same_warp ? shadow.read_in_warp : shadow.read_elsewhere) = last;
            } else {
                mine.bytes |= last.bytes;
            }
            last = mine;
            continue;
        }
        for (const Access *reader : {&shadow.read, &shadow.read_in_warp, &shadow.read_elsewhere})
            if (unordered(m, region, *reader, mine)) fail_race(m, granule, what, does, *reader, "read");
        shadow.write = mine;
    }
}

static void check_value(Multiprocessor &m, Region &region, uintptr_t address, size_t bytes, Kind kind, const char *what) {
    if (kind != Kind::Write && !region.written(address, bytes))
        fail(LaunchFailed, "%s reads %zu bytes of memory that nothing has written: %s", what, bytes,
             describe(m, address).c_str());
    if (kind != Kind::Read) region.set_written(address, bytes, true);
}

// ---- in flight ----
// Asynchronous copies under way are kept by the threads that issued them; a byte map tells quickly whether there is any.
static bool in_flight(Multiprocessor &m, uintptr_t address, size_t bytes) {
    if (m.flying.empty()) return false;
    size_t from = address - m.shared->begin();
    for (size_t i = from; i < from + bytes; i++)
        if (m.flying[i]) return true;
    return false;
}

void set_in_flight(uintptr_t address, size_t bytes, bool value) {
    Multiprocessor &m = *here;
    if (!checked) return;
    if (m.flying.empty()) m.flying.resize(m.shared->end() - m.shared->begin());
    memset(&m.flying[address - m.shared->begin()], value, bytes);
}

// ---- accesses ----
void check_shared(uintptr_t address, size_t bytes, Kind kind, const char *what) {
    Multiprocessor &m = *here;
    if (!variable_at(m, address, bytes))
        fail(IllegalAddress, "%s %s %zu bytes out of bounds: %s", what, kind == Kind::Read ? "reads" : "writes", bytes,
             describe(m, address).c_str());
    if (!checked) return;
    if (in_flight(m, address, bytes))
        fail(LaunchFailed, "%s touches %s while a cp.async into it is in flight", what, describe(m, address).c_str());
    check_value(m, *m.shared, address, bytes, kind, what);
    check_order(m, *m.shared, address, bytes, kind, what);
}

void check_global(uintptr_t address, size_t bytes, Kind kind, const char *what) {
    Multiprocessor &m = *here;
    Region *region = m.last_hit;
    if (!region || !region->contains(address, bytes)) {
        region = find_allocation(address);
        if (!region && in_image(address)) return; // a constant of the kernel file
        if (!region || !region->contains(address, bytes))
            fail(IllegalAddress, "%s %s %zu bytes out of bounds: %s", what, kind == Kind::Read ? "reads" : "writes", bytes,
                 describe_address(address).c_str());
        m.last_hit = region;
    }
    if (!checked) return;
    check_value(m, *region, address, bytes, kind, what);
    check_order(m, *region, address, bytes, kind, what);
}

void check_access(const void *pointer, size_t bytes, Kind kind, bool aligned, const void *instruction) {
    Multiprocessor *m = here;
    if (!m || !m->running || m->stacks.contains(pointer)) return;
    uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    m->instruction = instruction;
    if (aligned && address % bytes)
        fail(MisalignedAddress, "misaligned %s of %zu bytes: %s", kind == Kind::Read ? "load" : "store", bytes,
             describe(*m, address).c_str());
    if (in_shared(*m, address)) {
        check_shared(address, bytes, kind, "the code");
        if (counts_banks()) m->banks.add(instruction, m->current->index, address, bytes);
    } else check_global(address, bytes, kind, "the code");
    m->instruction = nullptr;
}

void require_shared(uintptr_t address, size_t bytes, const char *operation, const char *file, int line) {
    Multiprocessor &m = *here;
    if (!in_shared(m, address))
        fail(IllegalAddress, "%s at %s:%d: the address is not in shared memory", operation, file_name(file), line);
    if (!variable_at(m, address, bytes))
        fail(IllegalAddress, "%s at %s:%d out of bounds: %s", operation, file_name(file), line, describe(m, address).c_str());
    if (address % bytes)
        fail(MisalignedAddress, "%s at %s:%d: the address is not a multiple of %zu: %s", operation, file_name(file), line,
             bytes, describe(m, address).c_str());
}

// ---- atomic operations ----
static void check_atomic(const void *pointer, size_t bytes, const char *file, int line) {
    Multiprocessor &m = *here;
    uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    char what[200];
    snprintf(what, sizeof what, "an atomic operation (%s:%d)", file_name(file), line);
    if (address % bytes) fail(MisalignedAddress, "%s at an address that is not a multiple of %zu", what, bytes);
    if (in_shared(m, address)) {
        check_shared(address, bytes, Kind::Atomic, what);
        return;
    }
    check_global(address, bytes, Kind::Atomic, what);
    // Publishes what this block has written before its fence, and learns what others have.
    if (m.fenced && !m.published) m.published = ++m.publications;
    m.acquired = m.publications;
}

u32 atomic_begin(const u32 *address, const char *file, int line) {
    check_atomic(address, 4, file, line);
    return __atomic_load_n(address, __ATOMIC_RELAXED);
}
u64 atomic_begin(const u64 *address, const char *file, int line) {
    check_atomic(address, 8, file, line);
    return __atomic_load_n(address, __ATOMIC_RELAXED);
}
bool atomic_exchange(u32 *address, u32 *expected, u32 desired) {
    return __atomic_compare_exchange_n(address, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
bool atomic_exchange(u64 *address, u64 *expected, u64 desired) {
    return __atomic_compare_exchange_n(address, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void add_source_line(Multiprocessor &m) {
    std::string line = CodePlace::of(m.instruction).line();
    if (!line.empty()) m.message += " at " + line;
}
} // namespace emu

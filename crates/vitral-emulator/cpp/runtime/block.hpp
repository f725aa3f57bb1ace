// The state of one running block.
#pragma once
#include "../include/entry.hpp"
#include "../include/runtime.hpp"
#include "banks.hpp"
#include "fiber.hpp"
#include "memory.hpp"

#include <memory>
#include <string>
#include <vector>

namespace emu {
// The driver's codes for what can go wrong in a kernel.
enum Fault { IllegalAddress = 700, MisalignedAddress = 716, LaunchFailed = 719 };

// Counted over all launches.
struct Counts {
    u64 launches, blocks, barriers, collectives, products, matrix_loads, matrix_load_conflicts;
};

constexpr unsigned most_threads = 1024, warp_lanes = 32, most_warps = most_threads / warp_lanes;
constexpr size_t most_shared = 227 << 10, most_static_shared = 48 << 10;

// An asynchronous copy into shared memory that has not landed.
struct Copy {
    uintptr_t to;
    const void *from;
    int bytes;
    bool filled;
    unsigned group;
};

enum class State : uint8_t { Ready, WaitsForWarp, WaitsForBlock, Done };

struct Thread {
    void *context = nullptr;
    int stack = -1;
    unsigned index, lane, warp;
    decltype(Position::thread) place;
    State state;
    // Where it waits.
    const char *operation, *file;
    int line;
    bool vote;
    std::vector<Copy> copies;
    unsigned copy_group;
};

// A collective operation of a warp that some of its lanes have reached.
struct Collective {
    u32 mask = 0, arrived = 0;
    const char *operation, *file;
    int line;
    void *arguments[warp_lanes];
};

struct Warp {
    // Lanes that can run; that have returned; that the block does not have.
    u32 ready, returned, missing;
    u32 last_lane, epoch;
    Collective pending[4];
};

struct SharedVariable {
    const void *key;
    const char *name;
    uintptr_t begin, end;
};

// A block that ran, for telling which block an earlier access in the same launch belongs to.
struct FinishedBlock {
    u32 first_epoch, index, published;
};

// Runs blocks, one after the other, on one thread of the processor.
struct Multiprocessor {
    Stacks stacks;
    std::unique_ptr<char[]> shared_memory;
    std::unique_ptr<Region> shared;
    std::vector<Thread> threads{most_threads};
    Warp warps[most_warps];

    // The launch.
    const Entry *kernel;
    void **arguments;
    dim3 grid, block;
    unsigned thread_count, warp_count;
    size_t dynamic_bytes;
    bool random_order;
    u64 random_state;
    u32 launch_epoch = 1;
    std::vector<FinishedBlock> finished;

    // The block.
    unsigned block_index;
    bool running = false;
    void *main_context = nullptr;
    Thread *current = nullptr;
    unsigned done, waiting, current_warp;
    const char *barrier_operation, *barrier_file;
    int barrier_line, barrier_votes, barrier_result;
    u32 epoch = 1, block_epoch = 1;
    std::vector<SharedVariable> variables;
    size_t shared_used, static_used;
    uintptr_t dynamic_begin;
    bool fenced;
    u32 published, acquired;
    u32 publications = 0;
    // One for each byte of shared memory that an asynchronous copy will write.
    std::vector<uint8_t> flying;

    // What went wrong, and at which instruction if a load or store did it.
    int fault = 0;
    std::string message;
    const void *instruction = nullptr;
    Region *last_hit = nullptr;
    Counts counts{};
    BankLog banks;

    Multiprocessor();
    // Runs the block with this number; false if something went wrong.
    bool run_block(unsigned index);
};

// The one that runs on this thread of the processor, or null outside of a launch.
extern __thread Multiprocessor *here;

// Ends the block with an error.
[[noreturn]] void fail(Fault fault, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The last part of a path.
const char *file_name(const char *path);
// Lets other threads run until this one is ready.
void wait_as(State state, const char *operation, const char *file, int line);
// Brings the lanes of `mask` together; the last one to arrive does `perform` for all.
typedef void (*Perform)(void **arguments, u32 mask, int option);
void collective(const char *operation, u32 mask, void *argument, int option, Perform perform, const char *file, int line);

// ---- checks (access.cpp) ----
enum class Kind { Read, Write, Atomic };
// A kernel's own load or store, reported by the compiler's instrumentation.
void check_access(const void *address, size_t bytes, Kind kind, bool aligned, const void *instruction);
// An access by an operation that has a name.
void check_shared(uintptr_t address, size_t bytes, Kind kind, const char *what);
void check_global(uintptr_t address, size_t bytes, Kind kind, const char *what);
// That an address is in one variable of shared memory and aligned.
void require_shared(uintptr_t address, size_t bytes, const char *operation, const char *file, int line);
// Marks bytes of shared memory that an asynchronous copy will write.
void set_in_flight(uintptr_t address, size_t bytes, bool in_flight);
// Adds the source line of the failing instruction to the message.
void add_source_line(Multiprocessor &m);
} // namespace emu

#include "launch.hpp"
#include "signals.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

namespace emu {
Counts &counts() {
    static Counts all{};
    return all;
}

std::string check_launch(const Launch &launch) {
    const dim3 &grid = launch.grid, &block = launch.block;
    auto sizes = [](const dim3 &d) {
        return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
    };
    u64 threads = u64(block.x) * block.y * block.z;
    if (threads == 0 || block.x > most_threads || block.y > most_threads || block.z > 64 || threads > most_threads)
        return "a block of " + sizes(block) + " threads: 1 to 1024 are allowed, z up to 64";
    if (threads > launch.kernel->most_threads)
        return "a block of " + std::to_string(threads) + " threads, and the kernel's `__launch_bounds__` says " +
               std::to_string(launch.kernel->most_threads);
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return "a grid of " + sizes(grid) + " blocks: none may be 0, y and z are at most 65535";
    if (launch.dynamic_bytes > most_shared)
        return std::to_string(launch.dynamic_bytes) + " bytes of dynamic shared memory: 227 KiB is the most";
    return "";
}

static unsigned number(const char *variable, unsigned otherwise) {
    const char *text = getenv(variable);
    return text && *text ? unsigned(strtoul(text, nullptr, 10)) : otherwise;
}

// Multiprocessors that wait for the next launch: their stacks are in the cache.
static std::vector<std::unique_ptr<Multiprocessor>> &idle() {
    static auto *list = new std::vector<std::unique_ptr<Multiprocessor>>;
    return *list;
}
static std::mutex idle_lock;

static std::unique_ptr<Multiprocessor> take_multiprocessor() {
    std::lock_guard<std::mutex> guard(idle_lock);
    if (idle().empty()) return std::make_unique<Multiprocessor>();
    auto one = std::move(idle().back());
    idle().pop_back();
    return one;
}

static void add(Counts &all, const Counts &part) {
    all.blocks += part.blocks;
    all.barriers += part.barriers;
    all.collectives += part.collectives;
    all.products += part.products;
    all.matrix_loads += part.matrix_loads;
    all.matrix_load_conflicts += part.matrix_load_conflicts;
}

Outcome run(const Launch &launch) {
    Outcome outcome;
    std::mutex lock;
    u64 blocks = u64(launch.grid.x) * launch.grid.y * launch.grid.z;
    // Starting threads costs more than a small launch.
    const u64 many = 4096;
    bool large = blocks * launch.block.x * launch.block.y * launch.block.z >= many;
    unsigned usual = large ? std::max(1u, std::thread::hardware_concurrency()) : 1;
    unsigned workers = checked ? 1 : number("VITRAL_EMULATOR_THREADS", usual);
    if (workers > blocks) workers = unsigned(blocks);
    unsigned seed = number("VITRAL_EMULATOR_SEED", 0);
    counts().launches++;
    catch_signals();
    std::atomic<u64> next{0};

    auto work = [&] {
        std::unique_ptr<Multiprocessor> m = take_multiprocessor();
        m->kernel = launch.kernel;
        m->arguments = launch.arguments;
        m->grid = launch.grid;
        m->block = launch.block;
        m->thread_count = launch.block.x * launch.block.y * launch.block.z;
        m->warp_count = (m->thread_count + warp_lanes - 1) / warp_lanes;
        m->dynamic_bytes = launch.dynamic_bytes;
        m->random_order = seed != 0;
        m->launch_epoch = m->epoch + 1;
        m->finished.clear();
        m->publications = 0;
        m->counts = Counts{};
        m->flying.clear();
        here = m.get();
        for (;;) {
            u64 turn = next++;
            if (turn >= blocks) break;
            // In a random order the last block comes first: nothing may rely on the order of blocks either.
            u64 index = seed % 2 ? blocks - 1 - turn : turn;
            // Whichever worker it is that runs the block.
            m->random_state = ((u64(seed) << 32 | (index + 1)) * 0x9e3779b97f4a7c15ull) | 1;
            if (m->run_block(unsigned(index))) continue;
            m->running = false;
            add_source_line(*m);
            std::lock_guard<std::mutex> guard(lock);
            if (!outcome.fault) outcome = {m->fault, m->message};
            next = blocks;
            break;
        }
        here = nullptr;
        std::lock_guard<std::mutex> guard(lock);
        add(counts(), m->counts);
        std::lock_guard<std::mutex> idle_guard(idle_lock);
        idle().push_back(std::move(m));
    };
    if (workers <= 1) {
        work();
    } else {
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < workers; i++) threads.emplace_back(work);
        for (std::thread &thread : threads) thread.join();
    }
    return outcome;
}
} // namespace emu

// Runs the threads of a block: who goes next, barriers, and what to say when nobody can go on.
#include "block.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emu {
__thread Multiprocessor *here = nullptr;
__thread Position position;

static const size_t arena = most_shared + (16 << 10); // room for gaps between variables

Multiprocessor::Multiprocessor() : shared_memory(new char[arena + 4096]) {
    uintptr_t begin = (uintptr_t(shared_memory.get()) + 4095) & ~uintptr_t(4095);
    shared = std::make_unique<Region>(begin, arena, "shared memory");
}

const char *file_name(const char *path) {
    const char *slash = path ? strrchr(path, '/') : nullptr;
    return slash ? slash + 1 : path ? path : "?";
}

void fail(Fault fault, const char *format, ...) {
    Multiprocessor &m = *here;
    char text[1024], where[120];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(where, sizeof where, "block (%u,%u,%u)", position.block.x, position.block.y, position.block.z);
    m.message = where;
    if (m.current) {
        snprintf(where, sizeof where, " thread (%u,%u,%u)", position.thread.x, position.thread.y, position.thread.z);
        m.message += where;
    }
    m.message += std::string(": ") + text;
    m.fault = fault;
    // The other threads of the block are abandoned where they are.
    void *abandoned;
    emu_switch_context(&abandoned, m.main_context);
    abort();
}

// ---- choosing ----
static u64 next_random(Multiprocessor &m) {
    m.random_state ^= m.random_state << 13;
    m.random_state ^= m.random_state >> 7;
    m.random_state ^= m.random_state << 17;
    return m.random_state >> 16;
}

// The next thread that can run, or null. In turn within a warp until all its lanes wait, or at random.
static Thread *choose(Multiprocessor &m) {
    u64 random = m.random_order ? next_random(m) : 0;
    unsigned start = m.random_order ? unsigned(random >> 8) % m.warp_count : m.current_warp;
    for (unsigned k = 0; k < m.warp_count; k++) {
        unsigned index = start + k < m.warp_count ? start + k : start + k - m.warp_count;
        Warp &warp = m.warps[index];
        if (!warp.ready) continue;
        m.current_warp = index;
        unsigned from = m.random_order ? unsigned(random) & 31u : (warp.last_lane + 1) & 31u;
        u32 rotated = warp.ready >> from | (from ? warp.ready << (32 - from) : 0);
        unsigned lane = (from + unsigned(__builtin_ctz(rotated))) & 31u;
        warp.last_lane = lane;
        return &m.threads[index * warp_lanes + lane];
    }
    return nullptr;
}

static void become(Multiprocessor &m, Thread *thread) {
    m.current = thread;
    position.thread = thread->place;
}

static void thread_main();

// Goes on as `next`, keeping the running context in `*from`.
static void switch_to(Multiprocessor &m, void **from, Thread *next) {
    if (!next->context) {
        next->stack = m.stacks.take();
        next->context = new_context(m.stacks.top(next->stack), thread_main);
    }
    become(m, next);
    emu_switch_context(from, next->context);
}

// Says who waits where.
[[noreturn]] static void fail_waiting(Multiprocessor &m) {
    std::string text = "no thread can go on:";
    for (unsigned i = 0; i < m.thread_count && text.size() < 700;) {
        Thread &first = m.threads[i];
        unsigned j = i;
        while (j < m.thread_count && m.threads[j].state == first.state &&
               (first.state == State::Done ||
                (m.threads[j].line == first.line && !strcmp(m.threads[j].operation, first.operation))))
            j++;
        char part[200];
        if (first.state == State::Done) snprintf(part, sizeof part, " threads %u to %u have returned;", i, j - 1);
        else
            snprintf(part, sizeof part, " threads %u to %u wait at %s (%s:%d);", i, j - 1, first.operation,
                     file_name(first.file), first.line);
        text += part;
        i = j;
    }
    text.pop_back();
    m.current = nullptr;
    fail(LaunchFailed, "%s", text.c_str());
}

void wait_as(State state, const char *operation, const char *file, int line) {
    Multiprocessor &m = *here;
    Thread *me = m.current;
    me->state = state;
    me->operation = operation;
    me->file = file;
    me->line = line;
    m.warps[me->warp].ready &= ~(1u << me->lane);
    Thread *next = choose(m);
    if (!next) fail_waiting(m);
    if (next != me) switch_to(m, &me->context, next);
    me->state = State::Ready;
}

// What every context runs: threads, one after the other, as long as the next one has not begun on a stack of its own.
static void thread_main() {
    Multiprocessor &m = *here;
    for (;;) {
        m.kernel->call(m.arguments);

        Thread *me = m.current;
        if (!me->copies.empty()) fail(LaunchFailed, "the thread returned with cp.async copies that it never waited for");
        if (m.stacks.overflowed(me->stack)) fail(LaunchFailed, "the thread needs more than %zu bytes of stack", Stacks::size);
        me->state = State::Done;
        m.done++;
        Warp &warp = m.warps[me->warp];
        warp.ready &= ~(1u << me->lane);
        warp.returned |= 1u << me->lane;

        Thread *next = choose(m);
        if (next && !next->context) {
            next->stack = me->stack;
            next->context = me; // begun; the value is set when it first waits
            become(m, next);
            continue;
        }
        m.stacks.give_back(me->stack);
        void *abandoned;
        if (next) switch_to(m, &abandoned, next);
        if (m.done == m.thread_count) {
            m.current = nullptr;
            emu_switch_context(&abandoned, m.main_context);
        }
        fail_waiting(m);
    }
}

bool Multiprocessor::run_block(unsigned index) {
    block_index = index;
    epoch++;
    block_epoch = epoch;
    done = waiting = current_warp = 0;
    variables.clear();
    shared_used = static_used = 0;
    dynamic_begin = 0;
    fenced = false;
    published = acquired = 0;
    fault = 0;
    instruction = nullptr;
    last_hit = nullptr;
    position.block = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    position.block_size = {block.x, block.y, block.z};
    position.grid_size = {grid.x, grid.y, grid.z};

    stacks.reset();
    for (unsigned w = 0; w < warp_count; w++) {
        Warp &warp = warps[w];
        unsigned lanes = thread_count - w * warp_lanes;
        warp.ready = lanes >= warp_lanes ? ~0u : (1u << lanes) - 1;
        warp.missing = ~warp.ready;
        warp.returned = 0;
        warp.last_lane = warp_lanes - 1;
        warp.epoch = 0;
        for (Collective &pending : warp.pending) pending.mask = 0;
    }
    decltype(position.thread) place = {0, 0, 0};
    for (unsigned i = 0; i < thread_count; i++) {
        Thread &thread = threads[i];
        thread.context = nullptr;
        thread.place = place;
        if (++place.x == block.x) place.x = 0, place.y++;
        if (place.y == block.y) place.y = 0, place.z++;
        thread.index = i;
        thread.lane = i % warp_lanes;
        thread.warp = i / warp_lanes;
        thread.state = State::Ready;
        thread.copies.clear();
        thread.copy_group = 0;
    }
    counts.blocks++;
    running = true;
    switch_to(*this, &main_context, choose(*this));
    running = false;
    current = nullptr;
    if (counts_banks()) banks.finish_block();
    if (checked) finished.push_back({block_epoch, index, published});
    return fault == 0;
}

// ---- barriers ----
static void arrive(const char *operation, const char *file, int line) {
    Multiprocessor &m = *here;
    if (m.waiting == 0) {
        m.barrier_operation = operation;
        m.barrier_file = file;
        m.barrier_line = line;
        m.barrier_votes = 0;
    } else if (m.barrier_line != line || (m.barrier_file != file && strcmp(m.barrier_file, file))) {
        fail(LaunchFailed, "divergent %s: this thread is at %s:%d, %u others wait at %s:%d", operation, file_name(file), line,
             m.waiting, file_name(m.barrier_file), m.barrier_line);
    }
    m.barrier_votes += m.current->vote;
    if (++m.waiting < m.thread_count) {
        wait_as(State::WaitsForBlock, operation, file, line);
        return;
    }
    m.waiting = 0;
    m.barrier_result = m.barrier_votes;
    m.epoch++;
    m.counts.barriers++;
    for (unsigned w = 0; w < m.warp_count; w++) m.warps[w].ready = ~m.warps[w].missing;
}

void barrier(const char *file, int line) {
    here->current->vote = false;
    arrive("__syncthreads", file, line);
}

int barrier_combining(Combine kind, bool value, const char *file, int line) {
    Multiprocessor &m = *here;
    m.current->vote = value;
    arrive("__syncthreads", file, line);
    // Stays until the next barrier is complete, which takes every thread.
    int votes = m.barrier_result;
    switch (kind) {
    case Combine::Count: return votes;
    case Combine::All: return votes == int(m.thread_count);
    case Combine::Any: return votes != 0;
    }
    return 0;
}

void fence() { here->fenced = true; }
} // namespace emu

// What the lanes of a warp do together.
#include "block.hpp"

#include <cstring>

namespace emu {
// Nearly always the very same text.
static bool same(const char *a, const char *b) { return a == b || !strcmp(a, b); }

void collective(const char *operation, u32 mask, void *argument, int option, Perform perform, const char *file, int line) {
    Multiprocessor &m = *here;
    Thread *me = m.current;
    Warp &warp = m.warps[me->warp];
    u32 bit = 1u << me->lane;
    m.counts.collectives++;
    mask &= ~warp.missing;
    if (!(mask & bit))
        fail(LaunchFailed, "%s at %s:%d: the calling lane %u is not in the mask %08x", operation, file_name(file), line,
             me->lane, mask);
    if (mask & warp.returned)
        fail(LaunchFailed, "%s at %s:%d: the mask %08x names lanes that have returned (%08x)", operation, file_name(file), line,
             mask, mask & warp.returned);

    Collective *found = nullptr, *unused = nullptr;
    for (Collective &pending : warp.pending) {
        if (pending.mask & mask) {
            found = &pending;
            break;
        }
        if (!pending.mask && !unused) unused = &pending;
    }
    if (!found) {
        if (!unused) fail(LaunchFailed, "%s at %s:%d: too many groups of lanes wait", operation, file_name(file), line);
        found = unused;
        found->mask = mask;
        found->arrived = 0;
        found->operation = operation;
        found->file = file;
        found->line = line;
    } else if (found->mask != mask || found->line != line || !same(found->operation, operation) || !same(found->file, file)) {
        fail(LaunchFailed, "divergent warp: lane %u is at %s (%s:%d, mask %08x), lanes %08x wait at %s (%s:%d, mask %08x)",
             me->lane, operation, file_name(file), line, mask, found->arrived, found->operation, file_name(found->file),
             found->line, found->mask);
    }
    found->arguments[me->lane] = argument;
    found->arrived |= bit;
    if (found->arrived != mask) {
        wait_as(State::WaitsForWarp, operation, file, line);
        return;
    }
    found->mask = 0;
    perform(found->arguments, mask, option);
    warp.ready |= mask;
}

void sync_warp(u32 mask, const char *file, int line) {
    auto perform = [](void **, u32, int) {
        Multiprocessor &m = *here;
        m.warps[m.current->warp].epoch++;
    };
    collective("__syncwarp", mask, nullptr, 0, perform, file, line);
}

// ---- shuffles ----
struct ShuffleArgument {
    u64 value, result;
    int argument, width;
};

static void perform_shuffle(void **arguments, u32 mask, int kind) {
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1u)) continue;
        auto &mine = *static_cast<ShuffleArgument *>(arguments[lane]);
        int first = lane & ~(mine.width - 1), end = first + mine.width, from = lane;
        switch (Shuffle(kind)) {
        case Shuffle::Xor: from = lane ^ mine.argument; break;
        case Shuffle::Down: from = lane + mine.argument; break;
        case Shuffle::Up: from = lane - mine.argument; break;
        case Shuffle::Index: from = first + (mine.argument & (mine.width - 1)); break;
        }
        // A lane outside of the segment: the own value. A butterfly may reach back into an earlier segment.
        if (from >= end || (from < first && Shuffle(kind) == Shuffle::Up)) from = lane;
        if (!(mask >> (from & 31) & 1u))
            fail(LaunchFailed, "shuffle: lane %d reads lane %d, which does not take part (mask %08x)", lane, from, mask);
        mine.result = static_cast<ShuffleArgument *>(arguments[from])->value;
    }
}

u64 shuffle(Shuffle kind, u32 mask, u64 value, int argument, int width, const char *file, int line) {
    static const char *const names[] = {"__shfl_xor_sync", "__shfl_down_sync", "__shfl_up_sync", "__shfl_sync"};
    const char *name = names[int(kind)];
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail(LaunchFailed, "%s at %s:%d: width %d is not a power of two up to 32", name, file_name(file), line, width);
    ShuffleArgument mine{value, 0, argument, width};
    collective(name, mask, &mine, int(kind), perform_shuffle, file, line);
    return mine.result;
}

// ---- votes and sums ----
u32 ballot(u32 mask, bool value, const char *file, int line) {
    u32 word = value;
    auto perform = [](void **arguments, u32 mask, int) {
        u32 votes = 0;
        for (int lane = 0; lane < 32; lane++)
            if (mask >> lane & 1u && *static_cast<u32 *>(arguments[lane])) votes |= 1u << lane;
        for (int lane = 0; lane < 32; lane++)
            if (mask >> lane & 1u) *static_cast<u32 *>(arguments[lane]) = votes;
    };
    collective("__ballot_sync", mask, &word, 0, perform, file, line);
    return word;
}

u32 reduce(Reduce kind, bool is_signed, u32 mask, u32 value, const char *file, int line) {
    auto perform = [](void **arguments, u32 mask, int option) {
        Reduce kind = Reduce(option >> 1);
        bool is_signed = option & 1, first = true;
        u32 result = 0;
        for (int lane = 0; lane < 32; lane++) {
            if (!(mask >> lane & 1u)) continue;
            u32 word = *static_cast<u32 *>(arguments[lane]);
            bool less = is_signed ? int32_t(word) < int32_t(result) : word < result;
            if (kind == Reduce::Add) result += word;
            else if (first || less == (kind == Reduce::Min)) result = word;
            first = false;
        }
        for (int lane = 0; lane < 32; lane++)
            if (mask >> lane & 1u) *static_cast<u32 *>(arguments[lane]) = result;
    };
    collective("__reduce_sync", mask, &value, int(kind) << 1 | is_signed, perform, file, line);
    return value;
}

u32 active_mask() {
    Multiprocessor &m = *here;
    Warp &warp = m.warps[m.current->warp];
    return ~(warp.returned | warp.missing);
}
} // namespace emu

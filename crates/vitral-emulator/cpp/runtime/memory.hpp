// What the emulator knows of the GPU's memory: which ranges exist, and who has touched what.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace emu {
// True in the checked build of the stand-in: kernels report every load and store.
extern const bool checked;

// One access, as far as it matters for finding races.
struct Access {
    // Counts the intervals between barriers, over all blocks. 0: never accessed.
    uint32_t epoch = 0;
    uint32_t thread : 10;
    // Which of the two bytes of the granule.
    uint32_t bytes : 2;
    uint32_t atomic : 1;
    // How many `__syncwarp` the warp has passed.
    uint32_t warp_epoch : 19;

    Access() : thread(0), bytes(0), atomic(0), warp_epoch(0) {}
};

// The last accesses of two neighboring bytes: the writer, the reader, another reader of its warp, a reader of another warp.
struct Shadow {
    Access write, read, read_in_warp, read_elsewhere;
};

// A range of memory: an allocation, or a block's shared memory.
class Region {
public:
    Region(uintptr_t address, size_t bytes, std::string name);
    ~Region();
    Region(const Region &) = delete;
    Region &operator=(const Region &) = delete;

    uintptr_t begin() const { return first; }
    uintptr_t end() const { return first + bytes; }
    const std::string &name() const { return called; }
    bool contains(uintptr_t address, size_t length) const {
        return address >= first && length <= bytes && address - first <= bytes - length;
    }
    Shadow &shadow(uintptr_t address);

    // Which bytes have a value. In the build without checks nothing is kept, and everything counts as written.
    bool written(uintptr_t address, size_t length) const;
    void set_written(uintptr_t address, size_t length, bool written);
    void copy_written(uintptr_t to, const Region &source, uintptr_t from, size_t length);

private:
    uintptr_t first;
    size_t bytes;
    std::string called;
    // Allocated at first use: most regions of most programs are never touched by a checked kernel.
    Shadow *shadows = nullptr;
    mutable uint8_t *bitmap = nullptr;
};

// The allocations, kept by the driver. All of this is called with the driver's lock held, or by the threads of a launch that
// holds it.
void add_allocation(uintptr_t address, size_t bytes, std::string name);
void remove_allocation(uintptr_t address);
// The allocation that holds this address, or null.
Region *find_allocation(uintptr_t address);
// How far an address is from the nearest allocation, in words.
std::string describe_address(uintptr_t address);

// The memory of a loaded kernel file, where its constants are.
void add_image(uintptr_t begin, uintptr_t end);
void remove_image(uintptr_t begin);
bool in_image(uintptr_t address);
} // namespace emu

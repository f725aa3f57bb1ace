// Runs a kernel over a grid.
#pragma once
#include "../include/entry.hpp"
#include "block.hpp"

#include <string>

namespace emu {
struct Launch {
    const Entry *kernel;
    dim3 grid, block;
    unsigned dynamic_bytes;
    void **arguments;
};

// What is wrong with the sizes of a launch; empty if nothing.
std::string check_launch(const Launch &launch);

struct Outcome {
    // 0, or the driver's code of what went wrong.
    int fault = 0;
    std::string message;
};

// `VITRAL_EMULATOR_THREADS` says on how many threads of the processor (the checked build uses one),
// `VITRAL_EMULATOR_SEED` chooses a random order of the threads and blocks in place of the usual one.
Outcome run(const Launch &launch);

Counts &counts();
} // namespace emu

// Counts bank conflicts: accesses of a warp to shared memory that take more than one turn, because lanes want different words
// of one bank.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace emu {
// What one block's loads and stores wanted. A GPU runs the lanes of a warp together, the emulator one after the other: the n-th
// time that a lane comes to an instruction belongs together with the n-th time of the other lanes.
class BankLog {
public:
    void add(const void *instruction, unsigned thread, uintptr_t address, size_t bytes);
    // Adds the block's requests to the totals, and forgets them.
    void finish_block();

private:
    struct Request {
        uint32_t lanes = 0;
        uint32_t addresses[32];
    };
    struct Site {
        size_t bytes;
        std::vector<unsigned> times; // of each thread
        std::vector<std::vector<Request>> warps;
    };
    std::unordered_map<const void *, Site> sites;
};

// Whether `VITRAL_EMULATOR_COUNTS` asks for it, in the checked build.
bool counts_banks();
// The lines with the most conflicts, one a line of text.
std::string bank_conflicts();
} // namespace emu

// Finds the source line of an instruction.
#pragma once
#include <cstddef>
#include <string>

namespace emu {
// An instruction in a library, which can be looked up when the library is no longer loaded.
struct CodePlace {
    std::string library;
    size_t offset = 0;

    // `return_address` is the place behind the instruction.
    static CodePlace of(const void *return_address);
    // `file.cu:12`, by the program addr2line; empty if that is not known.
    std::string line() const;
};
} // namespace emu

// The table of a kernel file's kernels, which `source.cpp` appends to it.
#pragma once
#include "words.hpp"

namespace emu {
struct Entry {
    const char *name;
    // Calls the kernel with the values that the pointers point to, as `cuLaunchKernel` passes them.
    void (*call)(void **arguments);
    const unsigned *argument_bytes;
    unsigned arguments;
    // The most threads a block may have: the first argument of `__launch_bounds__`, or 1024.
    unsigned most_threads;
};

template <auto kernel> struct Kernel;
template <class... Arguments, void (*kernel)(Arguments...)> struct Kernel<kernel> {
    static constexpr unsigned bytes[sizeof...(Arguments) + 1] = {sizeof(Arguments)..., 0};

    template <size_t... index>
    __attribute__((no_sanitize("thread"))) static void call_each(void **arguments, std::index_sequence<index...>) {
        kernel(*static_cast<std::remove_reference_t<Arguments> *>(arguments[index])...);
    }
    __attribute__((no_sanitize("thread"))) static void call(void **arguments) {
        call_each(arguments, std::index_sequence_for<Arguments...>{});
    }
    static constexpr Entry entry(const char *name, unsigned most_threads) {
        return {name, call, bytes, sizeof...(Arguments), most_threads};
    }
};
} // namespace emu

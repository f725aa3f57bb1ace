// What the compiler's instrumentation calls in the checked build. The kernel files are compiled with `-fsanitize=thread` and
// `-fsanitize=alignment,bounds,…`, but the sanitizers' own libraries are not linked: these are all the functions they need.
#include "block.hpp"

#include <cstddef>

using emu::check_access;
using emu::Kind;

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_vptr_read(void *) {}

#define EMU_HOOK(bytes)                                                                                                        \
    void __tsan_read##bytes(void *p) { check_access(p, bytes, Kind::Read, true, __builtin_return_address(0)); }                \
    void __tsan_write##bytes(void *p) { check_access(p, bytes, Kind::Write, true, __builtin_return_address(0)); }              \
    void __tsan_unaligned_read##bytes(void *p) { check_access(p, bytes, Kind::Read, false, __builtin_return_address(0)); }     \
    void __tsan_unaligned_write##bytes(void *p) { check_access(p, bytes, Kind::Write, false, __builtin_return_address(0)); }   \
    void __tsan_volatile_read##bytes(void *p) { check_access(p, bytes, Kind::Read, true, __builtin_return_address(0)); }       \
    void __tsan_volatile_write##bytes(void *p) { check_access(p, bytes, Kind::Write, true, __builtin_return_address(0)); }
EMU_HOOK(1)
EMU_HOOK(2)
EMU_HOOK(4)
EMU_HOOK(8)
EMU_HOOK(16)

void __tsan_read_range(void *p, size_t bytes) { check_access(p, bytes, Kind::Read, false, __builtin_return_address(0)); }
void __tsan_write_range(void *p, size_t bytes) { check_access(p, bytes, Kind::Write, false, __builtin_return_address(0)); }

// A read and a write of one place, which clang reports together.
#define EMU_HOOK_UPDATE(bytes)                                                                                                 \
    void __tsan_read_write##bytes(void *p) {                                                                                   \
        check_access(p, bytes, Kind::Read, true, __builtin_return_address(0));                                                 \
        check_access(p, bytes, Kind::Write, true, __builtin_return_address(0));                                                \
    }                                                                                                                          \
    void __tsan_unaligned_read_write##bytes(void *p) {                                                                         \
        check_access(p, bytes, Kind::Read, false, __builtin_return_address(0));                                                \
        check_access(p, bytes, Kind::Write, false, __builtin_return_address(0));                                               \
    }
EMU_HOOK_UPDATE(1)
EMU_HOOK_UPDATE(2)
EMU_HOOK_UPDATE(4)
EMU_HOOK_UPDATE(8)
EMU_HOOK_UPDATE(16)

// clang calls these in place of the library's, when a kernel file is instrumented.
void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
    __tsan_read_range(const_cast<void *>(from), bytes);
    __tsan_write_range(to, bytes);
    return __builtin_memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, size_t bytes) {
    __tsan_write_range(to, bytes);
    return __builtin_memset(to, value, bytes);
}

// ---- undefined behavior ----
struct SourceLocation {
    const char *file;
    uint32_t line, column;
};

static void undefined(const void *data, const char *what) {
    const auto *location = static_cast<const SourceLocation *>(data);
    if (!emu::here || !emu::here->running) return;
    emu::here->instruction = nullptr;
    emu::fail(emu::LaunchFailed, "%s at %s:%u:%u", what, emu::file_name(location->file), location->line, location->column);
}
#define EMU_UNDEFINED(name, what)                                                                                              \
    void __ubsan_handle_##name(void *data, void *, void *) { undefined(data, what); }
EMU_UNDEFINED(out_of_bounds, "index outside of an array")
EMU_UNDEFINED(shift_out_of_bounds, "shift by more bits than there are")
EMU_UNDEFINED(add_overflow, "signed overflow")
EMU_UNDEFINED(sub_overflow, "signed overflow")
EMU_UNDEFINED(mul_overflow, "signed overflow")
EMU_UNDEFINED(negate_overflow, "signed overflow")
EMU_UNDEFINED(divrem_overflow, "division by zero")
void __ubsan_handle_type_mismatch_v1(void *data, void *) {
    const auto *location = static_cast<const SourceLocation *>(data);
    if (!emu::here || !emu::here->running) return;
    emu::here->instruction = nullptr;
    emu::fail(emu::MisalignedAddress, "misaligned access at %s:%u:%u", emu::file_name(location->file), location->line,
              location->column);
}
}

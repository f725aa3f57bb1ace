// What the parts of the stand-in driver share: its lock, its errors, memory, streams and what is queued on them.
#pragma once
#include "../runtime/launch.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#define EMU_API extern "C" __attribute__((visibility("default")))

namespace driver {
typedef uint64_t DevicePointer;

// The driver's codes that are answered here.
enum Result : int {
    Success = 0,
    InvalidValue = 1,
    OutOfMemory = 2,
    NotInitialized = 3,
    NoDevice = 100,
    InvalidDevice = 101,
    InvalidImage = 200,
    InvalidContext = 201,
    NoBinaryForGpu = 209,
    EccUncorrectable = 214,
    FileNotFound = 301,
    InvalidHandle = 400,
    NotFound = 500,
    NotReady = 600,
    IllegalAddress = 700,
    NotSupported = 801,
    CaptureUnsupported = 900,
    CaptureInvalidated = 901,
    CaptureUnmatched = 903,
    CaptureUnjoined = 904,
    CaptureImplicit = 906,
};

// Every call of the driver holds it.
std::recursive_mutex &lock();
typedef std::lock_guard<std::recursive_mutex> Guard;

// ---- errors ----
// Prints one line on stderr, and keeps it for `vitral_emulator_message`.
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
// An error that every later call answers too, as after a fault on a GPU. Returns the code.
int stick(int code);
int sticky();
bool initialized();
// Not initialized, no current context, or an earlier fault.
int check_context();
#define EMU_CHECK_CONTEXT()                                                                                                    \
    driver::Guard guard(driver::lock());                                                                                       \
    if (int code = driver::check_context()) return code
// A number from the environment.
uint64_t setting(const char *name, uint64_t otherwise);

// ---- memory ----
uint64_t total_memory();
// Whether the range lies in one allocation. Reports and sticks if not.
bool require_allocation(DevicePointer address, size_t bytes, const char *what);
// Page-locked host memory, which copies read and write while the program goes on.
bool is_pinned(const void *host);
// Verifies that nothing was written around the allocations. Sticks if something was.
int check_guards();
void print_leaks();

// ---- streams ----
struct Graph;
// Something queued. Returns 0, or the code of a fault.
typedef std::function<int()> Operation;

struct Stream {
    bool blocking = true;
    std::deque<Operation> queue;
    uint64_t issued = 0, done = 0;
    // Set while the stream is captured; a stream that joined by an event is not the origin.
    std::shared_ptr<Graph> capture;
    bool capture_origin = false;
};

struct Graph {
    std::vector<Operation> operations;
    // Memory that was allocated while the graph was captured: its address belongs to the graph as long as that lives.
    std::vector<std::shared_ptr<struct GraphMemory>> memory;
    bool invalidated = false;
    // Who captures it, where that alone may spoil it: not in the global mode.
    std::thread::id only;
};

// The stream of a handle; the null handle is the legacy default stream. Null if there is no such stream.
Stream *find_stream(void *handle);
// Queues an operation, or adds it to the graph that the stream captures.
int enqueue(Stream *stream, Operation operation);
// Runs what is queued, up to a position.
int run_until(Stream *stream, uint64_t position);
int run_stream(Stream *stream);
int run_all();
// What synchronizing calls answer while a stream is captured: the capture is lost.
int refuse_capture(Stream *stream, const char *call);
// The same for a call that concerns the whole device.
int refuse_any_capture(const char *call);
// The same of a call that other threads than the capturing one may make, unless it captures in the global mode.
int refuse_captures_here(const char *call);
// Counts a launch; the code of a lost device if its time has come (`VITRAL_EMULATOR_LOSE`).
int count_launch();
} // namespace driver

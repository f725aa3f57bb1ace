// Streams and events. Work runs as late as it may: when somebody waits for it. A program that reads a result too early, or lets
// two streams go without an event between them, sees memory that nothing has written.
#include "state.hpp"

#include <cstdlib>
#include <set>

namespace driver {
static std::set<Stream *> &streams() {
    static auto *set = new std::set<Stream *>;
    return *set;
}

static Stream *default_stream() {
    static auto *stream = new Stream;
    return stream;
}

Stream *find_stream(void *handle) {
    // 1 and 2 stand for the legacy default stream and that of the thread.
    if (reinterpret_cast<uintptr_t>(handle) <= 2) return default_stream();
    auto *stream = static_cast<Stream *>(handle);
    return streams().count(stream) ? stream : nullptr;
}

int run_until(Stream *stream, uint64_t position) {
    while (stream->done < position && !stream->queue.empty()) {
        Operation operation = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        if (!sticky())
            if (int code = operation()) stick(code);
    }
    return sticky();
}

int run_stream(Stream *stream) { return run_until(stream, stream->issued); }

int run_all() {
    run_stream(default_stream());
    // A copy: an operation may make others run.
    std::vector<Stream *> all(streams().begin(), streams().end());
    for (Stream *stream : all) run_stream(stream);
    return sticky();
}

// As `CUDA_LAUNCH_BLOCKING` of the real driver, for every kind of work.
static bool blocking() {
    static const bool value = setting("CUDA_LAUNCH_BLOCKING", 0) != 0;
    return value;
}

// More than this and the oldest work runs, as it would on a GPU meanwhile.
static const size_t longest_queue = 1024;

int enqueue(Stream *stream, Operation operation) {
    if (stream->capture) {
        if (stream->capture->invalidated) return CaptureInvalidated;
        stream->capture->operations.push_back(std::move(operation));
        return Success;
    }
    if (stream == default_stream()) {
        // It waits for the streams that were not created as non-blocking, and they for it.
        std::vector<Stream *> all(streams().begin(), streams().end());
        for (Stream *other : all) {
            if (!other->blocking) continue;
            if (other->capture) {
                other->capture->invalidated = true;
                return CaptureImplicit;
            }
            run_stream(other);
        }
    }
    stream->queue.push_back(std::move(operation));
    stream->issued++;
    if (stream == default_stream() || blocking()) return run_stream(stream);
    if (stream->queue.size() > longest_queue) return run_until(stream, stream->done + longest_queue / 2);
    return Success;
}

int refuse_capture(Stream *stream, const char *call) {
    if (!stream->capture) return Success;
    stream->capture->invalidated = true;
    report("%s: not possible while the stream is captured", call);
    return CaptureUnsupported;
}

int refuse_any_capture(const char *call) {
    for (Stream *stream : streams())
        if (int code = refuse_capture(stream, call)) return code;
    return Success;
}

int refuse_captures_here(const char *call) {
    for (Stream *stream : streams()) {
        if (!stream->capture) continue;
        std::thread::id only = stream->capture->only;
        if (only != std::thread::id() && only != std::this_thread::get_id()) continue;
        if (int code = refuse_capture(stream, call)) return code;
    }
    return Success;
}

// ---- events ----
struct Event {
    bool timed, recorded = false, done = false;
    Stream *stream = nullptr;
    uint64_t position = 0;
    double milliseconds = 0;
    // Recorded while its stream was captured.
    std::weak_ptr<Graph> capture;
};

static double now() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static std::set<Event *> &events() {
    static auto *set = new std::set<Event *>;
    return *set;
}

static Event *find_event(void *handle) {
    auto *event = static_cast<Event *>(handle);
    return events().count(event) ? event : nullptr;
}
} // namespace driver

using namespace driver;

// ---- streams ----
EMU_API int cuStreamCreate(void **handle, unsigned flags) {
    EMU_CHECK_CONTEXT();
    if (flags > 1) return InvalidValue;
    auto *stream = new Stream;
    stream->blocking = flags == 0;
    streams().insert(stream);
    *handle = stream;
    return Success;
}
EMU_API int cuStreamCreateWithPriority(void **handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

EMU_API int cuStreamDestroy_v2(void *handle) {
    Guard guard(lock());
    Stream *stream = find_stream(handle);
    if (!stream || stream == default_stream()) return InvalidHandle;
    run_stream(stream);
    // Everything of it has run: an event's position in it counts as reached.
    for (Event *event : events())
        if (event->stream == stream) event->stream = nullptr;
    streams().erase(stream);
    delete stream;
    return sticky();
}

EMU_API int cuStreamSynchronize(void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (int code = refuse_capture(stream, "cuStreamSynchronize")) return code;
    if (stream == default_stream()) return enqueue(stream, [] { return Success; });
    return run_stream(stream);
}

EMU_API int cuStreamQuery(void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (int code = refuse_capture(stream, "cuStreamQuery")) return code;
    if (stream->queue.empty()) return Success;
    // Some progress, so that a program that asks again and again gets there.
    if (int code = run_until(stream, stream->done + 1)) return code;
    return NotReady;
}

EMU_API int cuStreamGetFlags(void *handle, unsigned *flags) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    *flags = stream->blocking ? 0 : 1;
    return Success;
}

EMU_API int cuStreamWaitEvent(void *handle, void *event_handle, unsigned) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    Event *event = find_event(event_handle);
    if (!stream || !event) return InvalidHandle;
    if (auto graph = event->capture.lock()) {
        // A stream that waits for a captured event is captured into the same graph.
        if (stream->capture && stream->capture != graph) return CaptureUnsupported;
        stream->capture = graph;
        return Success;
    }
    if (!event->recorded || event->done || !event->stream) return Success;
    if (stream->capture) return refuse_capture(stream, "cuStreamWaitEvent for an event outside of the capture");
    Stream *other = event->stream;
    uint64_t position = event->position;
    if (other == stream) return Success;
    return enqueue(stream, [=] { return find_stream(other) ? run_until(other, position) : sticky(); });
}

EMU_API int cuLaunchHostFunc(void *handle, void (*function)(void *), void *data) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    return enqueue(stream, [=] {
        function(data);
        return Success;
    });
}

// ---- events ----
EMU_API int cuEventCreate(void **handle, unsigned flags) {
    EMU_CHECK_CONTEXT();
    auto *event = new Event;
    event->timed = !(flags & 2u);
    events().insert(event);
    *handle = event;
    return Success;
}

EMU_API int cuEventDestroy_v2(void *handle) {
    Guard guard(lock());
    Event *event = find_event(handle);
    if (!event) return InvalidHandle;
    // A queued recording must not find it gone.
    if (event->stream) run_until(event->stream, event->position);
    events().erase(event);
    delete event;
    return Success;
}

EMU_API int cuEventRecord(void *handle, void *stream_handle) {
    EMU_CHECK_CONTEXT();
    Event *event = find_event(handle);
    Stream *stream = find_stream(stream_handle);
    if (!event || !stream) return InvalidHandle;
    event->recorded = true;
    event->done = false;
    event->capture = stream->capture;
    if (stream->capture) {
        event->stream = nullptr;
        return stream->capture->invalidated ? CaptureInvalidated : Success;
    }
    event->stream = stream;
    event->position = stream->issued + 1;
    uint64_t position = event->position;
    return enqueue(stream, [=] {
        // It may have been recorded again since, or be gone.
        if (find_event(event) && event->position == position) {
            event->milliseconds = now();
            event->done = true;
        }
        return Success;
    });
}

EMU_API int cuEventSynchronize(void *handle) {
    EMU_CHECK_CONTEXT();
    Event *event = find_event(handle);
    if (!event) return InvalidHandle;
    if (event->capture.lock()) return CaptureUnsupported;
    if (event->done || !event->stream) return Success;
    return run_until(event->stream, event->position);
}

EMU_API int cuEventQuery(void *handle) {
    EMU_CHECK_CONTEXT();
    Event *event = find_event(handle);
    if (!event) return InvalidHandle;
    if (!event->recorded || event->done || !event->stream) return Success;
    if (int code = run_until(event->stream, event->stream->done + 1)) return code;
    return NotReady;
}

EMU_API int cuEventElapsedTime(float *milliseconds, void *start_handle, void *end_handle) {
    EMU_CHECK_CONTEXT();
    Event *start = find_event(start_handle), *end = find_event(end_handle);
    if (!start || !end || !start->timed || !end->timed || !start->recorded || !end->recorded) return InvalidHandle;
    if (!start->done || !end->done) return NotReady;
    *milliseconds = float(end->milliseconds - start->milliseconds);
    return Success;
}
EMU_API int cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
    return cuEventElapsedTime(milliseconds, start, end);
}

// ---- capture ----
EMU_API int cuStreamBeginCapture_v2(void *handle, int mode) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    if (mode < 0 || mode > 2) return InvalidValue;
    if (stream == default_stream()) return CaptureUnsupported;
    if (stream->capture) return CaptureUnmatched;
    stream->capture = std::make_shared<Graph>();
    if (mode != 0) stream->capture->only = std::this_thread::get_id();
    stream->capture_origin = true;
    return Success;
}

EMU_API int cuStreamEndCapture(void *handle, void **graph) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    *graph = nullptr;
    if (!stream->capture || !stream->capture_origin) return CaptureUnmatched;
    std::shared_ptr<Graph> captured = stream->capture;
    for (Stream *other : streams())
        if (other->capture == captured) {
            other->capture.reset();
            other->capture_origin = false;
        }
    if (captured->invalidated) return CaptureInvalidated;
    auto *result = new Graph;
    result->operations = std::move(captured->operations);
    result->memory = std::move(captured->memory);
    *graph = result;
    return Success;
}

EMU_API int cuStreamIsCapturing(void *handle, int *status) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream) return InvalidHandle;
    *status = !stream->capture ? 0 : stream->capture->invalidated ? 2 : 1;
    return Success;
}

EMU_API int cuThreadExchangeStreamCaptureMode(int *mode) {
    *mode = 0;
    return Success;
}

// ---- graphs ----
EMU_API int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    EMU_CHECK_CONTEXT();
    if (!graph) return InvalidValue;
    *executable = new Graph(*static_cast<Graph *>(graph));
    return Success;
}
EMU_API int cuGraphInstantiate_v2(void **executable, void *graph, void **, char *, size_t) {
    return cuGraphInstantiateWithFlags(executable, graph, 0);
}
EMU_API int cuGraphInstantiate(void **executable, void *graph, void **node, char *text, size_t length) {
    return cuGraphInstantiate_v2(executable, graph, node, text, length);
}

EMU_API int cuGraphUpload(void *, void *) {
    EMU_CHECK_CONTEXT();
    return Success;
}

EMU_API int cuGraphLaunch(void *executable, void *handle) {
    EMU_CHECK_CONTEXT();
    Stream *stream = find_stream(handle);
    if (!stream || !executable) return InvalidHandle;
    if (int code = count_launch()) return code;
    auto *graph = static_cast<Graph *>(executable);
    return enqueue(stream, [copy = *graph] {
        for (const Operation &operation : copy.operations)
            if (int code = operation()) return code;
        return int(Success);
    });
}

EMU_API int cuGraphGetNodes(void *graph, void **nodes, size_t *count) {
    Guard guard(lock());
    if (!graph) return InvalidValue;
    if (nodes) return NotSupported;
    *count = static_cast<Graph *>(graph)->operations.size();
    return Success;
}

EMU_API int cuGraphDestroy(void *graph) {
    Guard guard(lock());
    delete static_cast<Graph *>(graph);
    return graph ? Success : InvalidValue;
}
EMU_API int cuGraphExecDestroy(void *executable) { return cuGraphDestroy(executable); }

// NCCL's stand-in: cards are threads of this process. What one sends is copied when the group ends, and arrives as late as it
// may, when the receiver's stream runs.
#include "state.hpp"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>

namespace driver {
namespace {
enum Status : int { Worked = 0, UnhandledCudaError = 1, InvalidArgument = 4, InvalidUsage = 5, RemoteError = 6 };

struct Identity {
    char words[128];
};

typedef std::vector<char> Mail;

// The ranks that have joined with one identity, and what is under way between them.
struct Meeting {
    int size = 0;
    size_t joined = 0;
    bool somebody_left = false;
    std::map<std::pair<int, int>, std::deque<Mail>> under_way;
};

struct Member {
    std::shared_ptr<Meeting> meeting;
    int rank;
};

// Not the driver's lock: a rank waits for others here, who call the driver meanwhile.
std::mutex &mutex() {
    static auto *mutex = new std::mutex;
    return *mutex;
}

std::condition_variable &changed() {
    static auto *condition = new std::condition_variable;
    return *condition;
}

std::map<std::string, std::shared_ptr<Meeting>> &meetings() {
    static auto *map = new std::map<std::string, std::shared_ptr<Meeting>>;
    return *map;
}

// A send or a receive that waits for the end of its group.
struct Call {
    bool sends;
    uint64_t address;
    size_t bytes;
    int peer;
    Member *member;
    void *stream;
};

thread_local std::vector<Call> calls;
thread_local int depth = 0;

// What the memory holds once everything queued on the stream is done.
int read(void *stream_handle, uint64_t address, Mail *mail) {
    Guard guard(lock());
    if (int code = check_context()) return code;
    Stream *stream = find_stream(stream_handle);
    if (!stream || stream->capture) return InvalidHandle;
    if (int code = run_stream(stream)) return code;
    if (mail->empty()) return Success;
    if (!require_allocation(address, mail->size(), "ncclSend")) return sticky();
    memcpy(mail->data(), reinterpret_cast<void *>(address), mail->size());
    return Success;
}

int write(void *stream_handle, uint64_t address, Mail mail) {
    Guard guard(lock());
    if (int code = check_context()) return code;
    Stream *stream = find_stream(stream_handle);
    if (!stream) return InvalidHandle;
    if (mail.empty()) return Success;
    return enqueue(stream, [address, mail = std::move(mail)] {
        if (!require_allocation(address, mail.size(), "ncclRecv")) return sticky();
        memcpy(reinterpret_cast<void *>(address), mail.data(), mail.size());
        return int(Success);
    });
}

int run_group() {
    std::vector<Call> group;
    group.swap(calls);
    for (const Call &call : group) {
        if (!call.sends) continue;
        Mail mail(call.bytes);
        if (read(call.stream, call.address, &mail)) return UnhandledCudaError;
        std::lock_guard<std::mutex> guard(mutex());
        call.member->meeting->under_way[{call.member->rank, call.peer}].push_back(std::move(mail));
        changed().notify_all();
    }
    for (const Call &call : group) {
        if (call.sends) continue;
        Mail mail;
        {
            std::unique_lock<std::mutex> guard(mutex());
            auto &box = call.member->meeting->under_way[{call.peer, call.member->rank}];
            if (!changed().wait_for(guard, std::chrono::seconds(60), [&] { return !box.empty(); })) {
                report("ncclRecv: nothing came from rank %d", call.peer);
                return UnhandledCudaError;
            }
            mail = std::move(box.front());
            box.pop_front();
        }
        if (mail.size() != call.bytes) {
            report("ncclRecv: expected %zu bytes from rank %d, which sent %zu", call.bytes, call.peer, mail.size());
            return InvalidUsage;
        }
        if (write(call.stream, call.address, std::move(mail))) return UnhandledCudaError;
    }
    return Worked;
}

int add(Call call, int type) {
    const int f32 = 7;
    if (!call.member || type != f32 || call.peer < 0 || call.peer >= call.member->meeting->size) return InvalidArgument;
    calls.push_back(call);
    return depth > 0 ? int(Worked) : run_group();
}
} // namespace
} // namespace driver

using namespace driver;

EMU_API int ncclGetVersion(int *version) {
    *version = 22809;
    return Worked;
}

EMU_API int ncclGetUniqueId(Identity *identity) {
    static std::atomic<int> made{0};
    memset(identity, 0, sizeof *identity);
    snprintf(identity->words, sizeof identity->words, "the meeting %d", ++made);
    return Worked;
}

EMU_API int ncclCommInitRank(void **handle, int size, Identity identity, int rank) {
    if (rank < 0 || rank >= size) return InvalidArgument;
    {
        Guard guard(lock());
        if (check_context()) return UnhandledCudaError;
    }
    std::unique_lock<std::mutex> guard(mutex());
    std::shared_ptr<Meeting> &place = meetings()[std::string(identity.words, strnlen(identity.words, sizeof identity.words))];
    if (!place) {
        place = std::make_shared<Meeting>();
        place->size = size;
    }
    std::shared_ptr<Meeting> meeting = place;
    if (meeting->size != size || meeting->joined == size_t(size)) return InvalidUsage;
    meeting->joined++;
    changed().notify_all();
    bool all = changed().wait_for(guard, std::chrono::seconds(60), [&] { return meeting->joined == size_t(size); });
    if (!all) {
        report("ncclCommInitRank: %zu of %d ranks came", meeting->joined, size);
        return InvalidUsage;
    }
    *handle = new Member{meeting, rank};
    return Worked;
}

EMU_API int ncclCommAbort(void *handle) {
    auto *member = static_cast<Member *>(handle);
    if (!member) return InvalidArgument;
    {
        std::lock_guard<std::mutex> guard(mutex());
        member->meeting->somebody_left = true;
    }
    delete member;
    return Worked;
}
EMU_API int ncclCommDestroy(void *handle) { return ncclCommAbort(handle); }

EMU_API int ncclCommGetAsyncError(void *handle, int *fault) {
    auto *member = static_cast<Member *>(handle);
    if (!member) return InvalidArgument;
    std::lock_guard<std::mutex> guard(mutex());
    *fault = member->meeting->somebody_left ? RemoteError : Worked;
    return Worked;
}

EMU_API int ncclGroupStart() {
    depth++;
    return Worked;
}

EMU_API int ncclGroupEnd() {
    if (depth == 0) return InvalidUsage;
    return --depth > 0 ? int(Worked) : run_group();
}

EMU_API int ncclSend(uint64_t address, size_t count, int type, int peer, void *handle, void *stream) {
    return add({true, address, 4 * count, peer, static_cast<Member *>(handle), stream}, type);
}

EMU_API int ncclRecv(uint64_t address, size_t count, int type, int peer, void *handle, void *stream) {
    return add({false, address, 4 * count, peer, static_cast<Member *>(handle), stream}, type);
}

// The sum in the order of ranks, which no tree gives.
EMU_API int ncclAllReduce(uint64_t from, uint64_t to, size_t count, int type, int operation, void *handle, void *stream) {
    auto *member = static_cast<Member *>(handle);
    const int sum = 0, f32 = 7;
    if (!member || type != f32 || operation != sum || depth > 0) return InvalidArgument;
    Mail own(4 * count);
    if (read(stream, from, &own)) return UnhandledCudaError;
    for (int peer = 0; peer < member->meeting->size; peer++) {
        std::lock_guard<std::mutex> guard(mutex());
        member->meeting->under_way[{member->rank, peer}].push_back(own);
        changed().notify_all();
    }
    std::vector<float> total(count, 0.f), part(count);
    for (int peer = 0; peer < member->meeting->size; peer++) {
        std::unique_lock<std::mutex> guard(mutex());
        auto &box = member->meeting->under_way[{peer, member->rank}];
        if (!changed().wait_for(guard, std::chrono::seconds(60), [&] { return !box.empty(); })) return UnhandledCudaError;
        if (box.front().size() != 4 * count) return InvalidUsage;
        if (count) memcpy(part.data(), box.front().data(), 4 * count);
        box.pop_front();
        for (size_t i = 0; i < count; i++) total[i] += part[i];
    }
    if (count) memcpy(own.data(), total.data(), 4 * count);
    return write(stream, to, std::move(own)) ? UnhandledCudaError : Worked;
}

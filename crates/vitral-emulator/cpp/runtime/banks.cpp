#include "banks.hpp"
#include "memory.hpp"
#include "symbols.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

namespace emu {
bool counts_banks() {
    static const bool asked = [] {
        const char *text = getenv("VITRAL_EMULATOR_COUNTS");
        return checked && text && atoi(text);
    }();
    return asked;
}

namespace {
struct Totals {
    uint64_t requests = 0, extra_turns = 0;
    CodePlace place;
};

std::map<const void *, Totals> &totals() {
    static auto *map = new std::map<const void *, Totals>;
    return *map;
}
std::mutex totals_lock;
} // namespace

void BankLog::add(const void *instruction, unsigned thread, uintptr_t address, size_t bytes) {
    Site &site = sites[instruction];
    unsigned warp = thread / 32, lane = thread % 32;
    if (site.times.empty()) site.times.resize(1024);
    if (site.warps.empty()) site.warps.resize(32);
    site.bytes = bytes;
    unsigned time = site.times[thread]++;
    std::vector<Request> &requests = site.warps[warp];
    if (requests.size() <= time) requests.resize(time + 1);
    requests[time].lanes |= 1u << lane;
    requests[time].addresses[lane] = uint32_t(address);
}

// How many turns some lanes need: the most different words that they want of one bank.
static unsigned turns(const uint32_t *addresses, uint32_t lanes, size_t bytes) {
    std::vector<uint32_t> words[32];
    unsigned most = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1u)) continue;
        for (uint32_t word = addresses[lane] / 4; word <= (addresses[lane] + bytes - 1) / 4; word++) {
            std::vector<uint32_t> &bank = words[word % 32];
            if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
            most = std::max(most, unsigned(bank.size()));
        }
    }
    return most;
}

void BankLog::finish_block() {
    std::lock_guard<std::mutex> guard(totals_lock);
    for (auto &[instruction, site] : sites) {
        Totals &total = totals()[instruction];
        if (!total.requests) total.place = CodePlace::of(instruction);
        // 128 bytes go at once: with wider accesses a half or a quarter of the lanes.
        unsigned parts = site.bytes > 8 ? 4 : site.bytes > 4 ? 2 : 1, width = 32 / parts;
        for (const auto &requests : site.warps)
            for (const Request &request : requests)
                for (unsigned part = 0; part < parts; part++) {
                    uint32_t lanes = request.lanes & (width == 32 ? ~0u : ((1u << width) - 1) << (part * width));
                    if (!lanes) continue;
                    total.requests++;
                    total.extra_turns += turns(request.addresses, lanes, site.bytes) - 1;
                }
    }
    sites.clear();
}

std::string bank_conflicts() {
    std::lock_guard<std::mutex> guard(totals_lock);
    // A line may have several instructions, and a function be compiled several times.
    std::map<std::string, Totals> lines;
    for (auto &[instruction, total] : totals()) {
        if (!total.extra_turns) continue;
        Totals &line = lines[total.place.line()];
        line.requests += total.requests;
        line.extra_turns += total.extra_turns;
    }
    std::vector<std::pair<std::string, Totals>> sorted(lines.begin(), lines.end());
    std::sort(sorted.begin(), sorted.end(), [](auto &a, auto &b) { return a.second.extra_turns > b.second.extra_turns; });
    std::string text;
    for (size_t i = 0; i < sorted.size() && i < 20; i++) {
        char part[400];
        snprintf(part, sizeof part, "bank conflicts at %s: %llu accesses to shared memory take %llu turns more\n",
                 sorted[i].first.c_str(), (unsigned long long)sorted[i].second.requests,
                 (unsigned long long)sorted[i].second.extra_turns);
        text += part;
    }
    return text;
}
} // namespace emu

#include "memory.hpp"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <vector>

namespace emu {
Region::Region(uintptr_t address, size_t bytes, std::string name) : first(address), bytes(bytes), called(std::move(name)) {}

Region::~Region() {
    free(shadows);
    free(bitmap);
}

Shadow &Region::shadow(uintptr_t address) {
    if (!shadows) {
        // Zeros are a valid `Shadow`, and `calloc` takes pages only where they are touched.
        shadows = static_cast<Shadow *>(calloc(bytes / 2 + 1, sizeof(Shadow)));
        if (!shadows) throw std::bad_alloc();
    }
    return shadows[(address - first) / 2];
}

bool Region::written(uintptr_t address, size_t length) const {
    if (!checked) return true;
    if (!bitmap) return false;
    size_t from = address - first;
    for (size_t i = from; i < from + length; i++)
        if (!bitmap[i]) return false;
    return true;
}

void Region::set_written(uintptr_t address, size_t length, bool value) {
    if (!checked || (!bitmap && !value)) return;
    if (!bitmap) bitmap = static_cast<uint8_t *>(calloc(bytes + 1, 1));
    if (!bitmap) throw std::bad_alloc();
    memset(bitmap + (address - first), value, length);
}

void Region::copy_written(uintptr_t to, const Region &source, uintptr_t from, size_t length) {
    if (!checked) return;
    if (!source.bitmap) {
        set_written(to, length, false);
        return;
    }
    set_written(to, 0, true);
    memmove(bitmap + (to - first), source.bitmap + (from - source.first), length);
}

// ---- allocations ----
static std::map<uintptr_t, std::unique_ptr<Region>> &allocations() {
    static auto *map = new std::map<uintptr_t, std::unique_ptr<Region>>; // outlives every destructor
    return *map;
}

void add_allocation(uintptr_t address, size_t bytes, std::string name) {
    allocations()[address] = std::make_unique<Region>(address, bytes, std::move(name));
}

void remove_allocation(uintptr_t address) { allocations().erase(address); }

Region *find_allocation(uintptr_t address) {
    auto next = allocations().upper_bound(address);
    if (next == allocations().begin()) return nullptr;
    Region *region = std::prev(next)->second.get();
    return address < region->end() ? region : nullptr;
}

std::string describe_address(uintptr_t address) {
    if (Region *region = find_allocation(address))
        return region->name() + "+" + std::to_string(address - region->begin()) + " of " +
               std::to_string(region->end() - region->begin()) + " bytes";
    if (address < 4096) return "a null pointer + " + std::to_string(address);
    auto next = allocations().upper_bound(address);
    std::string text = "outside every allocation";
    if (next != allocations().begin()) {
        Region *before = std::prev(next)->second.get();
        text += ", " + std::to_string(address - before->end()) + " bytes past the end of " + before->name() + " (" +
                std::to_string(before->end() - before->begin()) + " bytes)";
    }
    if (next != allocations().end())
        text += ", " + std::to_string(next->second->begin() - address) + " bytes before " + next->second->name();
    return text;
}

// ---- images ----
static std::vector<std::pair<uintptr_t, uintptr_t>> &images() {
    static auto *list = new std::vector<std::pair<uintptr_t, uintptr_t>>;
    return *list;
}

void add_image(uintptr_t begin, uintptr_t end) { images().emplace_back(begin, end); }

void remove_image(uintptr_t begin) {
    auto &list = images();
    for (size_t i = 0; i < list.size(); i++)
        if (list[i].first == begin) {
            list.erase(list.begin() + long(i));
            return;
        }
}

bool in_image(uintptr_t address) {
    for (auto &image : images())
        if (address >= image.first && address < image.second) return true;
    return false;
}
} // namespace emu

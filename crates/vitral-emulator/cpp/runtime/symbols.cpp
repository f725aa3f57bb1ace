#include "symbols.hpp"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>

namespace emu {
CodePlace CodePlace::of(const void *return_address) {
    Dl_info info;
    CodePlace place;
    if (!return_address || !dladdr(return_address, &info) || !info.dli_fname) return place;
    place.library = info.dli_fname;
    place.offset = size_t((const char *)return_address - (const char *)info.dli_fbase) - 1;
    return place;
}

std::string CodePlace::line() const {
    if (library.empty()) return "";
    char hexadecimal[32];
    snprintf(hexadecimal, sizeof hexadecimal, "0x%zx", offset);
    FILE *pipe = popen(("addr2line -s -e '" + library + "' " + hexadecimal + " 2>/dev/null").c_str(), "r");
    if (!pipe) return "";
    char text[300] = "";
    if (!fgets(text, sizeof text, pipe) || text[0] == '?') text[0] = 0;
    pclose(pipe);
    text[strcspn(text, " \n")] = 0; // a file and a line; more may follow
    return text;
}
} // namespace emu

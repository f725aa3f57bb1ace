// Compiles kernel files, once for every text and set of options.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace driver {
struct Compilation {
    bool worked = false;
    // What the compiler wrote.
    std::string log;
    // The text that stands for the machine code. It names the compiled object.
    std::string image;
};

struct Program {
    std::string source, name;
    // Name and text of each file that the source may include.
    std::vector<std::pair<std::string, std::string>> headers;
    // Macros as `NAME=VALUE`.
    std::vector<std::string> definitions;
    std::string architecture;
};

Compilation compile(const Program &program);

// The path of the object that an image names; else the driver's code for an image that it cannot load.
int object_of_image(const char *image, std::string *path);
} // namespace driver

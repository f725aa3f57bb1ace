// Turns a preprocessed CUDA C++ file into plain C++.
#pragma once
#include <string>

namespace driver {
// Rewrites the declarations of `__shared__` memory and appends the table of kernels. Lines stay where they are. On a fault in
// the source, `error` says what is wrong and the result is empty.
std::string translate(const std::string &preprocessed, std::string *error);
} // namespace driver

// CUDA C++ for a C++ compiler: every kernel file is compiled with this header in front of it.
//
// The order matters: the standard library comes first, because some of CUDA's words are macros here.
#pragma once
#include "words.hpp"

#include "runtime.hpp"

#include "floats.hpp"
#include "mathematics.hpp"

#include "atomics.hpp"
#include "entry.hpp"
#include "tensor.hpp"
#include "threads.hpp"

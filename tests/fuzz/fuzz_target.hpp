// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What each fuzzer defines: libFuzzer calls it with bytes of its own making, and
// replay.cpp, in builds without that engine, with each file of the corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace loop::testing {

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What holds for any input. Ends the program where it does not, which is how a
// fuzzer reports; not an assert(), which a release build leaves out.
inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace loop::testing

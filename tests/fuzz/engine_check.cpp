// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Links where the compiler has libFuzzer.
#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t*, size_t) { return 0; }

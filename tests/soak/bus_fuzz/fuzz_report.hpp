// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a fuzzing process tells of itself, in memory that it shares with its parent.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace soak {

inline constexpr size_t most_methods = 128;
inline constexpr size_t most_errors = 64;

struct FuzzReport {
  std::atomic<uint64_t> calls;   // messages of any kind, all below among them
  std::atomic<uint64_t> broken;  // were no good messages
  std::atomic<uint64_t> answers;
  std::atomic<uint64_t> dropped;  // its connection was closed before the answer
  std::atomic<uint64_t> connections;
  std::array<std::atomic<uint64_t>, most_methods> called;  // as declared, by index of the method
  std::array<std::atomic<uint64_t>, most_methods> succeeded;
  std::array<std::atomic<uint64_t>, most_errors> errors;    // by index into error_names()
  std::array<std::array<char, 160>, most_errors> examples;  // of their messages, the last of each
  std::atomic<uint64_t> findings;
  std::array<char, 16384>
      text;  // of the first findings, a line each; as the examples complete when the process has ended
};

}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/log.hpp"

#include <sys/stat.h>
#include <systemd/sd-journal.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/utf8.hpp"

namespace loopd::log {
namespace {

std::atomic<int> max_level{LOG_INFO};

constexpr std::array<std::string_view, 8> level_names{"emerg",   "alert",  "crit", "err",
                                                      "warning", "notice", "info", "debug"};

// $JOURNAL_STREAM names the device and inode of the stream that systemd gave us;
// stderr may have been redirected since.
bool stderr_is_the_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat st {};
  if (!stream || ::fstat(STDERR_FILENO, &st) < 0) return false;
  return std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino) == stream;
}

}  // namespace

void set_max_level(int level) { max_level = level; }

std::optional<int> parse_level(const std::string& text) {
  for (size_t i = 0; i < level_names.size(); ++i) {
    if (text == level_names[i] || text == std::to_string(i)) return static_cast<int>(i);
  }
  return std::nullopt;
}

void write(int level, const std::string& message) {
  if (level > max_level) return;
  static const bool journal = stderr_is_the_journal();
  const std::string line = loop::printable(message);
  if (journal) {
    sd_journal_print(level, "%s", line.c_str());
    return;
  }
  std::fprintf(stderr, "loopd: %.*s: %s\n", static_cast<int>(level_names[static_cast<size_t>(level)].size()),
               level_names[static_cast<size_t>(level)].data(), line.c_str());
}

}  // namespace loopd::log

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// looptab, whatever is in it: a line is an entry or a complaint, and what an entry
// says can be attached and named as it is.
#include <algorithm>
#include <set>
#include <string>

#include "core/error.hpp"
#include "core/looptab.hpp"
#include "core/utf8.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace loop::testing {
namespace {

bool is_plain_path(const std::string& path) {
  return path.starts_with('/') && path.find('\0') == path.npos && path.find("//") == path.npos &&
         (path + "/").find("/../") == path.npos && (path + "/").find("/./") == path.npos;
}

void check_entry(const LoopTabEntry& entry) {
  must(!entry.name.empty() && entry.name.find('/') == entry.name.npos, "a name is no path");
  must(is_plain_path(entry.image), "an image is an absolute path in its simplest form");
  must(parse_looptab_options(entry.options_text) == entry.options, "options mean the same on their own");
  validate_reference(entry.reference());
  const AttachRequest request = attach_request(entry.options);
  must(request.offset == entry.options.offset, "the request is what the line says");
}

void check(const LoopTab& table, std::string_view text) {
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  must(table.entries.size() + table.diagnostics.size() <= lines, "a line is one thing");
  std::set<std::string> names;
  for (const LoopTabEntry& entry : table.entries) {
    check_entry(entry);
    must(names.insert(entry.name).second, "a name is there once");
    must(entry.line >= 1 && entry.line <= lines, "a line is where it is");
  }
  for (const LoopTabDiagnostic& diagnostic : table.diagnostics) {
    must(is_utf8(diagnostic.text), "a complaint can be shown");
  }
}

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  const std::string_view text = as_text(data, size);
  check(loop::parse_looptab(text), text);
  try {
    loop::parse_looptab_options(text);
  } catch (const loop::Error& error) {
    must(error.code() == loop::Errc::invalid_argument, "bad options are invalid arguments");
  }
  return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// fstab, and what the boot finds in it for a looptab of the same author.
#include <algorithm>
#include <string>

#include "core/fstab.hpp"
#include "core/looptab.hpp"
#include "core/looptab_boot.hpp"
#include "core/utf8.hpp"
#include "tests/fuzz/fuzz_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  const std::string_view text = as_text(data, size);
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  // Both tables in one input, with a zero between them.
  const size_t zero = std::min(text.find('\0'), text.size());
  const auto fstab = loop::parse_fstab(text.substr(0, zero));
  must(fstab.size() <= lines, "a line is one thing");
  for (const loop::FstabLine& line : fstab) {
    must(!line.source.empty() && !line.mount_point.empty(), "a line that is used has its fields");
    must(line.line >= 1 && line.line <= lines, "a line is where it is");
    line.is_on_network();
    loop::is_at_or_below(line.source, line.mount_point);
  }
  const loop::LoopTab looptab = loop::parse_looptab(text.substr(std::min(zero + 1, text.size())));
  for (const loop::LoopTabEntry& entry : looptab.entries) {
    must(loop::uses_of(entry, fstab).size() <= fstab.size(), "a line is one use");
    for (const loop::FstabLine* above : loop::mounts_above(entry.image, fstab)) {
      must(loop::is_at_or_below(entry.image, above->mount_point), "an image is below the mounts above it");
    }
  }
  for (const loop::BootFinding& finding : loop::find_boot_problems(looptab.entries, fstab)) {
    must(finding.line >= 1 && loop::is_utf8(finding.text), "a finding is of a line, and can be shown");
  }
  return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/card.hpp"

#include <algorithm>
#include <cstdio>

#include "core/utf8.hpp"
#include "service/cli/text.hpp"

namespace loopctl {

void Card::add(const std::string& name, const std::string& text, Colour colour) {
  facts_.push_back({name, text, colour});
}

void Card::print() const {
  static bool first = true;
  if (!first) std::puts("");
  first = false;
  size_t width = 0;
  for (const Fact& fact : facts_) width = std::max(width, fact.name.size());
  std::printf("%s %s\n", coloured(dot(), dot_colour_).c_str(), loop::printable(title_).c_str());
  const std::string* before = nullptr;
  for (const Fact& fact : facts_) {
    const bool same = before && *before == fact.name;
    before = &fact.name;
    const std::string label =
        same ? std::string(width + 1, ' ') : std::string(width - fact.name.size(), ' ') + fact.name + ":";
    std::printf("    %s %s\n", label.c_str(), coloured(loop::printable(fact.text), fact.colour).c_str());
  }
}

std::string size_text(uint64_t bytes, bool human) {
  const std::string exact = std::to_string(bytes);
  return human ? human_size(bytes) + (bytes < 1024 ? "" : " (" + exact + " bytes)") : exact;
}

}  // namespace loopctl

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/attach_options.hpp"

#include <limits>
#include <string_view>

#include "service/cli/text.hpp"

namespace loopctl {
namespace {

uint32_t narrow(const std::string& option, uint64_t value) {
  if (value > std::numeric_limits<uint32_t>::max()) throw UsageError(option + ": is too large");
  return static_cast<uint32_t>(value);
}

sdbus::Variant parse(std::string_view name, const Invocation& invocation) {
  const std::string option = "--" + std::string(name);
  const std::string text = invocation.value(name).value_or("");
  if (name == "offset" || name == "size-limit") return sdbus::Variant(parse_size(option, text));
  if (name == "block-size") return sdbus::Variant(narrow(option, parse_size(option, text)));
  if (name == "number") {
    return sdbus::Variant(narrow(option, parse_number(option, text, std::numeric_limits<uint32_t>::max())));
  }
  if (name == "reference") return sdbus::Variant(text);
  return sdbus::Variant(invocation.truth(name).value_or(false));
}

}  // namespace

BusOptions bus_options(const Invocation& invocation) {
  BusOptions options;
  for (const Option& option : attach_options) {
    if (invocation.has(option.name)) options[option.name] = parse(option.name, invocation);
  }
  return options;
}

}  // namespace loopctl

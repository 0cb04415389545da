// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "service/cli/verb.hpp"

namespace loopctl {

// A value of JSON. Strings are UTF-8; the members of an object keep their order.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;  // null
  Json(bool value) : value_(value) {}
  Json(uint64_t value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  const auto& value() const { return value_; }

 private:
  std::variant<std::monostate, bool, uint64_t, std::string, Array, Object> value_;
};

enum class JsonMode { off, compact, pretty };

// What --json says. Throws UsageError.
JsonMode json_mode(const Invocation& invocation);

inline constexpr Option json_option{"json", 0, "[=MODE]", "Print JSON: short (the default) or pretty"};

std::string to_text(const Json& json, JsonMode mode);

// In one line, or several, with a newline at the end.
void print(const Json& json, JsonMode mode);

}  // namespace loopctl

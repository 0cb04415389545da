// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/json.hpp"

#include <array>
#include <cstdio>

namespace loopctl {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", byte);
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + '"';
}

class Writer {
 public:
  explicit Writer(bool pretty) : pretty_(pretty) {}

  void write(const Json& json) {
    std::visit([this](const auto& value) { write_value(value); }, json.value());
  }
  std::string take() { return std::move(out_); }

 private:
  void write_value(std::monostate) { out_ += "null"; }
  void write_value(bool value) { out_ += value ? "true" : "false"; }
  void write_value(uint64_t value) { out_ += std::to_string(value); }
  void write_value(const std::string& value) { out_ += quoted(value); }

  void write_value(const Json::Array& items) {
    write_items(items, '[', ']', [this](const Json& item) { write(item); });
  }

  void write_value(const Json::Object& members) {
    write_items(members, '{', '}', [this](const auto& member) {
      out_ += quoted(member.first) + (pretty_ ? ": " : ":");
      write(member.second);
    });
  }

  template <typename Items, typename WriteItem>
  void write_items(const Items& items, char open, char close, WriteItem write_item) {
    out_ += open;
    ++depth_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out_ += ',';
      first = false;
      new_line();
      write_item(item);
    }
    --depth_;
    if (!first) new_line();
    out_ += close;
  }

  void new_line() {
    if (pretty_) out_ += '\n' + std::string(depth_, '\t');
  }

  bool pretty_;
  size_t depth_ = 0;
  std::string out_;
};

}  // namespace

JsonMode json_mode(const Invocation& invocation) {
  if (!invocation.has("json")) return JsonMode::off;
  const std::string mode = invocation.value("json").value_or("short");
  if (mode == "short") return JsonMode::compact;
  if (mode == "pretty") return JsonMode::pretty;
  if (mode == "off") return JsonMode::off;
  throw UsageError("--json: '" + mode + "' is neither short, pretty nor off");
}

std::string to_text(const Json& json, JsonMode mode) {
  Writer writer(mode == JsonMode::pretty);
  writer.write(json);
  return writer.take();
}

void print(const Json& json, JsonMode mode) { std::puts(to_text(json, mode).c_str()); }

}  // namespace loopctl

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/values.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "tests/bus/bus_client.hpp"

namespace soak {
namespace {

// The bus takes no message with more levels, of arrays, structures and variants together.
constexpr unsigned most_levels = 56;
constexpr size_t most_descriptors = 12;  // with a message; the bus takes 16

struct KnownOption {
  const char* key;
  char type;
  OptionGroup group;
};

constexpr std::array known_options{
    KnownOption{"offset", 't', OptionGroup::attach},
    KnownOption{"size-limit", 't', OptionGroup::attach},
    KnownOption{"block-size", 'u', OptionGroup::attach},
    KnownOption{"block-size-auto", 'b', OptionGroup::attach},
    KnownOption{"read-only", 'b', OptionGroup::attach},
    KnownOption{"autoclear", 'b', OptionGroup::attach},
    KnownOption{"partition-scan", 'b', OptionGroup::attach},
    KnownOption{"direct-io", 'b', OptionGroup::attach},
    KnownOption{"reference", 's', OptionGroup::attach},
    KnownOption{"reuse", 'b', OptionGroup::attach},
    KnownOption{"allow-overlap", 'b', OptionGroup::attach},
    KnownOption{"lease", 'b', OptionGroup::attach},
    KnownOption{"lazy", 'b', OptionGroup::remove},
    KnownOption{"keep-node", 'b', OptionGroup::remove},
    KnownOption{"disk-sequence", 't', OptionGroup::remove},
    KnownOption{"timeout", 't', OptionGroup::remove},
    KnownOption{"force", 'b', OptionGroup::resize},
    KnownOption{"size-limit", 't', OptionGroup::resize},
};

constexpr std::array basic_types{'y', 'b', 'n', 'q', 'i', 'u', 'x', 't', 'd', 's', 'o', 'g', 'h'};

size_t size_of(char type) {
  switch (type) {
    case 'y':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'x':
    case 't':
    case 'd':
      return 8;
    default:
      return 4;
  }
}

size_t alignment_of(char type) {
  if (type == 'g' || type == 'v') return 1;
  if (type == '(' || type == '{') return 8;
  return size_of(type);
}

}  // namespace

Expectation expectation_of(const std::string& method) {
  Expectation expected;
  if (method.starts_with("Attach") || method == "Probe") expected.options = OptionGroup::attach;
  if (method.starts_with("Remove")) expected.options = OptionGroup::remove;
  if (method.starts_with("Resize")) expected.options = OptionGroup::resize;
  if (method.ends_with("Path")) expected.texts = TextKind::path;
  if (method.ends_with("Device")) expected.texts = TextKind::node;
  if (method == "Open") expected.texts = TextKind::mode;
  return expected;
}

std::string first_type(const std::string& signature) {
  size_t end = 0;
  while (end < signature.size() && signature[end] == 'a') ++end;
  int open = 0;
  do {
    const char c = signature.at(end++);
    if (c == '(' || c == '{') ++open;
    if (c == ')' || c == '}') --open;
  } while (open > 0);
  return signature.substr(0, end);
}

Values::Values(Chance& chance, const Territory& territory, const Interface& interface, WildFiles& files,
               Setting setting)
    : chance_(chance), territory_(territory), interface_(interface), files_(files), setting_(setting) {}

std::vector<int> Values::take_descriptors() { return std::exchange(descriptors_, {}); }

void Values::write(Writer& body, const std::string& signature, Expectation expected) {
  for (std::string rest = signature; !rest.empty();) {
    const std::string type = first_type(rest);
    write_one(body, type, expected, 0);
    rest.erase(0, type.size());
  }
}

void Values::write_one(Writer& body, const std::string& type, Expectation expected, unsigned depth) {
  switch (type[0]) {
    case 's':
      return body.string(text_of(expected.texts));
    case 'o':
      return body.string(object_path());
    case 'g':
      return body.signature(chance_.one_in(4) ? "" : signature());
    case 'h':
      return write_handle(body);
    case 'v':
      return write_variant(body, depth);
    case 'a':
      if (type == "a{sv}" && depth == 0) return write_options(body, expected.options);
      return write_array(body, type.substr(1), depth);
    case '(':
    case '{': {
      body.align(8);
      for (std::string rest = type.substr(1, type.size() - 2); !rest.empty();) {
        const std::string member = first_type(rest);
        write_one(body, member, {}, depth + 1);
        rest.erase(0, member.size());
      }
      return;
    }
    default:
      return write_integer(body, type[0]);
  }
}

uint64_t Values::border() {
  static const std::vector<uint64_t> borders{0,          1,          2,          511,
                                             512,        513,        4095,       4096,
                                             4097,       65535,      65536,      1 << 20,
                                             0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000,
                                             INT64_MAX,  1ULL << 63, UINT64_MAX, UINT64_MAX - 511};
  const uint64_t value = chance_.pick(borders);
  return chance_.one_in(4) ? value + chance_.below(3) - 1 : value;
}

void Values::write_integer(Writer& body, char type) {
  const uint64_t value = chance_.one_in(3) ? chance_.bits() : border();
  body.number(type == 'b' ? value & 1 : value, size_of(type));
}

void Values::write_array(Writer& body, const std::string& element, unsigned depth) {
  const size_t array = body.begin_array(alignment_of(element[0]));
  const uint64_t count = chance_.one_in(200) && element == "y" ? 1 << 16 : chance_.below(5);
  for (uint64_t i = 0; i < count; ++i) write_one(body, element, {}, depth + 1);
  body.end_array(array);
}

void Values::write_variant(Writer& body, unsigned depth) {
  if (depth <= 2 && chance_.one_in(20)) {
    return write_nested(body, static_cast<unsigned>(chance_.between(2, most_levels)));
  }
  const std::string type = depth < 4 ? signature() : "u";
  body.signature(type);
  write_one(body, type, {}, depth + 1);
}

void Values::write_nested(Writer& body, unsigned levels) {
  for (unsigned level = 1; level < levels; ++level) body.signature("v");
  body.signature("s");
  body.string(text());
}

void Values::write_handle(Writer& body) {
  if (wild_handles_) {
    static const std::vector<uint64_t> wild{1, 7, 15, 16, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    return body.number(chance_.pick(wild) + descriptors_.size(), 4);
  }
  if (descriptors_.size() == most_descriptors) return body.u32(0);
  descriptors_.push_back(chance_.one_in(5) ? files_.any(chance_) : files_.image(chance_));
  body.u32(static_cast<uint32_t>(descriptors_.size() - 1));
}

void Values::write_options(Writer& body, OptionGroup group) {
  const size_t array = body.begin_array(8);
  const bool sensible = !chance_.one_in(6);
  if (sensible) {
    write_sensible_options(body, group);
  } else {
    write_wild_options(body);
  }
  if (group == OptionGroup::attach) write_attach_number(body);
  body.end_array(array);
}

// Most that it makes are taken.
void Values::write_sensible_options(Writer& body, OptionGroup group) {
  for (const KnownOption& option : known_options) {
    const bool is_likely =
        option.key == std::string_view("allow-overlap") || option.key == std::string_view("partition-scan");
    if (option.group != group || !chance_.one_in(is_likely ? 2 : 8)) continue;
    body.align(8);
    body.string(option.key);
    body.signature(std::string(1, option.type));
    write_known(body, option.key, option.type);
  }
}

void Values::write_known(Writer& body, const std::string& key, char type) {
  if (key == "timeout") {
    // Longer than an hour is refused; what is between would be waited for.
    constexpr uint64_t hour = 3'600'000'000;
    return body.number(chance_.one_in(4) ? hour + 1 + chance_.below(1000) : chance_.below(200'000), 8);
  }
  if (key == "disk-sequence") return body.number(chance_.one_in(4) ? 0 : border(), 8);
  if (key == "reference") return body.string(chance_.one_in(3) ? text() : std::to_string(chance_.below(10)));
  if (type == 'b') return body.u32(chance_.one_in(4) ? 0 : 1);
  static const std::vector<uint64_t> sizes{0, 512, 1024, 4096, 4096, 65536};
  if (!chance_.one_in(8)) return body.number(chance_.pick(sizes), size_of(type));
  write_integer(body, type);
}

void Values::write_wild_options(Writer& body) {
  for (uint64_t left = chance_.below(chance_.one_in(50) ? 300 : 4); left > 0; --left) {
    write_entry(body, key(), signature());
  }
}

void Values::write_entry(Writer& body, const std::string& key, const std::string& type) {
  // Of the right type it would be one that is to be chosen with care.
  if ((key == "timeout" && type == "t") || (key == "number" && type == "u")) return;
  body.align(8);
  body.string(key);
  body.signature(type);
  write_one(body, type, {}, 2);
}

void Values::write_attach_number(Writer& body) {
  const bool free_choice = !setting_.always_numbered && chance_.one_in(4);
  if (free_choice) return;
  body.align(8);
  body.string("number");
  body.signature("u");
  body.u32(chance_.one_in(10) ? territory_.number(chance_) : territory_.good_number(chance_));
}

std::string Values::key() {
  if (chance_.one_in(3)) return text();
  if (chance_.one_in(2)) return chance_.pick(interface_.option_keys);
  return known_options[chance_.below(known_options.size())].key;
}

std::string Values::text() {
  static const std::vector<std::string> borders{"",
                                                "r",
                                                "rw",
                                                "w",
                                                "rwx",
                                                "%s%n%d",
                                                "\n",
                                                "\x01\x7F",
                                                "\xC3\xA4",
                                                "\xEF\xBF\xBD\xF4\x8F\xBF\xBF",
                                                "-1",
                                                "0",
                                                "18446744073709551616",
                                                "disk-part1",
                                                "a/b",
                                                ".",
                                                "..",
                                                "/"};
  switch (chance_.below(12)) {
    case 0:
    case 1:
    case 2:
      return territory_.path(chance_);
    case 3:
    case 4:
      return territory_.node(chance_);
    case 5:
      return chance_.pick(interface_.methods).interface;
    case 6:
      return chance_.pick(interface_.properties).name;
    case 7: {
      static const std::vector<uint64_t> lengths{61, 62, 63, 64, 255, 4095, 4096, 65536};
      const uint64_t length = chance_.one_in(100) ? 1 << 20 : chance_.pick(lengths);
      return std::string(length, 'x');
    }
    default:
      return chance_.pick(borders);
  }
}

std::string Values::text_of(TextKind kind) {
  if (kind == TextKind::any || chance_.one_in(4)) return text();
  if (kind == TextKind::path) return territory_.path(chance_);
  if (kind == TextKind::node) return territory_.node(chance_);
  return chance_.one_in(2) ? "r" : "rw";
}

std::string Values::object_path() {
  switch (chance_.below(4)) {
    case 0:
      return territory_.device(chance_);
    case 1:
      return territory_.partition(chance_);
    case 2:
      return bus_test::root_path;
    default:
      return "/" + std::string(chance_.below(100), 'x');
  }
}

std::string Values::signature() {
  static const std::vector<std::string> containers{
      "v", "ay", "as", "ao", "a{sv}", "(su)", "av", "a(tt)", "a{s(uv)}", "aaaaaau", "ah", "(h(h(h)))"};
  if (chance_.one_in(3)) return chance_.pick(containers);
  return {basic_types[chance_.below(basic_types.size())]};
}

}  // namespace soak

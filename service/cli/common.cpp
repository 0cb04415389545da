// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/common.hpp"

#include <getopt.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <system_error>

#include "dbus/names.hpp"

namespace loopctl {
namespace {

// How long a person may take to answer polkit's question.
constexpr auto answer_patience = std::chrono::minutes(5);

constexpr std::string_view units = "KMGTPE";

}  // namespace

Failure::Failure(const std::string& what, int error_number)
    : Failure(what, std::generic_category().message(error_number)) {}

std::unique_ptr<sdbus::IConnection> connect_to_bus(std::chrono::microseconds patience) {
  sd_bus* bus = nullptr;
  if (const int r = sd_bus_open_system(&bus); r < 0) throw Failure("cannot connect to the system bus", -r);
  const bool somebody_is_there = ::isatty(STDIN_FILENO) == 1;
  sd_bus_set_allow_interactive_authorization(bus, somebody_is_there);
  auto connection = sdbus::createBusConnection(bus);
  if (somebody_is_there) patience += answer_patience;
  connection->setMethodCallTimeout(patience);
  return connection;
}

Manager::Manager(sdbus::IConnection& connection)
    : ProxyInterfaces(connection, sdbus::ServiceName(loopd::bus_name), sdbus::ObjectPath(loopd::root_path)) {}

Device::Device(sdbus::IConnection& connection, const sdbus::ObjectPath& path)
    : ProxyInterfaces(connection, sdbus::ServiceName(loopd::bus_name), path) {}

std::string device_node(const std::string& argument) {
  std::string_view number = argument;
  for (const std::string_view prefix : {"/dev/", "loop"}) {
    if (number.starts_with(prefix)) number.remove_prefix(prefix.size());
  }
  const bool is_number = !number.empty() && number.find_first_not_of("0123456789") == number.npos;
  if (!is_number) {
    throw UsageError("'" + argument + "' is no loop device; give it as /dev/loop3, loop3 or 3");
  }
  return "/dev/loop" + std::string(number);
}

sdbus::ObjectPath find_device(sdbus::IConnection& connection, const std::string& node) {
  return Manager(connection).GetDevice(node);
}

std::string node_of_object(const std::string& object) {
  const std::string root = std::string(loopd::root_path) + "/";
  std::string name = object.starts_with(root) ? object.substr(root.size()) : object;
  name.erase(std::remove(name.begin(), name.end(), '/'), name.end());
  return "/dev/" + name;
}

std::vector<std::string> arguments_only(int argc, char** argv) {
  static const option none{nullptr, 0, nullptr, 0};
  if (::getopt_long(argc, argv, "", &none, nullptr) != -1) throw UsageError();
  return {argv + optind, argv + argc};
}

uint64_t parse_number(const std::string& option, const std::string& text, uint64_t largest) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value > largest) {
    throw UsageError(option + ": '" + text + "' is no whole number up to " + std::to_string(largest));
  }
  return value;
}

uint64_t parse_size(const std::string& option, const std::string& text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  std::string_view suffix(result.ptr, static_cast<size_t>(end - result.ptr));
  unsigned shift = 0;
  if (!suffix.empty()) {
    const auto unit = units.find(suffix[0]);
    if (unit != units.npos) {
      shift = static_cast<unsigned>(unit + 1) * 10;
      suffix.remove_prefix(1);
      if (suffix == "iB") suffix = {};
    }
  }
  if (result.ec != std::errc() || !suffix.empty() || value > std::numeric_limits<uint64_t>::max() >> shift) {
    throw UsageError(option + ": '" + text + "' is no size; give bytes, or a number with K, M, G, T, P or E");
  }
  return value << shift;
}

std::string human_size(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + "B";
  unsigned shift = 10;
  size_t unit = 0;
  while (unit + 1 < units.size() && bytes >> shift >= 1024) {
    shift += 10;
    ++unit;
  }
  const double value = static_cast<double>(bytes) / static_cast<double>(uint64_t{1} << shift);
  const bool whole = bytes % (uint64_t{1} << shift) == 0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f%c", whole ? 0 : 1, value, units[unit]);
  return text.data();
}

std::string printable(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

}  // namespace loopctl

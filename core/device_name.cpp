// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/device_name.hpp"

#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <memory>
#include <string_view>

#include "core/attach_request.hpp"
#include "core/error.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

[[noreturn]] void refuse(const std::string& path) {
  throw Error(Errc::not_a_loop_device, escape_to_utf8(path) + ": is not a loop device");
}

std::string resolve(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
  return real ? real.get() : std::string();
}

}  // namespace

namespace {

struct NamedDevice {
  unsigned number = 0;
  bool partition = false;
};

NamedDevice find(const std::string& dev_path, const std::string& sys) {
  // Only below /dev, before and after links: this must not become a way to ask
  // whether some file exists.
  constexpr std::string_view dev = "/dev/";
  if (!dev_path.starts_with(dev)) refuse(dev_path);
  const std::string node = resolve(dev_path);
  struct stat st {};
  if (!node.starts_with(dev) || ::stat(node.c_str(), &st) < 0 || !S_ISBLK(st.st_mode)) refuse(dev_path);

  // The kernel's name of the number, never the node's own: …/block/loop3 for a
  // disk, …/block/loop3/loop3p1 for a partition.
  const std::string device = resolve(sys + "/dev/block/" + std::to_string(major(st.st_rdev)) + ":" +
                                     std::to_string(minor(st.st_rdev)));
  constexpr std::string_view marker = "/block/loop";
  const auto found = device.find(marker);
  if (found == std::string::npos) refuse(dev_path);
  const char* digits = device.c_str() + found + marker.size();
  char* end = nullptr;
  const unsigned long number = std::strtoul(digits, &end, 10);
  if (end == digits || (*end != '\0' && *end != '/') || number > max_loop_number) refuse(dev_path);
  return {static_cast<unsigned>(number), *end == '/'};
}

}  // namespace

unsigned loop_number_of(const std::string& dev_path, const std::string& sys) {
  return find(dev_path, sys).number;
}

unsigned loop_number_of_disk(const std::string& dev_path, const std::string& sys) {
  const NamedDevice device = find(dev_path, sys);
  if (device.partition) refuse(dev_path);
  return device.number;
}

}  // namespace loop

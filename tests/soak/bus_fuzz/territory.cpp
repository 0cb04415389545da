// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/territory.hpp"

#include <utility>

#include "tests/bus/bus_client.hpp"

namespace soak {
namespace {

constexpr uint64_t kernel_numbers = 1U << 20;  // larger ones wrap around in the kernel
constexpr unsigned most_partitions = 6;

std::string loop_object(const std::string& number) {
  return std::string(bus_test::root_path) + "/loop" + number;
}

}  // namespace

Territory::Territory(unsigned first_number, unsigned numbers, std::vector<std::string> files,
                     std::vector<std::string> odd)
    : first_(first_number), numbers_(numbers), files_(std::move(files)), odd_(std::move(odd)) {}

uint32_t Territory::good_number(Chance& chance) const {
  return first_ + static_cast<uint32_t>(chance.below(numbers_));
}

uint32_t Territory::number(Chance& chance) const {
  const uint32_t ours = good_number(chance);
  switch (chance.below(16)) {
    case 0:
      return static_cast<uint32_t>(kernel_numbers) + ours;
    case 1:
      return 0x8000'0000U | ours;
    case 2:
      return UINT32_MAX;
    case 3:
      return static_cast<uint32_t>(kernel_numbers);
    default:
      return ours;
  }
}

std::string Territory::device(Chance& chance) const { return bus_test::object_of(good_number(chance)); }

std::string Territory::partition(Chance& chance) const {
  return device(chance) + "/p" + std::to_string(chance.between(1, most_partitions));
}

std::string Territory::no_device(Chance& chance) const {
  const uint64_t ours = good_number(chance);
  switch (chance.below(12)) {
    case 0:
      return loop_object(std::to_string(kernel_numbers + ours));
    case 1:
      return loop_object(std::to_string((uint64_t{1} << 32) + ours));
    case 2:
      return loop_object("00000000000000000000000" + std::to_string(ours));
    case 3:
      return loop_object(std::to_string(ours) + "x");
    case 4:
      return loop_object(std::to_string(ours) + "/p0");
    case 5:
      return loop_object(std::to_string(ours) + "/p4294967297");
    case 6:
      return loop_object("");
    case 7:
      return loop_object("X");
    case 8:
      return "/";
    case 9:
      return "/org/example";
    case 10:
      return "/org/freedesktop/DBus";
    default:
      return loop_object(std::to_string(ours) + std::string(chance.below(3000), '9'));
  }
}

std::string Territory::node(Chance& chance) const {
  const std::string ours = bus_test::node_of(good_number(chance));
  switch (chance.below(12)) {
    case 0:
      return ours + "p" + std::to_string(chance.between(0, most_partitions));
    case 1:
      return "/dev/null";
    case 2:
      return "/dev/loop-control";
    case 3:
      return "/dev/../dev" + ours.substr(4);
    case 4:
      return "/dev/disk/by-loop-ref/" + std::to_string(chance.below(10));
    case 5:
      return "/dev/" + std::string(chance.below(5000), 'x');
    case 6:
      return "/dev";
    case 7:
      return ours.substr(1);
    default:
      return ours;
  }
}

std::string Territory::path(Chance& chance) const {
  const std::string& file = this->file(chance);
  const size_t name_at = file.rfind('/');
  switch (chance.below(12)) {
    case 0:
      return chance.pick(odd_);
    case 1:
      return file.substr(0, name_at) + "/./" + file.substr(name_at + 1);
    case 2:
      return file.substr(0, name_at) + "/../" + file.substr(file.rfind('/', name_at - 1) + 1);
    case 3:
      return file + "/";
    case 4:
      return file.substr(name_at + 1);  // not absolute
    case 5:
      return file + std::string(chance.below(6000), 'x');
    case 6:
      return "/proc/self/fd/" + std::to_string(chance.below(20));
    case 7:
      return "/dev/null";
    case 8:
      return file.substr(0, name_at) + "/\xC3\xA4\xF0\x9F\x92\xBE";
    default:
      return file;
  }
}

}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the registry finds without going through all devices is what going through them would find.
#include "dbus/object_registry.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace loopd {
namespace {

constexpr unsigned numbers = 12;
constexpr unsigned files = 3;
constexpr uid_t users = 3;

loop::FileIdentity file(unsigned which) { return {which == 0, 7, which}; }

std::string reference(unsigned which) { return which == 0 ? "" : "reference-" + std::to_string(which); }

Device random_device(std::mt19937& random) {
  const auto one_of = [&random](unsigned count) {
    return std::uniform_int_distribution<unsigned>(0, count - 1)(random);
  };
  Device device;
  device.snapshot.number = one_of(numbers);
  device.snapshot.disk_sequence = 1 + one_of(2);
  device.snapshot.identified = one_of(4) != 0;
  device.snapshot.backing = file(one_of(files));
  device.snapshot.reference = reference(one_of(3));
  device.terms.owner = one_of(users);
  return device;
}

template <typename Match>
std::vector<const Device*> all_of(const ObjectRegistry& registry, Match match) {
  std::vector<const Device*> found;
  for (const auto& [number, device] : registry.devices()) {
    if (match(device)) found.push_back(&device);
  }
  return found;
}

std::vector<const Device*> sorted(std::vector<const Device*> devices) {
  std::sort(devices.begin(), devices.end(),
            [](const Device* a, const Device* b) { return a->snapshot.number < b->snapshot.number; });
  return devices;
}

void expect_to_find_what_is_there(const ObjectRegistry& registry) {
  for (unsigned which = 0; which < files; ++which) {
    EXPECT_EQ(sorted(registry.backed_by(file(which))), all_of(registry, [&](const Device& device) {
                return device.snapshot.identified && device.snapshot.backing == file(which);
              }));
  }
  for (unsigned which = 1; which < 3; ++which) {
    EXPECT_EQ(sorted(registry.find_reference(reference(which))), all_of(registry, [&](const Device& device) {
                return device.snapshot.reference == reference(which);
              }));
  }
  for (uid_t user = 0; user < users; ++user) {
    EXPECT_EQ(registry.count_owned_by(user),
              all_of(registry, [&](const Device& device) { return device.terms.owner == user; }).size());
  }
}

TEST(Registry, FindsByFileReferenceAndOwnerWhateverHasBecomeOfTheDevices) {
  ObjectRegistry registry;
  std::mt19937 random(1);  // the same devices in each run
  for (int turn = 0; turn < 2000 && !::testing::Test::HasFailure(); ++turn) {
    const Device device = random_device(random);
    if (turn % 5 == 0) {
      registry.withdraw(device.snapshot.number);
    } else {
      registry.publish(device);
    }
    expect_to_find_what_is_there(registry);
  }
}

TEST(Registry, KnowsWhetherALoopDeviceLiesOnADeviceOrItsPartitions) {
  ObjectRegistry registry;
  Device below;
  below.snapshot.number = 1;
  below.snapshot.dev = 0x701;
  below.partitions[2].dev = 0x10302;
  Device above;
  above.snapshot.number = 2;
  above.snapshot.identified = true;
  for (const auto& [dev, lies_on_it] :
       {std::pair<dev_t, bool>{0x701, true}, {0x10302, true}, {0x702, false}}) {
    above.snapshot.backing = {true, dev, 0};
    registry.publish(above);
    EXPECT_EQ(registry.has_loop_device_on_top(below), lies_on_it) << dev;
  }
  above.snapshot.backing = {false, 0x701, 0};  // a file on it
  registry.publish(above);
  EXPECT_FALSE(registry.has_loop_device_on_top(below));
}

}  // namespace
}  // namespace loopd

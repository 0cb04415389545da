// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tests/bus/bus_client.hpp"
#include "tests/soak/chance.hpp"
#include "tests/soak/plan.hpp"
#include "tests/soak/stamped_image.hpp"
#include "tests/soak/world.hpp"

namespace soak {

// A client of the service in a thread of its own: attaches an image of its own,
// compares what the device shows with the image, and ends it, in one way or another.
class Client {
 public:
  Client(World& world, unsigned index);

  void cycle();

 private:
  // A device that a reply told of.
  struct Device {
    std::string object;
    unsigned number = 0;
    uint64_t disk_sequence = 0;
    Plan plan;
    StampedImage& image;
    std::unique_ptr<bus_test::BusClient> leaseholder;

    std::string node() const { return bus_test::node_of(number); }
  };

  std::optional<Device> attach(const Plan& plan, StampedImage& image);
  void learn(Device& device);
  void resolve_lost_attach(const StampedImage& image);
  void remove_half_made(const std::string& object, const StampedImage& image);

  // What is done with it. None changes what was promised.
  void use(Device& device);
  void check_promise(const Device& device);
  void check_properties(const Device& device, const bus_test::Value& properties);
  void compare(const Device& device, int file, const std::string& how);
  void compare_by_node(const Device& device);
  void compare_by_descriptor(const Device& device);
  void compare_partitions(const Device& device);
  void write_through(Device& device);
  void mount_and_be_refused(const Device& device);
  void find(const Device& device);
  void reuse(const Device& device);
  void be_refused_overlap(const Device& device);

  void end(Device& device);
  void remove(const Device& device, const bus_test::Options& wishes);
  bool is_gone_after_lost_call(const Device& device);
  void leave(Device& device);
  void detach_lazily(const Device& device);
  void use_for_the_last_time(const Device& device);
  void detach_by_hand(const Device& device);
  void check_gone(const Device& device);

  // Asks until it is answered: what changes nothing may be asked again.
  bus_test::Reply ask(const std::function<bus_test::Reply()>& question);
  std::vector<std::string> devices_of(const StampedImage& image);
  static std::string described(const std::vector<std::string>& objects);
  bool eventually(const std::function<bool()>& condition);
  bool lost(const bus_test::Reply& reply);
  void complain(const Device& device, const std::string& what);

  World& world_;
  unsigned index_;
  uid_t uid_;
  Chance chance_;
  bus_test::BusClient user_;
  bus_test::BusClient root_;
};

}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/neighbours.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/bus/bus_client.hpp"
#include "tests/bus/child_process.hpp"
#include "tests/bus/scratch.hpp"
#include "tests/soak/chance.hpp"
#include "tests/soak/stamped_image.hpp"
#include "tests/support/image.hpp"

namespace soak {

using bus_test::run;

namespace {

StampedImage make_image(ImageKind kind, uint64_t seed, const std::string& name) {
  Chance chance(seed, std::hash<std::string>()(name));
  ImagePlan plan;
  do {
    plan = plan_image(chance);
  } while (plan.kind != kind || plan.sector != 512);
  plan.before = plan.behind = 0;
  return {chance, plan, name};
}

bool shows(const std::string& node, const std::string& expected) {
  const loop::UniqueFd fd(::open(node.c_str(), O_RDONLY | O_CLOEXEC));
  return fd && loop::testing::read_at(fd.get(), 0, expected.size()) == expected;
}

unsigned number_of_node(const std::string& node) {
  return static_cast<unsigned>(std::stoul(node.substr(std::string("/dev/loop").size())));
}

}  // namespace

Neighbours::Neighbours(World& world) : world_(world) {
  begin([this](unsigned round) { losetup(round); });
  begin([this](unsigned round) { partx(round); });
  begin([this](unsigned round) { mount(round); });
}

void Neighbours::begin(const std::function<void(unsigned)>& work) {
  threads_.emplace_back([this, work] {
    for (unsigned round = 0; !ending_; ++round) {
      try {
        work(round);
      } catch (const std::exception& error) {
        world_.findings.add(std::string("a neighbour: ") + error.what());
      }
    }
  });
}

void Neighbours::end() {
  ending_ = true;
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

// Empty: losetup lost each free device to somebody else.
std::string Neighbours::attach(const std::string& path, const std::string& name, const std::string& device) {
  const auto attached = run({"losetup", "--show", device, path});
  if (attached.status != 0 || !attached.output.starts_with("/dev/loop")) {
    ++world_.tally.foreign_lost;
    return {};
  }
  const std::string node = attached.output.substr(0, attached.output.find('\n'));
  const unsigned number = number_of_node(node);
  if (bus_test::sysfs(number, "loop/backing_file") != path) {
    world_.findings.add(name + ": the device of losetup has another file: " + node);
  }
  ++world_.tally.foreign;
  return node;
}

void Neighbours::detach(const std::string& node) {
  const unsigned number = number_of_node(node);
  const auto detached = run({"losetup", "--detach", node});
  if (detached.status != 0) world_.findings.add("losetup --detach: " + detached.output);
  // losetup leaves the node. Somebody may have taken it by now.
  const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  ::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<int>(number));
}

void Neighbours::losetup(unsigned round) {
  const std::string name = "neighbour-losetup-" + std::to_string(round) + ".img";
  const StampedImage image = make_image(ImageKind::plain, world_.seed, name);
  const std::string node = attach(image.file().path(), name, "--find");
  if (node.empty()) return;
  if (!shows(node, image.expected(0, image.size())))
    world_.findings.add(node + " of losetup shows other bytes");
  detach(node);
}

void Neighbours::partx(unsigned round) {
  const std::string name = "neighbour-partx-" + std::to_string(round) + ".img";
  const StampedImage image = make_image(ImageKind::gpt, world_.seed, name);
  // On a number of its own: any other may bear partitions of an attachment before, which
  // a client has detached by hand and the service has not yet seen gone.
  const unsigned number = world_.next_unique++;
  {
    const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    ::ioctl(control.get(), LOOP_CTL_ADD, static_cast<int>(number));
  }
  const std::string node = attach(image.file().path(), name, bus_test::node_of(number));
  if (node.empty()) return;
  const auto added = run({"partx", "--add", node});
  if (added.status != 0) world_.findings.add("partx --add: " + added.output);
  for (const PlannedPartition& partition : image.partitions()) {
    const std::string path = node + "p" + std::to_string(partition.number);
    if (!shows(path, image.expected(partition.offset, partition.size))) {
      world_.findings.add(path + " of partx shows other bytes");
    }
  }
  run({"partx", "--delete", node});
  detach(node);
}

void Neighbours::mount(unsigned round) {
  const std::string name = "neighbour-mount-" + std::to_string(round) + ".img";
  const StampedImage image = make_image(ImageKind::filesystem, world_.seed, name);
  const bus_test::MountPoint point("neighbour-mount");
  const auto mounted =
      run({"mount", "-t", "ext4", "-o", "loop,ro,noload", image.file().path(), point.path()});
  if (mounted.status != 0) {
    ++world_.tally.foreign_lost;
    return;
  }
  ++world_.tally.foreign;
  if (!shows(point.path() + "/stamp", image.stamp())) {
    world_.findings.add(name + ": mount shows another file system");
  }
  // A child of this program that is not yet its program has a copy of the descriptor that the
  // stamp was read by, for a moment of which nobody tells.
  auto unmounted = run({"umount", point.path()});
  const auto deadline = bus_test::Clock::now() + bus_test::long_enough;
  while (unmounted.status != 0 && bus_test::Clock::now() < deadline)
    unmounted = run({"umount", point.path()});
  if (unmounted.status != 0) world_.findings.add("umount: " + unmounted.output);
}

}  // namespace soak

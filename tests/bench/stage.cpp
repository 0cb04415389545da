// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/stage.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>

namespace loopd_bench {
namespace {

constexpr uint64_t image_size = bus_test::MiB;

}  // namespace

Stage::Stage(const Setting& setting) {
  // Freed memory is not to be overwritten here, as the tests have it.
  ::setenv("MALLOC_PERTURB_", "0", 1);
  if (setting.udev) udev_ = std::make_unique<bus_test::Udev>();
  stack_ = std::make_unique<bus_test::Stack>();
  // For the commands that are measured.
  ::setenv("DBUS_SYSTEM_BUS_ADDRESS", stack_->address().c_str(), 1);
  root_ = std::make_unique<Caller>(stack_->address());
  image_ = std::make_unique<bus_test::ScratchFile>(image_size);
  attach_population(setting.population);
  memory_at_start_ = resident_memory(stack_->loopd().pid());
  if (setting.udev && setting.udisks) start_udisks();
}

Stage::~Stage() {
  std::vector<Message> removals;
  for (const std::string& object : population_) removals.push_back(root_->new_remove(object, false));
  try {
    root_->call_all(removals);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "removing the devices: %s\n", error.what());  // the janitor sees to them
  }
}

// One more than asked for: with none there would be nothing to look at.
void Stage::attach_population(unsigned count) {
  std::vector<Message> calls;
  for (unsigned i = 0; i <= count; ++i) calls.push_back(root_->new_attach(images(i).fd()));
  population_.resize(calls.size());
  root_->call_all(calls,
                  [this](size_t place, sd_bus_message* answer) { population_[place] = path_in(answer); });
  quiet();
}

const bus_test::ScratchFile& Stage::images(size_t which) {
  std::unique_ptr<bus_test::ScratchFile>& image = images_[which];
  if (!image) image = std::make_unique<bus_test::ScratchFile>(image_size);
  return *image;
}

void Stage::quiet() {
  if (udev_) {
    const bus_test::CommandResult settled = bus_test::run({"udevadm", "settle", "--timeout=120"});
    if (settled.status != 0) throw std::runtime_error("udevadm settle: " + settled.output);
  }
  root_->call(root_->new_call(bus_test::root_path, "org.freedesktop.DBus.Peer", "Ping"));
  if (udisks_) {
    root_->call(root_->new_call("/org/freedesktop/UDisks2", "org.freedesktop.DBus.Peer", "Ping",
                                bus_test::UDisks::name));
  }
}

void Stage::start_udisks() {
  udisks_ = std::make_unique<bus_test::UDisks>(stack_->address());
  if (!root_->client().wait_for_name(bus_test::UDisks::name)) {
    throw std::runtime_error("udisksd does not start");
  }
  quiet();
}

uint64_t resident_memory(pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  const std::string key = "VmRSS:";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * bus_test::KiB;
  }
  throw std::runtime_error("no VmRSS of " + std::to_string(process));
}

}  // namespace loopd_bench

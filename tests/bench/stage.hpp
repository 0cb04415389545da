// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where everything is measured: the real loopd, UDisks2, dbus-daemon, polkitd and
// udevd beside each other, with as many devices attached as was asked for.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/bare.hpp"
#include "tests/bench/caller.hpp"
#include "tests/bus/scratch.hpp"
#include "tests/bus/stack.hpp"
#include "tests/bus/udisks.hpp"

namespace loopd_bench {

// What there is beside the service and the bus.
struct Setting {
  unsigned population = 0;  // devices that are attached
  bool udev = true;
  bool udisks = true;  // looks at each device, too; needs udev
};

class Stage {
 public:
  explicit Stage(const Setting& setting);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage();

  bus_test::Stack& stack() { return *stack_; }
  Caller& root() { return *root_; }

  // Of a device that stays attached throughout.
  const std::string& some_device() const { return population_.front(); }

  // A file that nobody has attached.
  const bus_test::ScratchFile& image() const { return *image_; }
  // More of them, made once; the first are the population's.
  const bus_test::ScratchFile& images(size_t which);

  // Waits until udev has done everything, and whoever listens to it had its turn: what
  // was before is not to be measured with what comes.
  void quiet();

  // Bytes that the service had in memory before anything was measured.
  uint64_t memory_at_start() const { return memory_at_start_; }

  bool has_udev() const { return udev_ != nullptr; }
  bool has_udisks() const { return udisks_ != nullptr; }

 private:
  void attach_population(unsigned count);
  void start_udisks();

  NewNodes new_nodes_;  // deleted when all below has ended
  std::unique_ptr<bus_test::Udev> udev_;
  std::unique_ptr<bus_test::Stack> stack_;
  std::unique_ptr<bus_test::UDisks> udisks_;
  std::unique_ptr<Caller> root_;
  std::unique_ptr<bus_test::ScratchFile> image_;
  std::map<size_t, std::unique_ptr<bus_test::ScratchFile>> images_;
  std::vector<std::string> population_;  // objects
  uint64_t memory_at_start_ = 0;
};

// Of a process, in bytes: what is resident.
uint64_t resident_memory(pid_t process);

}  // namespace loopd_bench

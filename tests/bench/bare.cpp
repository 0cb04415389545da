// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/bare.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/unique_fd.hpp"

namespace loopd_bench {
namespace {

constexpr int attempts = 64;
constexpr auto patience = std::chrono::seconds(1);
constexpr size_t deletions_at_once = 16;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string node(unsigned number) { return "/dev/loop" + std::to_string(number); }

loop::UniqueFd open_control() {
  loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) fail("/dev/loop-control");
  return control;
}

std::set<unsigned> node_numbers() {
  std::set<unsigned> numbers;
  for (const auto& disk : std::filesystem::directory_iterator("/sys/block")) {
    unsigned number = 0;
    if (std::sscanf(disk.path().filename().c_str(), "loop%u", &number) == 1) numbers.insert(number);
  }
  return numbers;
}

}  // namespace

unsigned bare_attach(int file) {
  const loop::UniqueFd control = open_control();
  // The number is nobody's until it is configured: whoever loses it asks anew.
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) fail("LOOP_CTL_GET_FREE");
    const loop::UniqueFd device(::open(node(static_cast<unsigned>(number)).c_str(), O_RDWR | O_CLOEXEC));
    if (!device) continue;
    loop_config config{};
    config.fd = static_cast<__u32>(file);
    if (::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) return static_cast<unsigned>(number);
    if (errno != EBUSY) fail("LOOP_CONFIGURE");
  }
  fail("no free device");
}

void bare_detach(unsigned number) {
  const loop::UniqueFd device(::open(node(number).c_str(), O_RDONLY | O_CLOEXEC));
  if (!device || ::ioctl(device.get(), LOOP_CLR_FD) < 0) fail(node(number));
}

void bare_delete_node(unsigned number) {
  const loop::UniqueFd control = open_control();
  // udev looks at what was detached, and then it is busy.
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<long>(number)) < 0) {
    if (errno != EBUSY || std::chrono::steady_clock::now() > deadline) fail("LOOP_CTL_REMOVE");
  }
}

NewNodes::NewNodes() : before_(node_numbers()) {}

NewNodes::~NewNodes() {
  const std::set<unsigned> now = node_numbers();
  std::vector<unsigned> made;
  std::set_difference(now.begin(), now.end(), before_.begin(), before_.end(), std::back_inserter(made));
  // Side by side: the kernel waits for RCU for each.
  const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  std::vector<std::jthread> threads;
  for (size_t first = 0; first < deletions_at_once; ++first) {
    threads.emplace_back([&made, &control, first] {
      for (size_t i = first; i < made.size(); i += deletions_at_once) {
        ::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<long>(made[i]));  // fails where it is in use
      }
    });
  }
}

}  // namespace loopd_bench

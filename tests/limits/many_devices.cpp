// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/limits/many_devices.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/bus/child_process.hpp"
#include "tests/bus/scratch.hpp"

namespace limits_test {
namespace {

constexpr unsigned threads_at_once = 32;

// Numbers that nobody else takes: high, and of this process.
unsigned first_number(unsigned count) { return 800'000 + static_cast<unsigned>(::getpid()) % 100 * count; }

void for_each_at_once(unsigned first, unsigned count, const std::function<void(unsigned)>& work) {
  std::atomic<unsigned> next = 0;
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < threads_at_once; ++i) {
    threads.emplace_back([&] {
      for (unsigned taken = next++; taken < count; taken = next++) work(first + taken);
    });
  }
}

}  // namespace

ManyDevices::ManyDevices(unsigned count, const std::string& image)
    : file_(::open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)),
      first_(first_number(count)),
      count_(count) {
  if (!file_ || ::ftruncate(file_.get(), 64 * 1024) < 0) {
    throw std::system_error(errno, std::generic_category(), image);
  }
  const loop::UniqueFd read_only(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
  std::atomic<unsigned> attached = 0;
  for_each_at_once(first_, count_, [&](unsigned number) {
    if (bus_test::kernel_attach(number, read_only.get()) == 0) ++attached;
  });
  attached_ = attached == count_;
}

ManyDevices::~ManyDevices() {
  const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  for_each_at_once(first_, count_, [&](unsigned number) {
    bus_test::kernel_detach(number);
    // Whoever hears of the detach may have a last look at the node, and nothing tells of its end.
    const auto deadline = bus_test::Clock::now() + bus_test::long_enough;
    while (::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<int>(number)) < 0 && errno == EBUSY) {
      if (bus_test::Clock::now() >= deadline) return;
      ::poll(nullptr, 0, 10);
    }
  });
}

}  // namespace limits_test

// SPDX-License-Identifier: LGPL-2.1-or-later
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/benchmarks.hpp"
#include "tests/bus/child_process.hpp"

namespace loopd_bench {
namespace {

constexpr unsigned clients = 16;
constexpr unsigned warming_up = 60;  // cycles of each
// The service tells its status, and looks at devices again, some time after a call.
constexpr auto what_is_put_off = std::chrono::seconds(2);
constexpr size_t first_image = 5000;  // nobody else's

// One client's part of the cycles: each an attach and a removal.
void cycle(Stage& stage, const Caller& caller, size_t client, unsigned count) {
  const int file = stage.images(first_image + client).fd();
  for (unsigned i = 0; i < count; ++i) {
    caller.call(caller.new_remove(path_in(caller.call(caller.new_attach(file))), true));
  }
}

// By all of them at once.
Duration cycle_together(Stage& stage, unsigned total) {
  std::vector<std::jthread> threads;
  std::vector<std::exception_ptr> failures(clients);
  const auto start = Clock::now();
  for (size_t i = 0; i < clients; ++i) {
    threads.emplace_back([&stage, &failures, i, total] {
      try {
        cycle(stage, Caller(stage.stack().address()), i, total / clients);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  }
  threads.clear();
  const auto time = Clock::now() - start;
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  return time / total;
}

// What it keeps when there is nothing to do.
double resident_at_rest(Stage& stage) {
  stage.quiet();
  std::this_thread::sleep_for(what_is_put_off);
  return static_cast<double>(resident_memory(stage.stack().loopd().pid()));
}

Duration run_cycles(Stage& stage, unsigned total, Figures& figures) {
  for (size_t i = 0; i < clients; ++i) stage.images(first_image + i);  // not by several threads
  // What so many clients at once take is taken by the first of them: threads, mostly.
  cycle_together(stage, clients * warming_up);
  figures["memory-before"] = resident_at_rest(stage);
  Duration time = cycle_together(stage, total / 2);
  figures["memory-halfway"] = resident_at_rest(stage);
  time = (time + cycle_together(stage, total / 2)) / 2;
  figures["memory-after"] = resident_at_rest(stage);
  figures["cycles"] = total;
  return time;
}

// How often the service wakes up while nobody wants anything, as strace sees it.
Duration count_wake_ups(Stage& stage, unsigned for_seconds, Figures& figures) {
  stage.quiet();
  std::this_thread::sleep_for(what_is_put_off);
  const std::string log = bus_test::scratch_directory() + "/strace.log";
  bus_test::ChildProcess strace(
      {.arguments = {"strace", "-f", "-q", "-o", log, "-p", std::to_string(stage.stack().loopd().pid())},
       .death_signal = SIGTERM});
  if (strace.wait(std::chrono::seconds(for_seconds))) throw std::runtime_error("strace ended at once");
  strace.signal(SIGINT);
  strace.wait();
  // A wait that came to an end. strace itself interrupts each thread's as it attaches, which
  // is none of those, and at its own end it leaves them unfinished.
  unsigned wake_ups = 0;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const bool waited =
        line.find("epoll_wait") != std::string::npos || line.find("futex") != std::string::npos;
    if (waited && line.find(") = ") != std::string::npos) ++wake_ups;
  }
  figures["wake-ups"] = wake_ups;
  figures["seconds"] = for_seconds;
  return Duration::zero();
}

}  // namespace

void add_resident_benchmarks(Stage& stage) {
  add("memory/loopd", {1, 1}, [&stage](Figures& figures) {
    figures["memory"] = static_cast<double>(stage.memory_at_start());
    return Duration::zero();
  });
  add("idle/loopd", {1, 1},
      [&stage](Figures& figures) { return count_wake_ups(stage, is_short_form() ? 3 : 60, figures); });
  // udev would be at work on as many for an hour.
  const unsigned cycles = stage.has_udev() || is_short_form() ? 3200 : 100'000;
  add(stage.has_udev() ? "cycles/loopd" : "cycles-without-udev/loopd", {1, 1},
      [&stage, cycles](Figures& figures) { return run_cycles(stage, cycles, figures); });
}

}  // namespace loopd_bench

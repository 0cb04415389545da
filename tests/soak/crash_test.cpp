// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service is killed at random moments while many clients are at work, and the bus
// starts it again: what a reply promised holds, and the rest is gone or somebody's.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <filesystem>

#include "tests/bus/stack.hpp"
#include "tests/soak/crowd.hpp"
#include "tests/soak/neighbours.hpp"
#include "tests/soak/settings.hpp"
#include "tests/soak/stamped_image.hpp"
#include "tests/soak/state_check.hpp"

namespace soak {
namespace {

using bus_test::BusClient;
using bus_test::Clock;
using bus_test::milliseconds;
using bus_test::Stack;

constexpr unsigned kills_between_checks = 10;
constexpr unsigned never = 1'000'000'000;

class Crash : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "attaches real loop devices: needs root";
    std::printf("seed %" PRIu64 "\n", settings().seed);
    make_filesystem_template();
    stack_ = std::make_unique<Stack>(Stack::Loopd::activated);
    client_ = std::make_unique<BusClient>(stack_->address());
  }

  // Kills the service that runs, at a moment of its start or of its work. False: none
  // came.
  bool kill_once(Chance& chance) {
    const bool in_its_start = chance.one_in(4);
    const auto process = in_its_start ? next_process() : working_process();
    if (!process) return false;
    const auto moment = milliseconds(chance.below(in_its_start ? 40 : 250));
    client_->wait_for([] { return false; }, moment);
    const loop::UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, *process, 0)));
    if (!pidfd) return true;  // it ended by itself: the clients will tell
    ::kill(*process, SIGKILL);
    last_killed_ = *process;
    pollfd waited{pidfd.get(), POLLIN, 0};
    return ::poll(&waited, 1, static_cast<int>(bus_test::long_enough.count())) > 0;
  }

  // The one that the bus has started since the last kill; for this it is called.
  std::optional<pid_t> next_process() {
    std::optional<pid_t> found;
    const auto call = client_->start(
        {.object = bus_test::root_path, .interface = bus_test::manager_interface, .member = "ListDevices"});
    soon([&] {
      found = stack_->activated_loopd();
      return found && found != last_killed_ && is_loopd(*found);
    });
    return found;
  }

  std::optional<pid_t> working_process() {
    if (!soon([&] { return client_->manager("ListDevices").ok(); })) return std::nullopt;
    return stack_->activated_loopd();
  }

  // Not yet the shell that becomes it.
  static bool is_loopd(pid_t process) {
    std::error_code gone;
    const auto program = std::filesystem::read_symlink("/proc/" + std::to_string(process) + "/exe", gone);
    return program.filename() == "loopd";
  }

  bool soon(const std::function<bool()>& condition) {
    const auto deadline = Clock::now() + bus_test::long_enough;
    while (!condition()) {
      if (Clock::now() >= deadline) return false;
      client_->wait_for([] { return false; }, milliseconds(1));
    }
    return true;
  }

  // Everybody stands still, with a device each.
  void check(Gate& gate) {
    gate.shut();
    ++checks_;
    std::vector<std::string> wrong;
    // Foreign devices on what were the clients' numbers are found with udev's events.
    soon([&] {
      wrong = disagreements(*client_, promises_, stack_->state_directory());
      return wrong.empty();
    });
    for (std::string& what : wrong) findings_.add("after a kill, " + std::move(what));
    compared_ += static_cast<unsigned>(promises_.all().size());
    gate.open();
  }

  Findings findings_;
  Tally tally_;
  Promises promises_;
  std::unique_ptr<Stack> stack_;
  std::unique_ptr<BusClient> client_;
  std::optional<pid_t> last_killed_;
  unsigned checks_ = 0;
  unsigned compared_ = 0;
};

TEST_F(Crash, KeepsEveryPromiseAndLeavesNothingHalfMade) {
  Gate gate(settings().clients);
  World world{.address = stack_->address(),
              .seed = settings().seed,
              .findings = findings_,
              .tally = tally_,
              .promises = promises_,
              .gate = gate,
              .service_may_die = true};
  Chance chance(settings().seed, never);
  const auto start = Clock::now();
  unsigned kills = 0;
  {
    Neighbours neighbours(world);
    Crowd crowd(world, settings().clients, never);
    while (kills < settings().kills && findings_.empty()) {
      if (!kill_once(chance)) {
        findings_.add("the service does not come again: " + stack_->loopd_log());
        break;
      }
      if (++kills % kills_between_checks == 0) check(gate);
    }
    check(gate);
    crowd.stop();
    crowd.wait();
  }
  const auto took = std::chrono::duration<double>(Clock::now() - start).count();
  soon([this] { return disagreements(*client_, promises_, stack_->state_directory()).empty(); });
  EXPECT_EQ(disagreements(*client_, promises_, stack_->state_directory()), std::vector<std::string>());
  EXPECT_EQ(bus_test::sweep_scratch(), std::vector<std::string>());
  EXPECT_TRUE(findings_.empty()) << findings_.count() << " findings, the first of them:\n"
                                 << testing::PrintToString(findings_.first());
  EXPECT_EQ(kills, settings().kills);
  // A run in which nothing was under way would prove nothing.
  EXPECT_GT(tally_.lost_calls, 0U);
  EXPECT_GT(compared_, 0U);
  std::printf(
      "%u kills in %.1f s under %u cycles of %u clients: %u attaches promised, %u calls without an answer;\n"
      "of %u attaches among them %u were gone, %u their user's, %u root's; %u removals among them;\n"
      "%u devices compared with kernel, service and records in %u checks; %u devices of others beside\n",
      kills, took, tally_.cycles.load(), settings().clients, tally_.attached.load(), tally_.lost_calls.load(),
      tally_.lost_attaches.load(), tally_.half_made_gone.load(), tally_.half_made_owned.load(),
      tally_.half_made_foreign.load(), tally_.lost_removals.load(), compared_, checks_,
      tally_.foreign.load());
}

}  // namespace
}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Many clients at once, each with its images, beside others who know nothing of the
// service: nothing is mixed up, told twice or not at all, or left.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "tests/bus/bus_fixture.hpp"
#include "tests/soak/crowd.hpp"
#include "tests/soak/neighbours.hpp"
#include "tests/soak/service_process.hpp"
#include "tests/soak/settings.hpp"
#include "tests/soak/signal_ledger.hpp"
#include "tests/soak/stamped_image.hpp"

namespace soak {
namespace {

using bus_test::BusClient;
using bus_test::Clock;
using bus_test::milliseconds;
using bus_test::Stack;

// Arenas of sixty-four workers, and what the allocator keeps: grows in the beginning,
// not with the cycles.
constexpr uint64_t most_growth_kib = 8 * 1024;

constexpr std::chrono::hours patience(12);

class Load : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "attaches real loop devices: needs root";
    std::printf("seed %" PRIu64 "\n", settings().seed);
    make_filesystem_template();
    stack_ = std::make_unique<Stack>();
    client_ = std::make_unique<BusClient>(stack_->address());
  }

  // What is opened once and kept: libraries do that at the first question to polkit.
  void warm_up() {
    const bus_test::ScratchFile file(bus_test::MiB, "allowed-warm-up.img");
    BusClient user(stack_->address(), bus_test::allowed_user);
    const bus_test::Reply attached = user.attach(file.fd());
    ASSERT_TRUE(succeeds(attached));
    const uint64_t sequence =
        std::stoull(*bus_test::sysfs(bus_test::number_of(attached.values.at(0).text), "diskseq"));
    ledger_->promised(sequence, {});
    ASSERT_TRUE(succeeds(user.remove(attached.values.at(0).text, {})));
  }

  // Nothing of ours is attached or published any more.
  bool is_over() {
    const bus_test::Reply listed = client_->manager("ListDevices");
    if (!listed.ok()) return false;
    for (const bus_test::Value& device : listed.values.at(0).items) {
      if (device.items.at(2).text.starts_with(bus_test::scratch_directory())) return false;
    }
    return true;
  }

  bool soon(const std::function<bool()>& condition, milliseconds deadline_in = bus_test::long_enough) {
    const auto deadline = Clock::now() + deadline_in;
    while (!client_->wait_for(condition, milliseconds(20))) {
      if (Clock::now() >= deadline) return false;
    }
    return true;
  }

  pid_t process() { return stack_->loopd().pid(); }

  Findings findings_;
  Tally tally_;
  Promises promises_;
  std::unique_ptr<Stack> stack_;
  std::unique_ptr<BusClient> client_;
  std::unique_ptr<SignalLedger> ledger_;
};

TEST_F(Load, LosesNothingMixesNothingUpAndTellsEverythingOnce) {
  ledger_ = std::make_unique<SignalLedger>(stack_->address(), findings_);
  warm_up();
  const auto descriptors = open_descriptors(process());
  const auto start = Clock::now();

  Gate gate(settings().clients);
  World world{.address = stack_->address(),
              .seed = settings().seed,
              .findings = findings_,
              .tally = tally_,
              .promises = promises_,
              .gate = gate,
              .ledger = ledger_.get()};
  Neighbours neighbours(world);
  Crowd crowd(world, settings().clients, settings().cycles);
  // The first part is for what grows once.
  soon([&] { return tally_.cycles >= settings().cycles / 4 || !findings_.empty(); }, patience);
  const uint64_t resident = resident_kib(process());
  crowd.wait();
  neighbours.end();
  const auto took = std::chrono::duration<double>(Clock::now() - start).count();

  bus_test::run({"udevadm", "settle", "--timeout=60"});
  EXPECT_TRUE(soon([this] { return is_over(); })) << "devices are left published";
  ledger_->settle();
  EXPECT_TRUE(soon([&] { return descriptors_since(descriptors, process()).empty(); }))
      << "descriptors are left: " << testing::PrintToString(descriptors_since(descriptors, process()));
  EXPECT_EQ(state_files(stack_->state_directory()), decltype(state_files(""))());
  EXPECT_LE(resident_kib(process()), resident + most_growth_kib);
  const std::vector<std::string> left = bus_test::sweep_scratch();
  EXPECT_EQ(left, std::vector<std::string>());
  EXPECT_TRUE(stack_->loopd().running());
  EXPECT_TRUE(findings_.empty()) << findings_.count() << " findings, the first of them:\n"
                                 << testing::PrintToString(findings_.first());

  std::printf(
      "%u cycles of %u clients in %.1f s, %.1f a second: %u devices and %u partitions attached, used %u "
      "times,\n"
      "%.1f MiB read back and compared, %u removals refused at first, %u devices of others beside (%u "
      "lost),\n"
      "%u lives in %u signals; resident %" PRIu64 " KiB after a quarter, %" PRIu64 " KiB at the end\n",
      tally_.cycles.load(), settings().clients, took, tally_.cycles / took, tally_.attached.load(),
      tally_.partitions.load(), tally_.used.load(), static_cast<double>(tally_.bytes_compared) / 1048576,
      tally_.refused.load(), tally_.foreign.load(), tally_.foreign_lost.load(), ledger_->lives(),
      ledger_->signals(), resident, resident_kib(process()));
}

}  // namespace
}  // namespace soak

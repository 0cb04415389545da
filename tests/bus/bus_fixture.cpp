// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/bus_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace bus_test {

std::unique_ptr<Stack> Bus::stack_;

void Bus::SetUpTestSuite() {
  if (::geteuid() == 0) stack_ = std::make_unique<Stack>();
}

void Bus::TearDownTestSuite() {
  if (!stack_) return;
  const auto status = stack_->stop_loopd();
  EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0)
      << "loopd did not end cleanly; its log:\n"
      << stack_->loopd_log();
  stack_.reset();
}

void Bus::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "attaches real loop devices: needs root";
  ASSERT_TRUE(stack_) << "the stack did not start";
  root_ = connect();
  root_->listen();
}

void Bus::TearDown() {
  if (!stack_) return;
  const bool alive = stack_->loopd().running();
  if (alive && root_) remove_attached();
  EXPECT_TRUE(alive) << "loopd died";
  const auto left = sweep_scratch();
  for (const std::string& device : left) EXPECT_TRUE(HasFailure()) << device << " was left attached";
  if (HasFailure()) {
    const std::string log = stack_->loopd_log();
    std::fprintf(stderr, "loopd's log ends with:\n%s\n",
                 log.substr(log.size() > 3000 ? log.size() - 3000 : 0).c_str());
  }
  if (!alive) stack_->start_loopd();
}

std::unique_ptr<BusClient> Bus::connect(uid_t uid) const {
  return std::make_unique<BusClient>(stack_->address(), uid);
}

unsigned Bus::own_number() {
  static unsigned last = 20'000 + static_cast<unsigned>(::getpid() % 1000) * 500;
  return ++last;
}

std::string Bus::attach(int file, const Options& wishes) { return attach_for(root(), file, wishes); }

std::string Bus::attach_as(BusClient& user, const ScratchFile& file, const Options& wishes) {
  return attach_for(user, file.fd(), wishes);
}

std::string Bus::attach_for(BusClient& client, int file, const Options& wishes) {
  const Reply reply = client.attach(file, wishes);
  EXPECT_TRUE(succeeds(reply));
  if (!reply.ok()) return {};
  remove_at_end(reply.values.at(0).text);
  return reply.values.at(0).text;
}

bool Bus::soon(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + long_enough;
  while (!root().wait_for(condition, milliseconds(20))) {
    if (Clock::now() >= deadline) return false;
  }
  return true;
}

bool Bus::goes(const std::string& object) {
  const unsigned number = number_of(object);
  return soon([&] { return !is_attached(number) && !node_exists(number) && !root().has_object(object); });
}

void Bus::remove_at_end(const std::string& object) {
  const auto sequence = sysfs(number_of(object), "diskseq");
  attached_.emplace_back(object, sequence ? std::stoull(*sequence) : 0);
}

void Bus::remove_attached() {
  // The newest first: one may lie on another.
  for (auto device = attached_.rbegin(); device != attached_.rend(); ++device) {
    const auto& [object, sequence] = *device;
    if (sysfs(number_of(object), "diskseq") != std::to_string(sequence)) continue;  // gone
    const Reply reply = root().remove(object, {{"disk-sequence", u64(sequence)}});
    EXPECT_TRUE(reply.ok() || reply.error == unknown_object || reply.error == not_attached ||
                reply.error == stale)
        << "removing " << object << ": " << reply;
  }
}

void Bus::let_events_arrive() {
  run({"udevadm", "settle", "--timeout=20"});
  // What udev has sent so far lies before this device's event in the service's queue.
  const ScratchFile last(64 * KiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, last.fd()), 0);
  EXPECT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; }));
  EXPECT_EQ(kernel_detach(number), 0);
  EXPECT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesRemoved", object_of(number)) != nullptr; }));
}

Value Bus::properties_of(const std::string& object, const std::string& interface) {
  const Reply reply = root().properties(object, interface);
  EXPECT_TRUE(succeeds(reply)) << object;
  return reply.ok() ? reply.values.at(0) : Value{};
}

MountedPartition::MountedPartition(const std::string& object, const std::string& name) : point_(name) {
  const std::string node = node_of(number_of(object)) + "p2";
  EXPECT_EQ(run({"mkfs.ext4", "-q", node}).status, 0);
  EXPECT_TRUE(point_.mount(node));
}

testing::AssertionResult fails_with(const Reply& reply, const std::string& error,
                                    const std::string& culprit) {
  if (reply.error != error) {
    return testing::AssertionFailure() << "expected " << error << ", got " << reply;
  }
  if (reply.message.find(culprit) == std::string::npos) {
    return testing::AssertionFailure()
           << "the message does not name \"" << culprit << "\": " << reply.message;
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult succeeds(const Reply& reply) {
  if (reply.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << reply.error << ": " << reply.message;
}

}  // namespace bus_test

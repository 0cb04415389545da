// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/fault/faulty_service.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace fault_test {

using bus_test::KiB;
using bus_test::MiB;

std::unique_ptr<FaultInjector> FaultyService::faults_;

void FaultyService::SetUpTestSuite() {
  Bus::SetUpTestSuite();
  if (::geteuid() != 0) return;
  faults_ = std::make_unique<FaultInjector>(stack().state_directory());
  stack().prepare_loopd([] { faults_->enter(); });
  restart_loopd();
}

void FaultyService::TearDownTestSuite() {
  Bus::TearDownTestSuite();
  faults_.reset();
}

void FaultyService::restart_loopd() {
  stack().stop_loopd();
  stack().start_loopd();
}

void FaultyService::begin_anew() {
  restart_loopd();
  remember_descriptors("a restart");
}

// With what libraries open once, and without what is just ending: a helper, a file that a
// worker closes.
void FaultyService::remember_descriptors(const std::string& after) {
  descriptors_before_.clear();
  expect_health(after);
  EXPECT_TRUE(soon([this] {
    descriptors_before_ = descriptors();
    return std::none_of(descriptors_before_.begin(), descriptors_before_.end(), [](const std::string& path) {
      return path.ends_with(".img (deleted)") || path == "anon_inode:[pidfd]";
    });
  }));
}

void FaultyService::SetUp() {
  Bus::SetUp();
  if (IsSkipped() || HasFatalFailure()) return;
  remember_descriptors("the start");
}

void FaultyService::TearDown() {
  if (faults_) faults_->release();
  Bus::TearDown();
}

Reply FaultyService::remove(BusClient& client, const std::string& object) {
  return client.remove(object, {{"timeout", bus_test::u64(15'000'000)}});
}

bool FaultyService::is_typed(const Reply& reply) {
  static const std::set<std::string> others{
      "org.freedesktop.DBus.Error.LimitsExceeded", "org.freedesktop.DBus.Error.Timeout",
      "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.NotSupported"};
  return reply.error.starts_with("org.example.Loop1.Error.") || others.contains(reply.error);
}

std::set<std::string> FaultyService::state_files() const {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(stack().state_directory())) {
    names.insert(entry.path().filename());
  }
  return names;
}

std::vector<std::string> FaultyService::descriptors() const {
  std::vector<std::string> found;
  const std::string directory = "/proc/" + std::to_string(stack().loopd().pid()) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::error_code closed_meanwhile;
    std::string path = std::filesystem::read_symlink(entry.path(), closed_meanwhile);
    // Of a socket the number tells nothing: that of the bus may be another by now.
    found.push_back(path.starts_with("socket:") ? "socket" : std::move(path));
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool FaultyService::soon(const std::function<bool()>& condition) {
  const auto client = connect();  // the fixture's may be of a bus that is gone
  const auto deadline = bus_test::Clock::now() + bus_test::long_enough;
  while (!client->wait_for(condition, bus_test::milliseconds(20))) {
    if (bus_test::Clock::now() >= deadline) return false;
  }
  return true;
}

bool FaultyService::is_free(const ScratchFile& file) {
  const Reply found = connect()->manager("FindByFile", {bus_test::handle(file.fd())});
  if (!found.ok() || !found.values.at(0).items.empty()) return false;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    const auto number = static_cast<unsigned>(std::stoul(name.substr(4)));
    if (bus_test::sysfs(number, "loop/backing_file") == file.path()) return false;
  }
  return true;
}

void FaultyService::expect_health(const std::string& after) {
  SCOPED_TRACE("after " + after);
  ASSERT_TRUE(stack().loopd().running());
  const ScratchFile file(64 * KiB, "allowed-health.img");
  const auto user = connect(bus_test::allowed_user);
  const Reply attached = user->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  ASSERT_TRUE(succeeds(remove(*user, attached.values.at(0).text)));
  EXPECT_TRUE(is_free(file));
  EXPECT_TRUE(soon([this] { return state_files().empty(); })) << testing::PrintToString(state_files());
  if (descriptors_before_.empty()) return;
  EXPECT_TRUE(soon([this] { return descriptors() == descriptors_before_; }))
      << testing::PrintToString(descriptors()) << "\ninstead of\n"
      << testing::PrintToString(descriptors_before_);
}

}  // namespace fault_test

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/kernel/real_loop_devices.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tests/support/leftovers.hpp"

extern char** environ;

namespace loop::testing {
namespace {

[[maybe_unused]] const bool environments = [] {
  check_leftovers_at_end();
  restore_static_devices_at_end();
  return true;
}();

// The exit code of a program without output; 127 where it is not installed.
int run(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int r = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (r != 0) return 127;
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

}  // namespace

void RealLoopDevices::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  std::unique_ptr<LoopControl> control;
  if (const int r = kernel_->open_control(control); r < 0) {
    GTEST_SKIP() << "there is no loop driver: " << errno_text(-r);
  }
}

void RealLoopDevices::TearDown() {
  for (const std::string& mount_point : std::exchange(mounts_, {}))
    ::umount2(mount_point.c_str(), MNT_DETACH);
  for (const std::string& device : std::exchange(swaps_, {})) ::swapoff(device.c_str());
  for (const auto& [number, sequence] : devices_) {
    try {
      remove(manager_, number, sequence, {.lazy = true});
    } catch (const Error&) {
      // It is gone, or another one's by now; what is left is reported at the end.
    }
    std::unique_ptr<LoopControl> control;
    if (number >= kernel_->static_devices() && !kernel_->has_attribute(number, "loop") &&
        kernel_->open_control(control) == 0) {
      control->remove(number);
    }
  }
}

AttachRequest RealLoopDevices::request_for(UniqueFd file) {
  AttachRequest made;
  made.file = std::move(file);
  return made;
}

AttachRequest RealLoopDevices::request(uint64_t size) {
  return request_for(directory_.make_file("image" + std::to_string(++files_), size));
}

DeviceSnapshot RealLoopDevices::attach(const AttachRequest& request) {
  std::optional<DeviceSnapshot> attached;
  auto try_it = [&] {
    try {
      Attachment attachment = manager_.attach(request);
      attached = attachment.snapshot();
      remember(*attached);
      attachment.commit();
      return true;
    } catch (const Error& error) {
      // LOOP_CTL_GET_FREE gives everybody any device that is unbound, also one of
      // a private number that is just being made or deleted.
      if (error.code() != Errc::device_busy || !request.number) throw;
      return false;
    }
  };
  if (!comes_true(try_it, std::chrono::seconds(20))) {
    throw Error(Errc::device_busy, "somebody else keeps the number of this test");
  }
  return *attached;
}

unsigned RealLoopDevices::private_number() {
  static std::atomic<unsigned> next = 0;
  return 100'000 + static_cast<unsigned>(::getpid()) % 9'000 * 100 + next++ % 100;
}

std::optional<Errc> RealLoopDevices::error_of(const std::function<void()>& action) {
  message_.clear();
  try {
    action();
  } catch (const Error& error) {
    message_ = error.what();
    return error.code();
  }
  return std::nullopt;
}

UniqueFd RealLoopDevices::open_device(const DeviceSnapshot& snapshot, int flags) const {
  return UniqueFd(::open(snapshot.dev_path().c_str(), flags | O_CLOEXEC));
}

RealLoopDevices::Status RealLoopDevices::status_of(const DeviceSnapshot& snapshot) const {
  const UniqueFd fd = open_device(snapshot);
  loop_info64 info{};
  Status status;
  EXPECT_EQ(::ioctl(fd.get(), LOOP_GET_STATUS64, &info), 0) << std::strerror(errno);
  EXPECT_EQ(::ioctl(fd.get(), BLKGETSIZE64, &status.size), 0);
  status.flags = info.lo_flags;
  status.offset = info.lo_offset;
  status.size_limit = info.lo_sizelimit;
  status.name = reinterpret_cast<const char*>(info.lo_file_name);
  return status;
}

std::string RealLoopDevices::sysfs(unsigned number, const std::string& name) const {
  return kernel_->attribute(number, name.c_str()).value_or("");
}

bool RealLoopDevices::still_attached(const DeviceSnapshot& snapshot) const {
  return kernel_->has_attribute(snapshot.number, "loop") &&
         sysfs(snapshot.number, "diskseq") == std::to_string(snapshot.disk_sequence);
}

bool RealLoopDevices::node_exists(const std::string& name) {
  return ::access(("/dev/" + name).c_str(), F_OK) == 0;
}

bool RealLoopDevices::node_is_gone(unsigned number) const {
  // Somebody whom LOOP_CTL_GET_FREE gave it may be about to attach to it.
  return comes_true(
      [&] { return !node_exists("loop" + std::to_string(number)) || kernel_->has_attribute(number, "loop"); },
      std::chrono::seconds(1));
}

void RealLoopDevices::make_ext4(const std::string& path) const {
  const int code = run({"mkfs.ext4", "-q", "-F", path});
  if (code == 127) GTEST_SKIP() << "mkfs.ext4 is not installed";
  ASSERT_EQ(code, 0) << "mkfs.ext4 of " << path;
}

std::string RealLoopDevices::mount(const std::string& device) {
  const std::string mount_point = directory_.file("mount" + std::to_string(mounts_.size()));
  ::mkdir(mount_point.c_str(), 0700);
  EXPECT_EQ(::mount(device.c_str(), mount_point.c_str(), "ext4", 0, nullptr), 0) << std::strerror(errno);
  mounts_.push_back(mount_point);
  return mount_point;
}

void RealLoopDevices::unmount(const std::string& mount_point) {
  EXPECT_EQ(::umount(mount_point.c_str()), 0) << std::strerror(errno);
  std::erase(mounts_, mount_point);
}

void RealLoopDevices::start_swap(const std::string& device) {
  ASSERT_EQ(::swapon(device.c_str(), 0), 0) << std::strerror(errno);
  swaps_.push_back(device);
}

void RealLoopDevices::stop_swap(const std::string& device) {
  EXPECT_EQ(::swapoff(device.c_str()), 0) << std::strerror(errno);
  std::erase(swaps_, device);
}

ChildProcess::ChildProcess(const std::function<void(const std::function<void()>& report_ready)>& work) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return;
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  pid_ = ::fork();
  if (pid_ == 0) {
    read_end.reset();
    int code = 0;
    try {
      work([&] { write_end.reset(); });
    } catch (...) {
      code = 1;
    }
    ::_exit(code);
  }
  write_end.reset();
  pollfd ready{read_end.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 10'000), 1) << "the other process did not get ready";
}

ChildProcess::~ChildProcess() { end(); }

void ChildProcess::end() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  wait();
}

int ChildProcess::wait() {
  int status = 0;
  if (pid_ > 0) ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool comes_true(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

}  // namespace loop::testing

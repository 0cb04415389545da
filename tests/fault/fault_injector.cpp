// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/fault/fault_injector.hpp"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace fault_test {
namespace {

struct NamedCall {
  uint32_t number;
  const char* name;
};

constexpr std::array<NamedCall, 14> ioctls{{{LOOP_CTL_GET_FREE, "LOOP_CTL_GET_FREE"},
                                            {LOOP_CTL_ADD, "LOOP_CTL_ADD"},
                                            {LOOP_CTL_REMOVE, "LOOP_CTL_REMOVE"},
                                            {LOOP_CONFIGURE, "LOOP_CONFIGURE"},
                                            {LOOP_CLR_FD, "LOOP_CLR_FD"},
                                            {LOOP_GET_STATUS64, "LOOP_GET_STATUS64"},
                                            {LOOP_SET_STATUS64, "LOOP_SET_STATUS64"},
                                            {LOOP_SET_CAPACITY, "LOOP_SET_CAPACITY"},
                                            {LOOP_SET_DIRECT_IO, "LOOP_SET_DIRECT_IO"},
                                            {BLKPG, "BLKPG"},
                                            {BLKGETSIZE64, "BLKGETSIZE64"},
                                            {BLKSSZGET, "BLKSSZGET"},
                                            {BLKGETDISKSEQ, "BLKGETDISKSEQ"},
                                            {BLKFLSBUF, "BLKFLSBUF"}}};

// Their arguments are looked at in step_of().
constexpr std::array<NamedCall, 14> calls{{{__NR_openat, "open"},
                                           {__NR_mknodat, "make"},
                                           {__NR_read, "read"},
                                           {__NR_write, "write"},
                                           {__NR_renameat, "rename"},
                                           {__NR_unlinkat, "unlink"},
                                           {__NR_flock, "flock"},
                                           {__NR_fsync, "fsync"},
                                           {__NR_inotify_init1, "inotify_init1"},
                                           {__NR_inotify_add_watch, "inotify_add_watch"},
                                           {__NR_epoll_create1, "epoll_create1"},
                                           {__NR_timerfd_create, "timerfd_create"},
                                           {__NR_clone3, "clone3"},
                                           {__NR_fcntl, "fcntl"}}};

[[noreturn]] void fail_with_errno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Those in the two tables are notified, and the rest is allowed.
std::vector<sock_filter> make_filter() {
  constexpr uint32_t number_at = offsetof(seccomp_data, nr);
  constexpr uint32_t request_at = offsetof(seccomp_data, args) + sizeof(uint64_t);
  const auto load = [](uint32_t at) { return sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)); };
  const auto result = [](uint32_t what) { return sock_filter(BPF_STMT(BPF_RET | BPF_K, what)); };
  const auto unless_skip = [](uint32_t value, uint8_t skip) {
    return sock_filter(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip));
  };
  std::vector<sock_filter> filter{load(number_at)};
  for (const NamedCall& call : calls) {
    filter.push_back(unless_skip(call.number, 1));
    filter.push_back(result(SECCOMP_RET_USER_NOTIF));
  }
  filter.push_back(unless_skip(__NR_ioctl, 1 + 2 * ioctls.size()));
  filter.push_back(load(request_at));
  for (const NamedCall& call : ioctls) {
    filter.push_back(unless_skip(call.number, 1));
    filter.push_back(result(SECCOMP_RET_USER_NOTIF));
  }
  filter.push_back(result(SECCOMP_RET_ALLOW));
  return filter;
}

void send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (::sendmsg(socket, &message, 0) != 1) ::_exit(126);
}

loop::UniqueFd receive_descriptor(int socket) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return loop::UniqueFd(fd);
}

std::string text_at(pid_t process, uint64_t address) {
  std::array<char, 256> text{};
  iovec ours{text.data(), text.size() - 1};
  iovec theirs{reinterpret_cast<void*>(address), text.size() - 1};
  return ::process_vm_readv(process, &ours, 1, &theirs, 1, 0) > 0 ? text.data() : "";
}

std::string path_of_descriptor(pid_t process, int fd) {
  std::array<char, PATH_MAX> path{};
  const std::string link = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<size_t>(length)) : "";
}

template <size_t Count>
const char* name_in(const std::array<NamedCall, Count>& table, uint64_t number) {
  for (const NamedCall& call : table) {
    if (call.number == static_cast<uint32_t>(number)) return call.name;
  }
  return "";
}

// A node that the service makes for itself (core/node_directory): "7:12".
bool is_own_node(const std::string& path) {
  unsigned major = 0;
  unsigned minor = 0;
  return std::sscanf(path.c_str() + path.starts_with("/"), "%u:%u", &major, &minor) == 2;
}

}  // namespace

FaultInjector::FaultInjector(std::string state_directory)
    : state_directory_(std::move(state_directory)), end_(::eventfd(0, EFD_CLOEXEC)) {
  std::array<int, 2> ends{};
  if (!end_ || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0) {
    fail_with_errno("socketpair");
  }
  ours_.reset(ends[0]);
  theirs_.reset(ends[1]);
  thread_ = std::thread([this] { serve(); });
}

FaultInjector::~FaultInjector() {
  release();
  ::eventfd_write(end_.get(), 1);
  thread_.join();
}

void FaultInjector::enter() const {
  std::vector<sock_filter> filter = make_filter();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  const auto listener = static_cast<int>(
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
  if (listener < 0) ::_exit(126);
  send_descriptor(theirs_.get(), listener);
  ::close(listener);
}

void FaultInjector::start_recording() {
  const std::lock_guard lock(mutex_);
  recording_ = true;
  recorded_.clear();
}

std::vector<std::string> FaultInjector::recorded() {
  const std::lock_guard lock(mutex_);
  recording_ = false;
  return recorded_;
}

void FaultInjector::fail(const std::string& step, unsigned passes, int error) {
  const std::lock_guard lock(mutex_);
  armed_ = {step, passes, error, false};
}

bool FaultInjector::was_hit() {
  const std::lock_guard lock(mutex_);
  return armed_.hit;
}

void FaultInjector::hold(const std::string& step, unsigned most) {
  const std::lock_guard lock(mutex_);
  held_step_ = step;
  most_held_ = most;
}

unsigned FaultInjector::held() {
  const std::lock_guard lock(mutex_);
  return static_cast<unsigned>(held_.size());
}

bool FaultInjector::wait_held(unsigned many) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, bus_test::long_enough, [&] { return held_.size() >= many; });
}

void FaultInjector::release() {
  const std::lock_guard lock(mutex_);
  armed_.step.clear();
  held_step_.clear();
  for (const uint64_t id : held_) answer(id, 0);
  held_.clear();
}

void FaultInjector::serve() {
  for (;;) {
    std::array<pollfd, 3> waited{
        {{end_.get(), POLLIN, 0}, {ours_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}}};
    if (::poll(waited.data(), waited.size(), -1) < 0) continue;
    if (waited[0].revents != 0) return;
    if (waited[1].revents != 0) take_listener();
    if ((waited[2].revents & POLLIN) != 0) {
      take_call();
    } else if (waited[2].revents != 0) {
      listener_.reset();  // the process is gone
    }
  }
}

void FaultInjector::take_listener() {
  listener_ = receive_descriptor(ours_.get());
  const std::lock_guard lock(mutex_);
  held_.clear();  // of the process before
}

void FaultInjector::take_call() {
  seccomp_notif call{};
  if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) return;  // killed meanwhile
  const std::string step = step_of(call);
  const std::lock_guard lock(mutex_);
  if (recording_ && !step.empty()) recorded_.push_back(step);
  if (!step.empty() && step == held_step_ && held_.size() < most_held_) {
    held_.push_back(call.id);
    changed_.notify_all();
    return;
  }
  const bool is_armed = !step.empty() && step == armed_.step && !armed_.hit;
  if (is_armed && armed_.passes > 0) {
    --armed_.passes;
    answer(call.id, 0);
    return;
  }
  if (is_armed) armed_.hit = true;
  answer(call.id, is_armed ? armed_.error : 0);
}

void FaultInjector::answer(uint64_t id, int error) {
  seccomp_notif_resp response{};
  response.id = id;
  response.error = -error;
  if (error == 0) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

// Empty: of no interest.
std::string FaultInjector::step_of(const seccomp_notif& call) const {
  const auto number = static_cast<unsigned>(call.data.nr);
  if (number == __NR_ioctl) return name_in(ioctls, call.data.args[1]);
  const std::string name = name_in(calls, number);
  if (number == __NR_openat) return step_of_open(call);
  if (number == __NR_fcntl) return call.data.args[1] == F_DUPFD_CLOEXEC ? "copy descriptor" : "";
  if (number == __NR_mknodat) return name + " own node";
  if (number == __NR_renameat || number == __NR_unlinkat) {
    const std::string path = text_at(static_cast<pid_t>(call.pid), call.data.args[1]);
    return name + (is_own_node(path) ? " own node" : " record");
  }
  if (number == __NR_read || number == __NR_write || number == __NR_flock || number == __NR_fsync) {
    return step_of_file(call, name);
  }
  return name;
}

std::string FaultInjector::step_of_open(const seccomp_notif& call) const {
  const auto process = static_cast<pid_t>(call.pid);
  const std::string path = text_at(process, call.data.args[1]);
  if (path == "/dev/loop-control") return "open loop-control";
  if (path.starts_with("/dev/loop")) return "open node";
  if (path.starts_with("/sys/devices/virtual/block") && (call.data.args[2] & O_DIRECTORY) != 0) {
    return "open sysfs";  // to list it
  }
  if (path.starts_with("/sys/")) return "open libudev's sysfs";
  if (path.starts_with("/proc/")) return "open proc";
  if (path.starts_with("/")) return {};
  if (is_own_node(path)) return "open own node";
  const std::string directory = path_of_descriptor(process, static_cast<int>(call.data.args[0]));
  if (directory.starts_with("/sys/")) return "open sysfs";
  if (directory != state_directory_) return {};
  return (call.data.args[2] & O_CREAT) != 0 ? "create record" : "open record";
}

std::string FaultInjector::step_of_file(const seccomp_notif& call, const std::string& verb) const {
  const std::string path =
      path_of_descriptor(static_cast<pid_t>(call.pid), static_cast<int>(call.data.args[0]));
  if (path == "/dev/loop-control") return verb + " loop-control";
  if (path.starts_with("/dev/loop") || is_own_node(path.substr(0, path.find(' ')))) return verb + " node";
  if (path.starts_with("/sys/")) return verb + " sysfs";
  if (path.starts_with(state_directory_ + "/")) return verb + " record";
  return {};
}

}  // namespace fault_test

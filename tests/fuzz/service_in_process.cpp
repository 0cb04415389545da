// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/fuzz/service_in_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sdbus-c++/Types.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <exception>
#include <filesystem>
#include <thread>

#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"
#include "core/mounts.hpp"
#include "core/path_opener.hpp"
#include "core/swaps.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/operations.hpp"
#include "dbus/task_group.hpp"
#include "service/event_loop.hpp"
#include "service/log.hpp"
#include "service/peer_server.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

using namespace std::chrono_literals;

// Longer than anything that is not stuck, and than the program is stopped for.
constexpr auto patience = 600s;

// Descriptors; fewer than are looked at.
constexpr size_t most_lost = 64;

// Paths that peers name lead into it.
UniqueFd open_empty_root() {
  static const TemporaryDirectory directory;
  return UniqueFd(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

void report_defect(std::exception_ptr) { must(false, "no exception leaves a task"); }

sockaddr_un abstract_address(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  return address;
}

socklen_t address_size(const std::string& name) {
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

}  // namespace

const std::string authentication("\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", 48);

struct ServiceInProcess::Parts {
  explicit Parts(FakeLoopKernel& kernel)
      : loops(kernel),
        helpers(loops, "/nonexistent", 1s),
        paths(open_empty_root()),
        calls(events, report_defect),
        looks(events, report_defect),
        follower(events, looks, loops, helpers, registry),
        operations({events, loops, paths, helpers, registry, follower, [](const std::string&) {}}, {}, looks),
        service{operations, calls, events, "0"},
        peers(events, service) {
    looks.start(start());
  }

  ~Parts() {
    peers.disconnect();
    calls.clear();
    looks.clear();
    must(events.end_workers(loopd::Clock::now() + patience), "work ends");
  }

  loopd::Task<void> start() {
    co_await follower.start();
    co_await follower.add_symlinks();
  }

  bool is_busy() const { return !calls.empty() || !looks.empty(); }

  LoopManager loops;
  FileHelpers helpers;
  PathOpener paths;
  loopd::EventLoop events;
  loopd::ObjectRegistry registry;
  loopd::TaskGroup calls;
  loopd::TaskGroup looks;
  loopd::DeviceFollower follower;
  loopd::Operations operations;
  loopd::ServiceParts service;
  loopd::PeerServer peers;
};

ServiceInProcess::ServiceInProcess() : name_("loopd-fuzzer-" + std::to_string(::getpid())) {
  ::signal(SIGPIPE, SIG_IGN);
  loopd::log::set_max_level(LOG_EMERG);
  parts_ = std::make_unique<Parts>(kernel_);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = abstract_address(name_);
  must(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), address_size(name_)) == 0, "bind");
  must(::listen(listener.get(), 16) == 0, "listen");
  parts_->peers.listen(std::move(listener));
  settle();
}

ServiceInProcess::~ServiceInProcess() = default;

UniqueFd ServiceInProcess::connect() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = abstract_address(name_);
  must(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), address_size(name_)) == 0,
       "the service takes connections");
  return socket;
}

UniqueFd ServiceInProcess::connect_authenticated() {
  UniqueFd socket = connect();
  send_bytes(socket.get(), authentication);
  settle_until([&socket] {
    int answered = 0;
    return ::ioctl(socket.get(), FIONREAD, &answered) == 0 && answered > 0;
  });
  return socket;
}

void ServiceInProcess::settle_until(const std::function<bool()>& condition) {
  const auto deadline = loopd::Clock::now() + patience;
  for (settle(); !condition(); settle()) {
    must(loopd::Clock::now() < deadline, "what is to come of it comes");
    std::this_thread::yield();
  }
}

void ServiceInProcess::settle() {
  const auto deadline = loopd::Clock::now() + patience;
  for (;;) {
    const int dispatched = sd_event_run(parts_->events.handle(), 0);
    must(dispatched >= 0, "the loop turns");
    if (dispatched > 0) continue;
    if (!parts_->is_busy()) return;
    must(loopd::Clock::now() < deadline, "calls end");
    constexpr uint64_t moment = 100'000;  // µs; a worker's result ends it at once
    must(sd_event_run(parts_->events.handle(), moment) >= 0, "the loop turns");
  }
}

void ServiceInProcess::settle_without_peers() {
  settle_until([this] { return parts_->peers.size() == 0; });
  must(kernel_.open_nodes() == 0 && kernel_.open_controls() == 0, "nothing stays open");
}

void send_bytes(int socket, const std::string& bytes, int descriptor) {
  iovec content{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  [[maybe_unused]] const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

OpenDescriptors open_descriptors() {
  OpenDescriptors open;
  std::array<pollfd, open.size()> asked{};
  for (size_t i = 0; i < asked.size(); ++i) asked[i].fd = static_cast<int>(i);
  must(::poll(asked.data(), asked.size(), 0) >= 0, "poll");
  for (size_t i = 0; i < asked.size(); ++i) open[i] = (asked[i].revents & POLLNVAL) == 0;
  return open;
}

ServiceInProcess& ServiceForInputs::get() {
  if (service_) return *service_;
  service_ = std::make_unique<ServiceInProcess>();
  // What sd-event, and sdbus-c++ for variants, open at the first need stays.
  static const sdbus::Variant first_variant(0);
  service_->connect_authenticated();
  service_->settle_without_peers();
  // Kept open for as long as the process lives, from their first use.
  loop::mounts();
  loop::active_swaps();
  open_before_ = open_descriptors();
  if (open_with_service_ == 0) open_with_service_ = open_before_.count();
  must(open_before_.count() == open_with_service_, "a service that ends closes its descriptors");
  return *service_;
}

void ServiceForInputs::input_ended(size_t lost_by_libsystemd) {
  service_->settle_without_peers();
  // An attached device has descriptors of its own in the simulated kernel.
  if (service_->kernel().bound_numbers().empty()) look_at_descriptors(lost_by_libsystemd);
  if (lost_.count() >= most_lost || !service_->kernel().bound_numbers().empty()) end_service();
}

void ServiceForInputs::look_at_descriptors(size_t lost_by_libsystemd) {
  // What nobody waits for any more is closed by a worker, which says nothing.
  const auto deadline = loopd::Clock::now() + patience;
  OpenDescriptors left = open_descriptors() & ~open_before_;
  while (left.count() > lost_by_libsystemd) {
    must(loopd::Clock::now() < deadline, "no descriptor is left open");
    std::this_thread::yield();
    left = open_descriptors() & ~open_before_;
  }
  lost_ |= left;
  open_before_ |= left;
}

// Only when it has ended is it sure that the lost ones are nobody's.
void ServiceForInputs::end_service() {
  service_.reset();
  for (size_t i = 0; i < lost_.size(); ++i) {
    if (lost_[i]) ::close(static_cast<int>(i));
  }
  lost_.reset();
}

}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Wiring only: makes the parts, connects them, runs the event loop.
#include <malloc.h>
#include <sdbus-c++/sdbus-c++.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "core/error.hpp"
#include "core/file_helpers.hpp"
#include "core/host_root.hpp"
#include "core/loop_control.hpp"
#include "core/loop_manager.hpp"
#include "core/node_directory.hpp"
#include "core/path_opener.hpp"
#include "core/udev_monitor.hpp"
#include "dbus/bus_connection.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/names.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/operations.hpp"
#include "dbus/task_group.hpp"
#include "service/command_line.hpp"
#include "service/event_loop.hpp"
#include "service/lifecycle.hpp"
#include "service/log.hpp"
#include "service/passed_descriptors.hpp"
#include "service/peer_server.hpp"
#include "service/system_bus.hpp"
#include "service/version.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

// For calls that only a file system still holds up, at the end.
constexpr auto worker_patience = 1s;

std::string text_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown exception";
  }
}

// Beside this program, in the build tree and where it is installed.
std::string file_helper_program() {
  return std::filesystem::read_symlink("/proc/self/exe").replace_filename("loopd-file-helper");
}

class Service {
 public:
  Service(const CommandLine& line, PassedDescriptors passed)
      : kernel_(loop::make_linux_loop_kernel(std::move(passed.nodes))),
        records_(line.state_directory),
        loops_(*kernel_, &records_),
        helpers_(loops_, file_helper_program(), Limits().file_patience),
        calls_(events_,
               [](auto exception) { log::error("a call failed to be answered: " + text_of(exception)); }),
        looks_(events_, [](auto exception) { log::error("cannot follow a device: " + text_of(exception)); }),
        follower_(events_, looks_, loops_, helpers_, registry_),
        operations_({events_, loops_, paths_, helpers_, registry_, follower_, log::info}, limits_of(line),
                    looks_),
        parts_{operations_, calls_, events_, LOOPD_VERSION},
        bus_(events_, parts_),
        peers_(events_, parts_),
        lifecycle_({events_, calls_, looks_, registry_, bus_, peers_}, line.idle_timeout),
        listeners_(std::move(passed.listeners)),
        monitor_(loop::udev_is_running() ? loop::UdevMonitor::Source::udev
                                         : loop::UdevMonitor::Source::kernel) {
    follower_.partition_quota().set_limit(line.max_partitions_per_user);
  }

  // Calls that still wait refer to the parts below them, and their replies to the
  // bus: they go first. Before them the peers, whose going starts tasks.
  ~Service() {
    peers_.disconnect();
    calls_.clear();
    looks_.clear();
    if (events_.end_workers(Clock::now() + worker_patience)) return;
    // A thread that waits for a file system's server can't be ended, and nobody
    // waits for it: what it attaches after all is found and undone at the start.
    log::warning("a file system does not answer, leaving the call that waits for it");
    std::_Exit(exit_code_);
  }

  int run() {
    for (const int signal : {SIGTERM, SIGINT}) {
      events_.on_signal(signal, [this, signal] { lifecycle_.stop(::strsignal(signal)); });
    }
    follow_events();
    follow_backing_files();
    follow_helpers();
    events_.feed_watchdog();
    looks_.start(start());
    exit_code_ = events_.run();
    return exit_code_;
  }

 private:
  static Limits limits_of(const CommandLine& line) {
    Limits limits;
    limits.devices_per_user = line.max_devices_per_user;
    return limits;
  }

  void follow_events() {
    if (monitor_.source() == loop::UdevMonitor::Source::udev) {
      follower_.use_udev(loop::UdevMonitor::symlinks);
    } else {
      log::info("no udev answers, following the kernel's own events");
    }
    if (monitor_.source() == loop::UdevMonitor::Source::udev) {
      early_.emplace(loop::UdevMonitor::Source::kernel);
      // Nobody is woken by them: udev sends its own of each a moment later, and a decision
      // that must not wait for that takes them first.
      follower_.use_early_events([this] { take_early_events(); });
    } else {
      follower_.use_early_events([this] { take_events(); });
    }
    events_source_ = events_.on_readable(monitor_.fd(), [this] { take_events(); });
  }

  void take_early_events() {
    while (const auto event = early_->next()) follower_.note(event->number);
    if (early_->take_overflow()) {
      for (const unsigned number : kernel_->numbers()) follower_.note(number);
    }
  }

  void take_events() {
    if (early_) take_early_events();
    while (const auto event = monitor_.next()) follower_.handle(*event);
    if (monitor_.take_other_change()) operations_.pending_autoclear().look_soon();
    if (monitor_.take_overflow()) {
      log::warning("device events were lost, looking at every device again");
      looks_.start(follower_.enumerate());
    }
  }

  void follow_backing_files() {
    files_source_ =
        events_.on_readable(follower_.backing_files_fd(), [this] { follower_.backing_files_changed(); });
  }

  void follow_helpers() {
    helpers_source_ = events_.on_readable(helpers_.ended_fd(), [this] { helpers_.forget_ended(); });
  }

  Task<void> start() {
    try {
      loop::open_loop_control(*kernel_);
    } catch (const loop::Error& error) {
      log::warning(error.what());  // every attach will say so, too
    }
    try {
      // Meanwhile the bus takes us in.
      bus_.connect({.connected = [this](const auto& connection) { check_leases(connection); },
                    .named = [this](int error) { named(error); }});
      // Nobody is served before the tree is complete: who finds us finds all. Who asks for udev's links
      // before they are added waits for them.
      co_await follower_.start();
      co_await operations_.removing().end_private_leases();
      for (loop::UniqueFd& socket : std::exchange(listeners_, {})) peers_.listen(std::move(socket));
      bus_.serve();
      lifecycle_.started();
      co_await follower_.add_symlinks();
      lifecycle_.links_are_known();
    } catch (const std::exception& error) {
      log::error(error.what());
      lifecycle_.fail();
    }
  }

  void check_leases(const std::shared_ptr<BusConnection>& connection) {
    looks_.start(operations_.removing().check_leases({connection, &connection->clients()}));
  }

  void named(int error) {
    if (error != 0) {
      const std::string reason = std::generic_category().message(error);
      log::error(std::string("cannot have the name ") + bus_name + " on the system bus: " + reason);
      if (!peers_.listens()) return lifecycle_.fail();  // nobody would find us
    }
    lifecycle_.bus_has_settled();
  }

  std::unique_ptr<loop::LoopKernel> kernel_;
  loop::AttachmentRecords records_;
  loop::LoopManager loops_;
  loop::FileHelpers helpers_;
  loop::PathOpener paths_;
  EventLoop events_;
  ObjectRegistry registry_;
  TaskGroup calls_;
  TaskGroup looks_;
  DeviceFollower follower_;
  Operations operations_;
  ServiceParts parts_;
  SystemBus bus_;
  PeerServer peers_;
  Lifecycle lifecycle_;
  std::vector<loop::UniqueFd> listeners_;
  loop::UdevMonitor monitor_;
  std::optional<loop::UdevMonitor> early_;  // beside udev's: the kernel's own events
  std::unique_ptr<Scheduler::Registration> events_source_;
  std::unique_ptr<Scheduler::Registration> files_source_;
  std::unique_ptr<Scheduler::Registration> helpers_source_;
  int exit_code_ = EXIT_FAILURE;
};

}  // namespace
}  // namespace loopd

int main(int argc, char** argv) {
  int exit_code = EXIT_FAILURE;
  const auto line = loopd::parse_command_line(argc, argv, exit_code);
  if (!line) return exit_code;
  loopd::log::set_max_level(line->log_level);
  // A client that hangs up must not end the service.
  ::signal(SIGPIPE, SIG_IGN);
  // Helpers are watched by other means; the kernel is to bury them.
  ::signal(SIGCHLD, SIG_IGN);
  // Not a heap for each worker: what is freed in one is of no use to another, and the service would
  // grow with the crowd it once served. With one for all, a start with thousands of devices waits
  // for its lock a third of the time. Neighbours that are free become one at once.
  ::mallopt(M_ARENA_MAX, 4);
  ::mallopt(M_MXFAST, 0);
  try {
    loopd::PassedDescriptors passed = loopd::take_passed_descriptors();
    if (passed.host_root) loop::use_host_root(std::move(passed.host_root));
    if (!passed.nodes) passed.nodes = loop::make_node_directory(loop::Nodes::as_needed);
    loopd::Service service(*line, std::move(passed));
    return service.run();
  } catch (const std::exception& error) {
    loopd::log::error(error.what());
    return EXIT_FAILURE;
  }
}

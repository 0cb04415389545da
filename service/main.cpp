// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Wiring only: makes the parts, connects them, runs the event loop.
#include <sdbus-c++/sdbus-c++.h>
#include <signal.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "core/error.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_control.hpp"
#include "core/loop_manager.hpp"
#include "core/mount_changes.hpp"
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
#include "service/log.hpp"
#include "service/version.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

// How long calls under way may take to end after SIGTERM.
constexpr auto stop_patience = 5s;

// And then those that only a file system still holds up.
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
  explicit Service(const CommandLine& line)
      : kernel_(loop::make_linux_loop_kernel()),
        records_(line.state_directory),
        loops_(*kernel_, &records_),
        helpers_(*kernel_, file_helper_program(), Limits().file_patience),
        calls_(events_,
               [](auto exception) { log::error("a call failed to be answered: " + text_of(exception)); }),
        looks_(events_, [](auto exception) { log::error("cannot follow a device: " + text_of(exception)); }),
        follower_(events_, looks_, loops_, helpers_, registry_),
        operations_({events_, loops_, paths_, helpers_, registry_, follower_, log::info}, limits_of(line)),
        monitor_(loop::udev_is_running() ? loop::UdevMonitor::Source::udev
                                         : loop::UdevMonitor::Source::kernel) {}

  // Calls that still wait refer to the parts below them, and their replies to the
  // bus: they go first.
  ~Service() {
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
      events_.on_signal(signal, [this, signal] { stop(signal); });
    }
    follow_events();
    follow_mounts();
    follow_backing_files();
    // The name is asked for when the tree is complete: who finds us finds all.
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
      follower_.use_udev([this](unsigned number) { return monitor_.symlinks(number); });
    } else {
      log::info("no udev answers, following the kernel's own events");
    }
    if (monitor_.source() == loop::UdevMonitor::Source::udev) {
      early_.emplace(loop::UdevMonitor::Source::kernel);
      const auto drain = [this] {
        while (const auto event = early_->next()) follower_.note(event->number);
        if (early_->take_overflow()) {
          for (const unsigned number : kernel_->numbers()) follower_.note(number);
        }
      };
      follower_.use_early_events(drain);
      early_source_ = events_.on_readable(early_->fd(), drain);
    } else {
      follower_.use_early_events([this] { take_events(); });
    }
    events_source_ = events_.on_readable(monitor_.fd(), [this] { take_events(); });
  }

  void take_events() {
    while (const auto event = monitor_.next()) follower_.handle(*event);
    if (monitor_.take_other_change()) looks_.start(operations_.arm_autoclear());
    if (monitor_.take_overflow()) {
      log::warning("device events were lost, looking at every device again");
      looks_.start(follower_.enumerate());
    }
  }

  void follow_backing_files() {
    files_source_ =
        events_.on_readable(follower_.backing_files_fd(), [this] { follower_.backing_files_changed(); });
  }

  void follow_mounts() {
    mounts_source_ = events_.on_readable(mounts_.fd(), [this] {
      mounts_.drain();
      operations_.mounts_changed();
      looks_.start(operations_.arm_autoclear());
    });
  }

  Task<void> start() {
    try {
      loop::open_loop_control(*kernel_);
    } catch (const loop::Error& error) {
      log::warning(error.what());  // every attach will say so, too
    }
    co_await follower_.enumerate();
    std::string failure;
    try {
      connect();
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (!failure.empty()) {
      log::error("cannot serve the system bus: " + failure);
      events_.exit(EXIT_FAILURE);
      co_return;
    }
    looks_.start(operations_.check_leases());
    looks_.start(operations_.arm_autoclear());
    const auto count = std::to_string(registry_.devices().size());
    log::info("ready, " + count + " devices attached");
    sd_notify(0, ("READY=1\nSTATUS=" + count + " devices").c_str());
  }

  void connect() {
    sd_bus* bus = nullptr;
    int r = sd_bus_open_system(&bus);
    if (r < 0) throw std::system_error(-r, std::generic_category(), "cannot connect to the system bus");
    // libsystemd's own attachment: sdbus-c++'s throws out of its C callback when
    // the connection breaks.
    sd_bus_set_exit_on_disconnect(bus, 1);
    r = sd_bus_attach_event(bus, events_.handle(), SD_EVENT_PRIORITY_NORMAL);
    if (r < 0) {
      sd_bus_unref(bus);
      throw std::system_error(-r, std::generic_category(), "cannot attach the system bus");
    }
    bus_ = std::make_unique<BusConnection>(bus, operations_, calls_, events_, LOOPD_VERSION);
    bus_->request_name();
  }

  void stop(int signal) {
    log::info(std::string("stopping (") + ::strsignal(signal) + ")");
    sd_notify(0, "STOPPING=1");
    if (calls_.empty()) {
      events_.exit(EXIT_SUCCESS);
      return;
    }
    // Calls under way are answered first, within reason.
    calls_.on_empty([this] { events_.exit(EXIT_SUCCESS); });
    stop_timer_ = events_.at(Clock::now() + stop_patience, [this] {
      log::warning("calls are still under way, leaving them");
      events_.exit(EXIT_SUCCESS);
    });
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
  loop::UdevMonitor monitor_;
  std::optional<loop::UdevMonitor> early_;  // beside udev's: the kernel's own events
  loop::MountChanges mounts_;
  std::unique_ptr<Scheduler::Registration> events_source_;
  std::unique_ptr<Scheduler::Registration> early_source_;
  std::unique_ptr<Scheduler::Registration> mounts_source_;
  std::unique_ptr<Scheduler::Registration> files_source_;
  std::unique_ptr<Scheduler::Registration> stop_timer_;
  int exit_code_ = EXIT_FAILURE;
  std::unique_ptr<BusConnection> bus_;
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
  try {
    loopd::Service service(*line);
    return service.run();
  } catch (const std::exception& error) {
    loopd::log::error(error.what());
    return EXIT_FAILURE;
  }
}

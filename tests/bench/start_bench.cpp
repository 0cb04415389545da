// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <system_error>

#include "core/unique_fd.hpp"
#include "tests/bench/benchmarks.hpp"
#include "tests/bus/child_process.hpp"

namespace loopd_bench {
namespace {

constexpr const char* bus_configuration = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <auth>EXTERNAL</auth>
  <listen>unix:path=@DIRECTORY@/bus</listen>
  <servicedir>@DIRECTORY@/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
)";

constexpr const char* activation_file =
    "[D-BUS Service]\n"
    "Name=org.example.Loop1\n"
    "User=root\n"
    "Exec=" LOOPD_BINARY " --idle-timeout=infinity\n";

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// A bus that starts the service when somebody calls it.
class ActivatingBus {
 public:
  ActivatingBus() : directory_(bus_test::scratch_directory() + "/activating.XXXXXX") {
    if (!::mkdtemp(directory_.data())) throw std::system_error(errno, std::generic_category(), directory_);
    std::filesystem::create_directory(directory_ + "/services");
    std::filesystem::create_directory(directory_ + "/state");
    write_file(directory_ + "/bus.conf", bus_test::replaced(bus_configuration, "@DIRECTORY@", directory_));
    write_file(directory_ + "/services/org.example.Loop1.service", activation_file);
    const std::string address = "unix:path=" + directory_ + "/bus";
    daemon_ = bus_test::start_bus_daemon(
        directory_, {{"DBUS_SYSTEM_BUS_ADDRESS", address}, {"RUNTIME_DIRECTORY", directory_ + "/state"}});
    caller_ = std::make_unique<Caller>(address);
  }

  // From the call to the answer of a service that was not there.
  Duration start() const {
    const Message get = caller_->new_call(bus_test::root_path, bus_test::properties_interface, "Get");
    sd_bus_message_append(get.get(), "ss", bus_test::manager_interface, "Version");
    return caller_->time(get);
  }

  void stop() const {
    const Message ask = caller_->new_call("/org/freedesktop/DBus", "org.freedesktop.DBus",
                                          "GetConnectionUnixProcessID", "org.freedesktop.DBus");
    sd_bus_message_append(ask.get(), "s", bus_test::service_name);
    uint32_t pid = 0;
    sd_bus_message_read(caller_->call(ask).get(), "u", &pid);
    const loop::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process || ::syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0) < 0) {
      throw std::system_error(errno, std::generic_category(), "ending the service");
    }
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, static_cast<int>(bus_test::long_enough.count())) <= 0) {
      throw std::runtime_error("the service does not end");
    }
    if (!caller_->client().wait_for_name(bus_test::service_name, false)) {
      throw std::runtime_error("the service keeps its name");
    }
  }

 private:
  std::string directory_;
  std::unique_ptr<bus_test::ChildProcess> daemon_;
  std::unique_ptr<Caller> caller_;
};

}  // namespace

void add_start_benchmarks(Stage& stage) {
  const auto bus = std::make_shared<ActivatingBus>();
  add("start/loopd", {30}, [&stage, bus] {
    stage.quiet();
    const Duration time = bus->start();
    bus->stop();
    return time;
  });
}

}  // namespace loopd_bench

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/stack.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "core/udev_monitor.hpp"

#ifndef LOOPD_BINARY
#define LOOPD_BINARY "loopd"
#endif

namespace bus_test {
namespace {

constexpr const char* polkit_program = "/usr/lib/polkit-1/polkitd";
constexpr const char* polkit_name = "org.freedesktop.PolicyKit1";
constexpr const char* polkit_actions = "/usr/share/polkit-1/actions";
constexpr const char* polkit_rules = "/etc/polkit-1/rules.d";
constexpr const char* polkit_bus_policy = "/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf";
constexpr const char* udisks_bus_policy = "/usr/share/dbus-1/system.d/org.freedesktop.UDisks2.conf";
constexpr const char* policy_directory = LOOPD_SOURCE_DIR "/policy";
constexpr const char* rule_file_name = "00-loopd-tests.rules";

// What Debian's /usr/share/dbus-1/system.conf allows, on another socket.
constexpr const char* bus_configuration = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <auth>EXTERNAL</auth>
  <listen>unix:path=@DIRECTORY@/bus</listen>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"
          send_member="UpdateActivationEnvironment"/>
  </policy>
  <include>@POLICY@/org.example.Loop1.conf</include>
  <include>@POLKIT@</include>
  <include>@UDISKS@</include>
  <servicedir>@DIRECTORY@/services</servicedir>
</busconfig>
)";

constexpr const char* activation_file = R"([D-BUS Service]
Name=org.example.Loop1
Exec=@DIRECTORY@/activate-loopd
)";

// When there is no bus any more it ends, being idle.
constexpr const char* activation_script = R"(#!/bin/sh
echo $$ >@DIRECTORY@/loopd.pid.new
mv @DIRECTORY@/loopd.pid.new @DIRECTORY@/loopd.pid
export RUNTIME_DIRECTORY=@STATE@ DBUS_SYSTEM_BUS_ADDRESS=@ADDRESS@
exec @LOOPD@ --idle-timeout=10s >>@DIRECTORY@/loopd.log 2>&1
)";

// Each rule looks at a detail, and so proves that the service passes it.
constexpr const char* rules = R"(
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.example.Loop1.") != 0 || (subject.user != "mail" && subject.user != "news")) {
        return polkit.Result.NOT_HANDLED;
    }
    var file = String(action.lookup("backing-file"));
    var operation = String(action.lookup("operation"));
    if (action.id == "org.example.Loop1.attach" && operation == "Attach" && file.indexOf("allowed") >= 0) {
        return polkit.Result.YES;
    }
    if (action.id == "org.example.Loop1.attach-path" && file.indexOf("allowed") >= 0 &&
        (operation == "AttachPath" || operation == "FindByPath")) {
        return polkit.Result.YES;
    }
    if (action.id == "org.example.Loop1.set-reference" && file.indexOf("allowed-reference") >= 0) {
        return polkit.Result.YES;
    }
    if (action.id == "org.example.Loop1.modify-others" && operation == "Resize" &&
        String(action.lookup("device")).indexOf("/dev/loop") == 0 && file.indexOf("allowed-modify") >= 0 &&
        action.lookup("owner-uid") == "8") {
        return polkit.Result.YES;
    }
    if (action.id == "org.example.Loop1.remove-others" && operation.indexOf("Remove") == 0 &&
        String(action.lookup("device")).indexOf("/dev/loop") == 0 && file.indexOf("allowed-remove") >= 0 &&
        action.lookup("owner-uid") == "0") {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
)";

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

// polkitd gives up root, and loses the signal of its parent's death by that. So it
// has a parent that stays root, and ends it. In a mount namespace where our policy
// and rules are where polkitd looks for them; the system's own files are untouched.
int keep_polkit(const std::string& directory) {
  if (::unshare(CLONE_NEWNS) < 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
      ::mount((directory + "/actions").c_str(), polkit_actions, nullptr, MS_BIND, nullptr) < 0 ||
      ::mount((directory + "/rules.d").c_str(), polkit_rules, nullptr, MS_BIND, nullptr) < 0) {
    return 126;
  }
  sigset_t waited;
  ::sigemptyset(&waited);
  ::sigaddset(&waited, SIGTERM);
  ::sigaddset(&waited, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &waited, nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::sigprocmask(SIG_UNBLOCK, &waited, nullptr);
    ::execl(polkit_program, polkit_program, "--no-debug", nullptr);
    ::_exit(127);
  }
  // Nothing of the test program is to be held open by this one.
  for (int fd = 3; fd < 1024; ++fd) ::close(fd);
  siginfo_t got{};
  do {  // it may also just have been stopped
    ::sigwaitinfo(&waited, &got);
  } while (got.si_signo == SIGCHLD && ::waitpid(child, nullptr, WNOHANG) == 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return got.si_signo == SIGTERM ? 0 : 1;
}

}  // namespace

std::string loopd_program() {
  const char* given = std::getenv("LOOPD_BINARY");
  return given ? given : LOOPD_BINARY;
}

std::string replaced(std::string in, const std::string& what, const std::string& with) {
  for (size_t at = 0; (at = in.find(what, at)) != std::string::npos; at += with.size()) {
    in.replace(at, what.size(), with);
  }
  return in;
}

std::unique_ptr<ChildProcess> start_bus_daemon(const std::string& directory,
                                               const std::map<std::string, std::string>& environment) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) throw std::system_error(errno, std::generic_category(), "pipe");
  const loop::UniqueFd reading(ends[0]);
  loop::UniqueFd writing(ends[1]);
  // It prints its address when it listens.
  auto bus = std::make_unique<ChildProcess>(
      ChildProcess::Setup{.arguments = {"dbus-daemon", "--nofork", "--nopidfile", "--nosyslog",
                                        "--print-address=1", "--config-file=" + directory + "/bus.conf"},
                          .environment = environment,
                          .log = directory + "/bus.log",
                          .output = writing.get()});
  writing.reset();
  std::array<char, 512> printed{};
  pollfd waited{reading.get(), POLLIN, 0};
  const int ready = ::poll(&waited, 1, static_cast<int>(long_enough.count()));
  const ssize_t got = ready > 0 ? ::read(reading.get(), printed.data(), printed.size() - 1) : -1;
  if (got <= 0 || !std::string(printed.data()).starts_with("unix:")) {
    throw std::runtime_error("dbus-daemon does not start: " + read_file(directory + "/bus.log"));
  }
  return bus;
}

Udev::Udev() {
  if (loop::udev_is_running()) return;
  const std::string path = scratch_directory() + "/udev-notify";
  const loop::UniqueFd notifications = make_notify_socket(path);
  process_ = std::make_unique<ChildProcess>(ChildProcess::Setup{.arguments = {"/lib/systemd/systemd-udevd"},
                                                                .environment = {{"NOTIFY_SOCKET", path}},
                                                                .log = scratch_directory() + "/udevd.log",
                                                                .death_signal = SIGTERM});
  if (!wait_for_ready(*process_, notifications.get())) {
    throw std::runtime_error("systemd-udevd does not start: " +
                             read_file(scratch_directory() + "/udevd.log"));
  }
}

Udev::~Udev() {
  if (process_) process_->terminate();
}

Stack::Stack(Loopd loopd) : mode_(loopd), directory_(scratch_directory() + "/stack.XXXXXX") {
  if (!::mkdtemp(directory_.data())) throw std::system_error(errno, std::generic_category(), directory_);
  ::chmod(directory_.c_str(), 0755);
  state_directory_ = run_directory() + directory_.substr(directory_.rfind('/'));
  address_ = "unix:path=" + directory_ + "/bus";
  write_files();
  private_socket_ = make_private_socket(private_path());
  start_bus();
  observer_ = std::make_unique<BusClient>(address_);
  start_polkit();
  if (mode_ == Loopd::started) start_loopd();
}

void Stack::restart_bus() {
  polkit_.reset();  // whose name goes with the bus
  observer_.reset();
  bus_->terminate();
  start_bus();
  observer_ = std::make_unique<BusClient>(address_);
  start_polkit();
  if (loopd_ && loopd_->running() && !observer_->wait_for_name(service_name)) {
    throw std::runtime_error("loopd does not come back to the bus: " + loopd_log());
  }
}

Stack::~Stack() {
  if (loopd_) loopd_->terminate();
  stop_activated_loopd();
  stop_polkit();
  observer_.reset();
  if (bus_) bus_->terminate();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  std::filesystem::remove_all(state_directory_, ignored);
}

void Stack::write_files() {
  namespace fs = std::filesystem;
  fs::create_directory(state_directory_);
  fs::create_directory(directory_ + "/actions");
  for (const auto& action : fs::directory_iterator(polkit_actions)) {
    fs::copy(action.path(), directory_ + "/actions/", fs::copy_options::overwrite_existing);
  }
  fs::copy(std::string(policy_directory) + "/org.example.Loop1.policy", directory_ + "/actions/",
           fs::copy_options::overwrite_existing);
  fs::create_directory(directory_ + "/rules.d");
  write_file(directory_ + "/rules.d/" + rule_file_name, rules);
  std::string configuration = replaced(bus_configuration, "@DIRECTORY@", directory_);
  configuration = replaced(configuration, "@POLICY@", policy_directory);
  configuration = replaced(configuration, "@POLKIT@", polkit_bus_policy);
  write_file(directory_ + "/bus.conf", replaced(configuration, "@UDISKS@", udisks_bus_policy));
  fs::create_directory(directory_ + "/services");
  if (mode_ == Loopd::activated) write_activation_files();
}

void Stack::write_activation_files() {
  write_file(directory_ + "/services/org.example.Loop1.service",
             replaced(activation_file, "@DIRECTORY@", directory_));
  std::string script = replaced(activation_script, "@DIRECTORY@", directory_);
  script = replaced(script, "@ADDRESS@", address_);
  script = replaced(script, "@STATE@", state_directory_);
  const std::string path = directory_ + "/activate-loopd";
  write_file(path, replaced(script, "@LOOPD@", loopd_program()));
  ::chmod(path.c_str(), 0755);
}

void Stack::start_bus() { bus_ = start_bus_daemon(directory_); }

void Stack::start_polkit() {
  polkit_ = std::make_unique<ChildProcess>(ChildProcess::Setup{.body =
                                                                   [this] {
                                                                     ::setenv("DBUS_SYSTEM_BUS_ADDRESS",
                                                                              address_.c_str(), 1);
                                                                     return keep_polkit(directory_);
                                                                   },
                                                               .log = directory_ + "/polkitd.log",
                                                               .death_signal = SIGTERM});
  if (!observer_->wait_for_name(polkit_name)) {
    throw std::runtime_error("polkitd does not start: " + read_file(directory_ + "/polkitd.log"));
  }
}

void Stack::stop_polkit() {
  if (!polkit_) return;
  polkit_->terminate();
  polkit_.reset();
  observer_->wait_for_name(polkit_name, false);
}

pid_t Stack::polkit_pid() {
  const Reply reply = observer_->call({.object = "/org/freedesktop/DBus",
                                       .interface = "org.freedesktop.DBus",
                                       .member = "GetConnectionUnixProcessID",
                                       .arguments = {text(polkit_name)},
                                       .destination = "org.freedesktop.DBus"});
  if (!reply.ok()) throw std::runtime_error(reply.error + ": " + reply.message);
  return static_cast<pid_t>(reply.values.at(0).number);
}

void Stack::start_loopd() {
  const char* perturb = std::getenv("MALLOC_PERTURB_");
  const std::string notify = directory_ + "/notify";
  const loop::UniqueFd notifications = make_notify_socket(notify);
  loopd_ = std::make_unique<ChildProcess>(
      ChildProcess::Setup{.arguments = {loopd_program(), "--idle-timeout=infinity"},
                          .environment = {{"DBUS_SYSTEM_BUS_ADDRESS", address_},
                                          {"RUNTIME_DIRECTORY", state_directory()},
                                          {"NOTIFY_SOCKET", notify},
                                          // What is used after it was freed shows.
                                          {"MALLOC_PERTURB_", perturb ? perturb : "165"}},
                          .before = preparation_,
                          .log = directory_ + "/loopd.log",
                          .passed = {{"bus", private_socket_.get()}}});
  if (!wait_for_ready(*loopd_, notifications.get()) || !observer_->wait_for_name(service_name)) {
    throw std::runtime_error("loopd does not start: " + loopd_log());
  }
}

std::optional<pid_t> Stack::activated_loopd() const {
  const pid_t pid = std::atoi(read_file(directory_ + "/loopd.pid").c_str());
  return pid > 0 ? std::optional(pid) : std::nullopt;
}

void Stack::stop_activated_loopd() {
  const auto pid = activated_loopd();
  if (!pid) return;
  const loop::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
  if (!process || ::kill(*pid, SIGTERM) < 0) return;
  pollfd waited{process.get(), POLLIN, 0};
  if (::poll(&waited, 1, static_cast<int>(long_enough.count())) <= 0) ::kill(*pid, SIGKILL);
}

std::optional<int> Stack::stop_loopd(int signal) {
  loopd_->signal(signal);
  const auto status = loopd_->wait();
  if (!status) loopd_->terminate();
  observer_->wait_for_name(service_name, false);
  return status;
}

std::string Stack::loopd_log() const { return read_file(directory_ + "/loopd.log"); }

}  // namespace bus_test

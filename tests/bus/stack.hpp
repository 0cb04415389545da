// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service as it is in a system, on parts of its own: a system bus, the real
// polkitd with our policy, systemd-udevd where none runs, and the loopd just built.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/unique_fd.hpp"
#include "tests/bus/bus_client.hpp"
#include "tests/bus/child_process.hpp"
#include "tests/bus/scratch.hpp"
#include "tests/bus/service_sockets.hpp"

namespace bus_test {

// Users that every Debian has. Each is allowed what the rules in stack.cpp say.
inline constexpr uid_t ordinary_user = 5;  // games: no rule
inline constexpr uid_t allowed_user = 8;   // mail: may attach files named …allowed…
inline constexpr uid_t another_user = 9;   // news: as mail

// The program's systemd-udevd, where the machine runs none.
class Udev {
 public:
  Udev();
  ~Udev();

  // Null: the machine's own runs.
  ChildProcess* process() const { return process_.get(); }

 private:
  std::unique_ptr<ChildProcess> process_;
};

class Stack {
 public:
  enum class Loopd {
    started,    // by us, at once and at each start_loopd()
    activated,  // by the bus, when somebody calls it
  };

  explicit Stack(Loopd loopd = Loopd::started);
  ~Stack();

  const std::string& address() const { return address_; }

  // Of the private socket, for root.
  std::string private_address() const { return "unix:path=" + private_path(); }
  std::string private_path() const { return directory_ + "/private"; }

  // Another bus at the same address; polkit is started anew on it.
  void restart_bus();
  ChildProcess& bus() { return *bus_; }
  pid_t polkit_pid();

  void start_polkit();
  void stop_polkit();
  void start_loopd();

  // From the next start on, run in its process before it becomes loopd.
  void prepare_loopd(std::function<void()> preparation) { preparation_ = std::move(preparation); }

  // Of an activated loopd: the process that was started last, also before it has
  // its name. Nothing: none was.
  std::optional<pid_t> activated_loopd() const;
  // Its wait status; nothing if it had to be killed.
  std::optional<int> stop_loopd(int signal = SIGTERM);
  ChildProcess& loopd() { return *loopd_; }
  std::string loopd_log() const;
  const std::string& state_directory() const { return state_directory_; }

 private:
  void write_files();
  void write_activation_files();
  void start_bus();
  void stop_activated_loopd();

  Loopd mode_;
  std::function<void()> preparation_;
  std::string directory_;
  std::string state_directory_;
  std::string address_;
  loop::UniqueFd private_socket_;
  std::unique_ptr<ChildProcess> bus_;
  std::unique_ptr<BusClient> observer_;
  std::unique_ptr<ChildProcess> polkit_;
  std::unique_ptr<ChildProcess> loopd_;
};

// The loopd under test: the one just built, or what $LOOPD_BINARY names.
std::string loopd_program();

std::string replaced(std::string in, const std::string& what, const std::string& with);

// A dbus-daemon that listens, by DIRECTORY/bus.conf.
std::unique_ptr<ChildProcess> start_bus_daemon(const std::string& directory,
                                               const std::map<std::string, std::string>& environment = {});

}  // namespace bus_test

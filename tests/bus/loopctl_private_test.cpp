// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Early in the boot: a service with a socket of its own, and no system bus.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/bus/loopctl.hpp"
#include "tests/bus/service_sockets.hpp"

namespace bus_test {
namespace {

constexpr const char* socket_directory = "/run/loopd";

// Where loopctl looks for the socket, in this program's mount namespace alone.
class SocketDirectory {
 public:
  SocketDirectory() : made_(::mkdir(socket_directory, 0755) == 0) {
    mounted_ = ::mount("tmpfs", socket_directory, "tmpfs", 0, nullptr) == 0;
  }
  ~SocketDirectory() {
    if (mounted_) ::umount2(socket_directory, MNT_DETACH);
    if (made_) ::rmdir(socket_directory);
  }
  bool is_there() const { return mounted_; }

 private:
  bool made_;
  bool mounted_ = false;
};

constexpr const char* no_bus = "unix:path=/no/such/bus";

class LoopctlWithoutABus : public Loopctl {
 protected:
  void SetUp() override {
    Loopctl::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(directory_.is_there());
    socket_ = make_private_socket(std::string(socket_directory) + "/bus");
    stack().stop_loopd();
    start_private_loopd();
  }

  void TearDown() override {
    if (service_) {
      service_->terminate();
      stack().start_loopd();
    }
    Loopctl::TearDown();
  }

  // As systemd starts it.
  void start_private_loopd(bool may_see_processes = true) {
    service_ = std::make_unique<ChildProcess>(
        ChildProcess::Setup{.environment = {{"DBUS_SYSTEM_BUS_ADDRESS", no_bus},
                                            {"RUNTIME_DIRECTORY", stack().state_directory()}},
                            .body =
                                [may_see_processes] {
                                  if (!may_see_processes) ::prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE);
                                  ::execl(loopd_program().c_str(), "loopd", nullptr);
                                  return 127;
                                },
                            .log = scratch_directory() + "/private-loopd.log",
                            .passed = {{"bus", socket_.get()}}});
  }

  LoopctlRun start_without_bus(const std::vector<std::string>& arguments) const {
    return start({.arguments = arguments, .environment = {{"DBUS_SYSTEM_BUS_ADDRESS", no_bus}}});
  }
  LoopctlResult without_bus(const std::vector<std::string>& arguments) const {
    return start_without_bus(arguments).wait();
  }

  SocketDirectory directory_;
  loop::UniqueFd socket_;
  std::unique_ptr<ChildProcess> service_;
};

TEST_F(LoopctlWithoutABus, EverythingWorksOverThePrivateSocket) {
  const ScratchFile file(8 * MiB, "private.img");
  partition(file, gpt_with_five_partitions);
  const LoopctlResult attached = without_bus({"attach", "-P", "--reference=private", file.path()});
  ASSERT_EQ(attached.status, 0) << attached;
  const std::string node = attached.output.substr(0, attached.output.size() - 1);
  EXPECT_EQ(without_bus({"find", file.path()}).output, attached.output);
  EXPECT_NE(without_bus({"list"}).output.find(file.path()), std::string::npos);
  EXPECT_NE(without_bus({"status", "private"}).output.find(node + "p5"), std::string::npos);
  EXPECT_EQ(without_bus({"open", node, "--", "true"}).status, 0);
  file.resize(9 * MiB);
  EXPECT_EQ(without_bus({"resize", node}).output, node + ": 8388608 -> 9437184 bytes\n");
  EXPECT_EQ(without_bus({"remove", "private"}).status, 0);
  EXPECT_EQ(without_bus({"find", file.path()}).status, 3);
}

TEST_F(LoopctlWithoutABus, RootSeesTheProcessThatAServiceOfFewerRightsCannotSee) {
  const ScratchFile file(MiB);
  service_->terminate();
  start_private_loopd(false);
  const LoopctlResult attached = without_bus({"attach", file.path()});
  const std::string node = attached.output.substr(0, attached.output.size() - 1);
  {
    const loop::UniqueFd holder(::open(node.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(fails_in_one_line(without_bus({"remove", node}), 4,
                                  {"cannot be seen", "process " + std::to_string(::getpid())}));
  }
  EXPECT_EQ(without_bus({"remove", node}).status, 0);
}

TEST_F(LoopctlWithoutABus, TheMonitorHearsSignalsAndSurvivesTheService) {
  const ScratchFile file(MiB);
  LoopctlRun monitor = start_without_bus({"monitor"});
  ASSERT_TRUE(monitor.wait_for_output("listening\n")) << monitor.error();
  const LoopctlResult attached = without_bus({"attach", file.path()});
  const std::string node = attached.output.substr(0, attached.output.size() - 1);
  EXPECT_TRUE(monitor.wait_for_output("added    " + node + " " + file.path() + "\n"));
  service_->terminate();
  EXPECT_TRUE(monitor.wait_for_output("stopped\n"));
  start_private_loopd();
  EXPECT_TRUE(monitor.wait_for_output("started\n")) << monitor.error();
  EXPECT_EQ(without_bus({"remove", node}).status, 0);
  EXPECT_TRUE(monitor.wait_for_output("removed  " + node + "\n"));
}

}  // namespace
}  // namespace bus_test

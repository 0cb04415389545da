// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service ends when nobody needs it, and the bus starts it again: a bus of its
// own, which activates it.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

// Activation by the daemon itself, which a bus of type system leaves to a helper.
constexpr const char* configuration = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=@DIRECTORY@/bus</listen>
  <servicedir>@DIRECTORY@/services</servicedir>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
)";

class Idle : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "attaches real loop devices: needs root";
    directory_ = scratch_directory() + "/idle.XXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
    std::filesystem::create_directory(directory_ + "/services");
    std::filesystem::create_directory(directory_ + "/state");
    std::ofstream(directory_ + "/bus.conf") << replaced(configuration, "@DIRECTORY@", directory_);
  }

  void TearDown() override {
    if (bus_) bus_->terminate();
    for (const std::string& device : sweep_scratch())
      EXPECT_TRUE(HasFailure()) << device << " was left attached";
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  void start_bus(const std::string& idle_timeout) {
    std::ofstream service(directory_ + "/services/org.example.Loop1.service");
    // Its own log tells how often it was started.
    service << "[D-BUS Service]\nName=org.example.Loop1\nExec=/bin/sh -c 'exec " << loopd_program()
            << " --idle-timeout=" << idle_timeout << " --state-directory=" << directory_ << "/state 2>>"
            << directory_ << "/log'\n";
    service.close();
    bus_ = start_bus_daemon(directory_, {{"DBUS_SYSTEM_BUS_ADDRESS", address()}});
  }

  // A line that the service manager gets, sooner or later.
  static bool is_told(int notifications, const std::string& line) {
    const auto deadline = Clock::now() + long_enough;
    while (Clock::now() < deadline) {
      pollfd waited{notifications, POLLIN, 0};
      if (::poll(&waited, 1, static_cast<int>(long_enough.count())) <= 0) return false;
      std::array<char, 4096> buffer{};
      const ssize_t got = ::recv(notifications, buffer.data(), buffer.size() - 1, MSG_DONTWAIT);
      if (got > 0 && std::string(buffer.data()).find(line) != std::string::npos) return true;
    }
    return false;
  }

  // By a service that has ended when this returns.
  std::vector<std::string> leave_devices(unsigned count) {
    const auto observer = connect();
    const ScratchFile file(MiB);
    std::vector<std::string> objects;
    {
      const auto client = connect();
      for (unsigned i = 0; i < count; ++i) {
        const Reply attached = client->attach(file.fd(), {{"read-only", boolean(true)}});
        if (!attached.ok()) throw std::runtime_error("attaching: " + attached.message + log());
        objects.push_back(attached.values.at(0).text);
      }
    }
    EXPECT_TRUE(observer->wait_for_name(service_name, false)) << log();
    return objects;
  }

  // Many at once: the kernel deletes nodes together. A client of this bus may wait for 128 answers.
  void remove(const std::vector<std::string>& objects) const {
    constexpr size_t at_once = 64;
    const auto client = connect();
    std::deque<std::shared_ptr<std::optional<Reply>>> removals;
    const auto wait_until_there_are = [&](size_t count) {
      for (; removals.size() > count; removals.pop_front()) {
        ASSERT_TRUE(client->wait_for([&] { return removals.front()->has_value(); }));
        EXPECT_TRUE(succeeds(**removals.front()));
      }
    };
    for (const std::string& object : objects) {
      removals.push_back(
          client->start({.object = object, .interface = device_interface, .member = "Remove"}));
      wait_until_there_are(at_once);
    }
    wait_until_there_are(0);
  }

  static std::vector<std::string> run_for_words(const std::vector<std::string>& command) {
    std::istringstream output(run(command).output);
    std::vector<std::string> words{std::istream_iterator<std::string>(output), {}};
    std::sort(words.begin(), words.end());
    return words;
  }

  const std::string& directory() const { return directory_; }
  std::string address() const { return "unix:path=" + directory_ + "/bus"; }
  std::unique_ptr<BusClient> connect() const { return std::make_unique<BusClient>(address()); }

  size_t starts() const {
    std::ifstream log(directory_ + "/log");
    size_t count = 0;
    for (std::string line; std::getline(log, line);) {
      if (line.find("ready, ") != std::string::npos) ++count;
    }
    return count;
  }

  std::string log() const {
    std::ifstream file(directory_ + "/log");
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
  }

 private:
  std::string directory_;
  std::unique_ptr<ChildProcess> bus_;
};

TEST_F(Idle, TheServiceEndsWhenItsClientsHaveLeftAndTheNextCallStartsIt) {
  start_bus("20ms");
  const auto observer = connect();
  const ScratchFile file(MiB);
  std::string object;
  {
    const auto client = connect();
    const Reply attached = client->attach(file.fd());
    ASSERT_TRUE(succeeds(attached)) << log();
    object = attached.values.at(0).text;
  }
  ASSERT_TRUE(observer->wait_for_name(service_name, false)) << log();
  EXPECT_TRUE(is_attached(number_of(object))) << "a device outlives the service";
  const auto client = connect();
  EXPECT_TRUE(client->has_object(object));
  EXPECT_EQ(starts(), 2U) << log();
  EXPECT_TRUE(succeeds(client->device(object, "Remove")));
}

// A service that has just started finds udev's links after everything else, and some calls do not wait for
// them.
TEST_F(Idle, TheFirstCallsAreToldAllOfUdevsLinks) {
  start_bus("20ms");
  const std::vector<std::string> objects = leave_devices(64);
  run({"udevadm", "settle", "--timeout=20"});
  std::map<std::string, std::vector<std::string>> links;
  for (const std::string& object : objects) {
    links[object] = run_for_words(
        {"udevadm", "info", "--query=symlink", "--root", "--name=" + node_of(number_of(object))});
  }
  const std::string& last = objects.back();
  ASSERT_FALSE(links[last].empty()) << "udev makes no links to loop devices";
  const auto client = connect();
  const auto start_property_call = [&](const std::string& member, std::vector<Value> arguments) {
    return client->start({.object = last,
                          .interface = properties_interface,
                          .member = member,
                          .arguments = std::move(arguments)});
  };
  const auto property = start_property_call("Get", {text(device_interface), text("Symlinks")});
  const auto properties = start_property_call("GetAll", {text(device_interface)});
  const auto of_all_interfaces = start_property_call("GetAll", {text("")});
  const Reply managed = client->managed_objects();
  ASSERT_TRUE(succeeds(managed));
  for (const auto& [object, found] : links) {
    EXPECT_EQ(managed.values.at(0).at(object).at(device_interface).at("Symlinks").texts(), found) << object;
  }
  for (const auto& answer : {property, properties, of_all_interfaces}) {
    ASSERT_TRUE(client->wait_for([&] { return answer->has_value(); }));
    ASSERT_TRUE(succeeds(**answer));
  }
  EXPECT_EQ((*property)->values.at(0).texts(), links[last]);
  EXPECT_EQ((*properties)->values.at(0).at("Symlinks").texts(), links[last]);
  EXPECT_EQ((*of_all_interfaces)->values.at(0).at("Symlinks").texts(), links[last]);
  EXPECT_EQ(starts(), 2U) << log();
  remove(objects);
}

TEST_F(Idle, ACallThatWaitsForUdevsLinksIsAnsweredBeforeTheEnd) {
  start_bus("20ms");
  const std::vector<std::string> objects = leave_devices(256);  // some milliseconds of waiting
  const auto client = connect();
  const auto managed = client->start(
      {.object = root_path, .interface = object_manager_interface, .member = "GetManagedObjects"});
  ASSERT_TRUE(client->wait_for_name(service_name)) << log();
  const Reply process = client->call({.object = "/org/freedesktop/DBus",
                                      .interface = "org.freedesktop.DBus",
                                      .member = "GetConnectionUnixProcessID",
                                      .arguments = {text(service_name)},
                                      .destination = "org.freedesktop.DBus"});
  ASSERT_TRUE(succeeds(process));
  ASSERT_EQ(::kill(static_cast<pid_t>(process.values.at(0).number), SIGTERM), 0);
  ASSERT_TRUE(client->wait_for([&] { return managed->has_value(); }));
  ASSERT_TRUE(succeeds(**managed)) << log();
  for (const std::string& object : objects) {
    EXPECT_NE((*managed)->values.at(0).find(object), nullptr) << object;
  }
  remove(objects);
}

TEST_F(Idle, AClientThatLeavesWhileItWaitsForUdevsLinksDoesNotKeepTheService) {
  start_bus("20ms");
  const std::vector<std::string> objects = leave_devices(256);
  const auto observer = connect();
  {
    const auto client = connect();
    client->start(
        {.object = root_path, .interface = object_manager_interface, .member = "GetManagedObjects"});
    ASSERT_TRUE(client->wait_for_name(service_name)) << log();
  }
  EXPECT_TRUE(observer->wait_for_name(service_name, false)) << log();
  remove(objects);
}

TEST_F(Idle, TheServiceStaysForAClientThatHasCalled) {
  start_bus("1ms");
  const auto client = connect();
  ASSERT_TRUE(succeeds(client->manager("ListDevices")));
  // Time passes for others meanwhile; it would have ended hundreds of times.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(succeeds(connect()->manager("ListDevices")));
  EXPECT_EQ(starts(), 1U) << log();
}

TEST_F(Idle, TheServiceStaysForAPendingAutoclear) {
  start_bus("1ms");
  const ScratchFile file(MiB);
  std::string object;
  {
    const auto client = connect();
    const Reply attached = client->attach(file.fd(), {{"autoclear", boolean(true)}});
    ASSERT_TRUE(succeeds(attached)) << log();
    object = attached.values.at(0).text;
  }
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(succeeds(connect()->manager("ListDevices")));
  EXPECT_EQ(starts(), 1U) << log();
  const auto observer = connect();
  ASSERT_TRUE(succeeds(connect()->device(object, "Remove")));
  EXPECT_TRUE(observer->wait_for_name(service_name, false)) << log();
}

// As early in the boot: the service is ready before there is a bus, feeds the
// watchdog, and is on the bus as soon as that comes.
TEST_F(Idle, TheServiceIsReadyWithoutABusAndJoinsTheOneThatComes) {
  const std::string notify = directory() + "/notify";
  const loop::UniqueFd notifications = make_notify_socket(notify);
  ChildProcess loopd(ChildProcess::Setup{.arguments = {loopd_program(), "--idle-timeout=infinity",
                                                       "--state-directory=" + directory() + "/state"},
                                         .environment = {{"DBUS_SYSTEM_BUS_ADDRESS", address()},
                                                         {"NOTIFY_SOCKET", notify},
                                                         {"WATCHDOG_USEC", "200000"}},
                                         .log = directory() + "/log"});
  EXPECT_TRUE(is_told(notifications.get(), "READY=1")) << log();
  EXPECT_TRUE(is_told(notifications.get(), "STATUS=0 devices, 0 clients")) << log();
  EXPECT_TRUE(is_told(notifications.get(), "WATCHDOG=1")) << log();
  start_bus("1ms");
  const auto client = connect();
  EXPECT_TRUE(client->wait_for_name(service_name)) << log();
  EXPECT_TRUE(succeeds(client->manager("ListDevices")));
  EXPECT_TRUE(is_told(notifications.get(), "STATUS=0 devices, 1 client")) << log();
  EXPECT_EQ(starts(), 1U) << "the bus had no reason to start another";
  const auto status = loopd.terminate();
  EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0);
  EXPECT_TRUE(is_told(notifications.get(), "STOPPING=1"));
}

// Each round fires its calls about when the service that the round before has
// started is leaving.
TEST_F(Idle, NoCallIsLostAtTheVeryMomentOfTheExit) {
  constexpr int rounds = 300;
  constexpr int callers = 4;
  start_bus("0");
  int lost = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::unique_ptr<BusClient>> clients;
    std::vector<std::shared_ptr<std::optional<Reply>>> answers;
    for (int i = 0; i < callers; ++i) {
      clients.push_back(connect());
      answers.push_back(clients.back()->start(
          {.object = root_path, .interface = manager_interface, .member = "ListDevices"}));
      clients.back()->process();
    }
    for (int i = 0; i < callers; ++i) {
      const auto index = static_cast<size_t>(i);
      const bool answered = clients[index]->wait_for([&] { return answers[index]->has_value(); });
      if (!answered || !(*answers[index])->ok()) {
        ++lost;
        ADD_FAILURE() << "round " << round << ": " << (answered ? (*answers[index])->error : "no answer");
      }
    }
    clients.clear();
    // From at once to when the service is gone.
    ::poll(nullptr, 0, round % 8);
  }
  std::printf("%d calls, %zu starts, %d lost\n", rounds * callers, starts(), lost);
  EXPECT_GT(starts(), static_cast<size_t>(rounds / 10)) << "the exits were not hit\n" << log();
}

}  // namespace
}  // namespace bus_test

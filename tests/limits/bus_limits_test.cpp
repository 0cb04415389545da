// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What dbus-daemon allows a connection, and everybody together, is met by the service before
// it is cut off: replies it waits for, match rules, the size of a message.
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/bus/bus_fixture.hpp"
#include "tests/limits/many_devices.hpp"

namespace limits_test {
namespace {

using bus_test::allowed_user;
using bus_test::BusClient;
using bus_test::Call;
using bus_test::fails_with;
using bus_test::ordinary_user;
using bus_test::Reply;
using bus_test::root_path;
using bus_test::ScratchFile;
using bus_test::succeeds;
using Pending = std::shared_ptr<std::optional<Reply>>;

constexpr const char* limits_exceeded = "org.freedesktop.DBus.Error.LimitsExceeded";
constexpr unsigned many = 2000;

// How many objects the reply has, or its error: a tree of values of all that would be a
// gigabyte.
struct Objects {
  std::string error;
  std::string message;
  std::set<std::string> devices;
};

Objects managed_objects(BusClient& client) {
  Objects objects;
  sd_bus_error error = SD_BUS_ERROR_NULL;
  sd_bus_message* reply = nullptr;
  if (sd_bus_call_method(client.bus(), bus_test::service_name, root_path, bus_test::object_manager_interface,
                         "GetManagedObjects", &error, &reply, nullptr) < 0) {
    objects.error = error.name ? error.name : "";
    objects.message = error.message ? error.message : "";
  } else {
    sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
    while (sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}") > 0) {
      const char* path = nullptr;
      sd_bus_message_read_basic(reply, 'o', &path);
      objects.devices.insert(path);
      sd_bus_message_skip(reply, "a{sa{sv}}");
      sd_bus_message_exit_container(reply);
    }
  }
  sd_bus_message_unref(reply);
  sd_bus_error_free(&error);
  return objects;
}

// A path of so many bytes below the scratch directory, none of which is UTF-8: each is four bytes in
// BackingFile.
std::string long_directory(size_t length) {
  constexpr size_t longest_name = 250;
  std::string path = bus_test::scratch_directory();
  while (path.size() < length) {
    const size_t name = std::min(longest_name, std::max<size_t>(length - path.size(), 2) - 1);
    path += "/" + std::string(name, '\xff');
  }
  return path;
}

class TheBus : public bus_test::Bus {
 protected:
  // The program and the dbus-daemon that it starts have as many descriptors as clients.
  static void SetUpTestSuite() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    bus_test::Bus::SetUpTestSuite();
  }

  void SetUp() override {
    bus_test::Bus::SetUp();
    if (!IsSkipped()) connection_ = owner();
  }

  // The service is still on the connection on which it was: nobody has cut it off.
  void TearDown() override {
    if (!connection_.empty()) {
      EXPECT_EQ(owner(), connection_);
    }
    bus_test::Bus::TearDown();
  }

  // The objects of the devices; udev has to have looked at each.
  std::set<std::string> wait_until_announced(const ManyDevices& devices) {
    std::set<std::string> announced;
    size_t seen = 0;
    const auto take_in = [&] {
      for (; seen < root().signals().size(); ++seen) {
        const bus_test::Signal& signal = root().signals()[seen];
        if (signal.member != "InterfacesAdded") continue;
        const std::string& object = signal.arguments.at(0).text;
        const bool is_device = object.find("/p") == std::string::npos;
        if (is_device && devices.has(bus_test::number_of(object))) announced.insert(object);
      }
      return announced.size() == many;
    };
    EXPECT_TRUE(root().wait_for(take_in, 5 * bus_test::long_enough));
    return announced;
  }

  // With the head of the table.
  static size_t lines_of_loopctl_list() {
    const auto listed = bus_test::run({"/usr/bin/env", "DBUS_SYSTEM_BUS_ADDRESS=" + stack().address(),
                                       LOOPCTL_BINARY, "list", "--output=device"});
    EXPECT_EQ(listed.status, 0) << listed.output;
    return static_cast<size_t>(std::count(listed.output.begin(), listed.output.end(), '\n'));
  }

 private:
  std::string owner() {
    const auto client = connect();
    const Reply reply = client->call({.object = "/org/freedesktop/DBus",
                                      .interface = "org.freedesktop.DBus",
                                      .member = "GetNameOwner",
                                      .arguments = {bus_test::text(bus_test::service_name)},
                                      .destination = "org.freedesktop.DBus"});
    return reply.ok() ? reply.values.at(0).text : reply.error;
  }

  std::string connection_;
};

// Each of them asks for what needs no answer of anybody, and for what the service has to
// ask the bus and polkit about: more questions than it may have under way.
TEST_F(TheBus, ServesTwoThousandClientsAtOnce) {
  // Of one user the bus takes 256 connections. These users are in every Debian.
  constexpr std::array<uid_t, 10> users{1, 2, 3, 4, 5, 6, 7, 10, 13, 33};
  std::vector<std::unique_ptr<BusClient>> clients;
  for (unsigned i = 0; i < many; ++i) clients.push_back(connect(users.at(i % users.size())));
  const Call listing{.object = root_path, .interface = bus_test::manager_interface, .member = "ListDevices"};
  const Call finding{.object = root_path,
                     .interface = bus_test::manager_interface,
                     .member = "FindByPath",
                     .arguments = {bus_test::text("/srv/nothing.img")}};
  std::vector<Pending> listed;
  std::vector<Pending> found;
  ::kill(stack().loopd().pid(), SIGSTOP);  // it finds all calls there at once
  for (const auto& client : clients) {
    found.push_back(client->start(finding));
    listed.push_back(client->start(listing));
  }
  ::kill(stack().loopd().pid(), SIGCONT);
  unsigned asked = 0;
  for (unsigned i = 0; i < many; ++i) {
    ASSERT_TRUE(clients[i]->wait_for([&] { return listed[i]->has_value() && found[i]->has_value(); }))
        << "client " << i << " is not answered";
    EXPECT_TRUE(succeeds(**listed[i]));
    if ((*found[i])->error == bus_test::interactive_authorization_required) {
      ++asked;
    } else {
      EXPECT_TRUE(fails_with(**found[i], limits_exceeded));
    }
  }
  EXPECT_GT(asked, 0U);
  for (const auto& client : clients) EXPECT_TRUE(succeeds(client->call(listing)));
  std::printf("%u clients: %u asked polkit, %u were over a limit\n", many, asked, many - asked);
}

TEST_F(TheBus, LetsTwoThousandDevicesThroughAndWouldNotLetThroughTheirLongestPaths) {
  namespace fs = std::filesystem;
  const std::string here = bus_test::scratch_directory() + "/many";
  const std::string further = long_directory(1600);
  const std::string still_further = long_directory(2500);
  const std::string furthest = long_directory(3900);
  fs::create_directories(further);
  fs::create_directories(still_further);
  fs::create_directories(furthest);
  fs::create_directory(here);
  const auto client = connect();
  const ManyDevices devices(many, here + "/image");
  ASSERT_TRUE(devices.all_attached());

  const std::set<std::string> announced = wait_until_announced(devices);
  ASSERT_EQ(announced.size(), many);

  // The list of objects has what was told so far; ListDevices looks at the paths first.
  const auto all_are_told = [&] {
    const Reply listed = client->manager("ListDevices");
    EXPECT_TRUE(succeeds(listed));
    EXPECT_TRUE(listed.ok() && listed.values.at(0).items.size() >= many);
    const Objects objects = managed_objects(*client);
    EXPECT_EQ(objects.error, "") << objects.message;
    return std::includes(objects.devices.begin(), objects.devices.end(), announced.begin(), announced.end());
  };
  EXPECT_TRUE(all_are_told());

  // A path is told twice, once escaped: with this one some 19 MiB in all.
  fs::rename(here, further + "/many");
  EXPECT_TRUE(all_are_told());

  // With this one some 27 MiB, of which ListDevices has two thirds.
  fs::rename(further + "/many", still_further + "/many");
  EXPECT_TRUE(succeeds(client->manager("ListDevices")));
  EXPECT_EQ(managed_objects(*client).error, limits_exceeded);
  EXPECT_EQ(lines_of_loopctl_list(), many + 1);

  // With this one 40 MiB, for which the bus would cut the service off.
  fs::rename(still_further + "/many", furthest + "/many");
  EXPECT_TRUE(fails_with(client->manager("ListDevices"), limits_exceeded, "MiB"));
  const Objects refused = managed_objects(*client);
  EXPECT_EQ(refused.error, limits_exceeded);
  EXPECT_NE(refused.message.find("MiB"), std::string::npos) << refused.message;
  const auto one = client->property(*announced.begin(), "BackingFile");
  ASSERT_TRUE(succeeds(one)) << "one by one they are told";
  EXPECT_GT(one.values.at(0).text.size(), 4 * 3000U);

  fs::rename(furthest + "/many", here);
  EXPECT_TRUE(all_are_told());
  std::printf("%u devices; refused: %s\n", many, refused.message.c_str());
}

// Processes all of them until the condition holds; false: not before the deadline.
bool wait_for(const std::vector<std::unique_ptr<BusClient>>& clients,
              const std::function<bool()>& condition) {
  const auto deadline = bus_test::Clock::now() + bus_test::long_enough;
  for (;;) {
    std::vector<pollfd> waited;
    for (const auto& client : clients) {
      client->process();
      waited.push_back({sd_bus_get_fd(client->bus()), POLLIN, 0});
    }
    if (condition()) return true;
    const auto left = std::chrono::duration_cast<bus_test::milliseconds>(deadline - bus_test::Clock::now());
    if (left.count() <= 0) return false;
    ::poll(waited.data(), waited.size(), static_cast<int>(left.count()));
  }
}

// An agent of the session that never answers, for whoever this process is on the bus.
std::unique_ptr<BusClient> silent_agent(std::unique_ptr<BusClient> client) {
  std::ifstream file("/proc/self/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  uint64_t start_time = 0;
  fields >> start_time;
  const bus_test::Value subject =
      bus_test::structure({bus_test::text("unix-process"),
                           bus_test::options({{"pid", bus_test::u32(static_cast<uint32_t>(::getpid()))},
                                              {"start-time", bus_test::u64(start_time)}})});
  const Reply reply = client->call({.object = "/org/freedesktop/PolicyKit1/Authority",
                                    .interface = "org.freedesktop.PolicyKit1.Authority",
                                    .member = "RegisterAuthenticationAgent",
                                    .arguments = {subject, bus_test::text("C"), bus_test::text("/agent")},
                                    .destination = "org.freedesktop.PolicyKit1"});
  EXPECT_TRUE(succeeds(reply));
  return client;
}

TEST_F(TheBus, ServesOthersWhileOneUserOpensAThousandDialogs) {
  constexpr unsigned calls_of_a_client = 100;  // the bus lets each wait for 128 answers
  constexpr unsigned dialogs = 1000;
  constexpr unsigned most_dialogs = 8;
  auto agent = silent_agent(connect());
  const ScratchFile file(64 * bus_test::KiB);
  const Call call{.object = root_path,
                  .interface = bus_test::manager_interface,
                  .member = "AttachPath",
                  .arguments = {bus_test::text(file.path()), bus_test::options({})},
                  .interactive = true};
  std::vector<std::unique_ptr<BusClient>> clients;
  std::vector<Pending> replies;
  for (unsigned i = 0; i < dialogs; ++i) {
    if (i % calls_of_a_client == 0) clients.push_back(connect(ordinary_user));
    replies.push_back(clients.back()->start(call));
  }
  const auto count = [&](const std::string& error) {
    return std::count_if(replies.begin(), replies.end(), [&](const Pending& reply) {
      return reply->has_value() && (*reply)->error == error;
    });
  };
  ASSERT_TRUE(wait_for(clients, [&] { return count(limits_exceeded) == dialogs - most_dialogs; }))
      << count(limits_exceeded) << " are over a limit";

  // Others are served meanwhile, polkit's questions about them, too; and so is the user
  // where nobody is asked.
  const ScratchFile allowed(64 * bus_test::KiB, "allowed-meanwhile.img");
  const ScratchFile of_root(64 * bus_test::KiB);
  const std::string by_rule = attach_as(*connect(allowed_user), allowed);
  const std::string by_root = attach(of_root);
  ASSERT_FALSE(by_rule.empty() || by_root.empty());
  EXPECT_TRUE(succeeds(root().device(by_root, "Remove")));
  EXPECT_TRUE(succeeds(connect(ordinary_user)->manager("ListDevices")));
  EXPECT_TRUE(fails_with(connect(ordinary_user)->call(call), limits_exceeded));
  for (const auto& client : clients) client->process();
  EXPECT_EQ(count(limits_exceeded), dialogs - most_dialogs);
  EXPECT_EQ(
      std::count_if(replies.begin(), replies.end(), [](const Pending& reply) { return !reply->has_value(); }),
      most_dialogs)
      << "dialogs are open";

  agent.reset();  // nobody is there any more who could answer
  ASSERT_TRUE(wait_for(clients, [&] { return count(bus_test::access_denied) == most_dialogs; }));
  EXPECT_TRUE(fails_with(connect(ordinary_user)->call(call), bus_test::access_denied))
      << "the next may be asked";
  std::printf("%u dialogs asked for, %u open at once\n", dialogs, most_dialogs);
}

}  // namespace
}  // namespace limits_test

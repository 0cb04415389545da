// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What one user may take at once.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "core/unique_fd.hpp"
#include "tests/bus/bus_fixture.hpp"
#include "tests/support/image.hpp"

namespace bus_test {
namespace {

constexpr const char* limits_exceeded = "org.freedesktop.DBus.Error.LimitsExceeded";
constexpr unsigned most_devices = 3;
constexpr unsigned most_partitions = 4;

// The service with an option: the stack starts what $LOOPD_BINARY names.
class DeviceLimit : public Bus {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0) return;
    const char* given = std::getenv("LOOPD_BINARY");
    binary_ = given ? std::optional<std::string>(given) : std::nullopt;
    const std::string script = scratch_directory() + "/loopd-with-a-limit";
    std::ofstream(script) << "#!/bin/sh\nexec " << loopd_program()
                          << " --max-devices-per-user=" << most_devices
                          << " --max-partitions-per-user=" << most_partitions << "\n";
    ::chmod(script.c_str(), 0755);
    ::setenv("LOOPD_BINARY", script.c_str(), 1);
    Bus::SetUpTestSuite();
  }
  static void TearDownTestSuite() {
    Bus::TearDownTestSuite();
    if (::geteuid() != 0) return;
    if (binary_) {
      ::setenv("LOOPD_BINARY", binary_->c_str(), 1);
    } else {
      ::unsetenv("LOOPD_BINARY");
    }
  }

  Reply attach_next(BusClient& user) {
    files_.push_back(std::make_unique<ScratchFile>(64 * KiB, "allowed-" + std::to_string(++count_) + ".img"));
    const Reply reply = user.attach(files_.back()->fd());
    if (reply.ok()) remove_at_end(reply.values.at(0).text);
    return reply;
  }

  std::vector<std::string> fill(BusClient& user) {
    std::vector<std::string> objects;
    for (unsigned i = 0; i < most_devices; ++i) {
      const Reply reply = attach_next(user);
      EXPECT_TRUE(succeeds(reply));
      if (reply.ok()) objects.push_back(reply.values.at(0).text);
    }
    return objects;
  }

 private:
  static std::optional<std::string> binary_;
  static unsigned count_;
  std::vector<std::unique_ptr<ScratchFile>> files_;
};

std::optional<std::string> DeviceLimit::binary_;
unsigned DeviceLimit::count_ = 0;

TEST_F(DeviceLimit, IsAProperty) {
  EXPECT_EQ(root().property(root_path, "MaxDevicesPerUser", manager_interface).values.at(0),
            u32(most_devices));
}

TEST_F(DeviceLimit, IsToldAtOnceAndByNumber) {
  const auto user = connect(allowed_user);
  fill(*user);
  const auto start = Clock::now();
  const Reply refused = attach_next(*user);
  EXPECT_LT(Clock::now() - start, milliseconds(1000));
  EXPECT_TRUE(fails_with(refused, limits_exceeded, std::to_string(most_devices)));
  EXPECT_TRUE(fails_with(refused, limits_exceeded, "limit"));
  EXPECT_FALSE(attach_next(*connect(allowed_user)).ok()) << "of the user, not of the connection";
}

TEST_F(DeviceLimit, LeavesNothingOfTheOneTooMany) {
  const auto user = connect(allowed_user);
  fill(*user);
  const ScratchFile file(MiB, "allowed-one-too-many.img");
  const unsigned number = own_number();
  EXPECT_TRUE(fails_with(user->attach(file.fd(), {{"number", u32(number)}}), limits_exceeded));
  EXPECT_FALSE(node_exists(number));
  EXPECT_TRUE(root().manager("FindByFile", {handle(file.fd())}).values.at(0).items.empty());
}

TEST_F(DeviceLimit, IsEachUsersOwn) {
  fill(*connect(allowed_user));
  fill(*connect(another_user));
  EXPECT_TRUE(fails_with(attach_next(*connect(another_user)), limits_exceeded));
}

TEST_F(DeviceLimit, IsNotRoots) {
  for (unsigned i = 0; i < 2 * most_devices; ++i) EXPECT_TRUE(succeeds(attach_next(root())));
}

TEST_F(DeviceLimit, DoesNotCountWhatWasRemoved) {
  const auto user = connect(allowed_user);
  for (int round = 0; round < 3; ++round) {
    const std::vector<std::string> objects = fill(*user);
    ASSERT_EQ(objects.size(), most_devices);
    EXPECT_TRUE(fails_with(attach_next(*user), limits_exceeded));
    for (const std::string& object : objects) EXPECT_TRUE(succeeds(user->device(object, "Remove")));
  }
}

TEST_F(DeviceLimit, DoesNotCountWhatLosetupDetached) {
  const auto user = connect(allowed_user);
  const std::vector<std::string> objects = fill(*user);
  ASSERT_EQ(objects.size(), most_devices);
  ASSERT_EQ(kernel_detach(number_of(objects[1])), 0);
  ASSERT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesRemoved", objects[1]) != nullptr; }));
  EXPECT_TRUE(succeeds(attach_next(*user)));
  EXPECT_TRUE(fails_with(attach_next(*user), limits_exceeded));
}

TEST_F(DeviceLimit, DoesNotCountFailures) {
  const auto user = connect(allowed_user);
  const ScratchFile file(MiB, "allowed-failing.img");
  for (unsigned i = 0; i < 3 * most_devices; ++i) {
    EXPECT_TRUE(fails_with(user->attach(file.fd(), {{"offset", u64(2 * MiB)}}), invalid_args));
  }
  EXPECT_EQ(fill(*user).size(), most_devices);
}

TEST_F(DeviceLimit, HoldsForManyCallsAtOnce) {
  const auto user = connect(allowed_user);
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (unsigned i = 0; i < 2 * most_devices + 1; ++i) {
    files.push_back(std::make_unique<ScratchFile>(64 * KiB, "allowed-at-once-" + std::to_string(i)));
    replies.push_back(user->start({.object = root_path,
                                   .interface = manager_interface,
                                   .member = "Attach",
                                   .arguments = {handle(files.back()->fd()), options({})}}));
  }
  unsigned attached = 0;
  for (const auto& reply : replies) {
    ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
    if ((*reply)->ok()) {
      ++attached;
      remove_at_end((*reply)->values.at(0).text);
    } else {
      EXPECT_TRUE(fails_with(**reply, limits_exceeded));
    }
  }
  EXPECT_EQ(attached, most_devices);
}

TEST_F(DeviceLimit, CountsWhatWasAttachedBeforeARestart) {
  const auto user = connect(allowed_user);
  fill(*user);
  stack().stop_loopd(SIGKILL);
  stack().start_loopd();
  EXPECT_TRUE(fails_with(attach_next(*user), limits_exceeded));
}

TEST_F(DeviceLimit, DoesNotStandInTheWayOfReuse) {
  const auto user = connect(allowed_user);
  const ScratchFile file(MiB, "allowed-reused.img");
  const Reply first = user->attach(file.fd());
  ASSERT_TRUE(succeeds(first));
  remove_at_end(first.values.at(0).text);
  while (attach_next(*user).ok()) {
  }
  const Reply again = user->attach(file.fd(), {{"reuse", boolean(true)}});
  ASSERT_TRUE(succeeds(again));
  EXPECT_EQ(again.values, first.values);
}

// Of the service with these options.
class PartitionLimit : public DeviceLimit {
 protected:
  static void write_table(int fd, unsigned partitions) {
    std::vector<loop::testing::GptPartition> table;
    for (unsigned i = 1; i <= partitions; ++i) table.push_back({i * MiB, MiB, "p" + std::to_string(i)});
    loop::testing::write_gpt(fd, image_size, table);
  }
  std::unique_ptr<ScratchFile> image_with(unsigned partitions) {
    auto file =
        std::make_unique<ScratchFile>(image_size, "allowed-parts-" + std::to_string(++images_) + ".img");
    write_table(file->fd(), partitions);
    return file;
  }
  Reply attach_image(BusClient& user, const ScratchFile& file) {
    const Reply reply = user.attach(file.fd(), {{"partition-scan", boolean(true)}});
    if (reply.ok()) remove_at_end(reply.values.at(0).text);
    return reply;
  }
  // Attached by it; empty where that failed.
  std::string object_of_image(BusClient& user, const ScratchFile& file) {
    const Reply reply = attach_image(user, file);
    EXPECT_TRUE(succeeds(reply));
    return reply.ok() ? reply.values.at(0).text : "";
  }

 private:
  static constexpr uint64_t image_size = 8 * MiB;
  static unsigned images_;
};

unsigned PartitionLimit::images_ = 0;

TEST_F(PartitionLimit, LeavesNothingOfADeviceWithTooMany) {
  const auto user = connect(allowed_user);
  const auto first = image_with(3), second = image_with(2), third = image_with(1);
  ASSERT_TRUE(succeeds(attach_image(*user, *first)));
  const Reply refused = attach_image(*user, *second);
  EXPECT_TRUE(fails_with(refused, limits_exceeded, "2 partitions"));
  EXPECT_TRUE(fails_with(refused, limits_exceeded, "1 more"));
  EXPECT_TRUE(root().manager("FindByFile", {handle(second->fd())}).values.at(0).items.empty());
  EXPECT_TRUE(succeeds(attach_image(*user, *third)));
  const Reply without = user->attach(second->fd());
  ASSERT_TRUE(succeeds(without));
  remove_at_end(without.values.at(0).text);
}

TEST_F(PartitionLimit, IsNotRootsAndEachUsersOwn) {
  const auto user = connect(allowed_user), another = connect(another_user);
  const auto one = image_with(4), two = image_with(4), three = image_with(6);
  EXPECT_TRUE(succeeds(attach_image(*user, *one)));
  EXPECT_TRUE(succeeds(attach_image(*another, *two)));
  EXPECT_TRUE(succeeds(attach_image(root(), *three)));
}

TEST_F(PartitionLimit, HoldsForATableThatIsReadAgain) {
  const auto user = connect(allowed_user);
  const auto file = image_with(1);
  const std::string object = object_of_image(*user, *file);
  ASSERT_FALSE(object.empty());
  write_table(file->fd(), 6);
  EXPECT_TRUE(fails_with(user->device(object, "RescanPartitions"), limits_exceeded, "6 partitions"));
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 1U);
  write_table(file->fd(), 4);
  EXPECT_TRUE(succeeds(user->device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 4U);
}

TEST_F(PartitionLimit, HoldsForATableThatIsWrittenThroughTheDevice) {
  const auto user = connect(allowed_user);
  const auto file = image_with(1);
  const std::string object = object_of_image(*user, *file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  const auto write_through_device = [&](unsigned partitions) {
    const loop::UniqueFd device(::open(node_of(number_of(object)).c_str(), O_RDWR | O_CLOEXEC));
    write_table(device.get(), partitions);
  };
  write_through_device(6);
  let_events_arrive();
  write_through_device(4);
  ASSERT_TRUE(root().wait_for([&] { return root().count_signals("PartitionAdded", object + "/p4") == 1; }));
  EXPECT_EQ(root().count_signals("PartitionAdded", object + "/p5"), 0U);
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 4U);
}

class CallLimit : public Bus {};

TEST_F(CallLimit, IsSixtyFourDevicesByDefault) {
  EXPECT_EQ(root().property(root_path, "MaxDevicesPerUser", manager_interface).values.at(0), u32(64));
}

// Nobody has to answer these questions: they are no dialogs.
TEST_F(CallLimit, LetsAUserAttachAFewDozenFilesAtOnce) {
  const auto user = connect(allowed_user);
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (unsigned i = 0; i < 32; ++i) {
    files.push_back(std::make_unique<ScratchFile>(64 * KiB, "allowed-dozen-" + std::to_string(i)));
    replies.push_back(user->start({.object = root_path,
                                   .interface = manager_interface,
                                   .member = "Attach",
                                   .arguments = {handle(files.back()->fd()), options({})}}));
  }
  unsigned attached = 0;
  for (const auto& reply : replies) {
    ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
    if (!(*reply)->ok()) continue;
    ++attached;
    remove_at_end((*reply)->values.at(0).text);
  }
  EXPECT_EQ(attached, 32U);
}

// Of calls that touch a file, sixty-four at once are a user's; each of the others is
// refused while those wait, and none of another user's.
TEST_F(CallLimit, OfOneUserRefusesTheRestAtOnceAndNobodyElse) {
  const ScratchFile file(MiB, "allowed-many-calls.img");
  const ScratchFile others(MiB, "allowed-others.img");
  std::vector<std::unique_ptr<BusClient>> clients;  // the bus lets each wait for 128 answers
  for (int i = 0; i < 8; ++i) clients.push_back(connect(allowed_user));
  const auto other = connect(another_user);
  const Reply attached = clients[0]->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  remove_at_end(object);
  // Stopped, it finds all the calls there at once, and they wait for one another:
  // they are about one device.
  std::vector<std::pair<BusClient*, std::shared_ptr<std::optional<Reply>>>> replies;
  ::kill(stack().loopd().pid(), SIGSTOP);
  for (const auto& client : clients) {
    for (int i = 0; i < 100; ++i) {
      const Call call{.object = object, .interface = device_interface, .member = "Resize"};
      replies.emplace_back(client.get(), client->start(call));
    }
  }
  const auto attaching = other->start({.object = root_path,
                                       .interface = manager_interface,
                                       .member = "Attach",
                                       .arguments = {handle(others.fd()), options({})}});
  ::kill(stack().loopd().pid(), SIGCONT);
  ASSERT_TRUE(other->wait_for([&] { return attaching->has_value(); }));
  EXPECT_TRUE(succeeds(**attaching));
  if ((*attaching)->ok()) remove_at_end((*attaching)->values.at(0).text);
  unsigned served = 0;
  unsigned refused = 0;
  for (const auto& [client, reply] : replies) {
    ASSERT_TRUE(client->wait_for([&, answer = reply] { return answer->has_value(); }));
    if ((*reply)->ok()) {
      ++served;
    } else {
      ++refused;
      EXPECT_TRUE(fails_with(**reply, limits_exceeded, "64"));
    }
  }
  EXPECT_GE(served, 64U);
  EXPECT_GT(refused, 0U);
  RecordProperty("refused", static_cast<int>(refused));
  EXPECT_TRUE(succeeds(clients[0]->device(object, "Resize"))) << "the limit is for calls under way";
}

// Each watches a node, of which the kernel lets the service do so many.
TEST_F(CallLimit, IsSixteenRemovalsOfOneUserThatWait) {
  const ScratchFile file(64 * KiB, "allowed-held.img");
  const auto user = connect(allowed_user);
  const Reply attached = user->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  remove_at_end(object);
  loop::UniqueFd held(::open(node_of(number_of(object)).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  const Value patiently = options({{"timeout", u64(60'000'000)}});
  std::vector<std::shared_ptr<std::optional<Reply>>> waiting;
  for (int i = 0; i < 16; ++i) {
    waiting.push_back(user->start({.object = object,
                                   .interface = device_interface,
                                   .member = "RemoveWithOptions",
                                   .arguments = {patiently}}));
  }
  EXPECT_TRUE(fails_with(user->device(object, "RemoveWithOptions", {patiently}), limits_exceeded, "16"));
  EXPECT_TRUE(fails_with(user->device(object, "Remove"), device_busy)) << "which does not wait";
  held.reset();
  unsigned removed = 0;
  for (const auto& reply : waiting) {
    ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
    if ((*reply)->ok()) ++removed;
  }
  EXPECT_EQ(removed, 1U) << "the others find nothing";
}

}  // namespace
}  // namespace bus_test

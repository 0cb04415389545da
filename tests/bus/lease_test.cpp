// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A device goes with the client that holds its lease, however that leaves.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

const Options leased{{"lease", boolean(true)}};

class Lease : public Bus {
 protected:
  std::string attach_leased(BusClient& client, const ScratchFile& file, Options wishes = {}) {
    wishes.emplace_back("lease", boolean(true));
    return attach_as(client, file, wishes);
  }

  // Of the main part of the test, which is without a service.
  void leave(std::unique_ptr<BusClient>& client) {
    const std::string name = client->unique_name();
    client.reset();
    EXPECT_TRUE(root().wait_for_name(name, false));
  }
};

TEST_F(Lease, IsShownWithItsHolder) {
  const ScratchFile file(MiB);
  const ScratchFile other(MiB);
  const auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("Lease"), text(client->unique_name()));
  EXPECT_EQ(properties_of(attach(other)).at("Lease"), text(""));
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
  EXPECT_EQ(root().find_signal("InterfacesAdded", object)->arguments.at(1).at(device_interface).at("Lease"),
            text(client->unique_name()));
}

TEST_F(Lease, EndsWithTheConnectionOfItsHolder) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  auto client = connect();
  const std::string object = attach_leased(*client, file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  client.reset();
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("InterfacesRemoved", object) == 1; }));
  EXPECT_TRUE(goes(object));
  for (unsigned p = 1; p <= 5; ++p) EXPECT_FALSE(node_exists(number_of(object), p));
}

TEST_F(Lease, EndsWithTheProcessOfItsHolder) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  ChildProcess client({.body = [&] {
    BusClient own(stack().address());
    const bool attached = own.attach(file.fd(), {{"lease", boolean(true)}, {"number", u32(number)}}).ok();
    [[maybe_unused]] const ssize_t written = ::write(ends[1], attached ? "y" : "n", 1);
    for (;;) ::pause();
    return 0;
  }});
  ::close(ends[1]);
  char answer = 0;
  EXPECT_EQ(::read(ends[0], &answer, 1), 1);
  ::close(ends[0]);
  ASSERT_EQ(answer, 'y');
  EXPECT_TRUE(is_attached(number));
  client.signal(SIGKILL);
  EXPECT_TRUE(goes(object_of(number)));
}

TEST_F(Lease, OfAnOrdinaryUserEndsToo) {
  const ScratchFile file(MiB, "allowed-leased.img");
  auto user = connect(allowed_user);
  const std::string object = attach_leased(*user, file);
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("OwnerUID"), u32(allowed_user));
  user.reset();
  EXPECT_TRUE(goes(object));
}

TEST_F(Lease, EndsWithItsHolderAlone) {
  const ScratchFile of_first(MiB, "allowed-first.img");
  const ScratchFile of_second(MiB, "allowed-second.img");
  const ScratchFile without(MiB, "allowed-without.img");
  auto first = connect(allowed_user);
  const auto second = connect(allowed_user);
  const std::string goes_away = attach_leased(*first, of_first);
  const std::string stays = attach_leased(*second, of_second);
  const Reply plain = first->attach(without.fd());
  ASSERT_TRUE(succeeds(plain));
  remove_at_end(plain.values.at(0).text);
  ASSERT_FALSE(goes_away.empty());
  ASSERT_FALSE(stays.empty());
  first.reset();
  EXPECT_TRUE(goes(goes_away));
  let_events_arrive();
  EXPECT_TRUE(is_attached(number_of(stays)));
  EXPECT_TRUE(is_attached(number_of(plain.values.at(0).text)));
}

TEST_F(Lease, OfManyDevicesEndsForAll) {
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::string> objects;
  auto client = connect();
  for (int i = 0; i < 20; ++i) {
    files.push_back(std::make_unique<ScratchFile>(64 * KiB));
    objects.push_back(attach_leased(*client, *files.back()));
    ASSERT_FALSE(objects.back().empty());
  }
  client.reset();
  for (const std::string& object : objects) EXPECT_TRUE(goes(object)) << object;
}

TEST_F(Lease, OfAMountedDeviceEndsWithTheMount) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("leased");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  client.reset();
  EXPECT_TRUE(soon([&] { return sysfs(number_of(object), "loop/autoclear") == "1"; }));
  EXPECT_TRUE(is_attached(number_of(object)));
  EXPECT_TRUE(root().has_object(object));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(goes(object));
}

TEST_F(Lease, OfADeviceWithAMountedPartitionEndsWithTheMount) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  auto client = connect();
  const std::string object = attach_leased(*client, file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const MountedPartition mounted(object, "leased partition");
  client.reset();
  EXPECT_TRUE(soon([&] { return sysfs(number_of(object), "loop/autoclear") == "1"; }));
  EXPECT_TRUE(node_exists(number_of(object), 2));
  ASSERT_TRUE(mounted.point().unmount());
  EXPECT_TRUE(goes(object));
  for (unsigned p = 1; p <= 5; ++p) EXPECT_FALSE(node_exists(number_of(object), p));
}

TEST_F(Lease, OfADeviceThatIsOpenEndsWithTheLastClose) {
  const ScratchFile file(MiB);
  auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  loop::UniqueFd holder(::open(node_of(number_of(object)).c_str(), O_RDONLY | O_CLOEXEC));
  client.reset();
  EXPECT_TRUE(soon([&] { return sysfs(number_of(object), "loop/autoclear") == "1"; }));
  EXPECT_TRUE(is_attached(number_of(object)));
  holder.reset();
  EXPECT_TRUE(goes(object));
}

TEST_F(Lease, EndsWhereItsHolderLeftWhileTheServiceWasAway) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    const ScratchFile file(MiB);
    auto client = connect();
    const std::string object = attach_leased(*client, file);
    ASSERT_FALSE(object.empty());
    stack().stop_loopd(signal);
    leave(client);
    EXPECT_TRUE(is_attached(number_of(object)));
    stack().start_loopd();
    EXPECT_TRUE(goes(object)) << "signal " << signal;
  }
}

TEST_F(Lease, OfAMountedDeviceEndsLaterToo) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("leased and away");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  stack().stop_loopd();
  leave(client);
  stack().start_loopd();
  EXPECT_TRUE(soon([&] { return sysfs(number_of(object), "loop/autoclear") == "1"; }));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(goes(object));
}

TEST_F(Lease, OfAHolderWhoStaysSurvivesARestartAndEndsAfterIt) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    const ScratchFile file(MiB);
    auto client = connect();
    const std::string object = attach_leased(*client, file);
    ASSERT_FALSE(object.empty());
    stack().stop_loopd(signal);
    stack().start_loopd();
    let_events_arrive();
    EXPECT_TRUE(is_attached(number_of(object)));
    EXPECT_EQ(properties_of(object).at("Lease"), text(client->unique_name()));
    client.reset();
    EXPECT_TRUE(goes(object)) << "signal " << signal;
  }
}

// Unique names start anew on the new bus: the one that held the lease is another's there.
TEST_F(Lease, EndsWithTheBusEvenIfSomebodyHasTheNameThere) {
  const ScratchFile file(MiB);
  const auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  stack().stop_loopd();

  Stack next;
  next.stop_loopd();
  std::filesystem::copy(
      stack().state_directory(), next.state_directory(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  std::vector<std::unique_ptr<BusClient>> strangers;
  do {
    strangers.push_back(std::make_unique<BusClient>(next.address()));
  } while (strangers.back()->unique_name() != client->unique_name() && strangers.size() < 200);
  EXPECT_EQ(strangers.back()->unique_name(), client->unique_name());
  next.start_loopd();
  EXPECT_TRUE(soon([&] { return !is_attached(number_of(object)); }));
  next.stop_loopd();
  stack().start_loopd();
  EXPECT_FALSE(root().has_object(object));
}

TEST_F(Lease, OfAHolderWhoDoesNotWaitForTheAnswerEndsToo) {
  std::vector<std::unique_ptr<ScratchFile>> files;
  for (int i = 0; i < 20; ++i) {
    files.push_back(std::make_unique<ScratchFile>(MiB));
    auto client = connect();
    client->start({.object = root_path,
                   .interface = manager_interface,
                   .member = "Attach",
                   .arguments = {handle(files.back()->fd()), options(leased)}});
    client->process();
    leave(client);
  }
  let_events_arrive();
  for (const auto& file : files) {
    EXPECT_TRUE(soon([&] {
      return run({"losetup", "--noheadings", "--associated", file->path()}).output.empty();
    })) << file->path();
  }
}

TEST_F(Lease, IsNoReasonToKeepAnotherFromRemovingTheDevice) {
  const ScratchFile file(MiB);
  const auto client = connect();
  const std::string object = attach_leased(*client, file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(Lease, DoesNotOutliveTheAttachment) {
  const ScratchFile file(MiB);
  const ScratchFile next(MiB);
  const unsigned number = own_number();
  auto client = connect();
  ASSERT_EQ(attach_leased(*client, file, {{"number", u32(number)}}), object_of(number));
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(kernel_attach(number, next.fd()), 0);
  let_events_arrive();
  EXPECT_EQ(properties_of(object_of(number)).at("Lease"), text(""));
  leave(client);
  let_events_arrive();
  EXPECT_TRUE(is_attached(number)) << "what somebody else attached was removed";
  EXPECT_EQ(kernel_detach(number), 0);
}

}  // namespace
}  // namespace bus_test

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service ends and starts; devices stay.
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Lifecycle : public Bus {};

TEST_F(Lifecycle, SigtermEndsTheServiceAtOnceAndDevicesStay) {
  const ScratchFile file(MiB, "allowed-stays.img");
  const ScratchFile roots(8 * MiB);
  partition(roots, gpt_with_five_partitions);
  const auto user = connect(allowed_user);
  const Reply attached = user->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string mine = attached.values.at(0).text;
  remove_at_end(mine);
  const std::string roots_object =
      attach(roots, {{"partition-scan", boolean(true)}, {"reference", text("stays")}});
  ASSERT_FALSE(roots_object.empty());
  const Value before = properties_of(roots_object);

  const auto start = Clock::now();
  const auto status = stack().stop_loopd();
  EXPECT_LT(Clock::now() - start, milliseconds(2'000));
  EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "status " << status.value_or(-1);
  EXPECT_TRUE(is_attached(number_of(mine)));
  EXPECT_EQ(sysfs_partitions(number_of(roots_object)).size(), 5U);

  stack().start_loopd();
  EXPECT_EQ(properties_of(mine).at("OwnerUID"), u32(allowed_user));
  const Value after = properties_of(roots_object);
  for (const Value& entry : before.items) {
    const std::string& name = entry.items.at(0).text;
    if (name != "Symlinks") {
      EXPECT_EQ(after.at(name), entry.items.at(1)) << name;
    }
  }
  EXPECT_EQ(properties_of(roots_object + "/p2", partition_interface).at("Name"), text("second one"));
  EXPECT_TRUE(succeeds(user->device(mine, "Remove"))) << "the owner may still remove it";
}

TEST_F(Lifecycle, AKilledServiceComesBackWithEveryDevice) {
  const ScratchFile file(MiB);
  std::vector<std::string> objects;
  for (int i = 0; i < 3; ++i) objects.push_back(attach(file, {{"read-only", boolean(true)}}));
  stack().stop_loopd(SIGKILL);
  stack().start_loopd();
  for (const std::string& object : objects) {
    EXPECT_TRUE(root().has_object(object));
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(Lifecycle, WhatHappenedWhileTheServiceWasAwayIsSeen) {
  const ScratchFile gone(8 * MiB);
  partition(gone, gpt_with_five_partitions);
  const ScratchFile came(MiB);
  const unsigned number = own_number();
  const unsigned other = own_number();
  ASSERT_EQ(attach(gone, {{"number", u32(number)}, {"partition-scan", boolean(true)}}), object_of(number));
  stack().stop_loopd();
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(kernel_attach(other, came.fd()), 0);
  stack().start_loopd();
  EXPECT_FALSE(root().has_object(object_of(number)));
  EXPECT_TRUE(root().has_object(object_of(other)));
  // The partitions that nobody took away are not the next file's.
  const ScratchFile next(8 * MiB);
  ASSERT_EQ(attach(next, {{"number", u32(number)}}), object_of(number));
  EXPECT_TRUE(sysfs_partitions(number).empty());
  EXPECT_TRUE(properties_of(object_of(number)).at("Partitions").items.empty());
  EXPECT_TRUE(succeeds(root().device(object_of(other), "Remove")));
}

TEST_F(Lifecycle, AReusedNumberDoesNotInheritAnOwner) {
  const ScratchFile users(MiB, "allowed-inherited.img");
  const ScratchFile roots(MiB);
  const unsigned number = own_number();
  const auto user = connect(allowed_user);
  ASSERT_TRUE(succeeds(user->attach(users.fd(), {{"number", u32(number)}})));
  EXPECT_EQ(properties_of(object_of(number)).at("OwnerUID"), u32(allowed_user));
  stack().stop_loopd();
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(kernel_attach(number, roots.fd()), 0);
  stack().start_loopd();
  EXPECT_EQ(properties_of(object_of(number)).at("OwnerUID"), u32(0));
  EXPECT_FALSE(user->device(object_of(number), "Remove").ok());
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

TEST_F(Lifecycle, SigtermIsObeyedWhileCallsAreUnderWay) {
  const ScratchFile file(MiB);
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (int i = 0; i < 10; ++i) {
    replies.push_back(
        root().start({.object = root_path,
                      .interface = manager_interface,
                      .member = "Attach",
                      .arguments = {handle(file.fd()), options({{"read-only", boolean(true)}})}}));
  }
  const auto status = stack().stop_loopd();
  EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "status " << status.value_or(-1);
  stack().start_loopd();
  // What was answered is there; what was not has left nothing that cannot be found.
  for (const auto& reply : replies) {
    ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
    if ((*reply)->ok()) {
      EXPECT_TRUE(root().has_object((*reply)->values.at(0).text));
    }
  }
  const Reply left = root().manager("FindByFile", {handle(file.fd())});
  ASSERT_TRUE(succeeds(left));
  for (const std::string& object : left.values.at(0).texts()) {
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(Lifecycle, TheLogSaysWhatWasDoneForWhom) {
  const ScratchFile file(MiB, "allowed-two\nlines.img");
  const auto user = connect(allowed_user);
  const Reply attached = user->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  remove_at_end(object);
  const std::string name = object.substr(object.rfind('/') + 1);
  file.resize(2 * MiB);
  ASSERT_TRUE(succeeds(user->device(object, "Resize")));
  ASSERT_TRUE(succeeds(user->device(object, "Remove")));
  const std::string who = " for user " + std::to_string(allowed_user) + "\n";
  const auto logged = [this](const std::string& line) {
    return soon([&] { return stack().loopd_log().find(line) != std::string::npos; });
  };
  EXPECT_TRUE(logged("allowed-two\\x0alines.img to " + name + who))
      << "as one line, whatever the file's name is";
  EXPECT_TRUE(logged("resized " + name + " from 1048576 to 2097152 bytes" + who));
  EXPECT_TRUE(logged("removed " + name + who));
}

TEST_F(Lifecycle, HelpAndVersionNeedNoBus) {
  const std::string program = loopd_program();
  const CommandResult help = run({program, "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.output.find("--version"), std::string::npos);
  const CommandResult version = run({program, "--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_NE(version.output.find(root().property(root_path, "Version", manager_interface).values.at(0).text),
            std::string::npos);
  EXPECT_NE(run({program, "--no-such-option"}).status, 0);
}

}  // namespace
}  // namespace bus_test

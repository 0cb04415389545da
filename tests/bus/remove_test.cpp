// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <poll.h>
#include <sys/swap.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Remove : public Bus {
 protected:
  void expect_gone(const std::string& object) {
    const unsigned number = number_of(object);
    EXPECT_FALSE(is_attached(number));
    EXPECT_FALSE(node_exists(number));
    EXPECT_FALSE(std::filesystem::exists("/sys/block/loop" + std::to_string(number)));
    EXPECT_FALSE(root().has_object(object));
    EXPECT_TRUE(root().wait_for([&] { return root().count_signals("InterfacesRemoved", object) == 1; }));
  }

  // What a refusal must leave as it was.
  struct State {
    std::vector<std::optional<std::string>> kernel;
    Value properties;
    bool operator==(const State&) const = default;
  };
  State state_of(const std::string& object) {
    State state;
    for (const char* attribute :
         {"size", "ro", "diskseq", "loop/autoclear", "loop/backing_file", "loop/offset", "loop/sizelimit",
          "loop/partscan", "loop/dio", "queue/logical_block_size"}) {
      state.kernel.push_back(sysfs(number_of(object), attribute));
    }
    state.properties = properties_of(object);
    std::erase_if(state.properties.items,
                  [](const Value& entry) { return entry.items.at(0).text == "Symlinks"; });  // udev's
    return state;
  }
};

// Holds a file open in another process.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    if (::pipe2(ready_, O_CLOEXEC) < 0) return;
    process_ = std::make_unique<ChildProcess>(ChildProcess::Setup{.body = [this, path] {
      const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      [[maybe_unused]] const ssize_t written = ::write(ready_[1], fd >= 0 ? "y" : "n", 1);
      for (;;) ::pause();
      return 0;
    }});
    ::close(ready_[1]);
    char answer = 0;
    holds_ = ::read(ready_[0], &answer, 1) == 1 && answer == 'y';
    ::close(ready_[0]);
  }
  bool holds() const { return holds_; }
  pid_t pid() const { return process_->pid(); }
  void release() { process_.reset(); }

 private:
  int ready_[2] = {-1, -1};
  bool holds_ = false;
  std::unique_ptr<ChildProcess> process_;
};

TEST_F(Remove, LeavesNothingOfTheDevice) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"number", u32(own_number())}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  expect_gone(object);
  for (unsigned p = 1; p <= 5; ++p) {
    EXPECT_FALSE(node_exists(number_of(object), p));
    EXPECT_EQ(root().count_signals("InterfacesRemoved", object + "/p" + std::to_string(p)), 1U);
  }
}

TEST_F(Remove, WorksRightAfterAttachWhileUdevIsProbing) {
  const ScratchFile file(MiB);
  for (int cycle = 0; cycle < 30; ++cycle) {
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    ASSERT_TRUE(succeeds(root().device(object, "Remove"))) << "cycle " << cycle;
  }
}

TEST_F(Remove, WorksWhenAProgramHasJustWritten) {
  const ScratchFile file(MiB);
  for (int cycle = 0; cycle < 10; ++cycle) {
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    {
      const loop::UniqueFd node(::open(node_of(number_of(object)).c_str(), O_RDWR | O_CLOEXEC));
      ASSERT_EQ(::pwrite(node.get(), "written", 7, 0), 7);
    }
    ASSERT_TRUE(succeeds(root().device(object, "Remove"))) << "cycle " << cycle;
    EXPECT_EQ(file.read(0, 7), "written");
  }
}

TEST_F(Remove, RefusesAMountedDeviceAndChangesNothing) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("busy mount");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  const State before = state_of(object);
  EXPECT_TRUE(fails_with(root().device(object, "Remove"), device_busy, point.path()));
  EXPECT_TRUE(state_of(object) == before);
  std::ofstream inside(point.path() + "/still-works");
  inside << "yes" << std::flush;
  EXPECT_TRUE(inside.good());
  inside.close();
  EXPECT_EQ(sysfs(number_of(object), "loop/autoclear"), "0");
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(is_attached(number_of(object))) << "it vanished with the mount";
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  expect_gone(object);
}

TEST_F(Remove, RefusesADeviceWithAMountedPartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const MountedPartition mounted(object, "busy partition");
  const State before = state_of(object);
  EXPECT_TRUE(fails_with(root().device(object, "Remove"), device_busy, mounted.point().path()));
  EXPECT_TRUE(state_of(object) == before);
  EXPECT_EQ(sysfs_partitions(number_of(object)).size(), 5U);
  ASSERT_TRUE(mounted.point().unmount());
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Remove, RefusesActiveSwap) {
  const ScratchFile file(4 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string node = node_of(number_of(object));
  ASSERT_EQ(run({"mkswap", "-q", node}).status, 0);
  if (::swapon(node.c_str(), 0) < 0) GTEST_SKIP() << "no swap here, errno " << errno;
  const State before = state_of(object);
  const Reply reply = root().device(object, "Remove");
  const bool unchanged = state_of(object) == before;
  ASSERT_EQ(::swapoff(node.c_str()), 0);
  EXPECT_TRUE(fails_with(reply, device_busy, "swap"));
  EXPECT_TRUE(unchanged);
  EXPECT_TRUE(is_attached(number_of(object)));
}

TEST_F(Remove, RefusesADeviceThatAProcessHasOpenAndNamesIt) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  Holder holder(node_of(number_of(object)));
  ASSERT_TRUE(holder.holds());
  const State before = state_of(object);
  EXPECT_TRUE(fails_with(root().device(object, "Remove"), device_busy, std::to_string(holder.pid())));
  EXPECT_TRUE(state_of(object) == before);
  holder.release();
  EXPECT_TRUE(is_attached(number_of(object))) << "it vanished at the last close";
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  expect_gone(object);
}

TEST_F(Remove, RefusesADeviceWithAnOpenPartitionAndNamesIt) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const unsigned number = number_of(object);
  Holder holder(node_of(number) + "p3");
  ASSERT_TRUE(holder.holds());
  const State before = state_of(object);
  const Reply reply = root().device(object, "Remove");
  EXPECT_TRUE(fails_with(reply, device_busy, std::to_string(holder.pid())));
  EXPECT_TRUE(fails_with(reply, device_busy, "loop" + std::to_string(number) + "p3"));
  EXPECT_TRUE(state_of(object) == before);
  EXPECT_EQ(sysfs_partitions(number).size(), 5U);
  holder.release();
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Remove, RefusesADeviceUnderAnotherLoopDeviceAndNamesIt) {
  const ScratchFile file(MiB);
  const std::string lower = attach(file);
  ASSERT_FALSE(lower.empty());
  std::string upper;
  {
    const loop::UniqueFd disk(::open(node_of(number_of(lower)).c_str(), O_RDWR | O_CLOEXEC));
    upper = attach(disk.get());
    ASSERT_FALSE(upper.empty());
  }
  const Reply reply = root().device(lower, "Remove");
  EXPECT_TRUE(fails_with(reply, device_busy, "loop" + std::to_string(number_of(upper))));
  EXPECT_TRUE(succeeds(root().device(upper, "Remove")));
  EXPECT_TRUE(succeeds(root().device(lower, "Remove")));
}

TEST_F(Remove, ASecondTimeSaysThatItIsGone) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  const Reply again = root().device(object, "Remove");
  EXPECT_TRUE(again.error == unknown_object || again.error == not_attached) << again;
}

TEST_F(Remove, OfTheSameDeviceByManyAtOnceSucceedsOnce) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (int i = 0; i < 8; ++i) {
    replies.push_back(root().start({.object = object, .interface = device_interface, .member = "Remove"}));
  }
  int successes = 0;
  for (const auto& reply : replies) {
    ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
    if ((*reply)->ok()) ++successes;
    EXPECT_TRUE((*reply)->ok() || (*reply)->error == unknown_object || (*reply)->error == not_attached ||
                (*reply)->error == stale)
        << **reply;
  }
  EXPECT_EQ(successes, 1);
  expect_gone(object);
}

TEST_F(Remove, OfManyDevicesAtOnceRemovesThemAll) {
  const ScratchFile file(64 * KiB);
  std::vector<std::string> objects;
  for (int i = 0; i < 32; ++i) objects.push_back(attach(file, {{"read-only", boolean(true)}}));
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (const std::string& object : objects) {
    replies.push_back(root().start({.object = object, .interface = device_interface, .member = "Remove"}));
  }
  for (const auto& reply : replies) {
    ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
    EXPECT_TRUE(succeeds(**reply));
  }
}

class RemoveWithOptions : public Remove {};

TEST_F(RemoveWithOptions, WithoutAnyIsRemove) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().remove(object, {})));
  expect_gone(object);
}

TEST_F(RemoveWithOptions, LazyDetachesWhenTheLastHolderLetsGo) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  const MountPoint point("lazy");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_TRUE(succeeds(root().remove(object, {{"lazy", boolean(true)}})));
  EXPECT_TRUE(is_attached(number_of(object)));
  EXPECT_TRUE(root().has_object(object));
  EXPECT_EQ(properties_of(object).at("Autoclear"), boolean(true));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("InterfacesRemoved", object) == 1; }));
  EXPECT_FALSE(is_attached(number_of(object)));
  for (int i = 0; i < 20 && node_exists(number_of(object)); ++i) let_events_arrive();
  EXPECT_FALSE(node_exists(number_of(object))) << "the node stays after a lazy removal";
}

TEST_F(RemoveWithOptions, LazyRemovesADeviceThatNobodyUsesAtOnce) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().remove(object, {{"lazy", boolean(true)}})));
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("InterfacesRemoved", object) == 1; }));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(RemoveWithOptions, KeepNodeLeavesAnUnboundNode) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const unsigned number = own_number();
  const std::string object = attach(file, {{"number", u32(number)}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().remove(object, {{"keep-node", boolean(true)}})));
  EXPECT_FALSE(is_attached(number));
  EXPECT_TRUE(node_exists(number));
  EXPECT_TRUE(sysfs_partitions(number).empty());
  EXPECT_FALSE(root().has_object(object));
  // It can be used again.
  ASSERT_EQ(attach(file, {{"number", u32(number)}}), object);
  EXPECT_TRUE(sysfs_partitions(number).empty());
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(RemoveWithOptions, RefusesAnotherDiskSequence) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const uint64_t sequence = properties_of(object).at("DiskSequence").number;
  EXPECT_TRUE(fails_with(root().remove(object, {{"disk-sequence", u64(sequence - 1)}}), stale));
  EXPECT_TRUE(fails_with(root().remove(object, {{"disk-sequence", u64(sequence + 1)}}), stale));
  EXPECT_TRUE(is_attached(number_of(object)));
  EXPECT_TRUE(succeeds(root().remove(object, {{"disk-sequence", u64(sequence)}})));
}

TEST_F(RemoveWithOptions, ATimeoutWaitsForAnUnmount) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  const MountPoint point("waits");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  const auto reply = root().start({.object = object,
                                   .interface = device_interface,
                                   .member = "RemoveWithOptions",
                                   .arguments = {options({{"timeout", u64(15'000'000)}})}});
  // It waits: somebody else is served meanwhile, and finds the device as it was.
  const auto other = connect();
  EXPECT_TRUE(succeeds(other->manager("ListDevices")));
  EXPECT_FALSE(root().wait_for([&] { return reply->has_value(); }, milliseconds(300)));
  EXPECT_TRUE(is_attached(number_of(object)));
  ASSERT_TRUE(point.unmount());
  ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
  EXPECT_TRUE(succeeds(**reply));
  expect_gone(object);
}

TEST_F(RemoveWithOptions, ATimeoutWaitsForAProcessToCloseThePartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"number", u32(own_number())}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  Holder holder(node_of(number_of(object)) + "p1");
  ASSERT_TRUE(holder.holds());
  const auto reply = root().start({.object = object,
                                   .interface = device_interface,
                                   .member = "RemoveWithOptions",
                                   .arguments = {options({{"timeout", u64(15'000'000)}})}});
  EXPECT_FALSE(root().wait_for([&] { return reply->has_value(); }, milliseconds(300)));
  holder.release();
  ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
  EXPECT_TRUE(succeeds(**reply));
  expect_gone(object);
}

TEST_F(RemoveWithOptions, ATimeoutEnds) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  Holder holder(node_of(number_of(object)));
  const State before = state_of(object);
  const auto start = Clock::now();
  EXPECT_TRUE(fails_with(root().remove(object, {{"timeout", u64(500'000)}}), device_busy,
                         std::to_string(holder.pid())));
  EXPECT_GE(Clock::now() - start, milliseconds(400));
  EXPECT_LT(Clock::now() - start, milliseconds(5'000));
  EXPECT_TRUE(state_of(object) == before);
}

TEST_F(RemoveWithOptions, RefusesAnUnknownOptionAndAWrongType) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(fails_with(root().remove(object, {{"force", boolean(true)}}), invalid_args, "force"));
  EXPECT_TRUE(fails_with(root().remove(object, {{"lazy", text("yes")}}), invalid_args, "lazy"));
  EXPECT_TRUE(fails_with(root().remove(object, {{"keep-node", u32(1)}}), invalid_args, "keep-node"));
  EXPECT_TRUE(fails_with(root().remove(object, {{"disk-sequence", i32(1)}}), invalid_args, "disk-sequence"));
  EXPECT_TRUE(fails_with(root().remove(object, {{"timeout", u32(1)}}), invalid_args, "timeout"));
  EXPECT_TRUE(is_attached(number_of(object)));
}

class Resize : public Bus {};

TEST_F(Resize, TakesInTheGrownFile) {
  const ScratchFile file(64 * KiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  file.resize(96 * KiB);
  const Reply reply = root().device(object, "Resize");
  ASSERT_TRUE(succeeds(reply));
  EXPECT_EQ(reply.values.at(0), u64(64 * KiB));
  EXPECT_EQ(reply.values.at(1), u64(96 * KiB));
  EXPECT_EQ(properties_of(object).at("Size"), u64(96 * KiB));
  EXPECT_EQ(sysfs(number_of(object), "size"), "192");
  EXPECT_TRUE(root().wait_for([&] { return root().changed_property(object, "Size") == u64(96 * KiB); }));
}

TEST_F(Resize, WorksWhileMounted) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("resized");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  file.resize(24 * MiB);
  const Reply reply = root().device(object, "Resize");
  EXPECT_TRUE(succeeds(reply));
  EXPECT_EQ(properties_of(object).at("Size"), u64(24 * MiB));
}

TEST_F(Resize, ChangesNothingWhereTheFileIsAsItWas) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Reply reply = root().device(object, "Resize");
  ASSERT_TRUE(succeeds(reply));
  EXPECT_EQ(reply.values, (std::vector<Value>{u64(MiB), u64(MiB)}));
}

TEST_F(Resize, NeverPassesTheSizeLimit) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"size-limit", u64(2 * MiB)}});
  ASSERT_FALSE(object.empty());
  file.resize(4 * MiB);
  const Reply reply = root().device(object, "Resize");
  ASSERT_TRUE(succeeds(reply));
  EXPECT_EQ(reply.values.at(1), u64(2 * MiB));
}

TEST_F(Resize, KeepsThePartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"number", u32(own_number())}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  file.resize(12 * MiB);
  ASSERT_TRUE(succeeds(root().device(object, "Resize")));
  let_events_arrive();
  EXPECT_EQ(sysfs_partitions(number_of(object)).size(), 5U);
  EXPECT_EQ(root().count_signals("PartitionAdded", object + "/p1"), 1U);
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p1"), 0U);
}

TEST_F(Resize, FollowsATruncatedFileThatHasNoPartitions) {
  const ScratchFile file(2 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  file.resize(MiB);
  const Reply reply = root().device(object, "Resize");
  ASSERT_TRUE(succeeds(reply));
  EXPECT_EQ(reply.values, (std::vector<Value>{u64(2 * MiB), u64(MiB)}));
}

TEST_F(Resize, RefusesToCutThePartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  file.resize(6 * MiB);
  EXPECT_TRUE(fails_with(root().device(object, "Resize"), would_truncate));
  EXPECT_EQ(properties_of(object).at("Size"), u64(8 * MiB));
  EXPECT_EQ(sysfs(number_of(object), "size"), "16384");
}

TEST_F(Resize, ShowsASizeThatSomebodyElseChanged) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  file.resize(3 * MiB);
  ASSERT_EQ(run({"losetup", "--set-capacity", node_of(number_of(object))}).status, 0);
  EXPECT_TRUE(root().wait_for([&] { return root().changed_property(object, "Size") == u64(3 * MiB); }));
}

}  // namespace
}  // namespace bus_test

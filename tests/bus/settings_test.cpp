// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Open, SetDirectIO, RescanPartitions, and ResizeWithOptions with its guard.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

constexpr const char* not_supported = "org.freedesktop.DBus.Error.NotSupported";

class Settings : public Bus {
 protected:
  bool tells(const std::string& object, const std::string& property, const Value& value) {
    return root().wait_for([&] { return root().changed_property(object, property) == value; });
  }
};

class Open : public Settings {};

TEST_F(Open, GivesADescriptorForReading) {
  const ScratchFile file(MiB);
  file.write(512, "what is in the file");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Reply opened = root().device(object, "Open", {text("r")});
  ASSERT_TRUE(succeeds(opened));
  const int fd = opened.values.at(0).file->get();
  struct stat st {};
  ASSERT_EQ(::fstat(fd, &st), 0);
  EXPECT_TRUE(S_ISBLK(st.st_mode));
  EXPECT_EQ(u64(st.st_rdev), properties_of(object).at("Dev"));
  EXPECT_EQ(::fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
  std::string bytes(19, '\0');
  EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 512), 19);
  EXPECT_EQ(bytes, "what is in the file");
  EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
}

TEST_F(Open, GivesADescriptorForWriting) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  {
    const Reply opened = root().device(object, "Open", {text("rw")});
    ASSERT_TRUE(succeeds(opened));
    const int fd = opened.values.at(0).file->get();
    EXPECT_EQ(::fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    // By the node that udev watches, whose lock is the device's.
    const auto node = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd));
    EXPECT_EQ(text(node.string()), properties_of(object).at("DevPath"));
    ASSERT_EQ(::pwrite(fd, "written", 7, 4096), 7);
    EXPECT_EQ(::fsync(fd), 0);
  }
  EXPECT_EQ(file.read(4096, 7), "written");
  EXPECT_TRUE(succeeds(root().device(object, "Remove"))) << "the service keeps a descriptor";
}

TEST_F(Open, KeepsTheDeviceBusy) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  Reply opened = root().device(object, "Open", {text("r")});
  ASSERT_TRUE(succeeds(opened));
  EXPECT_TRUE(fails_with(root().device(object, "Remove"), device_busy));
  opened.values.clear();
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Open, ForWritingIsRefusedOnAReadOnlyDevice) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"read-only", boolean(true)}});
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(fails_with(root().device(object, "Open", {text("rw")}), not_writable));
  EXPECT_TRUE(succeeds(root().device(object, "Open", {text("r")})));
}

TEST_F(Open, RefusesAnotherMode) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  for (const char* mode : {"", "w", "wr", "rw+", "R", "r "}) {
    EXPECT_TRUE(fails_with(root().device(object, "Open", {text(mode)}), invalid_args, "mode")) << mode;
  }
}

TEST_F(Open, NeedsPermissionAlsoOnOnesOwnDevice) {
  const ScratchFile file(MiB, "allowed-but-not-to-open.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file);
  ASSERT_FALSE(object.empty());
  for (const char* mode : {"r", "rw"}) {
    EXPECT_TRUE(fails_with(user->device(object, "Open", {text(mode)}), interactive_authorization_required));
    EXPECT_TRUE(fails_with(user->device(object, "Open", {text(mode)}, true), access_denied));
  }
}

class ForOthers : public Settings {};

TEST_F(ForOthers, TheDeviceIsNotToBeChanged) {
  const ScratchFile file(MiB, "allowed-owned.img");
  const auto owner = connect(allowed_user);
  const std::string object = attach_as(*owner, file);
  ASSERT_FALSE(object.empty());
  const std::vector<std::pair<const char*, std::vector<Value>>> methods{
      {"SetAutoclear", {boolean(true)}},
      {"SetDirectIO", {boolean(true)}},
      {"RescanPartitions", {}},
      {"ResizeWithOptions", {options({{"size-limit", u64(64 * KiB)}})}}};
  for (const auto& [method, arguments] : methods) {
    const auto other = connect(another_user);
    EXPECT_TRUE(fails_with(other->device(object, method, arguments), interactive_authorization_required))
        << method;
    EXPECT_TRUE(fails_with(other->device(object, method, arguments, true), access_denied)) << method;
  }
  EXPECT_EQ(sysfs(number_of(object), "size"), "2048");
  stack().stop_polkit();  // the owner is not asked
  std::vector<Reply> replies;
  for (const auto& [method, arguments] : methods) replies.push_back(owner->device(object, method, arguments));
  stack().start_polkit();
  for (const Reply& reply : replies) EXPECT_TRUE(reply.ok() || reply.error == not_supported) << reply;
}

class DirectIO : public Settings {};

TEST_F(DirectIO, IsSetAndTakenBackAndTold) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(properties_of(object).at("DirectIO"), boolean(false));
  const Reply reply = root().device(object, "SetDirectIO", {boolean(true)});
  if (reply.error == not_supported) GTEST_SKIP() << reply;
  ASSERT_TRUE(succeeds(reply));
  EXPECT_EQ(sysfs(number_of(object), "loop/dio"), "1");
  EXPECT_TRUE(tells(object, "DirectIO", boolean(true)));
  EXPECT_EQ(properties_of(object).at("DirectIO"), boolean(true));
  ASSERT_TRUE(succeeds(root().device(object, "SetDirectIO", {boolean(true)}))) << "a second time";
  ASSERT_TRUE(succeeds(root().device(object, "SetDirectIO", {boolean(false)})));
  EXPECT_EQ(sysfs(number_of(object), "loop/dio"), "0");
  EXPECT_TRUE(tells(object, "DirectIO", boolean(false)));
}

TEST_F(DirectIO, IsNotSupportedAtAnUnalignedOffset) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"offset", u64(100)}});
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(fails_with(root().device(object, "SetDirectIO", {boolean(true)}), not_supported));
  EXPECT_EQ(properties_of(object).at("DirectIO"), boolean(false));
  EXPECT_TRUE(succeeds(root().device(object, "SetDirectIO", {boolean(false)}))) << "as it is";
}

TEST_F(DirectIO, MayBeChangedWhileMounted) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("direct");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  const Reply reply = root().device(object, "SetDirectIO", {boolean(true)});
  EXPECT_TRUE(reply.ok() || reply.error == not_supported) << reply;
  EXPECT_EQ(properties_of(object).at("DirectIO"), boolean(reply.ok()));
}

TEST_F(DirectIO, ThatSomebodyElseSetIsShown) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  if (run({"losetup", "--direct-io=on", node_of(number_of(object))}).status != 0) {
    GTEST_SKIP() << "no direct I/O here";
  }
  EXPECT_EQ(properties_of(object).at("DirectIO"), boolean(true));
  EXPECT_TRUE(tells(object, "DirectIO", boolean(true)));
}

class RescanPartitions : public Settings {
 protected:
  // Through the device, as a user of it would.
  void partition_device(const std::string& object, const char* table) {
    const CommandResult result =
        run({"sfdisk", "--quiet", "--force", "--no-reread", "--no-tell-kernel", node_of(number_of(object))},
            table);
    EXPECT_EQ(result.status, 0) << result.output;
  }

  std::vector<std::string> parts(const std::string& object, std::vector<unsigned> numbers) {
    std::vector<std::string> paths;
    for (const unsigned number : numbers) paths.push_back(object + "/p" + std::to_string(number));
    return paths;
  }
};

constexpr const char* second_moved_and_sixth_added =
    "label: gpt\n"
    "start=1MiB, size=1MiB, uuid=11111111-1111-4111-8111-111111111111, name=first\n"
    "2: start=9MiB, size=1MiB, uuid=22222222-2222-4222-8222-222222222222, name=\"moved\"\n"
    "3: start=4MiB, size=1MiB, uuid=33333333-3333-4333-8333-333333333333\n"
    "5: start=6MiB, size=1MiB, uuid=55555555-5555-4555-8555-555555555555, name=last\n"
    "6: start=8MiB, size=1MiB, uuid=66666666-6666-4666-8666-666666666666\n";

TEST_F(RescanPartitions, MakesThoseOfATableThatWasWrittenAfterTheAttach) {
  const ScratchFile file(10 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  partition(file, gpt_with_five_partitions);
  EXPECT_TRUE(sysfs_partitions(number_of(object)).empty());
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("Partitions").texts(), parts(object, {1, 2, 3, 4, 5}));
  EXPECT_EQ(all.at("PartitionScan"), boolean(true));
  EXPECT_TRUE(tells(object, "PartitionScan", boolean(true)));
  for (unsigned p = 1; p <= 5; ++p) EXPECT_TRUE(node_exists(number_of(object), p));
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Name"), text("second one"));
  ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  for (unsigned p = 1; p <= 5; ++p) EXPECT_FALSE(node_exists(number_of(object), p));
}

TEST_F(RescanPartitions, ChangesByTheDifferencesAlone) {
  const ScratchFile file(12 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  root().forget_signals();
  partition_device(object, second_moved_and_sixth_added);
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object).at("Partitions").texts(), parts(object, {1, 2, 3, 5, 6}));
  EXPECT_EQ(sysfs_partitions(number_of(object)), (std::vector<unsigned>{1, 2, 3, 5, 6}));
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Offset"), u64(9 * MiB));
  let_events_arrive();
  const std::map<unsigned, std::pair<size_t, size_t>> expected{
      // removed, added
      {1, {0, 0}}, {2, {1, 1}}, {3, {0, 0}}, {4, {1, 0}}, {5, {0, 0}}, {6, {0, 1}}};
  for (const auto& [number, counts] : expected) {
    const std::string one = object + "/p" + std::to_string(number);
    EXPECT_EQ(root().count_signals("PartitionRemoved", one), counts.first) << one;
    EXPECT_EQ(root().count_signals("PartitionAdded", one), counts.second) << one;
  }
}

TEST_F(RescanPartitions, OfATableThatIsAsItWasSaysNothing) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  root().forget_signals();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  let_events_arrive();
  for (const Signal& signal : root().signals()) {
    EXPECT_FALSE(signal.member == "PartitionAdded" || signal.member == "PartitionRemoved") << signal;
  }
}

TEST_F(RescanPartitions, LeavesAPartitionThatIsInUse) {
  const ScratchFile file(12 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const MountedPartition mounted(object, "in use");
  let_events_arrive();
  root().forget_signals();
  partition_device(object, second_moved_and_sixth_added);
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Offset"), u64(2 * MiB))
      << "it is the mounted one";
  EXPECT_EQ(sysfs_partitions(number_of(object)), (std::vector<unsigned>{1, 2, 3, 5, 6}));
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p2"), 0U);
  ASSERT_TRUE(mounted.point().unmount());
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Offset"), u64(9 * MiB));
}

TEST_F(RescanPartitions, TakesAllAwayWithTheTable) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(run({"wipefs", "--all", "--force", "--quiet", node_of(number_of(object))}).status, 0);
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_TRUE(properties_of(object).at("Partitions").items.empty());
  EXPECT_TRUE(sysfs_partitions(number_of(object)).empty());
  for (unsigned p = 1; p <= 5; ++p) EXPECT_FALSE(node_exists(number_of(object), p));
}

// As the kernel's own scan does, which drops what it has cached first.
TEST_F(RescanPartitions, ReadsTheTableAnewWhereTheOldOneIsCached) {
  const ScratchFile file(12 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const loop::UniqueFd holder(::open(node_of(number_of(object)).c_str(), O_RDONLY | O_CLOEXEC));
  std::string bytes(64 * KiB, '\0');
  ASSERT_EQ(::pread(holder.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  partition(file, second_moved_and_sixth_added);  // behind the device's back
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object).at("Partitions").texts(), parts(object, {1, 2, 3, 5, 6}));
}

TEST_F(RescanPartitions, WorksOnADeviceOfLosetup) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  EXPECT_EQ(properties_of(object).at("Partitions").texts(), parts(object, {1, 2, 3, 4, 5}));
  EXPECT_EQ(properties_of(object).at("OwnerUID"), u32(0));
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

class ResizeWithOptions : public Settings {
 protected:
  Reply resize(const std::string& object, const Options& wishes = {}) {
    return root().device(object, "ResizeWithOptions", {options(wishes)});
  }
  Reply limit(const std::string& object, uint64_t bytes, bool force = false) {
    Options wishes{{"size-limit", u64(bytes)}};
    if (force) wishes.emplace_back("force", boolean(true));
    return resize(object, wishes);
  }
  uint64_t size_of(const std::string& object) {
    return std::stoull(sysfs(number_of(object), "size").value_or("0")) * 512;
  }

  // A file system of `used` bytes, mounted on a device of `whole`: what is behind
  // it may be cut, and it may not.
  void expect_guarded(const char* type, const std::vector<std::string>& mkfs, uint64_t used, uint64_t whole) {
    const ScratchFile file(used, std::string("guarded.") + type);
    std::vector<std::string> command = mkfs;
    command.push_back(file.path());
    const CommandResult made = run(command);
    ASSERT_EQ(made.status, 0) << made.output;
    file.resize(whole);
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    const MountPoint point(std::string("guarded ") + type);
    ASSERT_TRUE(point.mount(node_of(number_of(object)), type)) << type << ", errno " << errno;

    const Reply allowed = limit(object, used + MiB);
    EXPECT_TRUE(succeeds(allowed));
    EXPECT_EQ(size_of(object), used + MiB);
    EXPECT_TRUE(succeeds(limit(object, used))) << "right to its end";
    const Reply refused = limit(object, used - MiB);
    EXPECT_TRUE(fails_with(refused, would_truncate, std::to_string(used)));
    EXPECT_EQ(size_of(object), used);
    EXPECT_EQ(properties_of(object).at("SizeLimit"), u64(used))
        << "refused, and the limit is set all the same";
    EXPECT_TRUE(succeeds(limit(object, 0)));
    EXPECT_EQ(size_of(object), whole);
    // The same by a file that has become shorter.
    file.resize(used - MiB);
    EXPECT_TRUE(fails_with(root().device(object, "Resize"), would_truncate, std::to_string(used)));
    EXPECT_EQ(size_of(object), whole);
    file.resize(whole);
    ASSERT_TRUE(point.unmount());
    EXPECT_TRUE(succeeds(limit(object, used - MiB))) << "not mounted any more: nobody is cut";
    EXPECT_EQ(size_of(object), used - MiB);
  }
};

TEST_F(ResizeWithOptions, SetsALimitAndTakesItBack) {
  const ScratchFile file(4 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Reply smaller = limit(object, MiB);
  ASSERT_TRUE(succeeds(smaller));
  EXPECT_EQ(smaller.values, (std::vector<Value>{u64(4 * MiB), u64(MiB)}));
  EXPECT_TRUE(tells(object, "SizeLimit", u64(MiB)));
  EXPECT_TRUE(tells(object, "Size", u64(MiB)));
  file.resize(8 * MiB);
  EXPECT_EQ(resize(object).values, (std::vector<Value>{u64(MiB), u64(MiB)})) << "the limit holds";
  const Reply larger = limit(object, 0);
  ASSERT_TRUE(succeeds(larger));
  EXPECT_EQ(larger.values, (std::vector<Value>{u64(MiB), u64(8 * MiB)}));
  EXPECT_EQ(properties_of(object).at("SizeLimit"), u64(0));
  EXPECT_EQ(size_of(object), 8 * MiB);
}

TEST_F(ResizeWithOptions, TakesALimitBehindTheEndOfTheFile) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(limit(object, 2 * MiB).values, (std::vector<Value>{u64(MiB), u64(MiB)}));
  file.resize(4 * MiB);
  EXPECT_EQ(resize(object).values, (std::vector<Value>{u64(MiB), u64(2 * MiB)}));
}

TEST_F(ResizeWithOptions, RefusesNonsense) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(fails_with(resize(object, {{"nonsense", boolean(true)}}), invalid_args, "nonsense"));
  EXPECT_TRUE(fails_with(resize(object, {{"force", u32(1)}}), invalid_args, "force"));
  EXPECT_TRUE(fails_with(resize(object, {{"size-limit", u32(MiB)}}), invalid_args, "size-limit"));
  EXPECT_TRUE(fails_with(limit(object, UINT64_MAX), invalid_args, "size-limit"));
  EXPECT_EQ(size_of(object), MiB);
  EXPECT_EQ(properties_of(object).at("SizeLimit"), u64(0));
}

TEST_F(ResizeWithOptions, LeavesNoDeviceOfNothing) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_FALSE(limit(object, 511).ok());
  EXPECT_EQ(size_of(object), MiB);
  EXPECT_EQ(properties_of(object).at("SizeLimit"), u64(0));
}

TEST_F(ResizeWithOptions, GuardsPartitionsToTheLastSector) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(fails_with(limit(object, 7 * MiB - 512), would_truncate, std::to_string(7 * MiB)));
  EXPECT_EQ(size_of(object), 8 * MiB);
  EXPECT_TRUE(succeeds(limit(object, 7 * MiB)));
  let_events_arrive();
  EXPECT_EQ(sysfs_partitions(number_of(object)).size(), 5U) << "none was cut, and yet they go";
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p1"), 0U);
}

TEST_F(ResizeWithOptions, CutsPartitionsByForce) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(limit(object, 3 * MiB, true)));
  EXPECT_EQ(size_of(object), 3 * MiB);
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(ResizeWithOptions, GuardsExt4) { expect_guarded("ext4", {"mkfs.ext4", "-q"}, 16 * MiB, 32 * MiB); }

TEST_F(ResizeWithOptions, GuardsXfs) { expect_guarded("xfs", {"mkfs.xfs", "-q"}, 320 * MiB, 400 * MiB); }

TEST_F(ResizeWithOptions, GuardsBtrfs) {
  expect_guarded("btrfs", {"mkfs.btrfs", "-q"}, 160 * MiB, 200 * MiB);
}

TEST_F(ResizeWithOptions, CutsAMountedFileSystemByForce) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("forced");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  EXPECT_TRUE(fails_with(limit(object, 8 * MiB), would_truncate));
  EXPECT_TRUE(succeeds(limit(object, 8 * MiB, true)));
  EXPECT_EQ(size_of(object), 8 * MiB);
  EXPECT_TRUE(succeeds(limit(object, 0)));
  ASSERT_TRUE(point.unmount());
}

TEST_F(ResizeWithOptions, GuardsAMountedPartition) {
  const ScratchFile file(12 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const MountedPartition mounted(object, "guarded partition");
  EXPECT_TRUE(fails_with(limit(object, 3 * MiB), would_truncate));
  EXPECT_EQ(size_of(object), 12 * MiB);
}

TEST_F(ResizeWithOptions, GuardsSwap) {
  const ScratchFile file(4 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string node = node_of(number_of(object));
  ASSERT_EQ(run({"mkswap", "-q", node}).status, 0);
  if (::swapon(node.c_str(), 0) < 0) GTEST_SKIP() << "no swap here, errno " << errno;
  const Reply refused = limit(object, 2 * MiB);
  ASSERT_EQ(::swapoff(node.c_str()), 0);
  EXPECT_TRUE(fails_with(refused, would_truncate));
  EXPECT_EQ(size_of(object), 4 * MiB);
}

TEST_F(ResizeWithOptions, GuardsWhereTheFileWasUnlinkedOrRenamed) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("unlinked");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_EQ(::rename(file.path().c_str(), (file.path() + ".renamed").c_str()), 0);
  EXPECT_TRUE(fails_with(limit(object, 8 * MiB), would_truncate));
  EXPECT_TRUE(succeeds(resize(object))) << "nothing would be cut";
  ASSERT_EQ(::unlink((file.path() + ".renamed").c_str()), 0);
  EXPECT_TRUE(fails_with(limit(object, 8 * MiB), would_truncate));
  EXPECT_EQ(size_of(object), 16 * MiB);
  EXPECT_EQ(properties_of(object).at("SizeLimit"), u64(0));
  ASSERT_TRUE(point.unmount());
}

// Nobody can ask an unlinked file for its size, so that it may be any.
TEST_F(ResizeWithOptions, GuardsWhereTheFileWasUnlinkedAndTruncated) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const MountPoint point("unlinked and truncated");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  file.resize(8 * MiB);
  EXPECT_TRUE(fails_with(resize(object), would_truncate, "force"));
  EXPECT_EQ(size_of(object), 16 * MiB);
  EXPECT_TRUE(succeeds(resize(object, {{"force", boolean(true)}})));
  EXPECT_EQ(size_of(object), 8 * MiB);
  file.resize(16 * MiB);
  EXPECT_TRUE(succeeds(resize(object, {{"force", boolean(true)}})));
  ASSERT_TRUE(point.unmount());
  file.resize(8 * MiB);
  EXPECT_TRUE(succeeds(resize(object))) << "nobody needs it any more";
  EXPECT_EQ(size_of(object), 8 * MiB);
}

TEST_F(ResizeWithOptions, GuardsADeviceOnABlockDevice) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const std::string lower = attach(file);
  ASSERT_FALSE(lower.empty());
  std::string upper;
  {
    const loop::UniqueFd disk(::open(node_of(number_of(lower)).c_str(), O_RDWR | O_CLOEXEC));
    upper = attach(disk.get());
    ASSERT_FALSE(upper.empty());
  }
  const MountPoint point("on a device");
  ASSERT_TRUE(point.mount(node_of(number_of(upper))));
  EXPECT_TRUE(succeeds(resize(upper))) << "the lower one is as large as it was";
  ASSERT_TRUE(succeeds(limit(lower, 8 * MiB, true)));
  EXPECT_TRUE(fails_with(resize(upper), would_truncate, std::to_string(16 * MiB)));
  EXPECT_EQ(size_of(upper), 16 * MiB);
  ASSERT_TRUE(succeeds(limit(lower, 0)));
  ASSERT_TRUE(point.unmount());
}

}  // namespace
}  // namespace bus_test

// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Attach : public Bus {
 protected:
  void expect_removed(const std::string& object) { EXPECT_TRUE(succeeds(root().device(object, "Remove"))); }
};

dev_t device_number(const std::string& node) {
  struct stat st {};
  return ::stat(node.c_str(), &st) == 0 ? st.st_rdev : 0;
}

size_t nodes_there() {
  size_t nodes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
    if (entry.path().filename().string().starts_with("loop")) ++nodes;
  }
  return nodes;
}

TEST_F(Attach, GivesTheFileOfADescriptorADevice) {
  const ScratchFile file(MiB);
  file.write(0, "the first bytes of the file");
  const std::string object = attach(file);
  ASSERT_TRUE(object.starts_with("/org/example/Loop1/loop")) << object;
  const unsigned number = number_of(object);

  EXPECT_EQ(sysfs(number, "loop/backing_file"), file.path());
  const loop::UniqueFd node(::open(node_of(number).c_str(), O_RDONLY | O_CLOEXEC));
  std::string read(27, '\0');
  EXPECT_EQ(::pread(node.get(), read.data(), read.size(), 0), 27);
  EXPECT_EQ(read, "the first bytes of the file");
}

TEST_F(Attach, GivesAPathADevice) {
  const ScratchFile file(MiB);
  const Reply reply = root().manager("AttachPath", {text(file.path()), options({})});
  ASSERT_TRUE(succeeds(reply));
  const std::string object = reply.values.at(0).text;
  EXPECT_EQ(sysfs(number_of(object), "loop/backing_file"), file.path());
  EXPECT_EQ(sysfs(number_of(object), "ro"), "0");
  expect_removed(object);
}

TEST_F(Attach, ShowsEveryPropertyAsTheKernelDoes) {
  const ScratchFile file(MiB);
  const struct stat status = file.status();
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const unsigned number = number_of(object);
  const Value all = properties_of(object);

  EXPECT_EQ(all.at("DevPath"), text(node_of(number)));
  EXPECT_EQ(all.at("Dev"), u64(device_number(node_of(number))));
  EXPECT_EQ(all.at("BackingFile"), text(file.path()));
  EXPECT_EQ(all.at("BackingFileBytes").bytes(), file.path() + '\0');
  EXPECT_EQ(all.at("BackingFileDeleted"), boolean(false));
  EXPECT_EQ(all.at("BackingInode"), u64(status.st_ino));
  EXPECT_EQ(all.at("BackingDev"), u64(status.st_dev));
  EXPECT_EQ(all.at("Number"), u32(number));
  EXPECT_EQ(std::to_string(all.at("DiskSequence").number), sysfs(number, "diskseq"));
  EXPECT_EQ(all.at("Size"), u64(MiB));
  EXPECT_EQ(all.at("Offset"), u64(0));
  EXPECT_EQ(all.at("SizeLimit"), u64(0));
  EXPECT_EQ(std::to_string(all.at("BlockSize").number), sysfs(number, "queue/logical_block_size"));
  EXPECT_EQ(all.at("ReadOnly"), boolean(false));
  EXPECT_EQ(all.at("Autoclear"), boolean(false));
  EXPECT_EQ(all.at("PartitionScan"), boolean(false));
  EXPECT_EQ(all.at("DirectIO"), boolean(sysfs(number, "loop/dio") == "1"));
  EXPECT_EQ(all.at("Reference"), text(""));
  EXPECT_EQ(all.at("OwnerUID"), u32(0));
  EXPECT_EQ(all.at("Lease"), text(""));
  EXPECT_TRUE(all.at("Partitions").items.empty());
  EXPECT_EQ(all.at("Partitions").element, "o");
  EXPECT_EQ(all.at("Symlinks").element, "s");
  for (const Value& entry : all.items) {
    const std::string& name = entry.items.at(0).text;
    const Reply one = root().property(object, name);
    ASSERT_TRUE(succeeds(one)) << name;
    if (name != "Symlinks") {  // udev's, which may just be coming
      EXPECT_EQ(one.values.at(0), entry.items.at(1)) << name;
    }
  }
}

TEST_F(Attach, AgreesWithLosetup) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"offset", u64(64 * KiB)}, {"size-limit", u64(128 * KiB)}});
  ASSERT_FALSE(object.empty());
  const CommandResult listed =
      run({"losetup", "--list", "--noheadings", "--raw", "--output",
           "NAME,OFFSET,SIZELIMIT,RO,AUTOCLEAR,PARTSCAN,BACK-FILE", node_of(number_of(object))});
  EXPECT_EQ(listed.output, node_of(number_of(object)) + " 65536 131072 0 0 0 " + file.path() + "\n");
}

TEST_F(Attach, AnnouncesACompleteObject) {
  const ScratchFile file(MiB);
  const std::string object =
      attach(file, {{"read-only", boolean(true)}, {"reference", text("complete-object")}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
  const Signal* added = root().find_signal("InterfacesAdded", object);
  EXPECT_EQ(added->object, root_path);
  const Value* announced = added->arguments.at(1).find(device_interface);
  ASSERT_NE(announced, nullptr);
  Value now = properties_of(object);
  ASSERT_EQ(announced->items.size(), now.items.size());
  for (const Value& entry : announced->items) {
    const std::string& name = entry.items.at(0).text;
    if (name != "Symlinks") {
      EXPECT_EQ(entry.items.at(1), now.at(name)) << name;
    }
  }
  EXPECT_EQ(announced->at("ReadOnly"), boolean(true));
  EXPECT_EQ(announced->at("Reference"), text("complete-object"));
  for (const char* standard : {"org.freedesktop.DBus.Properties", "org.freedesktop.DBus.Introspectable",
                               "org.freedesktop.DBus.Peer"}) {
    EXPECT_NE(added->arguments.at(1).find(standard), nullptr) << standard;
  }
}

TEST_F(Attach, CountsTheDevices) {
  const auto count = [this] {
    return root().property(root_path, "DeviceCount", manager_interface).values.at(0).number;
  };
  const ScratchFile file(MiB);
  const std::string first = attach(file, {{"read-only", boolean(true)}});
  const std::string second = attach(file, {{"read-only", boolean(true)}});
  EXPECT_GE(count(), 2U);
  EXPECT_NE(first, second);
}

TEST_F(Attach, ReadOnlyMakesADeviceThatNobodyCanWrite) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"read-only", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const unsigned number = number_of(object);
  EXPECT_EQ(properties_of(object).at("ReadOnly"), boolean(true));
  EXPECT_EQ(sysfs(number, "ro"), "1");
  const loop::UniqueFd node(::open(node_of(number).c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_TRUE(!node || ::pwrite(node.get(), "x", 1, 0) < 0);
}

TEST_F(Attach, TakesAReadOnlyDescriptorIfTheDeviceIsReadOnly) {
  const ScratchFile file(MiB);
  const loop::UniqueFd reading = file.open(O_RDONLY);
  EXPECT_FALSE(attach(reading.get(), {{"read-only", boolean(true)}}).empty());
}

TEST_F(Attach, MapsFromTheOffsetToTheSizeLimit) {
  const ScratchFile file(MiB);
  file.write(4096, "mapped");
  const std::string object =
      attach(file, {{"offset", u64(4096)}, {"size-limit", u64(2048)}, {"block-size", u32(512)}});
  ASSERT_FALSE(object.empty());
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("Offset"), u64(4096));
  EXPECT_EQ(all.at("SizeLimit"), u64(2048));
  EXPECT_EQ(all.at("Size"), u64(2048));
  EXPECT_EQ(all.at("BlockSize"), u32(512));
  const unsigned number = number_of(object);
  EXPECT_EQ(sysfs(number, "size"), "4");
  EXPECT_EQ(sysfs(number, "loop/offset"), "4096");
  EXPECT_EQ(sysfs(number, "loop/sizelimit"), "2048");
  std::string read(6, '\0');
  const loop::UniqueFd node(::open(node_of(number).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(::pread(node.get(), read.data(), read.size(), 0), 6);
  EXPECT_EQ(read, "mapped");
}

TEST_F(Attach, MapsToTheEndOfTheFileWhereTheLimitIsBeyond) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"size-limit", u64(5 * MiB)}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("Size"), u64(MiB));
}

class AttachWithBlockSize : public Attach, public testing::WithParamInterface<uint32_t> {};

TEST_P(AttachWithBlockSize, SetsIt) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"block-size", u32(GetParam())}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("BlockSize"), u32(GetParam()));
  EXPECT_EQ(sysfs(number_of(object), "queue/logical_block_size"), std::to_string(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Each, AttachWithBlockSize, testing::Values(512U, 1024U, 2048U, 4096U));

TEST_F(Attach, BlockSizeZeroIsTheKernelsDefault) {
  const ScratchFile file(MiB);
  EXPECT_FALSE(attach(file, {{"block-size", u32(0)}}).empty());
}

TEST_F(Attach, DirectIoIsTheEffectiveValue) {
  const ScratchFile file(MiB);
  for (const bool wish : {false, true}) {
    const std::string object = attach(file, {{"direct-io", boolean(wish)}});
    ASSERT_FALSE(object.empty());
    const bool effective = sysfs(number_of(object), "loop/dio") == "1";
    EXPECT_EQ(properties_of(object).at("DirectIO"), boolean(effective));
    if (!wish) {
      EXPECT_FALSE(effective);
    }
    expect_removed(object);
  }
}

TEST_F(Attach, ShowsDirectIoThatSomebodyElseSwitchedOn) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const CommandResult switched = run({"losetup", "--direct-io=on", node_of(number_of(object))});
  if (sysfs(number_of(object), "loop/dio") != "1") GTEST_SKIP() << "no direct I/O here: " << switched.output;
  EXPECT_EQ(root().property(object, "DirectIO").values.at(0), boolean(true));
  EXPECT_TRUE(root().wait_for([&] { return root().changed_property(object, "DirectIO").has_value(); }));
}

// The list itself is what was told so far; thousands of devices are not looked at in between.
TEST_F(Attach, ToldInTheListOfAllIsFollowedByWhatChangedWithoutAnEvent) {
  const ScratchFile file(MiB, "before");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string moved = scratch_directory() + "/elsewhere";
  // No event, and no change of the file: the directory above it is another one.
  const std::string directory = scratch_directory() + "/directory";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
  ASSERT_EQ(::rename(file.path().c_str(), (directory + "/image").c_str()), 0);
  ASSERT_TRUE(root().wait_for(
      [&] { return root().property(object, "BackingFile").values.at(0) == text(directory + "/image"); }));
  ASSERT_EQ(::rename(directory.c_str(), moved.c_str()), 0);
  ASSERT_TRUE(succeeds(root().managed_objects()));
  EXPECT_TRUE(root().wait_for([&] {
    const auto told = root().changed_property(object, "BackingFile");
    return told && *told == text(moved + "/image");
  }));
  ASSERT_EQ(::rename((moved + "/image").c_str(), file.path().c_str()), 0);
  ::rmdir(moved.c_str());
}

TEST_F(Attach, KeepsAReferenceOf62Bytes) {
  const ScratchFile file(MiB);
  const std::string reference = std::string(58, 'r') + "\xC3\xA4\xC3\xB6";  // the last ones are ä and ö
  const std::string object = attach(file, {{"reference", text(reference)}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("Reference"), text(reference));
}

TEST_F(Attach, AReferenceIsFreeAgainAfterRemove) {
  const ScratchFile file(MiB);
  for (int round = 0; round < 2; ++round) {
    const std::string object = attach(file, {{"reference", text("once more")}});
    ASSERT_FALSE(object.empty());
    expect_removed(object);
  }
}

TEST_F(Attach, TakesTheNumberThatWasAskedFor) {
  const ScratchFile file(MiB);
  for (const unsigned number : {own_number(), 1'048'575U}) {
    const std::string object = attach(file, {{"number", u32(number)}});
    EXPECT_EQ(object, object_of(number));
    EXPECT_TRUE(is_attached(number));
    expect_removed(object);
  }
}

TEST_F(Attach, TakesABlockDevice) {
  const ScratchFile file(2 * MiB);
  const std::string lower = attach(file);
  ASSERT_FALSE(lower.empty());
  const std::string node = node_of(number_of(lower));
  {
    const loop::UniqueFd disk(::open(node.c_str(), O_RDWR | O_CLOEXEC));
    const std::string upper = attach(disk.get(), {{"offset", u64(MiB)}});
    ASSERT_FALSE(upper.empty());
    const Value all = properties_of(upper);
    EXPECT_EQ(all.at("BackingFile"), text(node));
    EXPECT_EQ(all.at("BackingInode"), u64(0));
    EXPECT_EQ(all.at("BackingDev"), u64(device_number(node)));
    EXPECT_EQ(all.at("Size"), u64(MiB));
    expect_removed(upper);
  }
  expect_removed(lower);
}

TEST_F(Attach, AttachesMoreThanTheKernelsStaticDevices) {
  const ScratchFile file(64 * KiB);
  std::vector<std::string> objects;
  for (int i = 0; i < 40; ++i) {
    objects.push_back(attach(file, {{"read-only", boolean(true)}}));
    ASSERT_FALSE(objects.back().empty());
  }
  const Value managed = root().managed_objects().values.at(0);
  for (const std::string& object : objects) EXPECT_NE(managed.find(object), nullptr) << object;
  for (const std::string& object : objects) expect_removed(object);
}

// Numbers pass from one to the other at once: what somebody saw of the device before must
// not take away the one that was just promised. And the free nodes there are suffice.
TEST_F(Attach, IsThereForWhoGotTheAnswerHoweverFastNumbersAreUsedAgain) {
  constexpr unsigned crowd = 12;
  constexpr unsigned each = 40;
  const size_t nodes_before = nodes_there();
  std::vector<std::string> failures(crowd);
  std::vector<std::unique_ptr<ScratchFile>> files;
  for (unsigned i = 0; i < crowd; ++i) files.push_back(std::make_unique<ScratchFile>(64 * KiB));
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < crowd; ++i) {
      threads.emplace_back([&, i] {
        BusClient client(stack().address());
        for (unsigned round = 0; round < each && failures[i].empty(); ++round) {
          const Reply attached = client.attach(files[i]->fd());
          failures[i] = attached.error;
          if (!attached.ok()) break;
          failures[i] = client.remove(attached.values.at(0).text, {{"keep-node", boolean(true)}}).error;
        }
      });
    }
  }
  EXPECT_EQ(failures, std::vector<std::string>(crowd));
  EXPECT_LE(nodes_there(), nodes_before + 4 * crowd) << "of " << crowd * each << " attachments";
}

TEST_F(Attach, ManyCallersAtOnceEachGetADeviceOfTheirOwn) {
  const ScratchFile file(64 * KiB);
  std::vector<std::unique_ptr<BusClient>> clients;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(connect());
    replies.push_back(
        clients.back()->start({.object = root_path,
                               .interface = manager_interface,
                               .member = "Attach",
                               .arguments = {handle(file.fd()), options({{"read-only", boolean(true)}})}}));
  }
  std::vector<std::string> objects;
  for (size_t i = 0; i < clients.size(); ++i) {
    ASSERT_TRUE(clients[i]->wait_for([&] { return replies[i]->has_value(); }));
    ASSERT_TRUE(succeeds(**replies[i]));
    objects.push_back((*replies[i])->values.at(0).text);
  }
  std::sort(objects.begin(), objects.end());
  EXPECT_EQ(std::unique(objects.begin(), objects.end()), objects.end());
  for (const std::string& object : objects) expect_removed(object);
}

}  // namespace
}  // namespace bus_test

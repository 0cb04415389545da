// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What happens to backing files is told, and by as many signals as are of use.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class BackingFileHealth : public Bus {
 protected:
  bool tells(const std::string& object, const std::string& property, const Value& value) {
    return root().wait_for([&] { return root().changed_property(object, property) == value; });
  }

  size_t changes_of(const std::string& object) {
    return static_cast<size_t>(
        std::count_if(root().signals().begin(), root().signals().end(), [&](const Signal& signal) {
          return signal.object == object && signal.member == "PropertiesChanged";
        }));
  }
};

TEST_F(BackingFileHealth, TellsThatTheFileWasUnlinked) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("BackingFileDeleted"), boolean(false));
  EXPECT_EQ(properties_of(object).at("BackingFileSize"), u64(MiB));
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFileDeleted", boolean(true)));
  EXPECT_EQ(properties_of(object).at("BackingFile"), text(file.path())) << "without the kernel's suffix";
  EXPECT_EQ(properties_of(object).at("BackingFileSize"), u64(0));
}

TEST_F(BackingFileHealth, TellsThatAnotherFileTookItsPlace) {
  const ScratchFile file(MiB);
  const ScratchFile next(2 * MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(::rename(next.path().c_str(), file.path().c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFileDeleted", boolean(true)));
  EXPECT_EQ(properties_of(object).at("BackingInode"), u64(file.status().st_ino));
  EXPECT_EQ(properties_of(object).at("BackingFileSize"), u64(0)) << "the other file's size is not its";
}

TEST_F(BackingFileHealth, TellsThatTheFileWasTruncatedAndGrown) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  file.resize(512 * KiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(512 * KiB)));
  EXPECT_EQ(properties_of(object).at("Size"), u64(MiB)) << "the device stays as it is";
  file.resize(4 * MiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(4 * MiB)));
  EXPECT_EQ(properties_of(object).at("Size"), u64(MiB));
  file.write(4 * MiB, "appended");
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(4 * MiB + 8)));
}

TEST_F(BackingFileHealth, TellsTheNewNameAndGoesOnWatching) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string first = scratch_directory() + "/renamed once";
  const std::string second = scratch_directory() + "/renamed twice";
  ASSERT_EQ(::rename(file.path().c_str(), first.c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFile", text(first)));
  EXPECT_TRUE(root().changed_property(object, "BackingFileBytes")->bytes() == first + '\0');
  ASSERT_EQ(::rename(first.c_str(), second.c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFile", text(second)));
  file.resize(3 * MiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(3 * MiB)));
  EXPECT_EQ(properties_of(object).at("BackingFileDeleted"), boolean(false));
  ASSERT_EQ(::unlink(second.c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFileDeleted", boolean(true)));
}

TEST_F(BackingFileHealth, IsToldForEveryDeviceOfTheFile) {
  const ScratchFile file(4 * MiB);
  std::vector<std::string> objects;
  for (unsigned i = 0; i < 3; ++i) {
    objects.push_back(attach(file, {{"offset", u64(i * MiB)}, {"size-limit", u64(MiB)}}));
    ASSERT_FALSE(objects.back().empty());
  }
  ASSERT_TRUE(succeeds(root().device(objects[1], "Remove")));
  file.resize(2 * MiB);
  EXPECT_TRUE(tells(objects[0], "BackingFileSize", u64(2 * MiB)));
  EXPECT_TRUE(tells(objects[2], "BackingFileSize", u64(2 * MiB)));
}

TEST_F(BackingFileHealth, OfADeviceOfLosetupIsToldToo) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
  file.resize(2 * MiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(2 * MiB)));
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  EXPECT_TRUE(tells(object, "BackingFileDeleted", boolean(true)));
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(BackingFileHealth, OfASwappedFileIsThatOfTheNewOne) {
  const ScratchFile first(MiB);
  const ScratchFile second(MiB);
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(attach(first, {{"number", u32(number)}}), object);
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(kernel_attach(number, second.fd()), 0);
  let_events_arrive();
  root().forget_signals();
  first.resize(3 * MiB);
  second.resize(2 * MiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(2 * MiB)));
  EXPECT_EQ(changes_of(object), 1U);
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(BackingFileHealth, IsWatchedAgainAfterARestart) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  stack().stop_loopd(SIGKILL);
  file.resize(2 * MiB);
  stack().start_loopd();
  EXPECT_EQ(properties_of(object).at("BackingFileSize"), u64(2 * MiB));
  file.resize(3 * MiB);
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(3 * MiB)));
}

TEST_F(BackingFileHealth, OfAnUnlinkedFileIsKnownAfterARestart) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  stack().stop_loopd();
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  stack().start_loopd();
  EXPECT_EQ(properties_of(object).at("BackingFileDeleted"), boolean(true));
  EXPECT_EQ(properties_of(object).at("BackingFile"), text(file.path()));
}

// A file that is written for a while makes a signal now and then, not one a write.
TEST_F(BackingFileHealth, MakesNoStormOfSignals) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  root().forget_signals();
  const auto start = Clock::now();
  constexpr unsigned writes = 20'000;
  for (unsigned i = 0; i < writes; ++i) file.write(MiB + i * 100, std::string(100, 'x'));
  EXPECT_TRUE(tells(object, "BackingFileSize", u64(MiB + writes * 100)));
  const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - start).count();
  let_events_arrive();
  EXPECT_LE(changes_of(object), static_cast<size_t>(took / 50 + 3)) << "in " << took << " ms";
}

TEST_F(BackingFileHealth, SaysNothingOfWritesThatChangeNoSize) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  root().forget_signals();
  for (unsigned i = 0; i < 1000; ++i) file.write(i * 512, "overwritten");
  {
    const loop::UniqueFd node(::open(node_of(number_of(object)).c_str(), O_RDWR | O_CLOEXEC));
    const std::string block(4096, 'y');
    for (unsigned i = 0; i < 200; ++i) {
      ASSERT_EQ(::pwrite(node.get(), block.data(), block.size(), i * 4096), 4096);
    }
    ASSERT_EQ(::fsync(node.get()), 0);
  }
  const ScratchFile later(64 * KiB);
  const std::string witness = attach(later);
  later.resize(128 * KiB);  // what is told of this one comes after the others'
  EXPECT_TRUE(tells(witness, "BackingFileSize", u64(128 * KiB)));
  let_events_arrive();
  for (const Signal& signal : root().signals()) {
    if (signal.object != object || signal.member != "PropertiesChanged") continue;
    // udev has looked at a device that somebody has written.
    EXPECT_EQ(signal.arguments.at(1).items.size(), signal.arguments.at(1).find("Symlinks") ? 1U : 0U)
        << signal;
  }
}

}  // namespace
}  // namespace bus_test

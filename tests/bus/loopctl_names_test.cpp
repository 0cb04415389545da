// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Devices named as people name them.
#include <unistd.h>

#include <filesystem>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlNames : public Loopctl {
 protected:
  std::string device_called(const std::string& name) {
    return loopctl({"list", "--no-legend", "--output=DEVICE", "--", name}).output;
  }
};

TEST_F(LoopctlNames, NodeNumberPartitionPathLinkAndReferenceAreTheSameDevice) {
  const ScratchFile file(8 * MiB, "named.img");
  partition(file, gpt_with_five_partitions);
  const std::string node = attach_file({"--partition-scan", "--reference=by-its-reference", file.path()});
  const std::string link = scratch_directory() + "/link-to-node";
  ASSERT_EQ(::symlink(node.c_str(), link.c_str()), 0);
  const std::string file_link = scratch_directory() + "/link-to-file";
  ASSERT_EQ(::symlink(file.path().c_str(), file_link.c_str()), 0);
  for (const std::string& name : {node, node.substr(5), node.substr(9), node + "p3", node.substr(5) + "p3",
                                  link, file.path(), file_link, std::string("by-its-reference")}) {
    EXPECT_EQ(device_called(name), node + "\n") << name;
  }
  std::filesystem::remove(link);
  std::filesystem::remove(file_link);
  // udev's own links.
  for (const std::string& by :
       root().property("/org/example/Loop1" + node.substr(4), "Symlinks").values[0].texts()) {
    EXPECT_EQ(device_called(by), node + "\n") << by;
  }
}

TEST_F(LoopctlNames, ARelativePathIsAPathAndABareNumberIsADevice) {
  const ScratchFile file(MiB, "12345678");
  const std::string node = attach_file({file.path()});
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch_directory());
  EXPECT_EQ(device_called("./12345678"), node + "\n");
  EXPECT_TRUE(fails_in_one_line(loopctl({"status", "12345678"}), 3, {"12345678"}));
  std::filesystem::current_path(before);
}

TEST_F(LoopctlNames, AnAmbiguousNameIsAnErrorThatNamesTheCandidates) {
  const ScratchFile file(MiB);
  const std::string first = attach_file({"--read-only", file.path()});
  const std::string second = attach_file({"--read-only", file.path()});
  EXPECT_TRUE(fails_in_one_line(loopctl({"remove", file.path()}), 2, {file.path(), first, second}));
  EXPECT_EQ(loopctl({"find", file.path()}).output, second + "\n" + first + "\n");
  EXPECT_EQ(loopctl({"remove", "--all", file.path()}).status, 0);
  EXPECT_EQ(loopctl({"find", file.path()}).status, 3);
}

TEST_F(LoopctlNames, AReferenceThatIsAlsoAFileOfAnotherDeviceIsAmbiguous) {
  const ScratchFile file(MiB, "both-names");
  const ScratchFile other(MiB);
  const std::string by_file = attach_file({file.path()});
  const std::string by_reference = attach_file({"--reference=both-names", other.path()});
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch_directory());
  EXPECT_TRUE(fails_in_one_line(loopctl({"resize", "both-names"}), 2, {by_file, by_reference}));
  std::filesystem::current_path(before);
}

TEST_F(LoopctlNames, ADeletedFileStillNamesItsDevice) {
  const ScratchFile file(MiB, "deleted-but-named.img");
  const std::string node = attach_file({file.path()});
  root().listen();
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  ASSERT_TRUE(root().wait_for([&] {
    return root().changed_property("/org/example/Loop1" + node.substr(4), "BackingFileDeleted").has_value();
  }));
  EXPECT_EQ(device_called(file.path()), node + "\n");
  EXPECT_EQ(loopctl({"remove", file.path()}).status, 0);
}

TEST_F(LoopctlNames, WhatNamesNothingIsToldInOneLine) {
  const ScratchFile file(MiB);
  EXPECT_TRUE(fails_in_one_line(loopctl({"status", "no-such-thing"}), 3, {"no-such-thing", "neither"}));
  EXPECT_TRUE(
      fails_in_one_line(loopctl({"status", "./no-such-file"}), 3, {"./no-such-file", "No such file"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"status", file.path()}), 3, {file.path(), "no device is attached"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"status", "/dev/null"}), 3, {"/dev/null"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"status", node_of(own_number())}), 3, {}));
}

}  // namespace
}  // namespace bus_test

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What loopctl shows: for people, and for programs.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlList : public Loopctl {
 protected:
  LoopctlResult columns_of(const std::string& node, const std::string& columns) {
    return loopctl({"list", node, "--no-legend", "--output=" + columns});
  }
};

TEST_F(LoopctlList, IsTheDefaultVerbAndShowsBytesInAPipe) {
  const ScratchFile file(MiB, "listed.img");
  const std::string node = attach_file({"--offset=4096", "--reference=listed", "--read-only", file.path()});
  const LoopctlResult all = loopctl({});
  EXPECT_EQ(all.status, 0);
  EXPECT_TRUE(all.output.starts_with("DEVICE ")) << all;
  const LoopctlResult one = columns_of(node, "DEVICE,SIZE,OFFSET,PARTITIONS,FLAGS,OWNER,REFERENCE,FILE");
  EXPECT_EQ(one.output, node + " 1044480 4096 0 ro root listed " + file.path() + "\n");
  EXPECT_NE(all.output.find(file.path()), std::string::npos) << all;
  EXPECT_EQ(all.output.find('\x1b'), std::string::npos) << "a pipe has no colours";
}

TEST_F(LoopctlList, ShowsTheColumnsThatAreAskedForInTheirOrder) {
  const ScratchFile file(MiB);
  const std::string node = attach_file({file.path()});
  EXPECT_EQ(loopctl({"list", node, "-o", "size,Device"}).output, "   SIZE DEVICE\n1048576 " + node + "\n");
  const struct stat st = file.status();
  EXPECT_EQ(columns_of(node, "inode,file-dev,deleted,health").output,
            std::to_string(st.st_ino) + " " + std::to_string(major(st.st_dev)) + ":" +
                std::to_string(minor(st.st_dev)) + " no good\n");
  EXPECT_TRUE(fails_in_one_line(loopctl({"list", "--output=COLOUR"}), 2, {"COLOUR", "DEVICE, SIZE"}));
}

TEST_F(LoopctlList, HelpOfTheColumnsNamesEachAndAllShowsThem) {
  const std::string names = loopctl({"list", "--output=help"}).output;
  const std::string titles = loopctl({"list", "--output=all"}).output;
  size_t count = 0;
  for (size_t at = 0; at < names.size(); at = names.find('\n', at) + 1, ++count) {
    const std::string name = names.substr(at, names.find('\n', at) - at);
    EXPECT_NE(titles.find(name), std::string::npos) << name;
  }
  EXPECT_GT(count, 20U);
}

TEST_F(LoopctlList, JsonOfAWeirdNameIsWhatTheBusSays) {
  const std::string name = std::string("weird \"quoted\"\n\tback\\slash \xff \xc3\xa4.img");
  const ScratchFile file(MiB, name);
  const std::string node = attach_file({"--read-only", file.path()});
  const std::string object = "/org/example/Loop1" + node.substr(4);
  const std::string on_bus = root().property(object, "BackingFile").values.at(0).text;
  for (const char* mode : {"--json=short", "--json=pretty"}) {
    const LoopctlResult listed = loopctl({"list", node, mode});
    EXPECT_EQ(listed.status, 0) << listed;
    EXPECT_EQ(json_query(listed.output, "data[0]['file'], data[0]['size'] + 1, data[0]['read-only']"),
              on_bus + " 1048577 True");
  }
  EXPECT_EQ(json_query(loopctl({"status", node, "--json"}).output, "data[0]['backing-file']"), on_bus);
  EXPECT_NE(on_bus.find("\\xff"), std::string::npos) << on_bus;
  const std::string compact = loopctl({"list", "--json=short"}).output;
  EXPECT_EQ(compact.find('\n'), compact.size() - 1);
  // For people it stays one line, and the terminal is not spoken to.
  EXPECT_NE(columns_of(node, "FILE").output.find("\\x0a\\x09"), std::string::npos);
  EXPECT_TRUE(fails_in_one_line(loopctl({"list", "--json=yes"}), 2, {"--json", "yes"}));
}

TEST_F(LoopctlList, StatusShowsPartitionsHoldersAndHealth) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string node = attach_file({"--partition-scan", "--reference=carded", file.path()});
  ASSERT_EQ(run({"mkfs.ext4", "-q", node + "p2"}).status, 0);
  const MountPoint mounted("carded");
  ASSERT_TRUE(mounted.mount(node + "p2"));
  const LoopctlResult card = loopctl({"status", node});
  EXPECT_EQ(card.status, 0);
  for (const std::string& fact :
       {node + "\n", "File: " + file.path(), std::string("Health: good"), std::string("Size: 8388608"),
        std::string("Owner: root"), std::string("Reference: carded"), node + "p1  1048576 at 1048576",
        std::string("\"second one\""), "mounted at " + mounted.path()}) {
    EXPECT_NE(card.output.find(fact), std::string::npos) << fact << "\nis not in\n" << card;
  }
  const std::string json = loopctl({"status", "--json=pretty", node}).output;
  EXPECT_EQ(json_query(json, "data[0]['partitions'][1]['name']"), "second one");
  EXPECT_EQ(json_query(json, "len(data[0]['partitions'])"), "5");
  EXPECT_NE(json_query(json, "data[0]['used-by'][0]").find("mounted at " + mounted.path()),
            std::string::npos);
  EXPECT_TRUE(mounted.unmount());
}

TEST_F(LoopctlList, StatusTellsWhenTheFileWasCutOrHasGrown) {
  const ScratchFile file(2 * MiB);
  const std::string node = attach_file({file.path()});
  root().listen();
  file.resize(3 * MiB);
  ASSERT_TRUE(root().wait_for([&] {
    return root().changed_property("/org/example/Loop1" + node.substr(4), "BackingFileSize") == u64(3 * MiB);
  }));
  EXPECT_NE(loopctl({"status", node}).output.find("'loopctl resize'"), std::string::npos);
  EXPECT_EQ(columns_of(node, "HEALTH").output, "grown\n");
  file.resize(MiB);
  ASSERT_TRUE(root().wait_for([&] {
    return root().changed_property("/org/example/Loop1" + node.substr(4), "BackingFileSize") == u64(MiB);
  }));
  EXPECT_NE(loopctl({"status", node}).output.find("the last 1048576 bytes are lost"), std::string::npos);
  EXPECT_EQ(columns_of(node, "HEALTH").output, "truncated\n");
}

TEST_F(LoopctlList, ProbeTellsTheFormatAndThePartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const LoopctlResult card = loopctl({"probe", file.path()});
  EXPECT_EQ(card.status, 0) << card;
  EXPECT_NE(card.output.find("Format: raw"), std::string::npos) << card;
  EXPECT_NE(card.output.find("Partitions: 5"), std::string::npos) << card;
  EXPECT_EQ(
      json_query(loopctl({"probe", "--json", file.path()}).output, "data[0]['partitions'], data[0]['table']"),
      "5 gpt");
}

}  // namespace
}  // namespace bus_test

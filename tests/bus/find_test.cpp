// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <unistd.h>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

using Objects = std::vector<std::string>;

class GetDevice : public Bus {
 protected:
  Reply get(const std::string& dev_path) { return root().manager("GetDevice", {text(dev_path)}); }
};

TEST_F(GetDevice, FindsADeviceByItsNode) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Reply found = get(node_of(number_of(object)));
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0), path(object));
}

TEST_F(GetDevice, FollowsALinkBelowDev) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string link = "/dev/loopd-test-link-" + std::to_string(::getpid());
  ASSERT_EQ(::symlink(("loop" + std::to_string(number_of(object))).c_str(), link.c_str()), 0);
  const Reply found = get(link);
  ::unlink(link.c_str());
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0), path(object));
}

TEST_F(GetDevice, FollowsUdevsLinks) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  run({"udevadm", "settle", "--timeout=20"});
  const std::string link = "/dev/disk/by-diskseq/" + sysfs(number_of(object), "diskseq").value_or("?");
  if (::access(link.c_str(), F_OK) < 0) GTEST_SKIP() << "udev makes no " << link;
  const Reply found = get(link);
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0), path(object));
}

TEST_F(GetDevice, GivesTheDeviceOfAPartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const Reply found = get(node_of(number_of(object)) + "p3");
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0), path(object));
}

TEST_F(GetDevice, KnowsALosetupDeviceAtOnce) {
  const ScratchFile file(MiB);
  for (int round = 0; round < 10; ++round) {
    const unsigned number = own_number();
    ASSERT_EQ(kernel_attach(number, file.fd()), 0);
    const Reply found = get(node_of(number));
    EXPECT_TRUE(succeeds(found));
    EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
  }
}

TEST_F(GetDevice, RefusesWhatIsNoLoopDevice) {
  const std::string below_dev = "/dev/loopd-test-file-" + std::to_string(::getpid());
  const loop::UniqueFd file(::open(below_dev.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  for (const std::string& wrong :
       {std::string("/dev/null"), std::string("/dev"), std::string("/dev/loop-control"),
        std::string("/etc/passwd"), std::string("/no/such/file"), std::string("/dev/no-such-device"),
        std::string("/dev/../etc/passwd"), std::string("/"), below_dev}) {
    EXPECT_TRUE(fails_with(get(wrong), not_a_loop_device, wrong)) << wrong;
  }
  ::unlink(below_dev.c_str());
}

TEST_F(GetDevice, AnswersTheSameForFilesThatAreThereAndThatAreNot) {
  const std::string here = get("/etc/passwd").message;
  const std::string absent = get("/etc/absent").message;
  ASSERT_NE(here.find("/etc/passwd"), std::string::npos);
  std::string expected = here;
  expected.replace(expected.find("/etc/passwd"), 11, "/etc/absent");
  EXPECT_EQ(expected, absent);
}

TEST_F(GetDevice, RefusesANameThatIsNoPath) {
  for (const char* wrong : {"", "loop0", "dev/loop0"}) {
    const Reply reply = get(wrong);
    EXPECT_TRUE(reply.error == not_a_loop_device || reply.error == invalid_args) << reply;
  }
}

TEST_F(GetDevice, SaysThatAnUnboundDeviceIsNotAttached) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"number", u32(own_number())}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().remove(object, {{"keep-node", boolean(true)}})));
  const std::string node = node_of(number_of(object));
  EXPECT_TRUE(fails_with(get(node), not_attached, node));
}

TEST_F(GetDevice, AnswersAnOrdinaryUser) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Reply found = connect(ordinary_user)->manager("GetDevice", {text(node_of(number_of(object)))});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0), path(object));
}

class FindBy : public Bus {
 protected:
  Objects by_path(const std::string& file) {
    const Reply reply = root().manager("FindByPath", {text(file)});
    EXPECT_TRUE(succeeds(reply));
    return reply.ok() ? reply.values.at(0).texts() : Objects();
  }
  Objects by_file(int file) {
    const Reply reply = root().manager("FindByFile", {handle(file)});
    EXPECT_TRUE(succeeds(reply));
    return reply.ok() ? reply.values.at(0).texts() : Objects();
  }
};

TEST_F(FindBy, GivesTheNewestFirst) {
  const ScratchFile file(MiB);
  Objects expected;
  for (int i = 0; i < 3; ++i) {
    expected.insert(expected.begin(), attach(file, {{"read-only", boolean(true)}}));
    ASSERT_FALSE(expected.front().empty());
  }
  EXPECT_EQ(by_path(file.path()), expected);
  EXPECT_EQ(by_file(file.fd()), expected);
}

TEST_F(FindBy, GivesNothingForAFileThatIsNotAttached) {
  const ScratchFile file(MiB);
  EXPECT_TRUE(by_path(file.path()).empty());
  EXPECT_TRUE(by_file(file.fd()).empty());
}

TEST_F(FindBy, TakesADescriptorThatOnlyNamesTheFile) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  const loop::UniqueFd name = file.open(O_PATH);
  EXPECT_EQ(by_file(name.get()), Objects{object});
}

TEST_F(FindBy, FindsAFileByAnotherOfItsNames) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  const std::string other = scratch_directory() + "/hard link";
  ASSERT_EQ(::link(file.path().c_str(), other.c_str()), 0);
  EXPECT_EQ(by_path(other), Objects{object});
  ::unlink(other.c_str());
}

TEST_F(FindBy, DoesNotConfuseFilesThatHaveTheSamePathOneAfterTheOther) {
  const std::string name = "the same name";
  const ScratchFile first(MiB, name);
  const std::string object = attach(first);
  ASSERT_EQ(::rename(first.path().c_str(), (first.path() + ".old").c_str()), 0);
  {
    const ScratchFile second(MiB, name);
    EXPECT_TRUE(by_path(second.path()).empty());
    EXPECT_EQ(by_path(first.path() + ".old"), Objects{object});
  }
  ::unlink((first.path() + ".old").c_str());
}

TEST_F(FindBy, FindsWhatLosetupAttached) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; }));
  EXPECT_EQ(by_path(file.path()), Objects{object_of(number)});
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

TEST_F(FindBy, FindsADeviceBackedByABlockDevice) {
  const ScratchFile file(MiB);
  const std::string lower = attach(file);
  ASSERT_FALSE(lower.empty());
  const loop::UniqueFd disk(::open(node_of(number_of(lower)).c_str(), O_RDWR | O_CLOEXEC));
  const std::string upper = attach(disk.get());
  EXPECT_EQ(by_file(disk.get()), Objects{upper});
  EXPECT_EQ(by_path(node_of(number_of(lower))), Objects{upper});
  EXPECT_EQ(by_path(file.path()), Objects{lower});
}

TEST_F(FindBy, RefusesAPathThatIsNotThere) {
  EXPECT_TRUE(
      fails_with(root().manager("FindByPath", {text("/no/such/file")}), file_not_found, "/no/such/file"));
}

TEST_F(FindBy, RefusesAPathThatIsNotAbsolute) {
  EXPECT_TRUE(fails_with(root().manager("FindByPath", {text("etc/passwd")}), invalid_args, "etc/passwd"));
  EXPECT_TRUE(fails_with(root().manager("FindByPath", {text("")}), invalid_args));
}

TEST_F(FindBy, FileAnswersAnOrdinaryUserAndPathAsksFirst) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  const auto user = connect(ordinary_user);
  const Reply found = user->manager("FindByFile", {handle(file.fd())});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0).texts(), Objects{object});
  EXPECT_TRUE(
      fails_with(user->manager("FindByPath", {text(file.path())}), interactive_authorization_required));
  EXPECT_TRUE(
      fails_with(user->manager("FindByPath", {text("/no/such/file")}), interactive_authorization_required));
}

class AttachPath : public Bus {
 protected:
  Reply attach_path(const std::string& file, const Options& wishes = {}) {
    return root().manager("AttachPath", {text(file), options(wishes)});
  }
};

TEST_F(AttachPath, RefusesAFileThatIsNotThere) {
  EXPECT_TRUE(fails_with(attach_path("/no/such/file"), file_not_found, "/no/such/file"));
}

TEST_F(AttachPath, RefusesAPathThatIsNotAbsolute) {
  EXPECT_TRUE(fails_with(attach_path("no/such/file"), invalid_args, "no/such/file"));
  EXPECT_TRUE(fails_with(attach_path(""), invalid_args));
}

TEST_F(AttachPath, DoesNotFollowALinkAsTheLastComponent) {
  const ScratchFile file(MiB);
  const std::string link = scratch_directory() + "/link to an image";
  ASSERT_EQ(::symlink(file.path().c_str(), link.c_str()), 0);
  const Reply reply = attach_path(link);
  EXPECT_TRUE(fails_with(reply, invalid_args, link)) << reply;
  ::unlink(link.c_str());
}

TEST_F(AttachPath, DoesNotFollowMagicLinks) {
  const ScratchFile file(MiB);
  const Reply reply = attach_path("/proc/" + std::to_string(::getpid()) + "/root" + file.path());
  EXPECT_FALSE(reply.ok());
  EXPECT_TRUE(reply.error == invalid_args || reply.error == file_not_found) << reply;
}

TEST_F(AttachPath, RefusesADirectory) {
  EXPECT_TRUE(fails_with(attach_path(scratch_directory()), invalid_args));
}

TEST_F(AttachPath, RefusesAFifoWithoutWaitingForItsWriter) {
  const std::string fifo = scratch_directory() + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_TRUE(fails_with(attach_path(fifo), invalid_args));
  EXPECT_TRUE(fails_with(attach_path(fifo, {{"read-only", boolean(true)}}), invalid_args));
  ::unlink(fifo.c_str());
}

TEST_F(AttachPath, AttachesReadOnlyIfAsked) {
  const ScratchFile file(MiB);
  const Reply reply = attach_path(file.path(), {{"read-only", boolean(true)}});
  ASSERT_TRUE(succeeds(reply));
  remove_at_end(reply.values.at(0).text);
  EXPECT_EQ(sysfs(number_of(reply.values.at(0).text), "ro"), "1");
}

}  // namespace
}  // namespace bus_test

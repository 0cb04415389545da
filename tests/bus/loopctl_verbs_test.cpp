// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What loopctl does: each verb, its errors and exit codes.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlVerbs : public Loopctl {
 protected:
  Value property(const std::string& node, const std::string& name) {
    return root().property("/org/example/Loop1" + node.substr(4), name).values.at(0);
  }
  static unsigned number(const std::string& node) {
    return static_cast<unsigned>(std::stoul(node.substr(9)));
  }
};

TEST_F(LoopctlVerbs, AttachPrintsADeviceForEachFile) {
  const ScratchFile one(MiB);
  const ScratchFile two(MiB);
  const LoopctlResult result = loopctl({"attach", one.path(), two.path()});
  EXPECT_EQ(result.status, 0) << result;
  const std::string first = result.output.substr(0, result.output.find('\n'));
  const std::string second = result.output.substr(first.size() + 1, result.output.size() - first.size() - 2);
  EXPECT_EQ(property(first, "BackingFile"), text(one.path()));
  EXPECT_EQ(property(second, "BackingFile"), text(two.path()));
  EXPECT_EQ(loopctl({"remove", first, second}).status, 0);
  EXPECT_FALSE(is_attached(number(first)) || is_attached(number(second)));
}

TEST_F(LoopctlVerbs, EveryOptionOfAttachReachesTheService) {
  const ScratchFile file(8 * MiB);
  const unsigned wish = own_number();
  const std::string node = attach_file({"--offset=1M", "--size-limit=2MiB", "--block-size=4096", "-r",
                                        "--number=" + std::to_string(wish), "--reference=wishes",
                                        "--autoclear", "--direct-io=no", "--allow-overlap", file.path()});
  EXPECT_EQ(node, node_of(wish));
  EXPECT_EQ(property(node, "Offset"), u64(MiB));
  EXPECT_EQ(property(node, "Size"), u64(2 * MiB));
  EXPECT_EQ(property(node, "BlockSize"), u32(4096));
  EXPECT_EQ(property(node, "ReadOnly"), boolean(true));
  EXPECT_EQ(property(node, "Reference"), text("wishes"));
}

TEST_F(LoopctlVerbs, ReuseTakesTheDeviceThatIsThere) {
  const ScratchFile file(2 * MiB);
  const std::string node = attach_file({"--offset=1M", "-r", file.path()});
  EXPECT_EQ(attach_file({"--reuse", "--offset=1M", "-r", file.path()}), node);
}

TEST_F(LoopctlVerbs, AttachByPathLetsTheServiceOpenTheFile) {
  const ScratchFile file(MiB, "by-path.img");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch_directory());
  const std::string node = attach_file({"--path", "by-path.img"});
  std::filesystem::current_path(before);
  EXPECT_EQ(property(node, "BackingFile"), text(file.path()));
}

TEST_F(LoopctlVerbs, AnImageOfAnotherFormatIsRefusedByItsNameUnlessRaw) {
  const ScratchFile file(MiB, "disk.qcow2");
  file.write(0, std::string("QFI\xfb\0\0\0\3", 8));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", file.path()}), 1, {file.path(), "qcow2", "--raw"}));
  EXPECT_EQ(loopctl({"find", file.path()}).status, 3);
  EXPECT_EQ(json_query(loopctl({"probe", "--json", file.path()}).output, "data[0]['format']"), "qcow2");
  EXPECT_FALSE(attach_file({"--raw", file.path()}).empty());
}

TEST_F(LoopctlVerbs, ErrorsOfAttachSayWhatToDo) {
  const ScratchFile file(MiB, "errors.img");
  const std::string node = attach_file({file.path()});
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", file.path()}), 4, {file.path(), node, "--reuse"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", "/no/such.img"}), 3, {"/no/such.img", "No such file"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach"}), 2, {"needs a FILE"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", "--offset=1X", file.path()}), 2, {"--offset", "1X"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", "--allow-overlap", "--block-size=1000", file.path()}), 1,
                                {"1000"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"attach", "--lazy", file.path()}), 2, {"--lazy", "attach"}));
  ASSERT_EQ(::chmod(file.path().c_str(), 0444), 0);
  EXPECT_TRUE(
      fails_in_one_line(loopctl({"attach", file.path()}, allowed_user), 5, {file.path(), "--read-only"}));
}

TEST_F(LoopctlVerbs, ALeaseLastsAsLongAsItsCommand) {
  const ScratchFile file(MiB);
  file.write(0, "leased bytes");
  const LoopctlResult result =
      loopctl({"attach", "--lease", file.path(), "--", "sh", "-c", "head -c 12 $LOOPCTL_DEVICE; exit 7"});
  EXPECT_EQ(result.status, 7) << result;
  EXPECT_EQ(result.output, "leased bytes");
  EXPECT_EQ(loopctl({"find", file.path()}).status, 3) << "the device is gone with the command";
}

TEST_F(LoopctlVerbs, ALeaseWithoutACommandLastsUntilLoopctlEnds) {
  const ScratchFile file(MiB);
  LoopctlRun lease = start({.arguments = {"attach", "--lease", file.path()}});
  ASSERT_TRUE(lease.wait_for_output("\n"));
  EXPECT_EQ(loopctl({"find", file.path()}).output, lease.output());
  lease.signal(SIGTERM);
  EXPECT_EQ(lease.wait().status, 0);
  EXPECT_EQ(loopctl({"find", file.path()}).status, 3);
}

TEST_F(LoopctlVerbs, RemoveOfAMountedDeviceNamesTheHolderAndWhatToDo) {
  const ScratchFile file(8 * MiB);
  const std::string node = attach_file({file.path()});
  ASSERT_EQ(run({"mkfs.ext4", "-q", node}).status, 0);
  const MountPoint mounted("busy");
  ASSERT_TRUE(mounted.mount(node));
  EXPECT_TRUE(
      fails_in_one_line(loopctl({"remove", node}), 4, {node, "mounted at " + mounted.path(), "--lazy"}));
  EXPECT_TRUE(is_attached(number(node)));
  EXPECT_EQ(loopctl({"remove", "--lazy", node}).status, 0);
  EXPECT_TRUE(is_attached(number(node)));
  EXPECT_TRUE(mounted.unmount());
  EXPECT_TRUE(root().wait_for([&] { return !root().has_object(object_of(number(node))); }));
}

TEST_F(LoopctlVerbs, RemoveGoesOnAfterOneThatIsBusy) {
  const ScratchFile busy(8 * MiB);
  const ScratchFile idle(MiB);
  const std::string held = attach_file({busy.path()});
  const std::string free = attach_file({idle.path()});
  const loop::UniqueFd holder(::open(held.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fails_in_one_line(loopctl({"remove", held, free}), 4, {held, std::to_string(::getpid())}));
  EXPECT_FALSE(is_attached(number(free)));
  EXPECT_TRUE(is_attached(number(held)));
}

TEST_F(LoopctlVerbs, RemoveAllOfAnOrdinaryUserTakesTheUsersOwn) {
  const ScratchFile mine(MiB, "allowed-all.img");
  const ScratchFile roots(MiB);
  ASSERT_EQ(::chown(mine.path().c_str(), allowed_user, allowed_user), 0);
  const LoopctlResult attached = loopctl({"attach", mine.path()}, allowed_user);
  ASSERT_EQ(attached.status, 0) << attached;
  const std::string others = attach_file({roots.path()});
  EXPECT_EQ(loopctl({"remove", "--all"}, allowed_user).status, 0);
  EXPECT_EQ(loopctl({"find", mine.path()}).status, 3);
  EXPECT_TRUE(is_attached(number(others)));
}

TEST_F(LoopctlVerbs, ResizeFollowsTheFileAndRefusesToCutAPartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string node = attach_file({"-P", file.path()});
  file.resize(16 * MiB);
  EXPECT_EQ(loopctl({"resize", node}).output, node + ": 8388608 -> 16777216 bytes\n");
  EXPECT_EQ(loopctl({"resize", "--size-limit=12M", node}).output, node + ": 16777216 -> 12582912 bytes\n");
  EXPECT_TRUE(fails_in_one_line(loopctl({"resize", "--size-limit=2M", node}), 1, {node, "--force"}));
  EXPECT_EQ(loopctl({"resize", "--size-limit=2M", "--force", node}).status, 0);
  EXPECT_EQ(property(node, "Size"), u64(2 * MiB));
}

TEST_F(LoopctlVerbs, SetAndRescanChangeADevice) {
  const ScratchFile file(8 * MiB);
  const std::string node = attach_file({file.path()});
  EXPECT_EQ(loopctl({"set", "--direct-io=no", node}).status, 0);
  EXPECT_EQ(property(node, "DirectIO"), boolean(false));
  EXPECT_EQ(loopctl({"set", "--autoclear=no", node}).status, 0);
  EXPECT_TRUE(fails_in_one_line(loopctl({"set", node}), 2, {"--autoclear", "--direct-io"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"set", "--autoclear=perhaps", node}), 2, {"perhaps"}));
  partition(file, gpt_with_five_partitions);
  EXPECT_EQ(loopctl({"rescan", node}).status, 0);
  EXPECT_EQ(property(node, "Partitions").items.size(), 5U);
}

TEST_F(LoopctlVerbs, SetAutoclearDetachesAtTheEndOfAUse) {
  const ScratchFile file(8 * MiB);
  const std::string node = attach_file({file.path()});
  ASSERT_EQ(run({"mkfs.ext4", "-q", node}).status, 0);
  const MountPoint mounted("autoclear");
  ASSERT_TRUE(mounted.mount(node));
  EXPECT_EQ(loopctl({"set", "--autoclear", node}).status, 0);
  EXPECT_TRUE(mounted.unmount());
  EXPECT_TRUE(root().wait_for([&] { return !root().has_object(object_of(number(node))); }));
}

TEST_F(LoopctlVerbs, OpenGivesTheDeviceToACommand) {
  const ScratchFile file(MiB);
  file.write(0, "through a descriptor");
  const std::string node = attach_file({file.path()});
  EXPECT_EQ(loopctl({"open", node, "--", "head", "-c", "20", "/proc/self/fd/3"}).output,
            "through a descriptor");
  EXPECT_EQ(loopctl({"open", "--descriptor=0", node, "--", "head", "-c", "20"}).output,
            "through a descriptor");
  EXPECT_EQ(loopctl({"open", node, "--", "sh", "-c", "echo $LOOPCTL_DESCRIPTOR; exit 9"}).status, 9);
  EXPECT_EQ(loopctl({"open", "-w", node, "--", "sh", "-c", "printf THROUGH >&3"}).status, 0);
  EXPECT_EQ(loopctl({"open", node, "--", "head", "-c", "20", "/proc/self/fd/3"}).output,
            "THROUGH a descriptor");
  EXPECT_NE(loopctl({"open", node, "--", "sh", "-c", "printf X >&3"}).status, 0) << "not open for writing";
  EXPECT_TRUE(
      fails_in_one_line(loopctl({"open", node, "--", "/no/such/command"}), 127, {"/no/such/command"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"open", node, "--", file.path()}), 126, {file.path()}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"open", node}), 2, {"COMMAND"}));
}

TEST_F(LoopctlVerbs, WhoIsNotAllowedIsToldSo) {
  const ScratchFile file(MiB, "forbidden.img");
  ASSERT_EQ(::chown(file.path().c_str(), ordinary_user, ordinary_user), 0);
  EXPECT_TRUE(
      fails_in_one_line(loopctl({"attach", file.path()}, ordinary_user), 5, {file.path(), "as root"}));
  const std::string node = attach_file({file.path()});
  EXPECT_TRUE(fails_in_one_line(loopctl({"remove", node}, ordinary_user), 5, {node}));
  EXPECT_EQ(loopctl({"find", file.path()}, ordinary_user).output, node + "\n")
      << "looking needs no authorization";
}

TEST_F(LoopctlVerbs, WithoutAServiceTheExitCodeSaysSo) {
  const std::map<std::string, std::string> nowhere{{"DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus"}};
  EXPECT_TRUE(
      fails_in_one_line(start({.arguments = {"list"}, .environment = nowhere, .uid = ordinary_user}).wait(),
                        6, {"system bus"}));
  stack().stop_loopd();
  EXPECT_TRUE(fails_in_one_line(loopctl({"list"}), 6, {"loopd does not answer"}));
  stack().start_loopd();
}

// ssh is what the machine has not; all that it carries is real.
TEST_F(LoopctlVerbs, AnotherMachineIsReachedBySshAndItsPathsAreMeant) {
  const ScratchFile file(MiB, "far-away.img");
  const std::string directory = scratch_directory() + "/ssh-stand-in";
  std::filesystem::create_directory(directory);
  std::ofstream(directory + "/ssh") << "#!/bin/sh\n"
                                    << "echo \"$*\" >'" << directory << "/called'\n"
                                    << "exec systemd-stdio-bridge --bus-path=" << stack().address() << "\n";
  ASSERT_EQ(::chmod((directory + "/ssh").c_str(), 0755), 0);
  const std::map<std::string, std::string> environment{{"PATH", directory + ":/usr/bin:/bin"},
                                                       {"DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus"}};
  const auto far = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-H", "someone@far"});
    return start({.arguments = arguments, .environment = environment}).wait();
  };
  const LoopctlResult attached = far({"attach", file.path()});
  ASSERT_EQ(attached.status, 0) << attached;
  std::ifstream called(directory + "/called");
  std::string line;
  std::getline(called, line);
  EXPECT_NE(line.find("someone@far"), std::string::npos) << line;
  EXPECT_EQ(far({"find", file.path()}).output, attached.output);
  EXPECT_NE(far({"list"}).output.find(file.path()), std::string::npos);
  EXPECT_NE(far({"status", file.path()}).output.find("File: " + file.path()), std::string::npos);
  EXPECT_TRUE(fails_in_one_line(far({"attach", "relative.img"}), 2, {"relative.img", "absolute"}));
  EXPECT_TRUE(fails_in_one_line(far({"probe", file.path()}), 2, {"--host"}));
  EXPECT_EQ(far({"remove", file.path()}).status, 0);
  std::filesystem::remove_all(directory);
}

TEST_F(LoopctlVerbs, HelpAndVersionNeedNoService) {
  for (const auto& arguments : {std::vector<std::string>{"--help"}, {"attach", "--help"}, {"-h", "set"}}) {
    const LoopctlResult help = start({.arguments = arguments,
                                      .environment = {{"DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus"}}})
                                   .wait();
    EXPECT_EQ(help.status, 0);
    EXPECT_NE(help.output.find("--version"), std::string::npos) << help;
  }
  EXPECT_NE(loopctl({"--version"})
                .output.find(root().property(root_path, "Version", manager_interface).values.at(0).text),
            std::string::npos);
  EXPECT_TRUE(fails_in_one_line(loopctl({"atach"}), 2, {"'atach' is no verb"}));
  EXPECT_TRUE(fails_in_one_line(loopctl({"list", "--no-such"}), 2, {"--no-such"}));
}

}  // namespace
}  // namespace bus_test

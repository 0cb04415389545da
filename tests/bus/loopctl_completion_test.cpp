// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What only the service knows: devices and references, as bash completes them.
#include <filesystem>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlCompletion : public Loopctl {
 protected:
  // The words behind "loopctl", the last of which is being typed; a completion a line.
  std::string complete(const std::vector<std::string>& words) {
    const std::string script =
        ". '" LOOPD_SOURCE_DIR
        "/service/cli/completions/loopctl'; COMP_WORDS=(loopctl \"$@\"); COMP_CWORD=$#; "
        "_loopctl; printf '%s\\n' \"${COMPREPLY[@]}\"";
    const std::string path = std::filesystem::path(loopctl_program()).parent_path();
    std::vector<std::string> command{"env",
                                     "DBUS_SYSTEM_BUS_ADDRESS=" + stack().address(),
                                     "PATH=" + path + ":/usr/bin:/bin",
                                     "bash",
                                     "--norc",
                                     "-c",
                                     script,
                                     "bash"};
    command.insert(command.end(), words.begin(), words.end());
    return "\n" + run(command).output;
  }
};

TEST_F(LoopctlCompletion, CompletesDevicesAndReferences) {
  const ScratchFile file(MiB);
  const std::string node = attach_file({"--reference=a reference", file.path()});
  const std::string all = complete({"remove", ""});
  EXPECT_NE(all.find("\n" + node + "\n"), std::string::npos) << all;
  EXPECT_NE(all.find("\na\\ reference\n"), std::string::npos) << all;
  EXPECT_EQ(complete({"status", "a"}), "\na\\ reference\n");
  EXPECT_EQ(complete({"open", "--write", node}), "\n" + node + "\n");
}

TEST_F(LoopctlCompletion, CompletesFilesWhereFilesAreMeant) {
  const ScratchFile file(MiB, "completed.img");
  const std::string begin = scratch_directory() + "/comple";
  for (const char* verb : {"attach", "probe", "find", "remove"}) {
    EXPECT_EQ(complete({verb, begin}), "\n" + file.path() + "\n") << verb;
  }
}

}  // namespace
}  // namespace bus_test

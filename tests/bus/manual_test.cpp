// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The commands that org.example.Loop1(5) shows are run as they stand there.
#include <fstream>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Manual : public Bus {
 protected:
  static std::vector<std::string> shown_commands() {
    std::ifstream page(LOOPD_SOURCE_DIR "/docs/org.example.Loop1.5.scd");
    std::vector<std::string> commands;
    for (std::string line; std::getline(page, line);) {
      if (line.starts_with("busctl ")) commands.push_back(line);
    }
    return commands;
  }

  static std::string with(std::string command, const std::string& what, const std::string& instead) {
    for (size_t at = 0; (at = command.find(what, at)) != std::string::npos; at += instead.size()) {
      command.replace(at, what.size(), instead);
    }
    return command;
  }
};

TEST_F(Manual, EveryBusctlCommandOfTheInterfaceWorks) {
  const ScratchFile file(8 * MiB, "manual.img");
  partition(file, gpt_with_five_partitions);
  const std::vector<std::string> commands = shown_commands();
  ASSERT_GE(commands.size(), 8U);
  std::string name = "loop0";  // as the page has it, until the first command has attached another
  for (const std::string& shown : commands) {
    const std::string command = with(with(shown, "/srv/disk.img", file.path()), "loop0", name);
    const CommandResult result =
        run({"env", "DBUS_SYSTEM_BUS_ADDRESS=" + stack().address(), "sh", "-c", command});
    EXPECT_EQ(result.status, 0) << command << "\n" << result.output;
    if (command.find("AttachPath") == std::string::npos) continue;
    const size_t begin = result.output.rfind('/') + 1;
    name = result.output.substr(begin, result.output.rfind('"') - begin);
    remove_at_end(std::string(root_path) + "/" + name);
  }
  EXPECT_FALSE(root().has_object(std::string(root_path) + "/" + name)) << "the last command removes it";
}

}  // namespace
}  // namespace bus_test

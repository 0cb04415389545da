// SPDX-License-Identifier: LGPL-2.1-or-later
#include <signal.h>

#include <sstream>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlMonitor : public Loopctl {
 protected:
  static std::vector<std::string> lines_about(const std::string& output, const std::string& what) {
    std::vector<std::string> lines;
    std::istringstream stream(output);
    for (std::string line; std::getline(stream, line);) {
      if (line.find(what) != std::string::npos) lines.push_back(line);
    }
    return lines;
  }
};

TEST_F(LoopctlMonitor, TellsDevicesAndPartitionsAsTheyComeChangeAndGo) {
  LoopctlRun monitor = start({.arguments = {"monitor"}});
  ASSERT_TRUE(monitor.wait_for_output("listening\n"));
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string node = attach_file({"-P", "-r", file.path()});
  EXPECT_TRUE(monitor.wait_for_output("added    " + node + " " + file.path() + "\n"));
  EXPECT_TRUE(monitor.wait_for_output("added    " + node + "p5\n"));
  file.resize(9 * MiB);
  ASSERT_EQ(loopctl({"resize", node}).status, 0);
  EXPECT_TRUE(monitor.wait_for_output("Size=9437184"));
  ASSERT_EQ(loopctl({"remove", node}).status, 0);
  EXPECT_TRUE(monitor.wait_for_output("removed  " + node + "\n"));
  const std::string output = monitor.output();
  EXPECT_EQ(lines_about(output, node + "p1").size(), 2U) << output;
  EXPECT_EQ(lines_about(output, "added    " + node).size(), 6U) << output;
}

TEST_F(LoopctlMonitor, JsonIsOneObjectALine) {
  LoopctlRun monitor = start({.arguments = {"monitor", "--json=short"}});
  ASSERT_TRUE(monitor.wait_for_output("\n"));
  const ScratchFile file(MiB, "mon\nitored.img");
  const std::string node = attach_file({file.path()});
  ASSERT_EQ(loopctl({"remove", node}).status, 0);
  ASSERT_TRUE(monitor.wait_for_output(R"({"event":"removed","device":")" + node + "\"}\n"));
  const auto lines = lines_about(monitor.output(), "\"" + node + "\"");
  ASSERT_GE(lines.size(), 2U);
  EXPECT_EQ(json_query(lines[0], "data['event'], data['properties']['backing-file']"),
            "added " + file.path());
  EXPECT_EQ(json_query(monitor.output().substr(0, monitor.output().find('\n')), "data['event']"),
            "listening");
}

TEST_F(LoopctlMonitor, SurvivesTheServiceAndTellsWhatHappenedMeanwhile) {
  const ScratchFile stays(MiB);
  const ScratchFile goes(MiB);
  const ScratchFile comes(MiB);
  const std::string kept = attach_file({stays.path()});
  const unsigned gone = own_number();
  const unsigned come = own_number();
  attach_file({"--number=" + std::to_string(gone), goes.path()});
  LoopctlRun monitor = start({.arguments = {"monitor"}});
  ASSERT_TRUE(monitor.wait_for_output("listening\n"));
  stack().stop_loopd(SIGKILL);
  EXPECT_TRUE(monitor.wait_for_output("stopped\n"));
  ASSERT_EQ(kernel_detach(gone), 0);
  ASSERT_EQ(kernel_attach(come, comes.fd()), 0);
  stack().start_loopd();
  EXPECT_TRUE(monitor.wait_for_output("started\n"));
  EXPECT_TRUE(monitor.wait_for_output("removed  " + node_of(gone) + "\n"));
  EXPECT_TRUE(monitor.wait_for_output("added    " + node_of(come) + " " + comes.path() + "\n"));
  EXPECT_EQ(loopctl({"remove", node_of(come)}).status, 0);
  EXPECT_TRUE(monitor.wait_for_output("removed  " + node_of(come) + "\n"));
  EXPECT_TRUE(lines_about(monitor.output(), "added    " + kept).empty());
  EXPECT_TRUE(lines_about(monitor.output(), "removed  " + kept).empty());
}

TEST_F(LoopctlMonitor, InitialBeginsWithWhatIsThere) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string node = attach_file({"-P", file.path()});
  LoopctlRun monitor = start({.arguments = {"monitor", "--initial"}});
  EXPECT_TRUE(monitor.wait_for_output("added    " + node + "p5\n"));
  EXPECT_NE(monitor.output().find("added    " + node + " " + file.path()), std::string::npos);
}

}  // namespace
}  // namespace bus_test

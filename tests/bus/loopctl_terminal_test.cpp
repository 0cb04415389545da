// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is different where a person sits.
#include <unistd.h>

#include "tests/bus/loopctl.hpp"

namespace bus_test {
namespace {

class LoopctlOnATerminal : public Loopctl {};

TEST_F(LoopctlOnATerminal, SizesAreForPeopleAndColoursAreThere) {
  const ScratchFile file(3 * MiB / 2);
  const std::string node = attach_file({file.path()});
  const LoopctlResult shown = on_terminal({"list", "--no-pager", node});
  EXPECT_EQ(shown.status, 0);
  EXPECT_NE(shown.output.find("1.5M"), std::string::npos) << shown;
  EXPECT_NE(shown.output.find("\x1b["), std::string::npos) << shown;
  EXPECT_NE(on_terminal({"list", "--no-pager", "--bytes", node}).output.find("1572864"), std::string::npos);
  EXPECT_NE(on_terminal({"status", "--no-pager", node}).output.find("●"), std::string::npos);
}

TEST_F(LoopctlOnATerminal, TheEnvironmentDecidesAboutColours) {
  const ScratchFile file(MiB);
  const std::string node = attach_file({file.path()});
  const std::vector<std::string> list{"list", "--no-pager", node};
  EXPECT_EQ(on_terminal(list, {{"NO_COLOR", "1"}}).output.find('\x1b'), std::string::npos);
  EXPECT_EQ(on_terminal(list, {{"TERM", "dumb"}}).output.find('\x1b'), std::string::npos);
  EXPECT_EQ(on_terminal(list, {{"SYSTEMD_COLORS", "0"}}).output.find('\x1b'), std::string::npos);
  const LoopctlResult piped =
      start({.arguments = list, .environment = {{"SYSTEMD_COLORS", "1"}, {"NO_COLOR", "1"}}}).wait();
  EXPECT_NE(piped.output.find('\x1b'), std::string::npos);
}

TEST_F(LoopctlOnATerminal, APagerShowsTheList) {
  const ScratchFile file(MiB);
  const std::string node = attach_file({file.path()});
  const std::map<std::string, std::string> pager{{"PAGER", "sed s/^/paged:/"}, {"SYSTEMD_PAGERSECURE", "0"}};
  const LoopctlResult paged = on_terminal({"list", node}, pager);
  EXPECT_EQ(paged.status, 0);
  EXPECT_NE(paged.output.find("paged:" + node), std::string::npos) << paged;
  EXPECT_EQ(on_terminal({"list", "--no-pager", node}, pager).output.find("paged:"), std::string::npos);
  EXPECT_EQ(on_terminal({"list", node}, {{"PAGER", "sed s/^/paged:/"}, {"SYSTEMD_PAGER", ""}})
                .output.find("paged:"),
            std::string::npos);
  EXPECT_EQ(start({.arguments = {"list", node}, .environment = pager}).wait().output.find("paged:"),
            std::string::npos)
      << "a pipe has no pager";
}

TEST_F(LoopctlOnATerminal, APagerIsNotTrustedForAnotherUser) {
  const LoopctlResult shown =
      on_terminal({"list"}, {{"PAGER", "echo untrusted"}, {"SUDO_UID", "1000"}, {"SYSTEMD_LESS", "FRSXK"}});
  EXPECT_EQ(shown.output.find("untrusted"), std::string::npos) << shown;
  EXPECT_NE(shown.output.find("DEVICE"), std::string::npos) << shown;
}

TEST_F(LoopctlOnATerminal, PolkitsTextAgentAsksThere) {
  const ScratchFile file(MiB, "asked-for.img");
  ASSERT_EQ(::chown(file.path().c_str(), ordinary_user, ordinary_user), 0);
  LoopctlRun asking = start({.arguments = {"attach", file.path()}, .uid = ordinary_user, .terminal = true});
  EXPECT_TRUE(asking.wait_for_output("org.example.Loop1.attach")) << asking.output();
  asking.type("\x03");
  const LoopctlResult result = asking.wait();
  EXPECT_NE(result.status, 0) << result;
  const LoopctlResult silent =
      start(
          {.arguments = {"attach", "--no-ask-password", file.path()}, .uid = ordinary_user, .terminal = true})
          .wait();
  EXPECT_EQ(silent.status, 5) << silent;
  EXPECT_EQ(silent.output.find("AUTHENTICATING"), std::string::npos) << silent;
  EXPECT_EQ(loopctl({"find", file.path()}).status, 3);
}

}  // namespace
}  // namespace bus_test

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Clients that nobody here wrote: GLib, QtDBus, gdbus, busctl, the generators of
// proxies, UDisks2, and the examples as their users have them.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "tests/bus/bus_fixture.hpp"
#include "tests/bus/loopctl.hpp"
#include "tests/bus/udisks.hpp"

namespace bus_test {
namespace {

// Debian's, which has the modules of its packages.
constexpr const char* python = "/usr/bin/python3";
constexpr const char* interface_file = LOOPD_SOURCE_DIR "/dbus/org.example.Loop1.xml";

class AClient : public Bus {
 protected:
  std::vector<std::string> on_the_bus(std::vector<std::string> command) const {
    command.insert(command.begin(), {"env", "DBUS_SYSTEM_BUS_ADDRESS=" + stack().address(),
                                     "LOOPD_TEST_SCRATCH=" + scratch_directory(),
                                     // Nothing is written beside the sources.
                                     "PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8"});
    return command;
  }

  CommandResult run_on_the_bus(const std::vector<std::string>& command) const {
    return run(on_the_bus(command));
  }

  // A script of clients/, or one of its test cases.
  void expect_success(const std::string& script, const std::string& test = {}) const {
    std::vector<std::string> command{python, LOOPD_SOURCE_DIR "/tests/bus/clients/" + script};
    if (!test.empty()) command.push_back(test);
    const CommandResult result = run_on_the_bus(command);
    EXPECT_EQ(result.status, 0) << result.output;
    EXPECT_NE(result.output.find("\nOK\n"), std::string::npos)
        << "no test, or one skipped: " << result.output;
  }
};

TEST_F(AClient, OfGLibFollowsADeviceFromItsFirstToItsLastMoment) {
  expect_success("glib_client.py",
                 "ObjectManagerClient.test_follows_a_device_from_its_first_to_its_last_moment");
}

TEST_F(AClient, OfGLibHasWhatWasThereBeforeItCame) {
  expect_success("glib_client.py", "ObjectManagerClient.test_has_what_was_there_before_it_came");
}

TEST_F(AClient, OfGLibNeedsAProxyForTheManager) {
  expect_success("glib_client.py", "ObjectManagerClient.test_does_not_show_the_object_at_its_own_path");
}

TEST_F(AClient, OfGLibGetsErrorsByName) {
  expect_success("glib_client.py", "ObjectManagerClient.test_gets_errors_by_name");
}

TEST_F(AClient, OfQtAttachesFollowsAndRemoves) {
  expect_success("qt_client.py", "QtDBus.test_attaches_follows_and_removes");
}

TEST_F(AClient, OfQtGetsErrorsByName) { expect_success("qt_client.py", "QtDBus.test_gets_errors_by_name"); }

TEST_F(AClient, CalledGdbusIntrospectsAttachesAndRemoves) {
  const ScratchFile file(MiB);
  const CommandResult attached = run_on_the_bus(
      {"gdbus", "call", "--system", "--dest", service_name, "--object-path", root_path, "--method",
       "org.example.Loop1.Manager.AttachPath", file.path(), "{'read-only': <true>}"});
  ASSERT_EQ(attached.status, 0) << attached.output;
  const auto from = attached.output.find("'/") + 1;  // (objectpath '/org/example/Loop1/loop0',)
  const std::string object = attached.output.substr(from, attached.output.find('\'', from) - from);
  const CommandResult shown = run_on_the_bus(
      {"gdbus", "introspect", "--system", "--dest", service_name, "--object-path", root_path, "--recurse"});
  EXPECT_EQ(shown.status, 0);
  EXPECT_NE(shown.output.find("node " + object + " {"), std::string::npos) << shown.output;
  EXPECT_NE(shown.output.find("readonly b ReadOnly = true;"), std::string::npos) << shown.output;
  const CommandResult removed =
      run_on_the_bus({"gdbus", "call", "--system", "--dest", service_name, "--object-path", object,
                      "--method", "org.example.Loop1.Remove"});
  EXPECT_EQ(removed.output, "()\n");
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(AClient, CalledBusctlAttachesLooksAndRemoves) {
  const ScratchFile file(MiB);
  const CommandResult attached =
      run_on_the_bus({"busctl", "call", service_name, root_path, manager_interface, "AttachPath", "sa{sv}",
                      file.path(), "2", "read-only", "b", "true", "offset", "t", "4096"});
  ASSERT_TRUE(attached.output.starts_with("o \"/org/example/Loop1/loop")) << attached.output;
  const std::string object = attached.output.substr(3, attached.output.rfind('"') - 3);
  EXPECT_EQ(run_on_the_bus(
                {"busctl", "get-property", service_name, object, device_interface, "Offset", "BackingFile"})
                .output,
            "t 4096\ns \"" + file.path() + "\"\n");
  const CommandResult shown = run_on_the_bus({"busctl", "introspect", service_name, object});
  EXPECT_EQ(shown.status, 0) << shown.output;
  EXPECT_NE(shown.output.find(".PartitionAdded"), std::string::npos) << shown.output;
  EXPECT_EQ(run_on_the_bus({"busctl", "call", service_name, object, device_interface, "Remove"}).status, 0);
  EXPECT_FALSE(is_attached(number_of(object)));
}

class AGenerator : public AClient {
 protected:
  AGenerator() { std::filesystem::create_directory(directory_); }
  ~AGenerator() override { std::filesystem::remove_all(directory_); }

  std::string generated(const std::string& name) const {
    std::ifstream file(directory_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // What the service tells of an object.
  std::string introspection_file(const std::string& object) {
    const Reply reply = root().call(
        {.object = object, .interface = "org.freedesktop.DBus.Introspectable", .member = "Introspect"});
    EXPECT_TRUE(succeeds(reply));
    const std::string path = directory_ + "/introspection.xml";
    std::ofstream(path) << reply.values.at(0).text;
    return path;
  }

  std::string directory_ = scratch_directory() + "/generated";
};

TEST_F(AGenerator, OfGLibTakesTheInterfaceFileAndTheIntrospection) {
  const ScratchFile file(MiB);
  for (const std::string& xml : {std::string(interface_file), introspection_file(attach(file))}) {
    const CommandResult result = run({"gdbus-codegen", "--interface-prefix=org.example.",
                                      "--generate-c-code=" + directory_ + "/glib", xml});
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.output, "");
    EXPECT_NE(generated("glib.h").find("loop1_call_resize_with_options_sync"), std::string::npos);
  }
}

TEST_F(AGenerator, OfGLibMakesPagesOfTheDocumentation) {
  EXPECT_EQ(
      run({"gdbus-codegen", "--output-directory=" + directory_, "--generate-docbook=doc", interface_file})
          .status,
      0);
  EXPECT_NE(generated("doc-org.example.Loop1.xml").find("An attached loop device."), std::string::npos);
}

TEST_F(AGenerator, OfQtTakesTheInterfaceFile) {
  const CommandResult result = run({"qdbusxml2cpp", "-p", directory_ + "/qt.h:", interface_file});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output, "") << "a type has no annotation";
  EXPECT_NE(generated("qt.h").find("QDBusPendingReply<QDBusObjectPath> Attach("
                                   "const QDBusUnixFileDescriptor &file, const QVariantMap &options)"),
            std::string::npos);
}

class BesideUDisks : public AClient {
 protected:
  void SetUp() override {
    AClient::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    udisks_ = std::make_unique<UDisks>(stack().address());
    ASSERT_TRUE(root().wait_for_name(UDisks::name));
  }
  void TearDown() override {
    udisks_.reset();
    AClient::TearDown();
  }

 private:
  std::unique_ptr<UDisks> udisks_;
};

TEST_F(BesideUDisks, EachSeesWhatTheOtherAttachedAndEitherMayRemoveIt) { expect_success("beside_udisks.py"); }

// What a program writes, line by line.
class LineReader {
 public:
  LineReader() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) throw std::system_error(errno, std::generic_category(), "pipe");
    reading_.reset(ends[0]);
    writing_.reset(ends[1]);
  }

  int end_for_the_program() const { return writing_.get(); }

  // The next line; nothing at the deadline.
  std::string next() {
    const auto deadline = Clock::now() + long_enough;
    for (;;) {
      if (const auto end = read_.find('\n'); end != std::string::npos) {
        const std::string line = read_.substr(0, end);
        read_.erase(0, end + 1);
        return line;
      }
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
      pollfd waited{reading_.get(), POLLIN, 0};
      if (left <= 0 || ::poll(&waited, 1, static_cast<int>(left)) <= 0) return {};
      std::array<char, 512> buffer{};
      const ssize_t got = ::read(reading_.get(), buffer.data(), buffer.size());
      if (got <= 0) return {};
      read_.append(buffer.data(), static_cast<size_t>(got));
    }
  }

  // Skips lines; false: it did not come.
  bool wait_for(const std::string& line) {
    for (;;) {
      const std::string came = next();
      if (came == line) return true;
      if (came.empty()) return false;
    }
  }

 private:
  loop::UniqueFd reading_;
  loop::UniqueFd writing_;
  std::string read_;
};

// The same program in two languages.
class AnExample : public AClient, public testing::WithParamInterface<std::string> {
 protected:
  std::vector<std::string> command(const std::vector<std::string>& arguments) const {
    std::vector<std::string> words;
    if (GetParam() == "Python") words = {python, LOOPD_SOURCE_DIR "/examples/loop_disks.py"};
    if (GetParam() == "Cpp") words = {LOOP_DISKS_BINARY};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }
};

TEST_P(AnExample, AttachesListsWatchesAndRemoves) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  LineReader lines;
  ChildProcess watching({.arguments = on_the_bus(command({"watch"})), .output = lines.end_for_the_program()});
  ASSERT_TRUE(lines.wait_for("watching"));

  const CommandResult attached = run_on_the_bus(command({"attach", file.path()}));
  ASSERT_EQ(attached.status, 0) << attached.output;
  const std::string node = attached.output.substr(0, attached.output.find_first_of(" \n"));
  const std::string object = object_of(static_cast<unsigned>(std::stoul(node.substr(9))));
  const std::string device = node + "  8388608 bytes  " + file.path();
  EXPECT_TRUE(lines.wait_for("+ " + device));
  EXPECT_TRUE(lines.wait_for("+ " + node + "p2  2097152 bytes  second one"));

  const CommandResult listed = run_on_the_bus(command({"list"}));
  EXPECT_EQ(listed.status, 0);
  EXPECT_NE(listed.output.find(device + "\n"), std::string::npos) << listed.output;
  EXPECT_NE(listed.output.find(node + "p5  1048576 bytes  last\n"), std::string::npos) << listed.output;

  const CommandResult removed = run_on_the_bus(command({"remove", node}));
  EXPECT_EQ(removed.status, 0) << removed.output;
  EXPECT_TRUE(lines.wait_for("- " + object));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_P(AnExample, TellsWhatWentWrong) {
  const CommandResult removed = run_on_the_bus(command({"remove", "/dev/null"}));
  EXPECT_EQ(removed.status, 1);
  EXPECT_NE(removed.output.find("/dev/null"), std::string::npos) << removed.output;
  EXPECT_EQ(run_on_the_bus(command({})).status, 1);
}

INSTANTIATE_TEST_SUITE_P(In, AnExample, testing::Values("Python", "Cpp"),
                         [](const auto& language) { return language.param; });

// What a file manager does with the .desktop file.
TEST_F(AClient, OfTheDesktopOpensImagesReadOnlyWithTheirPartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  std::ifstream entry(LOOPD_SOURCE_DIR "/service/desktop/loopd-attach.desktop");
  std::vector<std::string> command;
  for (std::string line; std::getline(entry, line);) {
    if (!line.starts_with("Exec=")) continue;
    std::istringstream words(line.substr(5));
    for (std::string word; words >> word;) command.push_back(word == "%F" ? file.path() : word);
  }
  ASSERT_EQ(command.at(0), "loopctl");
  command[0] = loopctl_program();
  const CommandResult first = run_on_the_bus(command);
  ASSERT_EQ(first.status, 0) << first.output;
  EXPECT_EQ(run_on_the_bus(command).output, first.output) << "opened again, it is the same device";
  const std::string object = object_of(static_cast<unsigned>(std::stoul(first.output.substr(9))));
  remove_at_end(object);
  const Value shown = properties_of(object);
  EXPECT_TRUE(shown.at("ReadOnly").truth());
  EXPECT_EQ(shown.at("Partitions").items.size(), 5U);
}

}  // namespace
}  // namespace bus_test

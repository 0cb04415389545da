// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-attach: attaches and detaches declared devices, for units. By the library
// alone: at shutdown there is neither a bus nor a service any more.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/declared_device.hpp"
#include "core/error.hpp"
#include "core/udev_monitor.hpp"
#include "core/udev_readiness.hpp"
#include "core/utf8.hpp"
#include "service/version.hpp"

namespace {

using namespace std::chrono_literals;

constexpr int exit_usage = 2;

// What is late then, comes nevertheless: who needs a link waits for its device unit.
constexpr auto udev_patience = 10s;

// A mount that was detached lazily, or a process that is just ending.
constexpr auto removal_patience = 5s;

constexpr const char* usage =
    "Usage: loopd-attach attach NAME IMAGE [OPTIONS]\n"
    "       loopd-attach detach NAME\n"
    "\n"
    "Attaches IMAGE as looptab(5) declares it, or detaches it. For units: people use loopctl.\n"
    "A NAME that begins with '/' is the path of an image, which has no reference then\n"
    "unless OPTIONS give one. The records of attachments are in $RUNTIME_DIRECTORY, or\n"
    "/run/loopd.\n"
    "\n"
    "  -h, --help     Show this text\n"
    "      --version  Show the version\n";

void say(const std::string& message) {
  std::fprintf(stderr, "loopd-attach: %s\n", loop::printable(loop::escape_to_utf8(message)).c_str());
}

std::string records_directory() {
  const char* directory = std::getenv("RUNTIME_DIRECTORY");
  return directory ? directory : "/run/loopd";
}

void attach(loop::LoopManager& manager, const loop::Declaration& declaration) {
  // Older than the attachment, so that none of its events is missed.
  std::optional<loop::UdevMonitor> udev;
  if (loop::udev_is_running()) udev.emplace(loop::UdevMonitor::Source::udev);
  const loop::DeclaredDevice device = loop::attach_declared(manager, declaration);
  const loop::DeviceSnapshot& snapshot = device.snapshot;
  say(declaration.name + (device.adopted ? ": is attached already, as " : ": attached as ") +
      snapshot.dev_path());
  if (device.adopted || !udev) return;
  if (!loop::wait_for_udev(*udev, snapshot.number, snapshot.disk_sequence, device.partitions,
                           loop::deadline_in(udev_patience))) {
    say(declaration.name + ": udev is not done with " + snapshot.dev_path() + " yet, going on without it");
  }
}

void detach(loop::LoopManager& manager, const std::string& name) {
  say(name + (loop::detach_declared(manager, name, removal_patience) ? ": detached" : ": is not attached"));
}

int run(const std::vector<std::string>& arguments) {
  const auto kernel = loop::make_linux_loop_kernel();
  loop::AttachmentRecords records(records_directory(), loop::AttachmentRecords::Intents::none);
  loop::LoopManager manager(*kernel, &records);
  const size_t count = arguments.size();
  if (count >= 3 && count <= 4 && arguments[0] == "attach") {
    const std::string options = count == 4 ? arguments[3] : std::string();
    attach(manager, {arguments[1], arguments[2], loop::parse_looptab_options(options)});
    return EXIT_SUCCESS;
  }
  if (count == 2 && arguments[0] == "detach") {
    detach(manager, arguments[1]);
    return EXIT_SUCCESS;
  }
  std::fputs(usage, stderr);
  return exit_usage;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string_view first = arguments.empty() ? std::string_view() : arguments[0];
  if (first == "-h" || first == "--help") {
    std::fputs(usage, stdout);
    return EXIT_SUCCESS;
  }
  if (first == "--version") {
    std::puts("loopd-attach " LOOPD_VERSION);
    return EXIT_SUCCESS;
  }
  try {
    return run(arguments);
  } catch (const loop::Error& error) {
    say((arguments.size() > 1 ? arguments[1] + ": " : "") + error.what());
    return EXIT_FAILURE;
  }
}

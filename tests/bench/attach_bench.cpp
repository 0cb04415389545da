// SPDX-License-Identifier: LGPL-2.1-or-later
#include <systemd/sd-bus.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "tests/bench/bare.hpp"
#include "tests/bench/benchmarks.hpp"

namespace loopd_bench {
namespace {

using bus_test::UDisks;

constexpr Repetitions of_microseconds{200};
constexpr Repetitions of_milliseconds{40};

// Each knows how one of them attaches the stage's image, and detaches it again.
struct Rival {
  std::string name;
  Repetitions repetitions;
  std::function<Duration(std::string& attached)> attach;
  std::function<Duration(const std::string& attached)> detach;
};

Rival bare(Stage& stage) {
  return {.name = "bare",
          .repetitions = of_microseconds,
          .attach =
              [&stage](std::string& attached) {
                const auto start = Clock::now();
                const unsigned number = bare_attach(stage.image().fd());
                const auto time = Clock::now() - start;
                attached = std::to_string(number);
                return time;
              },
          .detach =
              [](const std::string& attached) {
                const auto start = Clock::now();
                bare_detach(static_cast<unsigned>(std::stoul(attached)));
                return Clock::now() - start;
              }};
}

Rival loopd(Stage& stage) {
  return {.name = "loopd",
          .repetitions = of_microseconds,
          .attach =
              [&stage](std::string& attached) {
                const Message call = stage.root().new_attach(stage.image().fd());
                const auto start = Clock::now();
                const Message answer = stage.root().call(call);
                const auto time = Clock::now() - start;
                attached = path_in(answer);
                return time;
              },
          .detach =
              [&stage](const std::string& attached) {
                return stage.root().time(stage.root().new_remove(attached, true));
              }};
}

Message new_udisks_setup(const Caller& caller, int file) {
  Message message = caller.new_call("/org/freedesktop/UDisks2/Manager", "org.freedesktop.UDisks2.Manager",
                                    "LoopSetup", UDisks::name);
  sd_bus_message_append(message.get(), "ha{sv}", file, 1, "no-part-scan", "b", 1);
  return message;
}

Rival udisks(Stage& stage) {
  return {.name = "udisks",
          .repetitions = of_milliseconds,
          .attach =
              [&stage](std::string& attached) {
                const Message call = new_udisks_setup(stage.root(), stage.image().fd());
                const auto start = Clock::now();
                const Message answer = stage.root().call(call);
                const auto time = Clock::now() - start;
                attached = path_in(answer);
                return time;
              },
          .detach =
              [&stage](const std::string& attached) {
                const Message call =
                    stage.root().new_call(attached, "org.freedesktop.UDisks2.Loop", "Delete", UDisks::name);
                sd_bus_message_append(call.get(), "a{sv}", 0);
                return stage.root().time(call);
              }};
}

// A program, from its start to its end.
Duration time_command(const std::vector<std::string>& arguments, std::string* output = nullptr) {
  const auto start = Clock::now();
  const bus_test::CommandResult result = bus_test::run(arguments);
  const auto time = Clock::now() - start;
  if (result.status != 0) throw std::runtime_error(arguments.front() + ": " + result.output);
  if (output) *output = result.output.substr(0, result.output.find('\n'));
  return time;
}

Rival command(Stage& stage, const std::string& name, std::vector<std::string> attach,
              std::vector<std::string> detach) {
  return {.name = name,
          .repetitions = of_milliseconds,
          .attach =
              [&stage, attach = std::move(attach)](std::string& attached) {
                std::vector<std::string> arguments = attach;
                arguments.push_back(stage.image().path());
                return time_command(arguments, &attached);
              },
          .detach =
              [detach = std::move(detach)](const std::string& attached) {
                std::vector<std::string> arguments = detach;
                arguments.push_back(attached);
                return time_command(arguments);
              }};
}

void add_attach(Stage& stage, const Rival& rival) {
  add("attach/" + rival.name, rival.repetitions, [&stage, rival] {
    stage.quiet();
    std::string attached;
    const Duration time = rival.attach(attached);
    stage.quiet();
    rival.detach(attached);
    return time;
  });
}

void add_detach(Stage& stage, const Rival& rival) {
  add("detach/" + rival.name, rival.repetitions, [&stage, rival] {
    std::string attached;
    rival.attach(attached);
    stage.quiet();  // or udev still has it open, and bare ioctls only arm autoclear
    const Duration time = rival.detach(attached);
    stage.quiet();
    return time;
  });
}

// With the node made for it, and deleted again, as the service does unless told otherwise.
void add_with_node(Stage& stage) {
  const auto bare_cycle = [&stage](bool attaching) {
    stage.quiet();
    const auto start = Clock::now();
    const unsigned number = bare_attach(stage.image().fd());
    const auto attached = Clock::now();
    stage.quiet();
    const auto again = Clock::now();
    bare_detach(number);
    bare_delete_node(number);
    return attaching ? attached - start : Clock::now() - again;
  };
  const auto loopd_cycle = [&stage](bool attaching) {
    stage.quiet();
    const Message call = stage.root().new_attach(stage.image().fd());
    const auto start = Clock::now();
    const Message answer = stage.root().call(call);
    const auto attached = Clock::now();
    stage.quiet();
    const Duration removal = stage.root().time(stage.root().new_remove(path_in(answer), false));
    return attaching ? attached - start : removal;
  };
  add("attach-new-node/bare", of_milliseconds, [bare_cycle] { return bare_cycle(true); });
  add("attach-new-node/loopd", of_milliseconds, [loopd_cycle] { return loopd_cycle(true); });
  add("detach-and-delete/bare", of_milliseconds, [bare_cycle] { return bare_cycle(false); });
  add("detach-and-delete/loopd", of_milliseconds, [loopd_cycle] { return loopd_cycle(false); });
}

// The answer comes when udev has read all of them.
void add_with_partitions(Stage& stage) {
  const auto image = std::make_shared<bus_test::ScratchFile>(16 * bus_test::MiB);
  bus_test::partition(*image, bus_test::gpt_with_five_partitions);
  add("attach-with-5-partitions/loopd", of_milliseconds, [&stage, image] {
    stage.quiet();
    const Message call = stage.root().new_attach(image->fd(), true);
    const auto start = Clock::now();
    const Message answer = stage.root().call(call);
    const auto time = Clock::now() - start;
    stage.quiet();
    stage.root().call(stage.root().new_remove(path_in(answer), true));
    return time;
  });
}

}  // namespace

void add_attach_benchmarks(Stage& stage) {
  std::vector<Rival> rivals{
      bare(stage), loopd(stage),
      command(stage, "losetup-command", {"losetup", "--find", "--show"}, {"losetup", "--detach"}),
      command(stage, "loopctl-command", {LOOPCTL_BINARY, "attach"},
              {LOOPCTL_BINARY, "remove", "--keep-node"})};
  if (stage.has_udisks()) rivals.push_back(udisks(stage));
  for (const Rival& rival : rivals) {
    add_attach(stage, rival);
    add_detach(stage, rival);
  }
  add_with_node(stage);
  if (stage.has_udev()) add_with_partitions(stage);
}

}  // namespace loopd_bench

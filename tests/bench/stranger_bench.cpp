// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <systemd/sd-bus.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/unique_fd.hpp"
#include "tests/bench/benchmarks.hpp"

namespace loopd_bench {
namespace {

constexpr unsigned slow_operations = 64;
constexpr unsigned calls = 1000;
constexpr size_t first_image = 4000;  // nobody else's

// Calls whose answers come much later, if at all.
class UnderWay {
 public:
  explicit UnderWay(Stage& stage) : caller_(stage.stack().address()) {}

  void start(const Message& message) {
    sd_bus_call_async(caller_.client().bus(), nullptr, message.get(), on_answer, this, 0);
    ++waiting_;
  }
  const Caller& caller() const { return caller_; }
  void wait_for_all() const {
    caller_.wait_until([this] { return waiting_ == 0; });
  }

 private:
  static int on_answer(sd_bus_message* /*answer*/, void* self, sd_bus_error* /*error*/) {
    --static_cast<UnderWay*>(self)->waiting_;
    return 0;
  }
  Caller caller_;
  size_t waiting_ = 0;
};

// Devices that are in use, and are to be removed as soon as they no longer are.
class WaitingRemovals {
 public:
  explicit WaitingRemovals(Stage& stage) : under_way_(stage) {
    std::vector<Message> attaches;
    for (unsigned i = 0; i < slow_operations; ++i) {
      attaches.push_back(stage.root().new_attach(stage.images(first_image + i).fd()));
    }
    std::vector<std::string> objects(attaches.size());
    stage.root().call_all(attaches, [&](size_t i, sd_bus_message* answer) { objects[i] = path_in(answer); });
    stage.quiet();
    for (const std::string& object : objects) {
      const std::string node = bus_test::node_of(bus_test::number_of(object));
      holders_.emplace_back(::open(node.c_str(), O_RDONLY | O_CLOEXEC));
    }
    constexpr uint64_t patience_usec = 100'000'000;
    for (const std::string& object : objects) {
      const Message removal =
          under_way_.caller().new_call(object, bus_test::device_interface, "RemoveWithOptions");
      sd_bus_message_append(removal.get(), "a{sv}", 1, "timeout", "t", patience_usec);
      under_way_.start(removal);
    }
  }
  WaitingRemovals(const WaitingRemovals&) = delete;
  WaitingRemovals& operator=(const WaitingRemovals&) = delete;
  ~WaitingRemovals() {
    holders_.clear();
    under_way_.wait_for_all();
  }

 private:
  UnderWay under_way_;
  std::vector<loop::UniqueFd> holders_;
};

// The time is the 99th percentile of what an ordinary user waits for an answer.
Duration ask(const Caller& stranger, const std::string& object, Figures& figures) {
  std::vector<Duration> times;
  for (unsigned i = 0; i < calls; ++i) {
    const Message get = stranger.new_call(object, bus_test::properties_interface, "Get");
    sd_bus_message_append(get.get(), "ss", bus_test::device_interface, "BackingFile");
    times.push_back(stranger.time(get));
  }
  figures["p50"] = seconds(percentile(times, 0.5));
  figures["max"] = seconds(percentile(times, 1.0));
  return percentile(std::move(times), 0.99);
}

}  // namespace

void add_stranger_benchmarks(Stage& stage) {
  const auto stranger = std::make_shared<Caller>(stage.stack().address(), bus_test::ordinary_user);
  const Repetitions few{10, 1};
  add("stranger/loopd/alone", few, [&stage, stranger](Figures& figures) {
    stage.quiet();
    return ask(*stranger, stage.some_device(), figures);
  });
  add("stranger/loopd/64-removals", few, [&stage, stranger](Figures& figures) {
    std::optional<WaitingRemovals> removals(stage);
    const Duration time = ask(*stranger, stage.some_device(), figures);
    removals.reset();
    stage.quiet();
    return time;
  });
}

}  // namespace loopd_bench

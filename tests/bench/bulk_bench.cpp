// SPDX-License-Identifier: LGPL-2.1-or-later
#include <exception>
#include <latch>
#include <memory>
#include <thread>
#include <utility>

#include "tests/bench/bare.hpp"
#include "tests/bench/benchmarks.hpp"

namespace loopd_bench {
namespace {

constexpr unsigned clients = 16;
constexpr unsigned attaches_of_each = 16;
constexpr unsigned removals = 500;
constexpr size_t first_image = 3000;  // beyond the population's

// Clients that begin at the same moment, each on a thread of its own.
class Crowd {
 public:
  Crowd(const std::string& address, unsigned count) {
    for (unsigned i = 0; i < count; ++i) members_.push_back(std::make_unique<Caller>(address));
  }

  size_t size() const { return members_.size(); }
  const Caller& member(size_t which) const { return *members_[which]; }

  // The time until the last has finished.
  Duration run(const std::function<void(const Caller&, size_t)>& work) const {
    std::latch ready(static_cast<std::ptrdiff_t>(size()) + 1);
    std::vector<std::exception_ptr> failures(size());
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < size(); ++i) {
      threads.emplace_back([&, i] {
        ready.arrive_and_wait();
        try {
          work(*members_[i], i);
        } catch (...) {
          failures[i] = std::current_exception();
        }
      });
    }
    ready.arrive_and_wait();
    const auto start = Clock::now();
    threads.clear();
    const auto time = Clock::now() - start;
    for (const auto& failure : failures) {
      if (failure) std::rethrow_exception(failure);
    }
    return time;
  }

 private:
  std::vector<std::unique_ptr<Caller>> members_;
};

using Paths = std::vector<std::vector<std::string>>;

size_t image_number(size_t client, size_t which) { return first_image + client * attaches_of_each + which; }

// One call after another, as a program does it.
void attach_some(Stage& stage, const Caller& caller, size_t client, std::vector<std::string>& attached) {
  for (size_t i = 0; i < attaches_of_each; ++i) {
    attached.push_back(path_in(caller.call(caller.new_attach(stage.images(image_number(client, i)).fd()))));
  }
}

void remove_all(Stage& stage, const Paths& attached, bool keep_node) {
  std::vector<Message> calls;
  for (const auto& of_one : attached) {
    for (const std::string& path : of_one) calls.push_back(stage.root().new_remove(path, keep_node));
  }
  stage.quiet();
  stage.root().call_all(calls);
  stage.quiet();
}

Duration attach_by_crowd(Stage& stage, const Crowd& crowd) {
  Paths attached(crowd.size());
  for (size_t i = 0; i < clients * attaches_of_each; ++i)
    stage.images(first_image + i);  // not by several threads
  stage.quiet();
  const Duration time =
      crowd.run([&](const Caller& caller, size_t i) { attach_some(stage, caller, i, attached[i]); });
  remove_all(stage, attached, true);
  return time / (clients * attaches_of_each);
}

Duration attach_bare(Stage& stage) {
  std::vector<unsigned> attached;
  stage.quiet();
  const auto start = Clock::now();
  for (size_t i = 0; i < clients * attaches_of_each; ++i) {
    attached.push_back(bare_attach(stage.images(first_image + i).fd()));
  }
  const auto time = Clock::now() - start;
  stage.quiet();
  for (const unsigned number : attached) bare_detach(number);
  stage.quiet();
  return time / (clients * attaches_of_each);
}

// As many as 500 calls under way need more than one connection: the bus allows each 128.
Duration remove_by_crowd(Stage& stage, const Crowd& crowd) {
  std::vector<Message> calls;
  for (size_t i = 0; i < removals; ++i)
    calls.push_back(stage.root().new_attach(stage.images(first_image + i).fd()));
  std::vector<std::string> attached(calls.size());
  stage.root().call_all(calls,
                        [&](size_t place, sd_bus_message* answer) { attached[place] = path_in(answer); });
  stage.quiet();
  const Duration time = crowd.run([&](const Caller& caller, size_t client) {
    std::vector<Message> mine;
    for (size_t i = client; i < attached.size(); i += crowd.size()) {
      mine.push_back(caller.new_remove(attached[i], false));
    }
    caller.call_all(mine);
  });
  return time / static_cast<Duration::rep>(removals);
}

// The same without the service: threads, each with its part of the devices. They are all detached before the
// first node is deleted, as udev, which looks at what was detached, would be in the way.
Duration remove_bare(Stage& stage, const Crowd& crowd) {
  std::vector<unsigned> attached;
  for (size_t i = 0; i < removals; ++i) attached.push_back(bare_attach(stage.images(first_image + i).fd()));
  stage.quiet();
  const Duration time = crowd.run([&](const Caller&, size_t which) {
    for (size_t i = which; i < attached.size(); i += crowd.size()) bare_detach(attached[i]);
    for (size_t i = which; i < attached.size(); i += crowd.size()) bare_delete_node(attached[i]);
  });
  return time / static_cast<Duration::rep>(removals);
}

}  // namespace

void add_bulk_benchmarks(Stage& stage) {
  const auto crowd = std::make_shared<Crowd>(stage.stack().address(), clients);
  const Repetitions few{10};
  add("attach-by-16-clients/loopd", few, [&stage, crowd] { return attach_by_crowd(stage, *crowd); });
  add("attach-by-16-clients/bare", few, [&stage] { return attach_bare(stage); });
  add("remove-500-at-once/loopd", few, [&stage, crowd] { return remove_by_crowd(stage, *crowd); });
  add("remove-500-at-once/bare", few, [&stage, crowd] { return remove_bare(stage, *crowd); });
}

}  // namespace loopd_bench

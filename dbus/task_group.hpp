// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "dbus/one_shot.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

// Tasks that nobody awaits: one for each call under way, each event that is
// looked into. Owns them; those that are not done die with it. Event loop's
// thread only.
class TaskGroup {
 public:
  // Hears of an exception that left a task, which is a defect.
  using Failed = std::function<void(std::exception_ptr)>;

  TaskGroup(Scheduler& scheduler, Failed failed) : scheduler_(scheduler), failed_(std::move(failed)) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Runs the task until it first waits. After clear() it is destroyed as it is.
  void start(Task<void> task);

  // Destroys the tasks that still wait, and what they hold. For the end: what a task
  // would start as it dies would come into the midst of that.
  void clear() {
    closed_ = true;
    roots_.clear();
  }

  bool empty() const { return roots_.empty(); }
  size_t size() const { return roots_.size(); }

  // Called each time that the last task has ended.
  void on_empty(std::function<void()> call) { on_empty_ = std::move(call); }

 private:
  class Root {
   public:
    struct promise_type {
      Root get_return_object() { return Root(std::coroutine_handle<promise_type>::from_promise(*this)); }
      std::suspend_always initial_suspend() const noexcept { return {}; }
      std::suspend_always final_suspend() const noexcept { return {}; }
      void return_void() const noexcept {}
      void unhandled_exception() const noexcept { std::terminate(); }
    };

    explicit Root(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    Root(Root&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Root& operator=(Root&&) = delete;
    ~Root() {
      if (handle_) handle_.destroy();
    }
    void resume() { handle_.resume(); }

   private:
    std::coroutine_handle<promise_type> handle_;
  };

  Root run(Task<void> task, uint64_t id);
  void reap();

  Scheduler& scheduler_;
  Failed failed_;
  std::function<void()> on_empty_;
  std::map<uint64_t, Root> roots_;
  std::vector<uint64_t> finished_;
  uint64_t next_id_ = 0;
  bool closed_ = false;
};

// Starts all of them, and waits until each has ended. What one throws is the group's to report.
inline Task<void> side_by_side(TaskGroup& group, std::vector<Task<void>> tasks) {
  if (tasks.empty()) co_return;
  const auto counted = [](Task<void> task, std::shared_ptr<size_t> left,
                          OneShot<bool>::Sender done) -> Task<void> {
    std::exception_ptr failure;
    try {
      co_await task;
    } catch (...) {
      failure = std::current_exception();
    }
    if (--*left == 0) done.deliver(true);
    if (failure) std::rethrow_exception(failure);
  };
  OneShot<bool> done;
  const auto left = std::make_shared<size_t>(tasks.size());
  for (Task<void>& task : tasks) group.start(counted(std::move(task), left, done.sender()));
  co_await done;
}

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "dbus/one_shot.hpp"
#include "dbus/task.hpp"

namespace loopd {

using Clock = std::chrono::steady_clock;

// Who a piece of blocking work is done for. Work that touches a backing file
// may hang with that file's server, so that of one user gets few threads at a
// time; work on the kernel alone (deleting nodes) is not counted.
struct WorkLane {
  uid_t uid = 0;
  bool touches_file = false;
};

// What this layer needs of the event loop and its workers.
class Scheduler {
 public:
  // Cancels what it stands for when destroyed. Event loop's thread only.
  class Registration {
   public:
    virtual ~Registration() = default;
  };

  virtual ~Scheduler() = default;

  // Runs on the event loop's thread, soon. Callable from any thread.
  virtual void post(std::function<void()> work) = 0;

  // Runs on a worker. Throws LimitsExceeded where too much is waiting.
  virtual void submit(WorkLane lane, std::function<void()> work) = 0;

  virtual std::unique_ptr<Registration> at(Clock::time_point when, std::function<void()> work) = 0;

  // `fd` is borrowed until the registration is gone. Level-triggered.
  virtual std::unique_ptr<Registration> on_readable(int fd, std::function<void()> work) = 0;
};

namespace detail {

template <typename Result>
struct Outcome {
  std::optional<Result> value;
  std::exception_ptr exception;
};

// Shared by the worker and the coroutine. Whoever comes second at `settled`
// knows that the other is done: a result that nobody waits for any more dies on
// the worker, where destructors may block.
template <typename Result>
struct Hand {
  std::atomic<bool> settled = false;
  std::unique_ptr<Outcome<Result>> outcome;
};

struct Nothing {};

template <typename F>
using ResultOf =
    std::conditional_t<std::is_void_v<std::invoke_result_t<F&>>, Nothing, std::invoke_result_t<F&>>;

template <typename F>
void carry_out(F& work, Outcome<ResultOf<F>>& outcome) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
      work();
      outcome.value.emplace();
    } else {
      outcome.value.emplace(work());
    }
  } catch (...) {
    outcome.exception = std::current_exception();
  }
}

}  // namespace detail

// Thrown by on_worker() when the deadline has passed.
struct WorkTimedOut : std::exception {
  const char* what() const noexcept override { return "the work did not end in time"; }
};

// Runs `work` on a worker and returns what it returns or throws. With a
// deadline: WorkTimedOut when it has passed; work that has begun goes on, and its result is
// destroyed on the worker when it comes after all. What `work` captures is
// destroyed there, too.
template <typename F>
Task<std::invoke_result_t<F&>> on_worker(Scheduler& scheduler, WorkLane lane, F work,
                                         std::optional<Clock::time_point> deadline = std::nullopt) {
  using Result = detail::ResultOf<F>;
  auto hand = std::make_shared<detail::Hand<Result>>();
  OneShot<bool> done;
  const auto sender = done.sender();
  auto job = std::make_shared<std::optional<F>>(std::move(work));
  scheduler.submit(lane, [&scheduler, hand, sender, job] {
    if (hand->settled.load()) return job->reset();  // given up before its turn came
    auto outcome = std::make_unique<detail::Outcome<Result>>();
    detail::carry_out(**job, *outcome);
    job->reset();
    if (hand->settled.load()) return;  // nobody waits: the outcome dies here
    hand->outcome = std::move(outcome);
    if (hand->settled.exchange(true)) {
      hand->outcome.reset();  // the deadline passed at this very moment
      return;
    }
    scheduler.post([sender] { sender.deliver(true); });
  });
  std::unique_ptr<Scheduler::Registration> timer;
  if (deadline) {
    timer = scheduler.at(*deadline, [hand, sender] {
      if (!hand->settled.exchange(true)) sender.deliver(false);
    });
  }
  const bool in_time = co_await done;
  timer.reset();
  if (!in_time) throw WorkTimedOut();
  const std::unique_ptr<detail::Outcome<Result>> outcome = std::move(hand->outcome);
  if (outcome->exception) std::rethrow_exception(outcome->exception);
  if constexpr (!std::is_void_v<std::invoke_result_t<F&>>) {
    co_return std::move(*outcome->value);
  }
}

// Waits until then.
inline Task<void> pause(Scheduler& scheduler, Clock::time_point until) {
  OneShot<bool> done;
  const auto timer = scheduler.at(until, [sender = done.sender()] { sender.deliver(true); });
  co_await done;
}

// Waits until the descriptor is readable. False: the deadline passed first.
inline Task<bool> readable(Scheduler& scheduler, int fd, Clock::time_point deadline) {
  OneShot<bool> done;
  const auto sender = done.sender();
  const auto watch = scheduler.on_readable(fd, [sender] { sender.deliver(true); });
  const auto timer = scheduler.at(deadline, [sender] { sender.deliver(false); });
  const bool in_time = co_await done;
  co_return in_time;
}

}  // namespace loopd

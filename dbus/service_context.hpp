// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "dbus/errors.hpp"
#include "dbus/operations.hpp"
#include "dbus/task_group.hpp"

namespace loopd {

// What all connections share. Outlives them.
struct ServiceParts {
  Operations& operations;
  TaskGroup& calls;
  Scheduler& scheduler;
  std::string version;
};

// The message that is being dispatched, where it asks for a device's properties.
struct Question {
  uint64_t id = 0;  // tells one from the next; 0: there is none, or it asks for all devices
  bool for_one_property = false;
};

// What every object of one connection shares. Outlives the objects and the calls
// under way.
struct ServiceContext : ServiceParts {
  // Who sent the message that is being dispatched on this connection. The
  // message is looked at before the first wait, the bus asked afterwards.
  std::function<Task<Caller>()> caller;
  std::function<Question()> question;
  // Keeps the connection: whoever is asked on the way of a call, and the reply,
  // refer to it, and it may break meanwhile.
  std::function<std::shared_ptr<void>()> alive;
};

namespace detail {

// The one place that answers a call: once, whatever happens.
template <typename Answer, typename Result>
Task<void> answer_with(Task<Answer> task, Result result) {
  std::exception_ptr failure;
  try {
    if constexpr (std::is_void_v<Answer>) {
      co_await task;
      result.returnResults();
    } else {
      const Answer answer = co_await task;
      result.give(answer);
    }
  } catch (...) {
    failure = std::current_exception();
  }
  if (!failure) co_return;
  try {
    result.returnError(to_bus_error(failure));
  } catch (const sdbus::Error&) {
    // The caller's connection is gone; there is nobody left to tell.
  }
}

// How an answer becomes the results of a method. `Result` is sdbus::Result, or has its
// members. sd-bus checks results against the method's description: where that goes with
// the object, `object` tells whether it is still there. (It does not check errors.)
template <typename Result, typename Convert>
struct Reply {
  std::shared_ptr<void> connection;  // the first, to go last: the result refers to it
  Result result;
  Convert convert;  // makes a tuple of the results
  std::weak_ptr<void> object;

  template <typename Answer>
  void give(const Answer& answer) const {
    send(convert(answer));
  }
  void returnResults() const { send(std::tuple()); }
  void returnError(const sdbus::Error& error) const { result.returnError(error); }

 private:
  template <typename... Results>
  void send(const std::tuple<Results...>& results) const {
    if (object.expired()) throw loop::Error(loop::Errc::failed, "the connection was closed meanwhile");
    std::apply([this](const Results&... each) { result.returnResults(each...); }, results);
  }
};

}  // namespace detail

// Under way in all, so that no crowd of clients fills the memory.
inline constexpr size_t most_calls = 4096;

// Thrown out of the method's handler, it is the reply.
inline void refuse_crowd(const ServiceContext& context) {
  if (context.calls.size() >= most_calls) throw_limits("too many calls are under way");
}

// Runs a call as a task of its own. `convert` makes a tuple of the method's
// results from what the task returns.
template <typename Result, typename Answer, typename Convert>
void answer_call(ServiceContext& context, const std::shared_ptr<void>& object, Result result,
                 Task<Answer> task, Convert convert) {
  using Reply = detail::Reply<Result, Convert>;
  refuse_crowd(context);
  context.calls.start(detail::answer_with<Answer, Reply>(
      std::move(task), Reply{context.alive(), std::move(result), std::move(convert), object}));
}

template <typename Result>
void answer_call(ServiceContext& context, const std::shared_ptr<void>& object, Result result,
                 Task<void> task) {
  answer_call(context, object, std::move(result), std::move(task), [] { return std::tuple(); });
}

}  // namespace loopd

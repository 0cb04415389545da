// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <coroutine>
#include <memory>
#include <optional>
#include <utility>

namespace loopd {

// A value that a callback delivers to one coroutine: at most once, on the event
// loop's thread. Delivered before it is awaited, it is kept; delivered after
// the coroutine was destroyed, it is dropped. Copies of the sender end may
// outlive the coroutine.
template <typename T>
class OneShot {
  struct State {
    std::optional<T> value;
    std::coroutine_handle<> waiting;
    bool delivered = false;
  };

 public:
  class Sender {
   public:
    explicit Sender(std::shared_ptr<State> state) : state_(std::move(state)) {}

    // Resumes the coroutine from within the call. Later calls do nothing.
    void deliver(T value) const {
      if (std::exchange(state_->delivered, true)) return;
      state_->value.emplace(std::move(value));
      if (const auto waiting = std::exchange(state_->waiting, nullptr)) waiting.resume();
    }

   private:
    std::shared_ptr<State> state_;
  };

  OneShot() = default;
  OneShot(const OneShot&) = delete;
  OneShot& operator=(const OneShot&) = delete;
  ~OneShot() { state_->waiting = nullptr; }

  Sender sender() const { return Sender(state_); }

  bool await_ready() const noexcept { return state_->delivered; }
  void await_suspend(std::coroutine_handle<> waiting) noexcept { state_->waiting = waiting; }
  T await_resume() { return std::move(*state_->value); }

 private:
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/event_loop.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "service/system_error.hpp"

namespace loopd {
namespace {

// Later than asked by at most this, so that wake-ups can be shared.
constexpr uint64_t timer_accuracy_usec = 1000;

// Of what was posted meanwhile, in one turn.
constexpr int most_rounds = 8;

}  // namespace

struct EventLoop::Source final : Scheduler::Registration {
  sd_event_source* source = nullptr;
  std::function<void()> work;

  explicit Source(std::function<void()> w) : work(std::move(w)) {}
  ~Source() override {
    if (source) sd_event_source_set_enabled(source, SD_EVENT_OFF);
    sd_event_source_unref(source);
  }

  // The work may destroy this registration: a copy is what runs.
  void fire() const noexcept {
    const auto copy = work;
    copy();
  }

  static int on_time(sd_event_source*, uint64_t, void* self) {
    static_cast<Source*>(self)->fire();
    return 0;
  }
  static int on_io(sd_event_source*, int, uint32_t, void* self) {
    static_cast<Source*>(self)->fire();
    return 0;
  }
  static int on_signal(sd_event_source*, const signalfd_siginfo*, void* self) {
    static_cast<Source*>(self)->fire();
    return 0;
  }
};

EventLoop::EventLoop() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  check(sd_event_default(&event_), "cannot make an event loop");
  if (!wake_) check(-errno, "cannot make an eventfd");
  permanent_.push_back(on_readable(wake_.get(), [this] { run_posted(); }));
  workers_ = std::make_unique<WorkerPool>();
}

EventLoop::~EventLoop() {
  workers_.reset();
  permanent_.clear();
  sd_event_unref(event_);
}

int EventLoop::run() { return sd_event_loop(event_); }

void EventLoop::exit(int code) { sd_event_exit(event_, code); }

void EventLoop::feed_watchdog() {
  check(sd_event_set_watchdog(event_, 1), "cannot feed the service manager's watchdog");
}

void EventLoop::on_signal(int signal, std::function<void()> work) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  auto source = std::make_unique<Source>(std::move(work));
  check(sd_event_add_signal(event_, &source->source, signal, Source::on_signal, source.get()),
        "cannot wait for a signal");
  permanent_.push_back(std::move(source));
}

void EventLoop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
    if (std::exchange(awake_, true)) return;
  }
  wake();
}

// What this work posts follows at once, without a turn of the loop for it, but not for
// ever: whoever waits for the loop has his turn, too.
void EventLoop::run_posted() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> work;
  for (int round = 0; round < most_rounds; ++round) {
    work.clear();
    {
      const std::lock_guard lock(mutex_);
      work.swap(posted_);
      awake_ = !work.empty();
    }
    if (work.empty()) return;
    for (const auto& item : work) item();
  }
  wake();
}

void EventLoop::wake() {
  const uint64_t one = 1;
  // Fails only where the counter is full, and then the loop wakes up anyhow.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::submit(WorkLane lane, std::function<void()> work) { workers_->submit(lane, std::move(work)); }

std::unique_ptr<Scheduler::Registration> EventLoop::at(Clock::time_point when, std::function<void()> work) {
  auto source = std::make_unique<Source>(std::move(work));
  const auto since_boot = std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch());
  const auto usec = static_cast<uint64_t>(std::max<int64_t>(since_boot.count(), 0));
  check(sd_event_add_time(event_, &source->source, CLOCK_MONOTONIC, usec, timer_accuracy_usec,
                          Source::on_time, source.get()),
        "cannot set a timer");
  return source;
}

std::unique_ptr<Scheduler::Registration> EventLoop::on_readable(int fd, std::function<void()> work) {
  auto source = std::make_unique<Source>(std::move(work));
  check(sd_event_add_io(event_, &source->source, fd, EPOLLIN, Source::on_io, source.get()),
        "cannot watch a descriptor");
  return source;
}

}  // namespace loopd

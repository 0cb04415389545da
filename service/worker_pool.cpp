// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/worker_pool.hpp"

#include <system_error>
#include <utility>

#include "dbus/errors.hpp"

namespace loopd {

WorkerPool::~WorkerPool() {
  end(Clock::time_point::max());
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::end(Clock::time_point deadline) {
  std::deque<Item> dropped;  // die after the lock is let go
  std::map<uid_t, std::deque<Item>> held_back;
  std::unique_lock lock(mutex_);
  ending_ = true;
  dropped.swap(ready_);
  held_back.swap(held_back_);
  wake_.notify_all();
  const auto ended = [this] { return serving_ == 0; };
  if (deadline == Clock::time_point::max()) {
    ended_.wait(lock, ended);
    return true;
  }
  return ended_.wait_until(lock, deadline, ended);
}

void WorkerPool::submit(WorkLane lane, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_ >= most_waiting) throw_limits("too many calls are waiting for the kernel");
    if (lane.touches_file) {
      const auto held = held_back_.find(lane.uid);
      if (held != held_back_.end() && held->second.size() >= most_waiting_per_user) {
        throw_limits("too many calls of user " + std::to_string(lane.uid) + " are waiting");
      }
    }
    if (lane.touches_file && file_work_[lane.uid] >= most_file_work_per_user) {
      ++waiting_;
      held_back_[lane.uid].push_back({lane, std::move(work)});
      return;
    }
    add_thread_if_useful();  // before anything is taken on: it may throw
    ++waiting_;
    if (lane.touches_file) ++file_work_[lane.uid];
    ready_.push_back({lane, std::move(work)});
  }
  wake_.notify_one();
}

// For one piece of work more than there is.
void WorkerPool::add_thread_if_useful() {
  if (ready_.size() < idle_ || threads_.size() >= most_threads) return;
  try {
    threads_.emplace_back([this] { serve(); });
    ++serving_;
  } catch (const std::system_error&) {
    // The unit's TasksMax=, say. Those that there are get to it.
    if (serving_ == 0) throw_limits("no thread may be started");
  }
}

bool WorkerPool::take(Item& item) {
  std::unique_lock lock(mutex_);
  ++idle_;
  wake_.wait(lock, [this] { return ending_ || !ready_.empty(); });
  --idle_;
  if (ready_.empty()) return false;
  item = std::move(ready_.front());
  ready_.pop_front();
  --waiting_;
  return true;
}

void WorkerPool::serve() {
  work_on();
  const std::lock_guard lock(mutex_);
  if (--serving_ == 0) ended_.notify_all();
}

void WorkerPool::work_on() {
  for (Item item; take(item);) {
    item.work();
    item.work = nullptr;  // what it captures dies here
    if (!item.lane.touches_file) continue;
    // The user's next one takes this one's place.
    const std::lock_guard lock(mutex_);
    const auto held = held_back_.find(item.lane.uid);
    if (held != held_back_.end()) {
      ready_.push_back(std::move(held->second.front()));
      held->second.pop_front();
      if (held->second.empty()) held_back_.erase(held);
    } else if (--file_work_[item.lane.uid] == 0) {
      file_work_.erase(item.lane.uid);
    }
  }
}

}  // namespace loopd

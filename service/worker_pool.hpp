// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "dbus/scheduler.hpp"

namespace loopd {

// Threads for calls that block. They are made when there is work that no idle
// one can take, and end with the pool.
//
// Deleting nodes waits for RCU grace periods, 47 ms each, that many calls share:
// hence more threads than processors. Work that touches backing files gets few
// of them for each user.
class WorkerPool {
 public:
  WorkerPool() = default;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Waits for what is being done, for ever: end() first.
  ~WorkerPool();

  // Drops what has not begun and ends the threads. False: something is still
  // being done at the deadline.
  bool end(Clock::time_point deadline);

  // Throws LimitsExceeded where too much is waiting.
  void submit(WorkLane lane, std::function<void()> work);

 private:
  static constexpr size_t most_threads = 64;
  static constexpr size_t most_waiting = 8192;
  static constexpr size_t most_waiting_per_user = 1024;
  static constexpr unsigned most_file_work_per_user = 4;

  struct Item {
    WorkLane lane;
    std::function<void()> work;
  };

  void serve();
  void work_on();
  bool take(Item& item);
  void add_thread_if_useful();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ended_;
  std::deque<Item> ready_;                       // may run now
  std::map<uid_t, std::deque<Item>> held_back_;  // the user has enough running
  std::map<uid_t, unsigned> file_work_;          // running or ready, by user
  size_t waiting_ = 0;
  size_t idle_ = 0;
  size_t serving_ = 0;  // threads that have not ended
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace loopd

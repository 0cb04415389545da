// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <map>
#include <utility>

namespace loopd {

// How many of something each user has under way. Event loop's thread only.
class UserCounts {
 public:
  // One of them, for as long as it lives. The counts outlive it.
  class One {
   public:
    One(One&& other) noexcept : counts_(std::exchange(other.counts_, nullptr)), uid_(other.uid_) {}
    One& operator=(One&&) = delete;
    ~One() {
      if (counts_ != nullptr && --counts_->counts_[uid_] == 0) counts_->counts_.erase(uid_);
    }

   private:
    friend class UserCounts;
    One(UserCounts& counts, uid_t uid) : counts_(&counts), uid_(uid) { ++counts.counts_[uid]; }

    UserCounts* counts_;
    uid_t uid_;
  };

  [[nodiscard]] One add(uid_t uid) { return {*this, uid}; }
  unsigned of(uid_t uid) const {
    const auto found = counts_.find(uid);
    return found == counts_.end() ? 0 : found->second;
  }

 private:
  std::map<uid_t, unsigned> counts_;
};

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "core/file_locality.hpp"
#include "core/mounts.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

bool is_listed(const std::string& mount_point) {
  const auto all = mounts();
  return std::any_of(all->begin(), all->end(),
                     [&](const Mount& mount) { return mount.mount_point == mount_point; });
}

class AMount {
 public:
  explicit AMount(std::string where) : where_(std::move(where)) {
    std::filesystem::create_directory(where_);
    mounted_ = ::mount("none", where_.c_str(), "tmpfs", 0, "size=64k") == 0;
    EXPECT_TRUE(mounted_) << std::strerror(errno);
  }
  AMount(const AMount&) = delete;
  AMount& operator=(const AMount&) = delete;
  ~AMount() { end(); }

  void end() {
    if (!mounted_) return;
    EXPECT_EQ(::umount2(where_.c_str(), MNT_DETACH), 0) << std::strerror(errno);
    mounted_ = false;
  }

 private:
  std::string where_;
  bool mounted_ = false;
};

// The table is kept until the kernel says that it has changed.
TEST(TheMountTable, IsTheKernelsOfThisMoment) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it mounts";
  TemporaryDirectory directory;
  const std::string where = std::filesystem::canonical(directory.file(".")) / "mount";
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(is_listed(where)) << "round " << round;
    AMount mount(where);
    EXPECT_TRUE(is_listed(where)) << "round " << round;
    EXPECT_TRUE(is_listed(where)) << "forgotten by the second look, round " << round;
    mount.end();
  }
  EXPECT_FALSE(is_listed(where));
  EXPECT_TRUE(is_listed("/"));
}

TEST(TheMountTable, SaysHowAPathIsServed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it mounts";
  TemporaryDirectory directory;
  const std::string where = std::filesystem::canonical(directory.file(".")) / "mount";
  const AMount mount(where);
  EXPECT_TRUE(is_path_served_locally(where + "/image"));
}

}  // namespace
}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "core/path_opener.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

class APathOpener : public ::testing::Test {
 protected:
  void SetUp() override { directory_.make_file("image", 64 * kib); }

  std::optional<Errc> open_error(const std::string& path, bool read_only = false) {
    try {
      opener_.open(path, read_only);
    } catch (const Error& error) {
      return error.code();
    }
    return std::nullopt;
  }
  std::optional<Errc> look_up_error(const std::string& path) {
    try {
      opener_.look_up(path);
    } catch (const Error& error) {
      return error.code();
    }
    return std::nullopt;
  }
  TemporaryDirectory directory_;
  PathOpener opener_;
};

TEST_F(APathOpener, OpensForWritingOrReading) {
  const UniqueFd writable = opener_.open(directory_.file("image"), false);
  EXPECT_EQ(::fcntl(writable.get(), F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(::fcntl(writable.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  const UniqueFd readable = opener_.open(directory_.file("image"), true);
  EXPECT_EQ(::fcntl(readable.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  const UniqueFd seen = opener_.look_up(directory_.file("image"));
  EXPECT_NE(::fcntl(seen.get(), F_GETFL) & O_PATH, 0);
}

TEST_F(APathOpener, TakesAbsolutePathsOnly) {
  for (const char* path : {"", "image", "./image", "../image"}) {
    EXPECT_EQ(open_error(path), Errc::invalid_argument) << path;
    EXPECT_EQ(look_up_error(path), Errc::invalid_argument) << path;
  }
}

TEST_F(APathOpener, SaysThatAFileIsNotThere) {
  EXPECT_EQ(open_error(directory_.file("absent")), Errc::file_not_found);
  EXPECT_EQ(open_error(directory_.file("image/below")), Errc::file_not_found);
  EXPECT_EQ(look_up_error(directory_.file("absent")), Errc::file_not_found);
}

TEST_F(APathOpener, FollowsNoLinkInTheLastComponent) {
  std::filesystem::create_symlink("image", directory_.file("link"));
  EXPECT_EQ(open_error(directory_.file("link")), Errc::invalid_argument);
  EXPECT_EQ(open_error(directory_.file("link"), true), Errc::invalid_argument);
  EXPECT_EQ(look_up_error(directory_.file("link")), Errc::invalid_argument);
}

TEST_F(APathOpener, FollowsLinksOnTheWay) {
  std::filesystem::create_directory_symlink(directory_.path(), directory_.file("here"));
  EXPECT_EQ(open_error(directory_.file("here/image")), std::nullopt);
}

TEST_F(APathOpener, FollowsNoMagicLinkAnywhere) {
  const UniqueFd file(::open(directory_.file("image").c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd parent(::open(directory_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string self = "/proc/" + std::to_string(::getpid());
  EXPECT_EQ(open_error(self + "/fd/" + std::to_string(file.get())), Errc::invalid_argument);
  EXPECT_EQ(open_error(self + "/fd/" + std::to_string(parent.get()) + "/image"), Errc::invalid_argument);
  EXPECT_EQ(open_error(self + "/root" + directory_.file("image")), Errc::invalid_argument);
}

TEST_F(APathOpener, NeverBlocksOnAPipe) {
  ASSERT_EQ(::mkfifo(directory_.file("pipe").c_str(), 0600), 0);
  // A hang here is what fails: nobody ever opens the other end.
  for (const bool read_only : {true, false}) {
    const UniqueFd pipe = opener_.open(directory_.file("pipe"), read_only);
    struct stat st {};
    ASSERT_EQ(::fstat(pipe.get(), &st), 0);
    EXPECT_TRUE(S_ISFIFO(st.st_mode));
  }
}

TEST_F(APathOpener, RefusesADirectoryForWriting) {
  EXPECT_EQ(open_error(directory_.path()), Errc::invalid_argument);
}

TEST_F(APathOpener, StaysBelowItsRoot) {
  std::filesystem::create_directory(directory_.file("root"));
  std::filesystem::create_symlink("/image", directory_.file("root/dir"));
  std::filesystem::create_directory_symlink("/..", directory_.file("root/up"));
  std::filesystem::create_directory_symlink("/", directory_.file("root/top"));
  const PathOpener jailed(
      UniqueFd(::open(directory_.file("root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  for (const char* path : {"/../image", "/up/image", "/top/../image"}) {
    try {
      jailed.open(path, true);
      ADD_FAILURE() << path << " left the root";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::file_not_found) << path;
    }
  }
  directory_.make_file("root/inside", 1);
  EXPECT_NO_THROW(jailed.open("/top/inside", true));
}

TEST_F(APathOpener, SaysThatANameIsTooLong) {
  EXPECT_EQ(open_error("/" + std::string(300, 'x')), Errc::invalid_argument);
}

}  // namespace
}  // namespace loop::testing

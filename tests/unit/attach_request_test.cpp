// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Every bad input, on real descriptors.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <optional>
#include <string>

#include "core/attach_request.hpp"
#include "core/error.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

struct Verdict {
  std::optional<Errc> code;
  std::string message;
};

Verdict judge(const AttachRequest& request) {
  try {
    validate(request);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

// The message begins with the culprit, the key of the option.
::testing::AssertionResult is_refused(const Verdict& verdict, Errc code, const std::string& culprit) {
  if (!verdict.code) return ::testing::AssertionFailure() << "accepted";
  if (*verdict.code != code) {
    return ::testing::AssertionFailure()
           << "code " << static_cast<int>(*verdict.code) << ": " << verdict.message;
  }
  if (!verdict.message.starts_with(culprit + ":")) {
    return ::testing::AssertionFailure() << "does not name " << culprit << ": " << verdict.message;
  }
  return ::testing::AssertionSuccess();
}

class ARequest : public ::testing::Test {
 protected:
  AttachRequest request_for(UniqueFd file) {
    AttachRequest request;
    request.file = std::move(file);
    return request;
  }
  AttachRequest request() { return request_for(memory_file(64 * kib)); }
  UniqueFd open(int flags) {
    if (::access(directory_.file("image").c_str(), F_OK) < 0) directory_.make_file("image", 64 * kib);
    return UniqueFd(::open(directory_.file("image").c_str(), flags | O_CLOEXEC));
  }
  TemporaryDirectory directory_;
};

TEST_F(ARequest, ForAWritableFileIsAccepted) {
  const AttachRequest good = request_for(open(O_RDWR));
  struct stat st {};
  ASSERT_EQ(::fstat(good.file.get(), &st), 0);
  const BackingFile file = validate(good);
  EXPECT_EQ(file.identity, (FileIdentity{false, st.st_dev, st.st_ino}));
  EXPECT_EQ(file.size, 64 * kib);
}

TEST_F(ARequest, ForSomethingThatIsNoFileOrBlockDeviceIsRefused) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd write_end(pipe_ends[1]);
  EXPECT_TRUE(is_refused(judge(request_for(UniqueFd(pipe_ends[0]))), Errc::invalid_argument, "file"));

  const std::string directory = directory_.path();
  EXPECT_TRUE(is_refused(judge(request_for(UniqueFd(::open(directory.c_str(), O_RDONLY | O_CLOEXEC)))),
                         Errc::invalid_argument, "file"));
  EXPECT_TRUE(is_refused(judge(request_for(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)))),
                         Errc::invalid_argument, "file"));
  EXPECT_TRUE(is_refused(judge(request_for(UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)))),
                         Errc::invalid_argument, "file"));
}

TEST_F(ARequest, WithoutADescriptorIsRefused) {
  EXPECT_TRUE(is_refused(judge(AttachRequest()), Errc::invalid_argument, "file"));
}

TEST_F(ARequest, ForAPathDescriptorIsRefusedEvenReadOnly) {
  AttachRequest path_only = request_for(open(O_PATH));
  EXPECT_TRUE(is_refused(judge(path_only), Errc::invalid_argument, "file"));
  path_only.read_only = true;
  EXPECT_TRUE(is_refused(judge(path_only), Errc::invalid_argument, "file"));
}

TEST_F(ARequest, ForAWriteOnlyDescriptorIsRefusedEvenReadOnly) {
  // Its data could be read through the device.
  AttachRequest write_only = request_for(open(O_WRONLY));
  EXPECT_TRUE(is_refused(judge(write_only), Errc::invalid_argument, "file"));
  write_only.read_only = true;
  EXPECT_TRUE(is_refused(judge(write_only), Errc::invalid_argument, "file"));
}

TEST_F(ARequest, ForAReadOnlyDescriptorNeedsReadOnly) {
  AttachRequest read_only = request_for(open(O_RDONLY));
  EXPECT_TRUE(is_refused(judge(read_only), Errc::not_writable, "file"));
  read_only.read_only = true;
  EXPECT_FALSE(judge(read_only).code);
}

TEST_F(ARequest, ForAnAppendingDescriptorNeedsReadOnly) {
  AttachRequest appending = request_for(open(O_RDWR | O_APPEND));
  EXPECT_TRUE(is_refused(judge(appending), Errc::not_writable, "file"));
  appending.read_only = true;
  EXPECT_FALSE(judge(appending).code);
}

TEST_F(ARequest, ForASealedMemoryFileNeedsReadOnly) {
  for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE}) {
    AttachRequest sealed = request_for(memory_file(64 * kib, MFD_ALLOW_SEALING));
    ASSERT_EQ(::fcntl(sealed.file.get(), F_ADD_SEALS, seal), 0);
    EXPECT_TRUE(is_refused(judge(sealed), Errc::not_writable, "file"));
    sealed.read_only = true;
    EXPECT_FALSE(judge(sealed).code);
  }
}

TEST_F(ARequest, ForAMemoryFileSealedAgainstGrowingOnlyIsAccepted) {
  const AttachRequest sealed = request_for(memory_file(64 * kib, MFD_ALLOW_SEALING));
  ASSERT_EQ(::fcntl(sealed.file.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
  EXPECT_FALSE(judge(sealed).code);
}

TEST_F(ARequest, ForAnEmptyFileIsRefused) {
  EXPECT_TRUE(is_refused(judge(request_for(memory_file(0))), Errc::invalid_argument, "file"));
}

TEST_F(ARequest, ForLessThanOneBlockIsRefused) {
  EXPECT_TRUE(is_refused(judge(request_for(memory_file(511))), Errc::invalid_argument, "file"));
  EXPECT_FALSE(judge(request_for(memory_file(512))).code);

  AttachRequest large_blocks = request_for(memory_file(4095));
  large_blocks.block_size = 4096;
  EXPECT_TRUE(is_refused(judge(large_blocks), Errc::invalid_argument, "file"));

  AttachRequest small_limit = request();
  small_limit.size_limit = 511;
  EXPECT_TRUE(is_refused(judge(small_limit), Errc::invalid_argument, "size-limit"));
  small_limit.size_limit = 512;
  EXPECT_FALSE(judge(small_limit).code);
}

TEST_F(ARequest, BeyondTheFileIsRefused) {
  AttachRequest beyond = request();
  for (const uint64_t offset :
       {64 * kib, 64 * kib + 1, uint64_t{LLONG_MAX}, uint64_t{LLONG_MAX} + 1, UINT64_MAX}) {
    beyond.offset = offset;
    EXPECT_TRUE(is_refused(judge(beyond), Errc::invalid_argument, "offset")) << offset;
  }
  beyond.offset = 64 * kib - 511;
  EXPECT_TRUE(is_refused(judge(beyond), Errc::invalid_argument, "offset"));
  beyond.offset = 64 * kib - 512;
  EXPECT_FALSE(judge(beyond).code);
}

TEST_F(ARequest, WithALimitBeyondTheFileMapsToItsEnd) {
  AttachRequest generous = request();
  generous.size_limit = 1 * mib;
  EXPECT_FALSE(judge(generous).code);
  generous.size_limit = uint64_t{LLONG_MAX} + 1;
  EXPECT_TRUE(is_refused(judge(generous), Errc::invalid_argument, "size-limit"));
}

TEST_F(ARequest, TakesPowersOfTwoFrom512ToThePageAsBlockSize) {
  AttachRequest blocks = request();
  const auto page = static_cast<unsigned>(::sysconf(_SC_PAGESIZE));
  for (const unsigned bad : {1U, 3U, 256U, 511U, 513U, 768U, 1000U, 2 * page, 0x80000000U, UINT_MAX}) {
    blocks.block_size = bad;
    EXPECT_TRUE(is_refused(judge(blocks), Errc::invalid_argument, "block-size")) << bad;
  }
  for (unsigned good = 512; good <= page; good *= 2) {
    blocks.block_size = good;
    EXPECT_FALSE(judge(blocks).code) << good;
  }
  blocks.block_size = 0;
  EXPECT_FALSE(judge(blocks).code);
}

TEST_F(ARequest, TakesNumbersThatDoNotWrapInTheKernel) {
  AttachRequest numbered = request();
  numbered.number = max_loop_number;
  EXPECT_FALSE(judge(numbered).code);
  for (const unsigned bad : {max_loop_number + 1, UINT_MAX}) {
    numbered.number = bad;
    EXPECT_TRUE(is_refused(judge(numbered), Errc::invalid_argument, "number")) << bad;
  }
}

TEST_F(ARequest, ChecksItsReference) {
  AttachRequest named = request();
  named.reference = "a/b";
  EXPECT_TRUE(is_refused(judge(named), Errc::invalid_argument, "reference"));
}

TEST(AReference, MayBeAnyShortName) {
  for (const std::string& good :
       {std::string(), std::string("a"), std::string(62, 'x'), std::string("with space"), std::string("grün"),
        std::string("a-part"), std::string("a-part1b"), std::string("part1"), std::string("7"),
        std::string("a-parts1"), std::string(".."), std::string("-par1")}) {
    EXPECT_NO_THROW(validate_reference(good)) << good;
  }
}

TEST(AReference, IsRefusedWhereItCannotBeANameOfALink) {
  const std::string too_long_in_bytes = std::string(61, 'x') + "ü";  // 62 characters
  for (const std::string& bad :
       {std::string(63, 'x'), too_long_in_bytes, std::string("/"), std::string("a/b"), std::string("a-part1"),
        std::string("a-part12"), std::string("-part0"), std::string("\x80"), std::string("a\xC3"),
        std::string("\xED\xA0\x80"), std::string("a\nb"), std::string("a\tb"), std::string("\x7F"),
        std::string("a\0b", 3)}) {
    try {
      validate_reference(bad);
      ADD_FAILURE() << "accepted: " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_TRUE(std::string(error.what()).starts_with("reference:")) << error.what();
    }
  }
}

}  // namespace
}  // namespace loop::testing

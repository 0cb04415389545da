// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Images whose tables were written to hurt: the work that they make has a bound.
#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/image_probe.hpp"
#include "core/loop_manager.hpp"
#include "core/partition_table.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

constexpr uint64_t disk_size = 64 * mib;

// What takes longer has no bound: under a sanitizer, libblkid itself is slow.
constexpr auto moment = std::chrono::seconds(60);

class AHostileImage : public ::testing::Test {
 protected:
  AHostileImage() : image_(memory_file(disk_size)), started_(std::chrono::steady_clock::now()) {}
  ~AHostileImage() override { EXPECT_LT(std::chrono::steady_clock::now() - started_, moment); }

  int fd() const { return image_.get(); }

  // What the header says, whatever is there; its sum is right.
  void claim_entries(uint64_t sector, uint32_t count, uint32_t size) {
    std::string header = read_at(fd(), sector * 512, 512);
    std::memcpy(header.data() + 80, &count, sizeof count);
    std::memcpy(header.data() + 84, &size, sizeof size);
    std::memset(header.data() + 16, 0, 4);
    const uint32_t sum = crc32(std::string_view(header).substr(0, 92));
    std::memcpy(header.data() + 16, &sum, sizeof sum);
    write_at(fd(), sector * 512, header);
  }

  AttachRequest request() const {
    AttachRequest made;
    made.file = UniqueFd(::dup(fd()));
    made.partition_scan = PartitionScan::service;
    return made;
  }

  // Attaching it says why it does not work, and leaves nothing.
  void expect_refused(const std::string& why) {
    FakeLoopKernel kernel;
    LoopManager manager(kernel);
    try {
      manager.attach(request());
      ADD_FAILURE() << "it was attached";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
    EXPECT_TRUE(kernel.bound_numbers().empty());
    EXPECT_EQ(kernel.open_nodes(), 0);
    EXPECT_THROW(probe_image(request()), Error);
  }

  size_t attached_partitions() {
    FakeLoopKernel kernel;
    LoopManager manager(kernel);
    return manager.attach(request()).partitions().size();
  }

 private:
  UniqueFd image_;
  std::chrono::steady_clock::time_point started_;
};

// A chain of records with a partition of a sector each, every second sector one; the
// last leads to the record `back_to`, if there is one.
void write_chain(int fd, uint32_t length, std::optional<uint32_t> back_to = std::nullopt) {
  constexpr uint32_t first = 2;
  const auto record = [&](uint64_t sector, std::vector<std::array<uint32_t, 3>> entries) {
    std::string bytes(512, '\0');
    for (size_t i = 0; i < entries.size(); ++i) {
      const auto& [type, start, count] = entries[i];
      bytes[446 + 16 * i + 4] = static_cast<char>(type);
      std::memcpy(bytes.data() + 446 + 16 * i + 8, &start, sizeof start);
      std::memcpy(bytes.data() + 446 + 16 * i + 12, &count, sizeof count);
    }
    bytes.replace(510, 2, "\x55\xAA");
    write_at(fd, sector * 512, bytes);
  };
  record(0, {{0x05, first, 2 * length + 2}});
  for (uint32_t i = 0; i < length; ++i) {
    const bool last = i + 1 == length;
    const uint32_t next = 2 * (last ? back_to.value_or(0) : i + 1);
    record(first + 2 * i, last && !back_to
                              ? std::vector<std::array<uint32_t, 3>>{{0x83, 1, 1}}
                              : std::vector<std::array<uint32_t, 3>>{{0x83, 1, 1}, {0x05, next, 2}});
  }
}

TEST_F(AHostileImage, WithAGptOfGigabytesIsRefused) {
  write_gpt(fd(), disk_size, {{1 * mib, 1 * mib, "one"}});
  claim_entries(1, 33'000'000, 128);
  expect_refused("33000000 entries of 128 bytes");
}

TEST_F(AHostileImage, WithHugeEntriesIsRefused) {
  write_gpt(fd(), disk_size, {{1 * mib, 1 * mib, "one"}});
  claim_entries(1, 128, UINT32_MAX);
  expect_refused("128 entries of 4294967295 bytes");
}

TEST_F(AHostileImage, WithABackupGptOfGigabytesIsRefused) {
  write_gpt(fd(), disk_size, {{1 * mib, 1 * mib, "one"}});
  write_at(fd(), 512, std::string(512, '\0'));
  claim_entries(disk_size / 512 - 1, 33'000'000, 128);
  expect_refused("33000000 entries");
}

TEST_F(AHostileImage, WithEntriesThatOverlapHasThoseThatTheKernelTakes) {
  std::vector<GptPartition> partitions(100, {1 * mib, 8 * mib, "same"});
  partitions.push_back({10 * mib, 1 * mib, "apart"});
  write_gpt(fd(), disk_size, partitions);
  EXPECT_EQ(attached_partitions(), 2U);
}

TEST_F(AHostileImage, WithEntriesThatAreOutOfItHasTheOthers) {
  write_gpt(
      fd(), disk_size,
      {{disk_size + mib, mib, "beyond"}, {1 * mib, UINT64_MAX / 2, "endless"}, {1 * mib, 1 * mib, "good"}});
  EXPECT_EQ(attached_partitions(), 1U);
}

TEST_F(AHostileImage, WithALongChainOfBootRecordsIsRefused) {
  write_chain(fd(), 20'000);
  expect_refused("chain of extended boot records");
}

TEST_F(AHostileImage, WithAChainThatEndsInTimeIsRead) {
  write_chain(fd(), 200);
  EXPECT_EQ(read_partition_table(fd()).entries.size(), 201U);
}

class AChainOfBootRecords : public AHostileImage, public ::testing::WithParamInterface<uint32_t> {};

TEST_P(AChainOfBootRecords, ThatLeadsBackIsRefused) {
  write_chain(fd(), 3, GetParam());
  expect_refused("leads back to itself");
}

INSTANTIATE_TEST_SUITE_P(ToEach, AChainOfBootRecords, ::testing::Values(0U, 1U, 2U));

// The kernel asks for what is there once, not for each of thousands of entries.
TEST_F(AHostileImage, OfTenThousandEntriesTakesAsManyCallsAsEntries) {
  constexpr uint32_t count = 10'000;
  std::string entries;
  for (uint32_t i = 0; i < count; ++i) {
    std::string entry(128, '\1');
    const uint64_t first = 8192;
    const uint64_t last = 8192 + 15;
    std::memcpy(entry.data() + 32, &first, sizeof first);
    std::memcpy(entry.data() + 40, &last, sizeof last);
    entries += entry;
  }
  write_gpt(fd(), disk_size, {{8 * mib, 8 * mib, "pushed aside"}});
  write_at(fd(), 1024, entries);
  std::string header = read_at(fd(), 512, 512);
  const uint32_t sum = crc32(entries);
  const uint64_t first_usable = 1024 / 512 + entries.size() / 512;
  std::memcpy(header.data() + 40, &first_usable, sizeof first_usable);
  std::memcpy(header.data() + 88, &sum, sizeof sum);
  write_at(fd(), 512, header);
  claim_entries(1, count, 128);
  ASSERT_EQ(read_partition_table(fd()).entries.size(), count);
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  kernel.restart_counting();
  EXPECT_EQ(manager.attach(request()).partitions().size(), 1U);
  EXPECT_LT(kernel.calls(), static_cast<int>(count) + 200);
}

}  // namespace
}  // namespace loop::testing

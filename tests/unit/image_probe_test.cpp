// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "core/error.hpp"
#include "core/image_probe.hpp"
#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

unsigned block_size_of(const AttachRequest& request) { return find_block_size(request, validate(request)); }

AttachRequest request_for(UniqueFd file) {
  AttachRequest request;
  request.file = std::move(file);
  return request;
}

TEST(TheBlockSize, IsThatOfTheGpt) {
  for (const unsigned size : {512U, 1024U, 2048U, 4096U}) {
    const AttachRequest request = request_for(memory_file(8 * mib));
    write_gpt(request.file.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}}, size);
    EXPECT_EQ(block_size_of(request), size);
  }
}

TEST(TheBlockSize, IsLookedForInTheRangeThatIsMapped) {
  const UniqueFd disk = memory_file(8 * mib);
  write_gpt(disk.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}}, 4096);
  AttachRequest request = request_for(memory_file(12 * mib));
  write_at(request.file.get(), 1 * mib, read_at(disk.get(), 0, 8 * mib));
  request.offset = 1 * mib;
  request.size_limit = 8 * mib;
  EXPECT_EQ(block_size_of(request), 4096U);
  request.offset = 0;
  EXPECT_EQ(block_size_of(request), 0U);
}

TEST(TheBlockSize, IsTheKernelsWhereThereIsNoGpt) {
  const AttachRequest empty = request_for(memory_file(8 * mib));
  EXPECT_EQ(block_size_of(empty), 0U);
  const AttachRequest mbr = request_for(memory_file(8 * mib));
  write_mbr(mbr.file.get(), {{1 * mib, 1 * mib}});
  EXPECT_EQ(block_size_of(mbr), 0U);
}

TEST(TheBlockSize, IsAnErrorWhereTablesOfSeveralAreThere) {
  const AttachRequest request = request_for(memory_file(8 * mib));
  const UniqueFd other = memory_file(8 * mib);
  write_gpt(request.file.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}}, 4096);
  write_gpt(other.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}}, 512);
  // The one for 4096 in front, the one for 512 by its backup at the end.
  write_at(request.file.get(), 8 * mib - 33 * 512, read_at(other.get(), 8 * mib - 33 * 512, 33 * 512));
  try {
    const unsigned found = block_size_of(request);
    ADD_FAILURE() << "took " << found;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    EXPECT_TRUE(std::string(error.what()).starts_with("block-size-auto:")) << error.what();
  }
}

TEST(AProbe, TellsWhatAttachingWouldGive) {
  AttachRequest request = request_for(memory_file(8 * mib + 100));
  write_gpt(request.file.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}, {2 * mib, 1 * mib, "two"}});
  request.size_limit = 8 * mib;
  ImageFacts facts = probe_image(request);
  EXPECT_EQ(facts.size, 8 * mib);
  EXPECT_EQ(facts.block_size, 512U);
  EXPECT_EQ(facts.wasted_bytes, 0U);
  EXPECT_EQ(facts.table_type, "gpt");
  EXPECT_EQ(facts.partitions, 2U);
  EXPECT_EQ(facts.format, "raw");
  request.size_limit = 0;
  EXPECT_EQ(probe_image(request).wasted_bytes, 100U);
}

TEST(AProbe, RefusesWhatAttachingRefuses) { EXPECT_THROW(probe_image(request_for(memory_file(0))), Error); }

TEST(TheFormat, IsToldByItsMagic) {
  using namespace std::string_literals;
  struct Sample {
    std::string format;
    uint64_t offset;
    std::string bytes;
  };
  for (const Sample& sample :
       {Sample{"qcow2", 0, "QFI\xFB"}, Sample{"qed", 0, "QED\0"s}, Sample{"vmdk", 0, "KDMV"},
        Sample{"vmdk", 0, "# Disk DescriptorFile\n"}, Sample{"vhdx", 0, "vhdxfile"},
        Sample{"vhd", 0, "conectix"}, Sample{"vhd", 64 * kib - 512, "conectix"},
        Sample{"vdi", 64, "\x7F\x10\xDA\xBE"}, Sample{"raw", 1, "QFI\xFB"}}) {
    const UniqueFd file = memory_file(64 * kib);
    write_at(file.get(), sample.offset, sample.bytes);
    EXPECT_EQ(image_format(file.get(), 64 * kib), sample.format);
  }
  EXPECT_EQ(image_format(memory_file(3).get(), 3), "raw");
}

}  // namespace
}  // namespace loop::testing

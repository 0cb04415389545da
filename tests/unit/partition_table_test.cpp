// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/partition_table.hpp"
#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

std::vector<PartitionExtent> extents_of(const std::vector<TableEntry>& entries) {
  std::vector<PartitionExtent> extents;
  for (const TableEntry& entry : entries) extents.push_back(entry.extent);
  return extents;
}

TEST(AGpt, IsReadWithTypesNamesAndUuids) {
  const UniqueFd image = memory_file(8 * mib);
  write_gpt(image.get(), 8 * mib,
            {{1 * mib, 1 * mib, "boot", efi_system_type, "11111111-2222-3333-4444-555555555555"},
             {4 * mib, 2 * mib, "root"}});
  const PartitionTable table = read_partition_table(image.get());
  EXPECT_EQ(table.type, "gpt");
  ASSERT_EQ(table.entries.size(), 2U);
  EXPECT_EQ(table.entries[0].extent, (PartitionExtent{1, 1 * mib, 1 * mib}));
  EXPECT_EQ(table.entries[0].type, efi_system_type);
  EXPECT_EQ(table.entries[0].uuid, "11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(table.entries[0].name, "boot");
  EXPECT_EQ(table.entries[1].extent, (PartitionExtent{2, 4 * mib, 2 * mib}));
  EXPECT_EQ(table.entries[1].type, linux_data_type);
  EXPECT_EQ(table.entries[1].name, "root");
  EXPECT_FALSE(table.entries[1].extended);
}

TEST(AGpt, KeepsTheNumbersOfItsEntriesWhereThereAreGaps) {
  const UniqueFd image = memory_file(8 * mib);
  write_gpt(image.get(), 8 * mib, {{}, {1 * mib, 1 * mib, "two"}, {}, {}, {2 * mib, 1 * mib, "five"}});
  EXPECT_EQ(extents_of(read_partition_table(image.get()).entries),
            (std::vector<PartitionExtent>{{2, 1 * mib, 1 * mib}, {5, 2 * mib, 1 * mib}}));
}

TEST(AGpt, OfLargeSectorsIsFoundAtThatSizeOnly) {
  const UniqueFd image = memory_file(8 * mib);
  write_gpt(image.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}}, 4096);
  const PartitionTable table = read_partition_table(image.get(), 4096);
  EXPECT_EQ(table.type, "gpt");
  EXPECT_EQ(extents_of(table.entries), (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}}));
  EXPECT_NE(read_partition_table(image.get(), 512).type, "gpt");
}

TEST(AGpt, WithABrokenHeaderIsReadFromItsBackup) {
  const UniqueFd image = memory_file(8 * mib);
  write_gpt(image.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}});
  write_at(image.get(), 512, std::string(512, '\0'));
  EXPECT_EQ(read_partition_table(image.get()).entries.size(), 1U);
}

TEST(AnMbr, IsReadWithItsLogicalPartitions) {
  const UniqueFd image = memory_file(16 * mib);
  write_mbr(image.get(), {{1 * mib, 1 * mib, 0x0C}, {2 * mib, 2 * mib}},
            {{6 * mib, 1 * mib}, {9 * mib, 2 * mib}});
  const PartitionTable table = read_partition_table(image.get());
  EXPECT_EQ(table.type, "dos");
  EXPECT_EQ(extents_of(table.entries), (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib},
                                                                     {2, 2 * mib, 2 * mib},
                                                                     {3, 5 * mib, 6 * mib},
                                                                     {5, 6 * mib, 1 * mib},
                                                                     {6, 9 * mib, 2 * mib}}));
  EXPECT_EQ(table.entries[0].type, "0x0c");
  EXPECT_EQ(table.entries[1].type, "0x83");
  EXPECT_FALSE(table.entries[1].extended);
  EXPECT_TRUE(table.entries[2].extended);
  EXPECT_EQ(table.entries[1].name, "");
}

TEST(AnMbr, HasItsExtendedPartitionCutSoThatLogicalsFit) {
  const UniqueFd image = memory_file(16 * mib);
  write_mbr(image.get(), {{1 * mib, 1 * mib}}, {{6 * mib, 1 * mib}});
  EXPECT_EQ(extents_of(usable_entries(read_partition_table(image.get()), 16 * mib)),
            (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}, {2, 5 * mib, 1024}, {5, 6 * mib, 1 * mib}}));
}

TEST(ATable, IsNotSeenInAFatBootSector) {
  const UniqueFd image = memory_file(10 * mib);
  write_fat_boot_sector(image.get());
  const PartitionTable table = read_partition_table(image.get());
  EXPECT_TRUE(table.entries.empty()) << table.type << " with " << table.entries.size() << " entries";
}

TEST(ATable, IsNotSeenWhereThereIsNone) {
  for (const uint64_t size : {uint64_t{512}, uint64_t{513}, 4 * kib, 4 * mib}) {
    const UniqueFd empty = memory_file(size);
    EXPECT_EQ(read_partition_table(empty.get()).type, "") << size;
    const UniqueFd noise = memory_file(size);
    write_at(noise.get(), 0, pattern(size));
    EXPECT_TRUE(read_partition_table(noise.get()).entries.empty()) << size;
  }
}

TEST(UsableEntries, EndInsideTheDisk) {
  PartitionTable table;
  table.entries.resize(6);
  table.entries[0].extent = {1, 1 * mib, 1 * mib};
  table.entries[1].extent = {2, 2 * mib, 2 * mib};        // ends at the end
  table.entries[2].extent = {3, 3 * mib, 2 * mib};        // ends beyond
  table.entries[3].extent = {4, 4 * mib, 1 * mib};        // begins at the end
  table.entries[4].extent = {5, UINT64_MAX - 511, 1024};  // wraps
  table.entries[5].extent = {6, 1 * mib, 0};              // is empty
  EXPECT_EQ(extents_of(usable_entries(table, 4 * mib)),
            (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}, {2, 2 * mib, 2 * mib}}));
}

TEST(UsableEntries, OfATruncatedImageAreThoseThatAreLeft) {
  const UniqueFd image = memory_file(8 * mib);
  write_mbr(image.get(), {{1 * mib, 1 * mib}, {3 * mib, 1 * mib}, {4 * mib, 2 * mib}, {6 * mib, 1 * mib}});
  ASSERT_EQ(::ftruncate(image.get(), 5 * mib), 0);
  EXPECT_EQ(extents_of(usable_entries(read_partition_table(image.get()), 5 * mib)),
            (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}, {2, 3 * mib, 1 * mib}}));
}

TEST(AGpt, OfATruncatedImageIsNoneAsItIsForTheKernel) {
  // Its header speaks of sectors that are not there: not to be trusted.
  const UniqueFd image = memory_file(8 * mib);
  write_gpt(image.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}, {4 * mib, 2 * mib, "two"}});
  ASSERT_EQ(::ftruncate(image.get(), 5 * mib), 0);
  EXPECT_TRUE(read_partition_table(image.get()).entries.empty());
}

TEST(ATable, IsReadFromTheRangeThatIsTheDisk) {
  const UniqueFd disk = memory_file(8 * mib);
  write_gpt(disk.get(), 8 * mib, {{1 * mib, 1 * mib, "one"}});
  const UniqueFd file = memory_file(12 * mib);
  write_at(file.get(), 2 * mib, read_at(disk.get(), 0, 8 * mib));
  EXPECT_EQ(extents_of(read_partition_table(file.get(), 512, {2 * mib, 8 * mib}).entries),
            (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}}));
  EXPECT_TRUE(read_partition_table(file.get(), 512).entries.empty());
}

}  // namespace
}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Disk images for tests, written byte by byte: what the tests read back through
// libblkid and the kernel is not made by libblkid's own relatives, and no tool
// has to be installed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/unique_fd.hpp"

namespace loop::testing {

inline constexpr uint64_t kib = 1024;
inline constexpr uint64_t mib = 1024 * kib;

// The types that a GPT knows partitions by.
inline constexpr const char* linux_data_type = "0fc63daf-8483-4772-8e79-3d69d8477de4";
inline constexpr const char* efi_system_type = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

struct GptPartition {
  uint64_t offset = 0;  // bytes
  uint64_t size = 0;    // bytes
  std::string name;     // ASCII
  std::string type = linux_data_type;
  std::string uuid = "00112233-4455-6677-8899-aabbccddeeff";
};

// Writes protective MBR, both headers and both entry arrays. A partition may end
// beyond the disk.
void write_gpt(int fd, uint64_t disk_size, const std::vector<GptPartition>& partitions,
               unsigned sector_size = 512);

struct MbrPartition {
  uint64_t offset = 0;  // bytes
  uint64_t size = 0;    // bytes
  unsigned type = 0x83;
};

// Writes at most three primaries and, if there are logicals, an extended
// partition behind them as number `primaries.size() + 1`, which ends with the
// last logical. Each logical's boot record lies one MiB before its data, so the
// first MiB of the extended partition is free.
void write_mbr(int fd, const std::vector<MbrPartition>& primaries,
               const std::vector<MbrPartition>& logicals = {});

// The first sector of a FAT16 file system, which ends like an MBR and whose boot
// code stands where an MBR's table is.
void write_fat_boot_sector(int fd);

// A swap area of the page size of this machine.
void write_swap_header(int fd, uint64_t size);

// The sum that a GPT has.
uint32_t crc32(std::string_view bytes);

void write_at(int fd, uint64_t offset, std::string_view bytes);
std::string read_at(int fd, uint64_t offset, uint64_t length);

// A memory file of that size, open for reading and writing.
UniqueFd memory_file(uint64_t size, unsigned memfd_flags = 0);

// Bytes that differ from sector to sector and from seed to seed.
std::string pattern(uint64_t length, unsigned seed = 1);

}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/image.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace loop::testing {
namespace {

constexpr uint64_t sector = 512;
constexpr unsigned gpt_entries = 128;
constexpr unsigned gpt_entry_size = 128;

static_assert(std::endian::native == std::endian::little, "tables are written as they lie in memory");

template <typename Integer>
void put(std::string& bytes, size_t at, Integer value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// The first three fields are stored little-endian, the rest as it is read.
std::string guid(const std::string& text) {
  std::string digits;
  for (const char c : text) {
    if (c != '-') digits += c;
  }
  if (digits.size() != 32) throw std::invalid_argument("GUID " + text);
  constexpr std::array<size_t, 16> order{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  std::string bytes;
  for (const size_t i : order) {
    bytes += static_cast<char>(std::stoul(digits.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

void put_mbr_entry(std::string& boot_record, size_t index, unsigned type, uint64_t first, uint64_t count) {
  const size_t at = 446 + 16 * index;
  put(boot_record, at + 1, uint8_t{0xFE});  // no cylinders, heads and sectors: LBA only
  put(boot_record, at + 2, uint16_t{0xFFFF});
  put(boot_record, at + 4, static_cast<uint8_t>(type));
  put(boot_record, at + 5, uint8_t{0xFE});
  put(boot_record, at + 6, uint16_t{0xFFFF});
  put(boot_record, at + 8, static_cast<uint32_t>(first));
  put(boot_record, at + 12, static_cast<uint32_t>(count));
}

std::string boot_record() {
  std::string bytes(sector, '\0');
  put(bytes, 510, uint16_t{0xAA55});
  return bytes;
}

std::string gpt_header(uint64_t own, uint64_t other, uint64_t entries_at, uint64_t first, uint64_t last,
                       uint32_t entries_crc) {
  std::string header(92, '\0');
  header.replace(0, 8, "EFI PART");
  put(header, 8, uint32_t{0x00010000});
  put(header, 12, uint32_t{92});
  put(header, 24, own);
  put(header, 32, other);
  put(header, 40, first);
  put(header, 48, last);
  header.replace(56, 16, guid("deadbeef-0000-4000-8000-000000000001"));
  put(header, 72, entries_at);
  put(header, 80, uint32_t{gpt_entries});
  put(header, 84, uint32_t{gpt_entry_size});
  put(header, 88, entries_crc);
  put(header, 16, crc32(header));
  return header;
}

}  // namespace

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0U);
    }
  }
  return ~crc;
}

void write_at(int fd, uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written <= 0) throw std::system_error(errno, std::generic_category(), "pwrite");
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

std::string read_at(int fd, uint64_t offset, uint64_t length) {
  std::string bytes(length, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0) throw std::system_error(errno, std::generic_category(), "pread");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

void write_gpt(int fd, uint64_t disk_size, const std::vector<GptPartition>& partitions,
               unsigned sector_size) {
  const uint64_t sectors = disk_size / sector_size;
  const uint64_t entry_sectors = gpt_entries * gpt_entry_size / sector_size;
  std::string entries(gpt_entries * gpt_entry_size, '\0');
  for (size_t i = 0; i < partitions.size(); ++i) {
    const GptPartition& partition = partitions[i];
    if (partition.size == 0) continue;  // an unused entry: numbers may have gaps
    const size_t at = i * gpt_entry_size;
    entries.replace(at, 16, guid(partition.type));
    entries.replace(at + 16, 16, guid(partition.uuid));
    put(entries, at + 32, partition.offset / sector_size);
    put(entries, at + 40, (partition.offset + partition.size) / sector_size - 1);
    for (size_t c = 0; c < partition.name.size(); ++c) {
      put(entries, at + 56 + 2 * c, static_cast<uint16_t>(static_cast<unsigned char>(partition.name[c])));
    }
  }
  std::string protective = boot_record();
  put_mbr_entry(protective, 0, 0xEE, 1, sectors - 1);
  const uint64_t last = sectors - 1;
  const uint64_t first_usable = 2 + entry_sectors;
  const uint64_t last_usable = last - entry_sectors - 1;
  const uint32_t crc = crc32(entries);
  write_at(fd, 0, protective);
  write_at(fd, sector_size, gpt_header(1, last, 2, first_usable, last_usable, crc));
  write_at(fd, 2 * sector_size, entries);
  write_at(fd, (last - entry_sectors) * sector_size, entries);
  write_at(fd, last * sector_size, gpt_header(last, 1, last - entry_sectors, first_usable, last_usable, crc));
}

void write_mbr(int fd, const std::vector<MbrPartition>& primaries,
               const std::vector<MbrPartition>& logicals) {
  std::string first = boot_record();
  for (size_t i = 0; i < primaries.size(); ++i) {
    put_mbr_entry(first, i, primaries[i].type, primaries[i].offset / sector, primaries[i].size / sector);
  }
  if (!logicals.empty()) {
    const uint64_t extended = logicals.front().offset - mib;
    const uint64_t end = logicals.back().offset + logicals.back().size;
    put_mbr_entry(first, primaries.size(), 0x05, extended / sector, (end - extended) / sector);
    for (size_t i = 0; i < logicals.size(); ++i) {
      const uint64_t own = logicals[i].offset - mib;
      std::string record = boot_record();
      put_mbr_entry(record, 0, logicals[i].type, mib / sector, logicals[i].size / sector);
      if (i + 1 < logicals.size()) {
        const uint64_t next = logicals[i + 1].offset - mib;
        put_mbr_entry(record, 1, 0x05, (next - extended) / sector, (logicals[i + 1].size + mib) / sector);
      }
      write_at(fd, own, record);
    }
  }
  write_at(fd, 0, first);
}

void write_fat_boot_sector(int fd) {
  std::string bytes = boot_record();
  bytes.replace(0, 11, "\xEB\x3C\x90mkfs.fat", 11);
  put(bytes, 11, uint16_t{512});    // bytes a sector
  put(bytes, 13, uint8_t{4});       // sectors a cluster
  put(bytes, 14, uint16_t{4});      // reserved sectors
  put(bytes, 16, uint8_t{2});       // tables
  put(bytes, 17, uint16_t{512});    // entries of the root directory
  put(bytes, 19, uint16_t{20480});  // sectors
  put(bytes, 21, uint8_t{0xF8});    // medium: hard disk
  put(bytes, 22, uint16_t{20});     // sectors a table
  put(bytes, 38, uint8_t{0x29});    // extended boot signature
  put(bytes, 39, uint32_t{0x12345678});
  bytes.replace(43, 11, "NO NAME    ");
  bytes.replace(54, 8, "FAT16   ");
  // What a careless reader of tables would find: an active Linux partition.
  put_mbr_entry(bytes, 0, 0x83, 2048, 2048);
  put(bytes, 446, uint8_t{0x80});
  write_at(fd, 0, bytes);
  write_at(fd, 4 * sector, std::string("\xF8\xFF\xFF\xFF", 4));
}

void write_swap_header(int fd, uint64_t size) {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  std::string bytes(page, '\0');
  put(bytes, 1024, uint32_t{1});
  put(bytes, 1028, static_cast<uint32_t>(size / page - 1));
  bytes.replace(page - 10, 10, "SWAPSPACE2");
  write_at(fd, 0, bytes);
}

UniqueFd memory_file(uint64_t size, unsigned memfd_flags) {
  UniqueFd fd(::memfd_create("loopd-test", MFD_CLOEXEC | memfd_flags));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) < 0) {
    throw std::system_error(errno, std::generic_category(), "memfd_create");
  }
  return fd;
}

std::string pattern(uint64_t length, unsigned seed) {
  std::string bytes(length, '\0');
  uint32_t state = seed * 2654435761U + 1;
  for (char& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/table_bounds.hpp"

#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace loop {
namespace {

// What the kernel's own parser takes: 32,768 entries of 128 bytes.
constexpr uint64_t longest_gpt = 4 << 20;

// The kernel has 255 partitions for a disk; some records of a chain may be empty.
constexpr unsigned longest_chain = 1024;

constexpr uint64_t record_unit = 512;  // libblkid's, whatever the sector size
constexpr std::string_view gpt_signature = "EFI PART";

using Sector = std::array<unsigned char, record_unit>;

class Disk {
 public:
  Disk(int fd, DiskRange range) : fd_(fd), range_(range) {}

  // Nothing where there is no whole sector: what libblkid makes of that is its own business.
  std::optional<Sector> read(uint64_t offset) const {
    if (offset >= range_.size || range_.size - offset < sizeof(Sector)) return std::nullopt;
    Sector sector;
    const auto at = static_cast<off_t>(range_.offset + offset);
    if (::pread(fd_, sector.data(), sector.size(), at) != static_cast<ssize_t>(sector.size()))
      return std::nullopt;
    return sector;
  }
  uint64_t size() const { return range_.size; }

 private:
  int fd_;
  DiskRange range_;
};

uint32_t number_at(const Sector& sector, size_t at) {
  return sector[at] | uint32_t{sector[at + 1]} << 8 | uint32_t{sector[at + 2]} << 16 |
         uint32_t{sector[at + 3]} << 24;
}

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Errc::invalid_argument, "the partition table is refused: " + why);
}

void check_gpt_header(const std::optional<Sector>& header) {
  if (!header || std::memcmp(header->data(), gpt_signature.data(), gpt_signature.size()) != 0) return;
  const uint32_t count = number_at(*header, 80);
  const uint32_t size = number_at(*header, 84);
  if (uint64_t{count} * size <= longest_gpt) return;
  refuse("its GPT says that it has " + std::to_string(count) + " entries of " + std::to_string(size) +
         " bytes");
}

struct MbrEntry {
  unsigned type;
  uint32_t start;  // sectors
  uint32_t size;

  bool is_extended() const { return size != 0 && (type == 0x05 || type == 0x0F || type == 0x85); }
};

MbrEntry entry_at(const Sector& record, size_t index) {
  const size_t at = 446 + 16 * index;
  return {record[at + 4], number_at(record, at + 8), number_at(record, at + 12)};
}

bool is_boot_record(const std::optional<Sector>& record) {
  return record && (*record)[510] == 0x55 && (*record)[511] == 0xAA;
}

// Where the next one is, in sectors from the start of the first.
std::optional<uint32_t> link_in(const Sector& record) {
  for (size_t i = 0; i < 4; ++i) {
    const MbrEntry entry = entry_at(record, i);
    if (entry.is_extended()) return entry.start;
  }
  return std::nullopt;
}

void check_chain(const Disk& disk, uint64_t first, unsigned sector_size) {
  uint64_t at = first;
  for (unsigned length = 0; length <= longest_chain; ++length) {
    const auto record = disk.read(at);
    if (!is_boot_record(record)) return;
    const auto next = link_in(*record);
    if (!next) return;
    at = first + uint64_t{*next} * sector_size;
  }
  refuse("its chain of extended boot records has more than " + std::to_string(longest_chain) +
         ", or leads back to itself");
}

void check_mbr(const Disk& disk, unsigned sector_size) {
  const auto record = disk.read(0);
  if (!is_boot_record(record)) return;
  for (size_t i = 0; i < 4; ++i) {
    const MbrEntry entry = entry_at(*record, i);
    if (entry.is_extended()) check_chain(disk, uint64_t{entry.start} * sector_size, sector_size);
  }
}

}  // namespace

void refuse_endless_table(int fd, unsigned sector_size, DiskRange range) {
  const Disk disk(fd, range);
  check_gpt_header(disk.read(sector_size));
  if (disk.size() >= sector_size) check_gpt_header(disk.read((disk.size() / sector_size - 1) * sector_size));
  check_mbr(disk, sector_size);
}

}  // namespace loop

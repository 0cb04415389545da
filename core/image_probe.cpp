// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/image_probe.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "core/error.hpp"
#include "core/partition_table.hpp"

namespace loop {
namespace {

constexpr unsigned sector = 512;
constexpr std::array<unsigned, 4> block_sizes{512, 1024, 2048, 4096};

uint64_t mapped_size(const AttachRequest& request, const BackingFile& file) {
  const uint64_t rest = file.size - request.offset;
  return request.size_limit == 0 ? rest : std::min(rest, request.size_limit);
}

bool has_bytes(int fd, uint64_t offset, std::string_view expected) {
  std::array<char, 32> bytes{};
  const ssize_t got = ::pread(fd, bytes.data(), expected.size(), static_cast<off_t>(offset));
  return got == static_cast<ssize_t>(expected.size()) &&
         std::string_view(bytes.data(), expected.size()) == expected;
}

bool direct_io_possible(const AttachRequest& request, unsigned block_size) {
#ifdef STATX_DIOALIGN
  struct statx facts {};
  if (::statx(request.file.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) < 0) return false;
  if ((facts.stx_mask & STATX_DIOALIGN) == 0 || facts.stx_dio_offset_align == 0) return false;
  return request.offset % facts.stx_dio_offset_align == 0 && block_size >= facts.stx_dio_offset_align;
#else
  // Told by kernels from 6.1 on, to programs built with newer headers.
  (void)request;
  (void)block_size;
  return false;
#endif
}

}  // namespace

unsigned find_block_size(const AttachRequest& request, const BackingFile& file) {
  const auto page = static_cast<unsigned>(::sysconf(_SC_PAGESIZE));
  unsigned found = 0;
  for (const unsigned size : block_sizes) {
    if (size > page) break;
    // Other tables are reported at every size.
    const PartitionTable table =
        read_partition_table(request.file.get(), size, {request.offset, mapped_size(request, file)});
    if (table.type != "gpt") continue;
    if (found != 0) {
      throw Error(Errc::invalid_argument, "block-size-auto: the image has partition tables for blocks of " +
                                              std::to_string(found) + " and of " + std::to_string(size) +
                                              " bytes; choose with block-size");
    }
    found = size;
  }
  return found;
}

std::string image_format(int fd, uint64_t size) {
  using namespace std::string_view_literals;
  struct Magic {
    const char* format;
    uint64_t offset;
    std::string_view bytes;
  };
  static constexpr std::array magics{
      Magic{"qcow2", 0, "QFI\xfb"sv},
      Magic{"qed", 0, "QED\0"sv},
      Magic{"vmdk", 0, "KDMV"sv},
      Magic{"vmdk", 0, "# Disk DescriptorFile"sv},
      Magic{"vhdx", 0, "vhdxfile"sv},
      Magic{"vhd", 0, "conectix"sv},
      Magic{"vdi", 64, "\x7f\x10\xda\xbe"sv},
  };
  for (const Magic& magic : magics) {
    if (has_bytes(fd, magic.offset, magic.bytes)) return magic.format;
  }
  // A fixed VHD has its footer at the end alone.
  if (size >= sector && has_bytes(fd, size - sector, "conectix"sv)) return "vhd";
  return "raw";
}

ImageFacts probe_image(const AttachRequest& request) {
  const BackingFile file = validate(request);
  ImageFacts facts;
  const uint64_t mapped = mapped_size(request, file);
  facts.size = mapped / sector * sector;
  facts.wasted_bytes = mapped - facts.size;
  facts.block_size = request.probe_block_size ? find_block_size(request, file) : request.block_size;
  if (facts.block_size == 0) facts.block_size = sector;
  const PartitionTable table =
      read_partition_table(request.file.get(), facts.block_size, {request.offset, mapped});
  facts.table_type = table.type;
  facts.partitions = static_cast<unsigned>(usable_entries(table, facts.size).size());
  facts.direct_io = direct_io_possible(request, facts.block_size);
  facts.format = image_format(request.file.get(), file.size);
  return facts;
}

}  // namespace loop

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The bytes of an image. Its partition table is read, and told to a kernel, which
// is simulated. The sums of a GPT are put right first: a fuzzer does not find them.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.hpp"
#include "core/image_probe.hpp"
#include "core/loop_manager.hpp"
#include "core/partition_table.hpp"
#include "core/utf8.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

constexpr size_t most_bytes = 256 * kib;
constexpr uint64_t image_size = 1 * mib;

struct Gpt {
  char signature[8];
  uint32_t revision, header_size, header_sum, zero;
  uint64_t here, backup, first, last;
  char uuid[16];
  uint64_t entries;
  uint32_t count, entry_size, entries_sum;
};

// Where the header and its entries are inside the bytes.
void repair_sums(std::string& image, size_t sector_size) {
  if (image.size() < 2 * sector_size) return;
  Gpt gpt;
  std::memcpy(&gpt, image.data() + sector_size, sizeof gpt);
  if (std::memcmp(gpt.signature, "EFI PART", 8) != 0) return;
  const uint64_t length = uint64_t{gpt.count} * gpt.entry_size;
  if (gpt.entries < image.size() / sector_size && length <= image.size() - gpt.entries * sector_size) {
    gpt.entries_sum = crc32(std::string_view(image).substr(gpt.entries * sector_size, length));
  }
  gpt.header_sum = 0;
  std::memcpy(image.data() + sector_size, &gpt, sizeof gpt);
  if (gpt.header_size > sector_size) return;
  gpt.header_sum = crc32(std::string_view(image).substr(sector_size, gpt.header_size));
  std::memcpy(image.data() + sector_size, &gpt, sizeof gpt);
}

void check_table(const PartitionTable& table) {
  must(is_utf8(table.type), "a type can be shown");
  for (const TableEntry& entry : table.entries) {
    must(is_utf8(entry.type) && is_utf8(entry.uuid) && is_utf8(entry.name), "texts can be shown");
  }
  for (const TableEntry& entry : usable_entries(table, image_size)) {
    must(entry.extent.number > 0 && entry.extent.size > 0, "a partition has a number and a size");
    must(entry.extent.offset < image_size && entry.extent.size <= image_size - entry.extent.offset,
         "a partition is inside the disk");
  }
}

AttachRequest request_for(int file) {
  AttachRequest request;
  request.file = UniqueFd(::dup(file));
  request.partition_scan = PartitionScan::service;
  return request;
}

void probe(int file) {
  AttachRequest request = request_for(file);
  request.probe_block_size = true;
  try {
    must(probe_image(request).size == image_size, "a table does not change the size");
  } catch (const Error& error) {
    must(error.code() == Errc::invalid_argument, "only an ambiguous or endless table is refused");
  }
}

void attach(int file) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  try {
    const Attachment attachment = manager.attach(request_for(file));
    must(attachment.partitions().size() == kernel.partitions(attachment.snapshot().number).size(),
         "what is said to be there is there");
  } catch (const Error& error) {
    must(error.code() == Errc::invalid_argument, "only an endless table is refused");
  }
  must(kernel.bound_numbers().empty() && kernel.open_nodes() == 0, "nothing is left");
}

void read(int file, unsigned sector_size) {
  try {
    check_table(read_partition_table(file, sector_size));
  } catch (const Error& error) {
    must(error.code() == Errc::invalid_argument, "only an endless table is refused");
  }
}

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  if (size == 0) return 0;
  std::string image(as_text(data + 1, std::min(size - 1, most_bytes)));
  const unsigned sector_size = (data[0] & 1) != 0 ? 4096 : 512;
  if ((data[0] & 2) == 0) repair_sums(image, sector_size);
  static const loop::UniqueFd file = memory_file(0);
  must(::ftruncate(file.get(), 0) == 0 && ::ftruncate(file.get(), image_size) == 0,
       "the file is of zeros again");
  // The backup of a GPT is at the end.
  write_at(file.get(), (data[0] & 4) != 0 ? image_size - image.size() : 0, image);
  read(file.get(), sector_size);
  probe(file.get());
  attach(file.get());
  return 0;
}

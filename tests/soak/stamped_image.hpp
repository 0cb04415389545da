// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bus/scratch.hpp"
#include "tests/soak/chance.hpp"

namespace soak {

enum class ImageKind { plain, gpt, mbr, filesystem };

struct ImagePlan {
  ImageKind kind = ImageKind::plain;
  uint64_t size = 0;      // of the mapped range
  uint64_t before = 0;    // bytes of the file in front of it
  uint64_t behind = 0;    // and behind
  unsigned sector = 512;  // of the table
};
ImagePlan plan_image(Chance& chance);

struct PlannedPartition {
  unsigned number = 0;
  uint64_t offset = 0;  // bytes
  uint64_t size = 0;
};

// A file whose every sector says which image it belongs to, and where in it: what
// is read through a device shows which file is behind it.
class StampedImage {
 public:
  StampedImage(Chance& chance, const ImagePlan& plan, const std::string& name);

  const ImagePlan& plan() const { return plan_; }
  const bus_test::ScratchFile& file() const { return *file_; }
  const std::vector<PlannedPartition>& partitions() const { return partitions_; }

  // Bytes of the mapped range.
  uint64_t size() const { return mapped_.size(); }
  std::string expected(uint64_t offset, uint64_t length) const { return mapped_.substr(offset, length); }

  // Another stamp for a page that lies in no table: to be written through the
  // device, and expected from then on.
  uint64_t restamp(Chance& chance);

  // The file's own content of the mapped range is what is expected.
  bool is_in_file() const;

  // Of a file system: what its file `stamp` holds.
  const std::string& stamp() const { return stamp_; }

  static constexpr uint64_t stamp_size = 1024;  // a block of the file system
  static constexpr uint64_t page = 4096;

 private:
  void make_table(Chance& chance, int file);
  void make_filesystem(Chance& chance);

  ImagePlan plan_;
  uint64_t id_;
  std::string mapped_;
  std::string stamp_;
  std::vector<PlannedPartition> partitions_;
  std::unique_ptr<bus_test::ScratchFile> file_;
};

// Makes the file system that the images of that kind begin with; once, first of all.
void make_filesystem_template();

}  // namespace soak

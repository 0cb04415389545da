// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/stamped_image.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/bus/child_process.hpp"
#include "tests/support/image.hpp"

namespace soak {
namespace {

using bus_test::KiB;
using bus_test::MiB;
using bus_test::ScratchFile;

constexpr uint64_t page = StampedImage::page;
constexpr uint64_t table_space = 64 * KiB;  // at each end: more than any table takes
constexpr uint64_t filesystem_size = 2 * MiB;

std::string filesystem_template;
const std::string template_stamp(StampedImage::stamp_size, 'S');

// A sector is sixty-four words, none of which another image or sector has.
void put_stamps(std::string& bytes, uint64_t offset, uint64_t length, uint64_t id) {
  for (uint64_t at = offset; at < offset + length; at += sizeof(uint64_t)) {
    const uint64_t word = (id ^ at) * 0x9E3779B97F4A7C15U;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

}  // namespace

ImagePlan plan_image(Chance& chance) {
  ImagePlan plan;
  plan.kind = chance.pick<ImageKind>({ImageKind::plain, ImageKind::plain, ImageKind::gpt, ImageKind::gpt,
                                      ImageKind::mbr, ImageKind::filesystem});
  plan.size = chance.between(4, 64) * page;
  if (plan.kind == ImageKind::gpt || plan.kind == ImageKind::mbr) plan.size += 256 * KiB;
  if (plan.kind == ImageKind::filesystem) plan.size = filesystem_size;
  if (chance.one_in(3)) plan.before = chance.between(1, 16) * page;
  if (chance.one_in(3)) plan.behind = chance.between(1, 16) * page;
  if (plan.kind == ImageKind::gpt && chance.one_in(3)) plan.sector = 4096;
  return plan;
}

StampedImage::StampedImage(Chance& chance, const ImagePlan& plan, const std::string& name)
    : plan_(plan), id_(chance.bits()), mapped_(plan.size, '\0') {
  put_stamps(mapped_, 0, mapped_.size(), id_);
  if (plan_.kind == ImageKind::filesystem) {
    make_filesystem(chance);
  } else if (plan_.kind != ImageKind::plain) {
    const loop::UniqueFd memory = loop::testing::memory_file(plan_.size);
    loop::testing::write_at(memory.get(), 0, mapped_);
    make_table(chance, memory.get());
    mapped_ = loop::testing::read_at(memory.get(), 0, plan_.size);
  }
  file_ = std::make_unique<ScratchFile>(plan_.before + plan_.size + plan_.behind, name);
  // What lies around the range bears stamps, too, of nobody.
  std::string around(std::max(plan_.before, plan_.behind), '\0');
  put_stamps(around, 0, around.size(), ~id_);
  file_->write(0, around.substr(0, plan_.before));
  file_->write(plan_.before, mapped_);
  file_->write(plan_.before + plan_.size, around.substr(0, plan_.behind));
}

void StampedImage::make_table(Chance& chance, int file) {
  uint64_t at = table_space;
  const auto most = static_cast<unsigned>(plan_.kind == ImageKind::mbr ? 4 : 6);
  for (unsigned number = 1; number <= most && at + 4 * page < plan_.size - table_space; ++number) {
    const uint64_t room = plan_.size - table_space - at;
    const uint64_t size = page * chance.between(1, std::min<uint64_t>(room / page, 16));
    partitions_.push_back({number, at, size});
    at += size + page * chance.below(3);
    if (chance.one_in(4)) break;
  }
  if (plan_.kind == ImageKind::mbr) {
    std::vector<loop::testing::MbrPartition> entries;
    for (const PlannedPartition& partition : partitions_)
      entries.push_back({partition.offset, partition.size});
    loop::testing::write_mbr(file, entries);
    return;
  }
  std::vector<loop::testing::GptPartition> entries;
  for (const PlannedPartition& partition : partitions_) {
    entries.push_back({partition.offset, partition.size, "soak " + std::to_string(partition.number)});
  }
  loop::testing::write_gpt(file, plan_.size, entries, plan_.sector);
}

void StampedImage::make_filesystem(Chance& chance) {
  stamp_ = loop::testing::pattern(stamp_size, static_cast<unsigned>(chance.bits()));
  mapped_ = filesystem_template;
  mapped_.replace(mapped_.find(template_stamp), stamp_size, stamp_);
}

uint64_t StampedImage::restamp(Chance& chance) {
  if (plan_.kind == ImageKind::filesystem) throw std::logic_error("a file system is nobody's to stamp");
  const uint64_t margin = plan_.kind == ImageKind::plain ? 0 : table_space;
  const uint64_t at = margin + page * chance.below((size() - 2 * margin) / page);
  put_stamps(mapped_, at, page, chance.bits());
  return at;
}

bool StampedImage::is_in_file() const { return file_->read(plan_.before, size()) == mapped_; }

void make_filesystem_template() {
  const std::string tree = bus_test::scratch_directory() + "/template";
  const std::string image = bus_test::scratch_directory() + "/template.img";
  std::filesystem::create_directory(tree);
  std::ofstream(tree + "/stamp") << template_stamp;
  const auto made =
      bus_test::run({"mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-d", tree, image, "2m"});
  std::ifstream file(image, std::ios::binary);
  filesystem_template.assign(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove_all(tree);
  std::filesystem::remove(image);
  if (made.status != 0 || filesystem_template.size() != filesystem_size ||
      filesystem_template.find(template_stamp) == std::string::npos) {
    throw std::runtime_error("mkfs.ext4: " + made.output);
  }
}

}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/attachment_records.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <memory>
#include <sstream>

#include "core/error.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

constexpr const char* intent_prefix = "intent-";
constexpr size_t longest_record = 4 * PATH_MAX + 4096;  // a path as declaration, each byte as \xNN

std::string intent_name(unsigned number) { return intent_prefix + std::to_string(number); }

bool is_record_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string format(const AttachmentRecord& record) {
  std::ostringstream text;
  text << "LOOPD_OWNER_UID=" << record.owner << "\n"
       << "LOOPD_NUMBER=" << record.number << "\n"
       << "LOOPD_DISK_SEQUENCE=" << record.disk_sequence << "\n"
       << "LOOPD_BACKING_IS_BLOCK=" << record.backing.block_device << "\n"
       << "LOOPD_BACKING_DEV=" << record.backing.dev << "\n"
       << "LOOPD_BACKING_INODE=" << record.backing.inode << "\n"
       << "LOOPD_KEEPS_PARTITIONS=" << record.keeps_partitions << "\n"
       << "LOOPD_AUTOCLEAR_PENDING=" << record.autoclear_pending << "\n"
       << "LOOPD_DELETE_NODE=" << record.delete_node << "\n"
       << "LOOPD_SERVED_LOCALLY=" << record.served_locally << "\n"
       << "LOOPD_DETACHING=" << record.detaching << "\n";
  if (!record.lease.empty()) {
    text << "LOOPD_LEASE=" << record.lease << "\n"
         << "LOOPD_LEASE_BUS=" << record.lease_bus << "\n";
  }
  if (!record.reference.empty()) text << "LOOPD_REFERENCE=" << encode_for_udev(record.reference) << "\n";
  if (!record.declaration.empty()) {
    text << "LOOPD_DECLARATION=" << encode_for_udev(record.declaration) << "\n";
  }
  return text.str();
}

template <typename Integer>
bool parse(const std::string& text, Integer& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

bool parse(const std::string& text, bool& value) {
  unsigned number = 0;
  const bool good = parse(text, number) && number <= 1;
  value = number == 1;
  return good;
}

std::string decode(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    uint8_t byte = 0;
    const char* digits = text.data() + 2;
    if (text.size() >= 4 && text.starts_with("\\x") &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      plain += static_cast<char>(byte);
      text.remove_prefix(4);
    } else {
      plain += text[0];
      text.remove_prefix(1);
    }
  }
  return plain;
}

bool assign(AttachmentRecord& record, const std::string& key, const std::string& value) {
  if (key == "LOOPD_OWNER_UID") return parse(value, record.owner);
  if (key == "LOOPD_NUMBER") return parse(value, record.number);
  if (key == "LOOPD_DISK_SEQUENCE") return parse(value, record.disk_sequence);
  if (key == "LOOPD_BACKING_IS_BLOCK") return parse(value, record.backing.block_device);
  if (key == "LOOPD_BACKING_DEV") return parse(value, record.backing.dev);
  if (key == "LOOPD_BACKING_INODE") return parse(value, record.backing.inode);
  if (key == "LOOPD_KEEPS_PARTITIONS") return parse(value, record.keeps_partitions);
  if (key == "LOOPD_AUTOCLEAR_PENDING") return parse(value, record.autoclear_pending);
  if (key == "LOOPD_DELETE_NODE") return parse(value, record.delete_node);
  if (key == "LOOPD_SERVED_LOCALLY") return parse(value, record.served_locally);
  if (key == "LOOPD_DETACHING") return parse(value, record.detaching);
  if (key == "LOOPD_REFERENCE") record.reference = decode(value);
  if (key == "LOOPD_DECLARATION") record.declaration = decode(value);
  if (key == "LOOPD_LEASE") record.lease = value;
  if (key == "LOOPD_LEASE_BUS") record.lease_bus = value;
  return true;  // written by a newer version
}

// Whose, and of what: no record goes without.
bool is_essential(const std::string& key) {
  return key == "LOOPD_OWNER_UID" || key == "LOOPD_NUMBER" || key == "LOOPD_DISK_SEQUENCE";
}

}  // namespace

std::string encode_for_udev(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  const auto is_plain = [](unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("#+-.:=@_").find(static_cast<char>(c)) != std::string_view::npos;
  };
  std::string encoded;
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (length > 1 || is_plain(static_cast<unsigned char>(text[0]))) {
      encoded += text.substr(0, length);
      text.remove_prefix(length);
    } else {
      const auto byte = static_cast<unsigned char>(text[0]);
      encoded += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      text.remove_prefix(1);
    }
  }
  return encoded;
}

AttachmentRecords::AttachmentRecords(const std::string& directory, Intents intents) : intents_(intents) {
  if (::mkdir(directory.c_str(), 0755) < 0 && errno != EEXIST) {
    throw Error(Errc::failed, errno, "cannot make " + directory);
  }
  directory_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_) {
    throw Error(Errc::failed, errno, "cannot open " + directory);
  }
}

void AttachmentRecords::write_file(const std::string& name, const AttachmentRecord& record) {
  // Written beside and renamed: a reader (udev, too) sees all of it or nothing.
  const std::string scratch = "." + name;
  const std::string text = format(record);
  int error = 0;
  // A service that starts just now deletes what it takes for left over; once.
  for (int attempt = 0; attempt < 3; ++attempt) {
    const UniqueFd fd(::openat(directory_.get(), scratch.c_str(),
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    errno = fd ? 0 : errno;
    const bool written =
        fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (written && ::renameat(directory_.get(), scratch.c_str(), directory_.get(), name.c_str()) == 0) return;
    error = errno == 0 ? ENOSPC : errno;
    if (!written || error != ENOENT) break;
  }
  ::unlinkat(directory_.get(), scratch.c_str(), 0);
  throw Error(Errc::failed, error, "cannot write the attachment's record");
}

void AttachmentRecords::write_intent(const AttachmentRecord& intent) {
  if (intents_ == Intents::none) return;
  write_file(intent_name(intent.number), intent);
}

void AttachmentRecords::commit_intent(const AttachmentRecord& record) {
  write_file(std::to_string(record.disk_sequence), record);
  erase_intent(record.number);
}

void AttachmentRecords::write(const AttachmentRecord& record) {
  write_file(std::to_string(record.disk_sequence), record);
}

void AttachmentRecords::erase_intent(unsigned number) noexcept {
  ::unlinkat(directory_.get(), intent_name(number).c_str(), 0);
}

void AttachmentRecords::erase(uint64_t disk_sequence) noexcept {
  ::unlinkat(directory_.get(), std::to_string(disk_sequence).c_str(), 0);
}

void AttachmentRecords::erase_scratch() noexcept {
  for (const std::string& name : names()) {
    if (name.size() > 1 && name[0] == '.' && name != "..") ::unlinkat(directory_.get(), name.c_str(), 0);
  }
}

std::optional<AttachmentRecord> AttachmentRecords::read_file(const std::string& name) const {
  UniqueFd fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return std::nullopt;
  std::string text(longest_record, '\0');
  const ssize_t got = ::read(fd.get(), text.data(), text.size());
  if (got < 0) return std::nullopt;
  text.resize(static_cast<size_t>(got));

  AttachmentRecord record;
  int essential = 0;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const auto equals = line.find('=');
    if (equals == std::string::npos || !assign(record, line.substr(0, equals), line.substr(equals + 1))) {
      return std::nullopt;
    }
    if (is_essential(line.substr(0, equals))) ++essential;
  }
  if (essential != 3) return std::nullopt;  // an empty file is no record of uid 0
  return record;
}

std::vector<std::string> AttachmentRecords::names() const {
  std::vector<std::string> found;
  const int copy = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return found;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(copy), ::closedir);
  if (!dir) {
    ::close(copy);
    return found;
  }
  while (const dirent* entry = ::readdir(dir.get())) {
    found.emplace_back(entry->d_name);
  }
  return found;
}

std::optional<AttachmentRecord> AttachmentRecords::find(uint64_t disk_sequence) const {
  auto record = read_file(std::to_string(disk_sequence));
  if (record && record->disk_sequence != disk_sequence) return std::nullopt;
  return record;
}

std::vector<AttachmentRecord> AttachmentRecords::all() const {
  std::vector<AttachmentRecord> records;
  for (const std::string& name : names()) {
    if (!is_record_name(name)) continue;
    if (auto record = read_file(name); record && std::to_string(record->disk_sequence) == name) {
      records.push_back(*record);
    }
  }
  return records;
}

std::vector<AttachmentRecord> AttachmentRecords::intents() const {
  std::vector<AttachmentRecord> records;
  for (const std::string& name : names()) {
    if (!name.starts_with(intent_prefix)) continue;
    if (auto record = read_file(name); record && intent_name(record->number) == name)
      records.push_back(*record);
  }
  return records;
}

}  // namespace loop

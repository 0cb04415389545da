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

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "core/whole_number.hpp"

namespace loop {
namespace {

constexpr const char* intent_prefix = "intent-";
constexpr const char* own_sequence = "LOOPD_DISK_SEQUENCE";
constexpr const char* sequence_before = "LOOPD_DISK_SEQUENCE_BEFORE";  // of the number, in an intent
constexpr size_t longest_record = 4 * PATH_MAX + 4096;  // a path as declaration, each byte as \xNN

std::string intent_name(unsigned number) { return intent_prefix + std::to_string(number); }

template <typename Number>
void add_line(std::string& text, const char* key, Number value) {
  text.append(key).append("=").append(std::to_string(value)).append("\n");
}

void add_text(std::string& text, const char* key, const std::string& value) {
  if (!value.empty()) text.append(key).append("=").append(value).append("\n");
}

// `sequence_key` says which of its sequences the record names.
std::string format(const AttachmentRecord& record, const char* sequence_key) {
  std::string text;
  add_line(text, "LOOPD_OWNER_UID", record.owner);
  add_line(text, "LOOPD_NUMBER", record.number);
  add_line(text, sequence_key, record.disk_sequence);
  add_line(text, "LOOPD_BACKING_IS_BLOCK", record.backing.block_device ? 1 : 0);
  add_line(text, "LOOPD_BACKING_DEV", record.backing.dev);
  add_line(text, "LOOPD_BACKING_INODE", record.backing.inode);
  if (record.backing_birth != 0) add_line(text, "LOOPD_BACKING_BIRTH", record.backing_birth);
  add_line(text, "LOOPD_KEEPS_PARTITIONS", record.keeps_partitions ? 1 : 0);
  add_line(text, "LOOPD_AUTOCLEAR_PENDING", record.autoclear_pending ? 1 : 0);
  add_line(text, "LOOPD_DELETE_NODE", record.delete_node ? 1 : 0);
  add_line(text, "LOOPD_SERVED_LOCALLY", record.served_locally ? 1 : 0);
  add_line(text, "LOOPD_DETACHING", record.detaching ? 1 : 0);
  add_text(text, "LOOPD_LEASE", record.lease);
  if (!record.lease.empty()) add_text(text, "LOOPD_LEASE_BUS", record.lease_bus);
  add_text(text, "LOOPD_REFERENCE", encode_for_udev(record.reference));
  add_text(text, "LOOPD_DECLARATION", encode_for_udev(record.declaration));
  return text;
}

template <typename Integer>
bool parse(const std::string& text, Integer& value) {
  return is_whole_number(text, value);
}

bool parse(const std::string& text, bool& value) {
  unsigned number = 0;
  const bool good = parse(text, number) && number <= 1;
  value = number == 1;
  return good;
}

bool assign(AttachmentRecord& record, const std::string& key, const std::string& value) {
  if (key == "LOOPD_OWNER_UID") return parse(value, record.owner);
  if (key == "LOOPD_NUMBER") return parse(value, record.number);
  if (key == "LOOPD_BACKING_IS_BLOCK") return parse(value, record.backing.block_device);
  if (key == "LOOPD_BACKING_DEV") return parse(value, record.backing.dev);
  if (key == "LOOPD_BACKING_INODE") return parse(value, record.backing.inode);
  if (key == "LOOPD_BACKING_BIRTH") return parse(value, record.backing_birth);
  if (key == "LOOPD_KEEPS_PARTITIONS") return parse(value, record.keeps_partitions);
  if (key == "LOOPD_AUTOCLEAR_PENDING") return parse(value, record.autoclear_pending);
  if (key == "LOOPD_DELETE_NODE") return parse(value, record.delete_node);
  if (key == "LOOPD_SERVED_LOCALLY") return parse(value, record.served_locally);
  if (key == "LOOPD_DETACHING") return parse(value, record.detaching);
  if (key == "LOOPD_REFERENCE") record.reference = decode_from_udev(value);
  if (key == "LOOPD_DECLARATION") record.declaration = decode_from_udev(value);
  if (key == "LOOPD_LEASE") record.lease = value;
  if (key == "LOOPD_LEASE_BUS") record.lease_bus = value;
  return true;  // written by a newer version
}

// Whose, and of what: no record goes without.
bool is_essential(const std::string& key) { return key == "LOOPD_OWNER_UID" || key == "LOOPD_NUMBER"; }

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

std::string decode_from_udev(std::string_view text) {
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

AttachmentRecords::AttachmentRecords(const std::string& directory, Intents intents) : intents_(intents) {
  if (::mkdir(directory.c_str(), 0755) < 0 && errno != EEXIST) {
    throw Error(Errc::failed, errno, "cannot make " + directory);
  }
  directory_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_) {
    throw Error(Errc::failed, errno, "cannot open " + directory);
  }
}

void AttachmentRecords::write_file(const std::string& name, const std::string& text) {
  // Written beside and renamed: a reader (udev, too) sees all of it or nothing.
  const std::string scratch = "." + name;
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
  write_file(intent_name(intent.number), format(intent, sequence_before));
}

void AttachmentRecords::commit_intent(const AttachmentRecord& record) {
  if (intents_ == Intents::none) return write(record);
  // By its new name it says all that the record does, and there is room for it already.
  const std::string intent = intent_name(record.number);
  const std::string name = std::to_string(record.disk_sequence);
  if (::renameat(directory_.get(), intent.c_str(), directory_.get(), name.c_str()) == 0) return;
  write(record);
  erase_intent(record.number);
}

void AttachmentRecords::write(const AttachmentRecord& record) {
  write_file(std::to_string(record.disk_sequence), format(record, own_sequence));
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

std::optional<AttachmentRecord> AttachmentRecords::read_file(const std::string& name,
                                                             const char* sequence_key) const {
  UniqueFd fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return std::nullopt;
  std::string text(longest_record, '\0');
  const ssize_t got = ::read(fd.get(), text.data(), text.size());
  if (got < 0) return std::nullopt;
  text.resize(static_cast<size_t>(got));

  AttachmentRecord record;
  int essential = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string key(line.substr(0, equals));
    const std::string value(line.substr(equals + 1));
    if (!(key == sequence_key ? parse(value, record.disk_sequence) : assign(record, key, value))) {
      return std::nullopt;
    }
    if (is_essential(key)) ++essential;
  }
  if (essential != 2) return std::nullopt;  // an empty file is no record of uid 0
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
  auto record = read_file(std::to_string(disk_sequence), own_sequence);
  if (!record || (record->disk_sequence != 0 && record->disk_sequence != disk_sequence)) return std::nullopt;
  record->disk_sequence = disk_sequence;  // one that was an intent has it as its name alone
  return record;
}

std::vector<uint64_t> AttachmentRecords::sequences() const {
  std::vector<uint64_t> found;
  for (const std::string& name : names()) {
    uint64_t sequence = 0;
    if (parse(name, sequence) && std::to_string(sequence) == name) found.push_back(sequence);
  }
  return found;
}

std::vector<AttachmentRecord> AttachmentRecords::all() const {
  std::vector<AttachmentRecord> records;
  for (const uint64_t sequence : sequences()) {
    if (auto record = find(sequence)) records.push_back(std::move(*record));
  }
  return records;
}

std::vector<AttachmentRecord> AttachmentRecords::intents() const {
  std::vector<AttachmentRecord> records;
  for (const std::string& name : names()) {
    if (!name.starts_with(intent_prefix)) continue;
    auto intent = read_file(name, sequence_before);
    if (intent && intent_name(intent->number) == name) records.push_back(std::move(*intent));
  }
  return records;
}

}  // namespace loop

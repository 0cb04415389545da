// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel cannot know of an attachment, kept in a directory of small
// files (/run/loopd): whose it is, and what was promised about it. A file is
// named by the disk sequence, so that it can never speak of another attachment
// of the same number. Its lines are KEY=VALUE, as udev's IMPORT{file} reads.
//
// An intent is written before LOOP_CONFIGURE and renamed to the record after it:
// killed in between, the next start finds the intent and knows that the device
// belongs to nobody yet.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/attach_request.hpp"
#include "core/unique_fd.hpp"

namespace loop {

struct AttachmentRecord : AttachmentTerms {
  unsigned number = 0;
  uint64_t disk_sequence = 0;  // of the attachment; in an intent, of the number before
  FileIdentity backing;
  int64_t backing_birth = 0;  // as birth_of_file() tells it
  std::string reference;      // as attached; what somebody with a descriptor makes of it later is not seen

  bool operator==(const AttachmentRecord&) const = default;
};

class AttachmentRecords {
 public:
  enum class Intents {
    written,
    // For a program that runs beside the service: a service that starts just then
    // would take the intent for one of its own, and undo the attachment.
    none,
  };

  // Makes the directory (mode 0755) if it is missing. Throws Error failed.
  explicit AttachmentRecords(const std::string& directory, Intents intents = Intents::written);

  // All throw Error failed where the directory can't be written, except the
  // erasing ones, for which a file that is gone is as good.
  void write_intent(const AttachmentRecord& intent);
  // The intent of that number, which differs from it in the sequence alone, becomes the record.
  void commit_intent(const AttachmentRecord& record);
  void erase_intent(unsigned number) noexcept;
  void write(const AttachmentRecord& record);
  void erase(uint64_t disk_sequence) noexcept;

  // Files that were never completed: whoever wrote them was killed. For the start,
  // when nobody writes.
  void erase_scratch() noexcept;

  std::optional<AttachmentRecord> find(uint64_t disk_sequence) const;
  std::vector<uint64_t> sequences() const;  // of which there is a record
  std::vector<AttachmentRecord> all() const;
  std::vector<AttachmentRecord> intents() const;

 private:
  void write_file(const std::string& name, const std::string& text);
  std::optional<AttachmentRecord> read_file(const std::string& name, const char* sequence_key) const;
  std::vector<std::string> names() const;

  UniqueFd directory_;
  Intents intents_;
};

// As udev writes a name for /dev: printable ASCII that is in no way special and
// UTF-8 beyond it as they are, any other byte as \xNN.
std::string encode_for_udev(std::string_view text);

// The way back, of what udev or this wrote.
std::string decode_from_udev(std::string_view text);

}  // namespace loop

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/attach_request.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "core/error.hpp"
#include "core/swaps.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

constexpr unsigned sector = 512;

[[noreturn]] void invalid(const std::string& message) { throw Error(Errc::invalid_argument, message); }

int status_flags(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) {
    throw Error(Errc::invalid_argument, errno, "file: the descriptor cannot be used");
  }
  return flags;
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISLNK(mode)) return "a symbolic link";
  return "something else";
}

void check_block_size(unsigned block_size) {
  if (block_size == 0) return;
  const auto page = static_cast<unsigned>(::sysconf(_SC_PAGESIZE));
  const bool power_of_two = (block_size & (block_size - 1)) == 0;
  if (!power_of_two || block_size < sector || block_size > page) {
    invalid("block-size: " + std::to_string(block_size) + " is not a power of two from 512 to " +
            std::to_string(page));
  }
}

// What the kernel would map, in bytes, before it rounds down to sectors.
uint64_t mapped_bytes(const AttachRequest& request, const BackingFile& file) {
  if (request.offset > LLONG_MAX) {
    invalid("offset: " + std::to_string(request.offset) + " is larger than any file");
  }
  if (request.size_limit > LLONG_MAX) {
    invalid("size-limit: " + std::to_string(request.size_limit) + " is larger than any file");
  }
  if (file.size == 0) {
    invalid("file: is empty, there is nothing to attach");
  }
  if (request.offset >= file.size) {
    invalid("offset: " + std::to_string(request.offset) + " is not inside the file of " +
            std::to_string(file.size) + " bytes");
  }
  const uint64_t rest = file.size - request.offset;
  return request.size_limit == 0 ? rest : std::min(rest, request.size_limit);
}

void check_range(const AttachRequest& request, const BackingFile& file) {
  const uint64_t bytes = mapped_bytes(request, file);
  const uint64_t block = std::max(request.block_size, sector);
  if (bytes >= block) return;
  const char* culprit = request.size_limit != 0 && request.size_limit < block ? "size-limit"
                        : request.offset != 0                                 ? "offset"
                                                                              : "file";
  invalid(std::string(culprit) + ": only " + std::to_string(bytes) +
          " bytes would be mapped, less than one block of " + std::to_string(block));
}

// A descriptor that its opener could not write in place through must not become
// a device that can.
void check_writable(int fd, int flags, const BackingFile& file) {
  auto refuse = [](const std::string& why) {
    throw Error(Errc::not_writable, "file: " + why + "; ask for read-only, or pass another descriptor");
  };
  if ((flags & O_ACCMODE) == O_RDONLY) {
    refuse("the descriptor is not open for writing");
  }
  if ((flags & O_APPEND) != 0) {
    refuse("the descriptor is open for appending only (O_APPEND)");
  }
  const int seals = ::fcntl(fd, F_GET_SEALS);  // EINVAL for what is no memfd
  if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    refuse("the memory file is sealed against writing");
  }
  if (is_active_swap(file.identity)) {
    refuse("it is an active swap area");
  }
}

}  // namespace

AttachRequest copy_of(const AttachRequest& request) {
  AttachRequest copy;
  copy.file.reset(::fcntl(request.file.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.file) throw Error(Errc::invalid_argument, errno, "file: the descriptor cannot be used");
  copy.offset = request.offset;
  copy.size_limit = request.size_limit;
  copy.block_size = request.block_size;
  copy.probe_block_size = request.probe_block_size;
  copy.read_only = request.read_only;
  copy.autoclear = request.autoclear;
  copy.direct_io = request.direct_io;
  copy.partition_scan = request.partition_scan;
  copy.reference = request.reference;
  copy.number = request.number;
  copy.terms = request.terms;
  return copy;
}

FileIdentity identify_file(int fd) {
  // What never changes needs no answer from the server of a FUSE or network file.
  struct statx facts {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &facts) < 0) {
    throw Error(Errc::invalid_argument, errno, "file: its attributes cannot be read");
  }
  if (S_ISBLK(facts.stx_mode)) return {true, makedev(facts.stx_rdev_major, facts.stx_rdev_minor), 0};
  return {false, makedev(facts.stx_dev_major, facts.stx_dev_minor), static_cast<ino_t>(facts.stx_ino)};
}

BackingFile inspect_backing_file(int fd) {
  if ((status_flags(fd) & O_PATH) != 0) {
    invalid("file: the descriptor is O_PATH, which gives no access to the file's data");
  }
  struct stat st {};
  if (::fstat(fd, &st) < 0) {
    // A user's FUSE mount without allow_other: root gets EACCES, and
    // LOOP_CONFIGURE would succeed with a device of size 0.
    throw Error(Errc::invalid_argument, errno, "file: its attributes cannot be read");
  }
  if (S_ISREG(st.st_mode)) return {{false, st.st_dev, st.st_ino}, static_cast<uint64_t>(st.st_size)};
  if (S_ISBLK(st.st_mode)) {
    BackingFile file{{true, st.st_rdev, 0}, 0};
    if (::ioctl(fd, BLKGETSIZE64, &file.size) < 0) {
      throw Error(Errc::invalid_argument, errno, "file: the size of the block device cannot be read");
    }
    return file;
  }
  invalid(std::string("file: is ") + kind_of(st.st_mode) + ", not a regular file or block device");
}

void validate_reference(const std::string& reference) {
  if (reference.size() > max_reference_length) {
    invalid("reference: has " + std::to_string(reference.size()) + " bytes, at most " +
            std::to_string(max_reference_length) + " fit");
  }
  if (!is_utf8(reference)) {
    invalid("reference: is not valid UTF-8");
  }
  if (reference.find('/') != std::string::npos) {
    invalid("reference: '" + reference + "' has a '/', which names in /dev/disk/by-loop-ref cannot have");
  }
  if (std::any_of(reference.begin(), reference.end(),
                  [](unsigned char c) { return c < 0x20 || c == 0x7F; })) {
    invalid("reference: has control characters");
  }
  if (ends_like_partition_link(reference)) {
    invalid("reference: '" + reference + "' ends like the link of a partition");
  }
}

bool ends_like_partition_link(std::string_view reference) {
  const size_t digits = reference.find_last_not_of("0123456789");
  return digits != std::string_view::npos && digits + 1 < reference.size() &&
         reference.substr(0, digits + 1).ends_with("-part");
}

BackingFile validate(const AttachRequest& request) {
  const BackingFile file = inspect_backing_file(request.file.get());
  validate(request, file);
  return file;
}

void validate(const AttachRequest& request, const BackingFile& file) {
  if (request.number && *request.number > max_loop_number) {
    invalid("number: " + std::to_string(*request.number) + " is above " + std::to_string(max_loop_number));
  }
  check_block_size(request.block_size);
  if (request.probe_block_size && request.block_size != 0) {
    invalid("block-size-auto: makes no sense with block-size");
  }
  validate_reference(request.reference);

  const int fd = request.file.get();
  const int flags = status_flags(fd);
  if ((flags & O_ACCMODE) == O_WRONLY) {
    // The device would let its readers see data that the opener may not read.
    invalid("file: the descriptor is open for writing only, a loop device needs to read");
  }
  if (!request.read_only) {
    check_writable(fd, flags, file);
  }
  check_range(request, file);
}

}  // namespace loop

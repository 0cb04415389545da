// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/fuse_server.hpp"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "tests/bus/scratch.hpp"

namespace bus_test {
namespace {

constexpr uint64_t file_size = MiB;
constexpr size_t longest_request = 1024 * KiB;
constexpr uint64_t remembered = 3600;  // seconds

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

using Request = std::vector<char>;

template <typename Struct>
const Struct& body_of(const Request& request) {
  return *reinterpret_cast<const Struct*>(request.data() + sizeof(fuse_in_header));
}

const fuse_in_header& header_of(const Request& request) {
  return *reinterpret_cast<const fuse_in_header*>(request.data());
}

fuse_attr attributes_of(uint64_t node) {
  fuse_attr attributes{};
  attributes.ino = node;
  attributes.nlink = 1;
  attributes.blksize = 4096;
  if (node == FUSE_ROOT_ID) {
    attributes.mode = S_IFDIR | 0755;
  } else {
    attributes.mode = S_IFREG | 0666;
    attributes.size = file_size;
    attributes.blocks = file_size / 512;
  }
  return attributes;
}

// The kernel's side of one mount.
class Protocol {
 public:
  Protocol(int device, const std::atomic<bool>& remember) : device_(device), remember_(remember) {}

  // False: there is no mount any more.
  bool receive(Request& request) const {
    request.resize(longest_request);
    const ssize_t got = ::read(device_, request.data(), request.size());
    if (got < 0) {
      request.clear();
      return errno == EINTR || errno == EAGAIN || errno == ENOENT;
    }
    request.resize(static_cast<size_t>(got));
    return true;
  }

  void answer(const Request& request) {
    switch (header_of(request).opcode) {
      case FUSE_INIT:
        return init(request);
      case FUSE_LOOKUP:
        return look_up(request);
      case FUSE_GETATTR:
        return get_attributes(request);
      case FUSE_OPEN:
      case FUSE_OPENDIR: {
        const fuse_open_out opened{};
        return reply(request, &opened, sizeof opened);
      }
      case FUSE_READ: {
        const auto& wanted = body_of<fuse_read_in>(request);
        const uint64_t rest = wanted.offset < file_size ? file_size - wanted.offset : 0;
        const std::vector<char> zeros(std::min<uint64_t>(wanted.size, rest));
        return reply(request, zeros.data(), zeros.size());
      }
      case FUSE_WRITE: {
        fuse_write_out written{};
        written.size = body_of<fuse_write_in>(request).size;
        return reply(request, &written, sizeof written);
      }
      case FUSE_STATFS: {
        fuse_statfs_out facts{};
        facts.st.bsize = 4096;
        facts.st.namelen = 255;
        return reply(request, &facts, sizeof facts);
      }
      case FUSE_FLUSH:
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
      case FUSE_FSYNC:
      case FUSE_DESTROY:
        return reply(request, nullptr, 0);
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;  // no answer is expected
      default:
        return reply(request, nullptr, 0, -ENOSYS);
    }
  }

 private:
  void reply(const Request& request, const void* body, size_t size, int error = 0) const {
    fuse_out_header header{};
    header.unique = header_of(request).unique;
    header.error = error;
    header.len = static_cast<uint32_t>(sizeof header + size);
    const std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{const_cast<void*>(body), size}};
    // Who asked may have been interrupted: nobody wants to know then.
    [[maybe_unused]] const ssize_t written = ::writev(device_, parts.data(), size == 0 ? 1 : 2);
  }

  void init(const Request& request) const {
    const auto& wanted = body_of<fuse_init_in>(request);
    fuse_init_out agreed{};
    agreed.major = FUSE_KERNEL_VERSION;
    agreed.minor = std::min<uint32_t>(wanted.minor, FUSE_KERNEL_MINOR_VERSION);
    agreed.max_readahead = wanted.max_readahead;
    agreed.max_write = 64 * KiB;
    agreed.max_background = 64;
    agreed.congestion_threshold = 48;
    reply(request, &agreed, sizeof agreed);
  }

  void look_up(const Request& request) {
    const std::string name = request.data() + sizeof(fuse_in_header);
    auto known = std::find(names_.begin(), names_.end(), name);
    if (known == names_.end()) known = names_.insert(names_.end(), name);
    fuse_entry_out entry{};
    entry.nodeid = FUSE_ROOT_ID + 1 + static_cast<uint64_t>(known - names_.begin());
    entry.attr = attributes_of(entry.nodeid);
    entry.entry_valid = remembered;
    entry.attr_valid = remember_ ? remembered : 0;
    reply(request, &entry, sizeof entry);
  }

  void get_attributes(const Request& request) const {
    fuse_attr_out found{};
    found.attr = attributes_of(header_of(request).nodeid);
    found.attr_valid = remember_ ? remembered : 0;
    reply(request, &found, sizeof found);
  }

  int device_;
  const std::atomic<bool>& remember_;
  std::vector<std::string> names_;
};

bool wants_an_answer(const Request& request) {
  const uint32_t opcode = header_of(request).opcode;
  return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

}  // namespace

struct FuseServer::Shared {
  std::atomic<unsigned> waiting = 0;
  std::atomic<bool> remember_attributes = false;
};

FuseServer::FuseServer(const std::string& name) : path_(scratch_directory() + "/" + name) {
  if (::mkdir(path_.c_str(), 0755) < 0) fail(path_);
  void* shared = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail("mmap");
  shared_ = new (shared) Shared;
  const loop::UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) fail("/dev/fuse");
  const std::string wishes =
      "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (::mount("loopd-test", path_.c_str(), "fuse", MS_NOSUID | MS_NODEV, wishes.c_str()) < 0) fail(path_);
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0) fail("socketpair");
  commands_.reset(ends[0]);
  const loop::UniqueFd theirs(ends[1]);
  process_ = std::make_unique<ChildProcess>(ChildProcess::Setup{.body = [&] {
    commands_.reset();
    return serve(device.get(), theirs.get());
  }});
}

FuseServer::~FuseServer() {
  die();
  ::umount2(path_.c_str(), MNT_DETACH | MNT_FORCE);
  ::rmdir(path_.c_str());
  ::munmap(shared_, sizeof(Shared));
}

loop::UniqueFd FuseServer::open(const std::string& name) const {
  loop::UniqueFd fd(::open((path_ + "/" + name).c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) fail(path_ + "/" + name);
  return fd;
}

void FuseServer::hang() { command('h'); }
void FuseServer::go_on() { command('g'); }
void FuseServer::die() { process_.reset(); }
void FuseServer::let_attributes_be_remembered() { shared_->remember_attributes = true; }
unsigned FuseServer::waiting() const { return shared_->waiting; }

// Done when it returns.
void FuseServer::command(char what) {
  char done = 0;
  if (::write(commands_.get(), &what, 1) != 1 || ::read(commands_.get(), &done, 1) != 1) {
    fail("the server of " + path_);
  }
}

int FuseServer::serve(int device, int commands) {
  Protocol protocol(device, shared_->remember_attributes);
  bool hanging = false;
  std::vector<Request> unanswered;
  for (;;) {
    std::array<pollfd, 2> waited{pollfd{device, POLLIN, 0}, pollfd{commands, POLLIN, 0}};
    if (::poll(waited.data(), waited.size(), -1) < 0) return 1;
    if (waited[1].revents != 0) {
      char what = 0;
      if (::read(commands, &what, 1) != 1) return 0;
      hanging = what == 'h';
      if (!hanging) {
        for (const Request& request : unanswered) protocol.answer(request);
        unanswered.clear();
        shared_->waiting = 0;
      }
      if (::write(commands, &what, 1) != 1) return 0;
    }
    if (waited[0].revents == 0) continue;
    Request request;
    if (!protocol.receive(request)) return 0;
    if (request.empty()) continue;
    if (hanging && header_of(request).opcode != FUSE_FLUSH && wants_an_answer(request)) {
      unanswered.push_back(std::move(request));
      ++shared_->waiting;
    } else {
      protocol.answer(request);
    }
  }
}

}  // namespace bus_test

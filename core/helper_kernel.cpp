// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/helper_kernel.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/helper_protocol.hpp"
#include "core/helper_server.hpp"
#include "core/host_root.hpp"

namespace loop {

using helper::Operation;
using helper::Reply;
using helper::Request;

class HelperKernel::Session {
 public:
  Session(UniqueFd socket, std::chrono::milliseconds patience)
      : socket_(std::move(socket)), patience_(patience) {}

  // 0 or more, or -errno of the operation or of the conversation.
  int call(const Request& request, Reply& reply, int fd = -1, UniqueFd* answer = nullptr) {
    if (broken_ != 0) return broken_;
    UniqueFd received;
    int r = helper::send_packet(socket_.get(), request, fd);
    if (r >= 0)
      r = helper::receive_packet(socket_.get(), reply, received, static_cast<int>(patience_.count()));
    if (r < 0) {
      // What it answers later would answer another question.
      broken_ = r == -EPIPE ? -EPIPE : -ETIME;
      socket_.reset();
      return broken_;
    }
    if (answer != nullptr) *answer = std::move(received);
    return static_cast<int>(reply.result);
  }

  // The same for operations that throw.
  Reply call_or_throw(const Request& request, int fd, UniqueFd* answer = nullptr) {
    Reply reply;
    const int r = call(request, reply, fd, answer);
    if (r == -ETIME) throw Error(Errc::timeout, "file: its file system does not answer");
    if (reply.threw) throw Error(reply.code, reply.message.data());
    if (r < 0) throw Error(Errc::failed, -r, "file: the helper that looks at it failed");
    return reply;
  }

 private:
  UniqueFd socket_;
  std::chrono::milliseconds patience_;
  int broken_ = 0;
};

class HelperKernel::Node final : public LoopNode {
 public:
  Node(std::shared_ptr<Session> session, uint32_t id, dev_t device_number)
      : session_(std::move(session)), id_(id), device_number_(device_number) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node() override {
    // First, so that the device has no other opener than the helper.
    copy_.reset();
    Reply reply;
    call(Operation::close_node, reply);
  }

  int fd() const override {
    Reply reply;
    if (!copy_) session_->call(request(Operation::duplicate), reply, -1, &copy_);
    return copy_.get();
  }
  dev_t device_number() const override { return device_number_; }
  int try_lock() override { return call(Operation::try_lock); }
  void unlock() override { call(Operation::unlock); }
  int configure(const loop_config& config) override {
    Request r = request(Operation::configure);
    r.config = config;
    Reply reply;
    return session_->call(r, reply, static_cast<int>(config.fd));
  }
  int status(loop_info64& info) const override {
    Reply reply;
    const int r = call(Operation::status, reply);
    info = reply.info;
    return r;
  }
  int set_status(const loop_info64& info) override {
    Request r = request(Operation::set_status);
    r.info = info;
    Reply reply;
    return session_->call(r, reply);
  }
  int clear() override { return call(Operation::clear); }
  int write_back() override { return call(Operation::write_back); }
  int drop_cache() override { return call(Operation::drop_cache); }
  int set_capacity() override { return call(Operation::set_capacity); }
  int set_direct_io(bool enable) override {
    Request r = request(Operation::set_direct_io);
    r.flag = enable ? 1 : 0;
    Reply reply;
    return session_->call(r, reply);
  }
  int size(uint64_t& bytes) const override {
    Reply reply;
    const int r = call(Operation::size, reply);
    bytes = reply.value;
    return r;
  }
  int block_size(unsigned& bytes) const override {
    Reply reply;
    const int r = call(Operation::block_size, reply);
    bytes = reply.block_size;
    return r;
  }
  int disk_sequence(uint64_t& sequence) const override {
    Reply reply;
    const int r = call(Operation::disk_sequence, reply);
    if (r >= 0) sequence = reply.value;
    return r;
  }
  int add_partition(const PartitionExtent& extent) override {
    Request r = request(Operation::add_partition);
    r.extent = extent;
    Reply reply;
    return session_->call(r, reply);
  }
  int delete_partition(unsigned number) override {
    Request r = request(Operation::delete_partition);
    r.number = number;
    Reply reply;
    return session_->call(r, reply);
  }

 private:
  Request request(Operation operation) const {
    Request r;
    r.operation = operation;
    r.node = id_;
    return r;
  }
  int call(Operation operation, Reply& reply) const { return session_->call(request(operation), reply); }
  int call(Operation operation) const {
    Reply reply;
    return call(operation, reply);
  }

  std::shared_ptr<Session> session_;
  uint32_t id_;
  dev_t device_number_;
  mutable UniqueFd copy_;
};

HelperKernel::HelperKernel(LoopKernel& local, const std::string& program, std::chrono::milliseconds patience)
    : local_(local) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
    throw Error(Errc::failed, errno, "cannot talk to a helper");
  }
  UniqueFd mine(pair[0]);
  const UniqueFd its(pair[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, its.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, host_root(), helper_host_root_fd);
  // Whatever signals this process blocks or ignores is its own affair.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string name = program;
  char* const arguments[] = {name.data(), nullptr};
  pid_t pid = -1;
  const int r = ::posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (r == EAGAIN) throw Error(Errc::limits_exceeded, r, "file: no more processes may be started");
  if (r != 0) throw Error(Errc::failed, r, "cannot start " + program);
  process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  session_ = std::make_shared<Session>(std::move(mine), patience);
}

HelperKernel::HelperKernel(LoopKernel& local, UniqueFd socket, std::chrono::milliseconds patience)
    : local_(local), session_(std::make_shared<Session>(std::move(socket), patience)) {}

HelperKernel::~HelperKernel() = default;

int HelperKernel::open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) {
  Request request;
  request.operation = Operation::open_node;
  request.number = number;
  request.access = access;
  Reply reply;
  const int r = session_->call(request, reply);
  if (r < 0) return r;
  node = std::make_unique<Node>(session_, reply.node, reply.device_number);
  return 0;
}

BackingFile HelperKernel::inspect_file(int fd) {
  Request request;
  request.operation = Operation::inspect_file;
  return session_->call_or_throw(request, fd).file;
}

namespace {

Request image_request(Operation operation, const AttachRequest& request) {
  Request made;
  made.operation = operation;
  made.offset = request.offset;
  made.size_limit = request.size_limit;
  made.block_size = request.block_size;
  made.read_only = request.read_only;
  made.probe_block_size = request.probe_block_size;
  return made;
}

Request path_request(Operation operation, const std::string& path) {
  Request made;
  made.operation = operation;
  if (path.size() >= made.path.size()) {
    throw Error(Errc::invalid_argument, "path: is longer than a path can be");
  }
  helper::put_text(made.path, path);
  return made;
}

}  // namespace

unsigned HelperKernel::find_image_block_size(const AttachRequest& request, const BackingFile& file) {
  Request made = image_request(Operation::find_block_size, request);
  made.file = file;
  return session_->call_or_throw(made, request.file.get()).block_size;
}

ImageFacts HelperKernel::probe_image_file(const AttachRequest& request) {
  const Reply reply =
      session_->call_or_throw(image_request(Operation::probe_image, request), request.file.get());
  ImageFacts facts;
  facts.size = reply.size;
  facts.wasted_bytes = reply.wasted_bytes;
  facts.block_size = reply.block_size;
  facts.partitions = reply.partitions;
  facts.direct_io = reply.direct_io;
  facts.table_type = reply.table_type.data();
  facts.format = reply.format.data();
  return facts;
}

std::optional<BackingFile> HelperKernel::find_file(const std::string& path) {
  const Reply reply = session_->call_or_throw(path_request(Operation::find_file, path), -1);
  return reply.value != 0 ? std::optional(reply.file) : std::nullopt;
}

UniqueFd HelperKernel::open_path(int root, const std::string& path, bool read_only) {
  Request request = path_request(Operation::open_path, path);
  request.read_only = read_only;
  UniqueFd fd;
  session_->call_or_throw(request, root, &fd);
  if (!fd) throw Error(Errc::failed, "path: the helper that opens it passed no descriptor");
  return fd;
}

}  // namespace loop

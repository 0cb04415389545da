// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/helper_server.hpp"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "core/helper_protocol.hpp"
#include "core/node_deletion.hpp"
#include "core/path_opener.hpp"

namespace loop {
namespace {

using namespace std::chrono_literals;
using helper::Operation;
using helper::Reply;
using helper::Request;

constexpr auto undo_patience = 5s;

class Server {
 public:
  Server(int socket, LoopKernel& kernel) : socket_(socket), kernel_(kernel) {}

  void serve() {
    Request request;
    UniqueFd fd;
    while (helper::receive_packet(socket_, request, fd) == 0) {
      Reply reply;
      UniqueFd answer;
      try {
        reply.result = carry_out(request, std::move(fd), reply, answer);
      } catch (const Error& error) {
        reply.threw = true;
        reply.code = error.code();
        reply.error_number = error.error_number();
        helper::put_text(reply.message, error.what());
      }
      if (helper::send_packet(socket_, reply, answer.get()) < 0) break;
    }
    for (auto& [id, node] : nodes_) undo(node);
  }

 private:
  struct Node {
    unsigned number = 0;
    std::unique_ptr<LoopNode> node;
    bool configured = false;
  };

  int carry_out(const Request& request, UniqueFd fd, Reply& reply, UniqueFd& answer) {
    switch (request.operation) {
      case Operation::open_node:
        return open_node(request, reply);
      case Operation::inspect_file:
        reply.file = inspect_backing_file(fd.get());
        return 0;
      case Operation::find_block_size:
        reply.block_size = find_block_size(attach_request(request, std::move(fd)), request.file);
        return 0;
      case Operation::probe_image:
        put_facts(probe_image(attach_request(request, std::move(fd))), reply);
        return 0;
      case Operation::open_path:
        answer = PathOpener(std::move(fd)).open(request.path.data(), request.read_only);
        return 0;
      case Operation::find_file:
        if (const auto file = kernel_.find_file(request.path.data())) {
          reply.file = *file;
          reply.value = 1;
        }
        return 0;
      case Operation::close_node:
        return nodes_.erase(request.node) == 1 ? 0 : -EBADF;
      case Operation::duplicate:
      case Operation::try_lock:
      case Operation::unlock:
      case Operation::configure:
      case Operation::status:
      case Operation::set_status:
      case Operation::clear:
      case Operation::write_back:
      case Operation::drop_cache:
      case Operation::set_capacity:
      case Operation::set_direct_io:
      case Operation::size:
      case Operation::block_size:
      case Operation::disk_sequence:
      case Operation::add_partition:
      case Operation::delete_partition: {
        const auto found = nodes_.find(request.node);
        return found == nodes_.end() ? -EBADF : on_node(request, fd, found->second, reply, answer);
      }
    }
    return -EOPNOTSUPP;
  }

  int open_node(const Request& request, Reply& reply) {
    Node opened;
    opened.number = request.number;
    const int r = kernel_.open_node(request.number, request.access, opened.node);
    if (r < 0) return r;
    reply.device_number = opened.node->device_number();
    reply.node = next_node_++;
    nodes_.emplace(reply.node, std::move(opened));
    return 0;
  }

  static int on_node(const Request& request, const UniqueFd& fd, Node& opened, Reply& reply,
                     UniqueFd& answer) {
    LoopNode& node = *opened.node;
    switch (request.operation) {
      case Operation::duplicate:
        answer.reset(::fcntl(node.fd(), F_DUPFD_CLOEXEC, 0));
        return answer ? 0 : -errno;
      case Operation::try_lock:
        return node.try_lock();
      case Operation::unlock:
        node.unlock();
        return 0;
      case Operation::configure: {
        loop_config config = request.config;
        config.fd = static_cast<__u32>(fd.get());
        const int r = node.configure(config);
        opened.configured = r >= 0;
        return r;
      }
      case Operation::status:
        return node.status(reply.info);
      case Operation::set_status:
        return node.set_status(request.info);
      case Operation::clear:
        return node.clear();
      case Operation::write_back:
        return node.write_back();
      case Operation::drop_cache:
        return node.drop_cache();
      case Operation::set_capacity:
        return node.set_capacity();
      case Operation::set_direct_io:
        return node.set_direct_io(request.flag != 0);
      case Operation::size:
        return node.size(reply.value);
      case Operation::block_size:
        return node.block_size(reply.block_size);
      case Operation::disk_sequence:
        return node.disk_sequence(reply.value);
      case Operation::add_partition:
        return node.add_partition(request.extent);
      case Operation::delete_partition:
        return node.delete_partition(request.number);
      case Operation::open_node:
      case Operation::close_node:
      case Operation::inspect_file:
      case Operation::find_block_size:
      case Operation::probe_image:
      case Operation::open_path:
      case Operation::find_file:
        break;
    }
    return -EOPNOTSUPP;
  }

  static AttachRequest attach_request(const Request& request, UniqueFd fd) {
    AttachRequest made;
    made.file = std::move(fd);
    made.offset = request.offset;
    made.size_limit = request.size_limit;
    made.block_size = request.block_size;
    made.read_only = request.read_only;
    made.probe_block_size = request.probe_block_size;
    return made;
  }

  static void put_facts(const ImageFacts& facts, Reply& reply) {
    reply.size = facts.size;
    reply.wasted_bytes = facts.wasted_bytes;
    reply.block_size = facts.block_size;
    reply.partitions = facts.partitions;
    reply.direct_io = facts.direct_io;
    helper::put_text(reply.table_type, facts.table_type);
    helper::put_text(reply.format, facts.format);
  }

  void undo(Node& opened) noexcept {
    if (!opened.configured) return;
    opened.node->clear();
    opened.node.reset();
    try {
      if (opened.number >= kernel_.static_devices()) {
        delete_node(kernel_, opened.number, deadline_in(undo_patience));
      }
    } catch (const Error&) {
      // Somebody has it open; unbound, it serves whoever asks for one next.
    }
  }

  int socket_;
  LoopKernel& kernel_;
  std::map<uint32_t, Node> nodes_;
  uint32_t next_node_ = 1;
};

}  // namespace

void serve_helper(int socket, LoopKernel& kernel) { Server(socket, kernel).serve(); }

}  // namespace loop

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/raw_client.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "tests/support/message_bytes.hpp"

namespace bus_test {
namespace {

using Writer = loop::testing::MessageWriter;

class Reader {
 public:
  explicit Reader(std::string from) : bytes_(std::move(from)) {}

  bool at_end() const { return at_ >= bytes_.size(); }
  void align(size_t boundary) { at_ = (at_ + boundary - 1) / boundary * boundary; }
  uint8_t byte() { return static_cast<uint8_t>(bytes_.at(at_++)); }
  uint32_t u32() {
    align(4);
    uint32_t value = 0;
    std::memcpy(&value, bytes_.substr(at_, 4).data(), 4);
    at_ += 4;
    return value;
  }
  std::string string() { return text(u32()); }
  std::string signature() { return text(byte()); }

 private:
  std::string text(size_t length) {
    std::string found = bytes_.substr(at_, length);
    at_ += length + 1;
    return found;
  }

  std::string bytes_;
  size_t at_ = 0;
};

}  // namespace

RawClient::RawClient(const std::string& address, uid_t uid)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const std::string path = address.substr(std::string("unix:path=").size());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  const ActingAs user(uid);  // the bus takes the ids of the moment of connect()
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  const timeval patience{20, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  send(std::string(1, '\0') + "AUTH EXTERNAL\r\n");
  expect_line("DATA");
  send("DATA\r\n");  // whoever the socket says that we are
  expect_line("OK ");
  send("NEGOTIATE_UNIX_FD\r\n");
  expect_line("AGREE_UNIX_FD");
  send("BEGIN\r\n");
  const Reply hello =
      call({"/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "org.freedesktop.DBus", ""}, "");
  if (!hello.ok()) throw std::runtime_error("Hello: " + hello.error);
}

void RawClient::send(const std::string& bytes, int file) {
  iovec content{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (file >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    throw std::system_error(errno, std::generic_category(), "sendmsg");
  }
}

std::string RawClient::receive(size_t length) {
  std::string bytes(length, '\0');
  size_t done = 0;
  while (done < length) {
    const ssize_t got = ::recv(socket_.get(), bytes.data() + done, length - done, 0);
    if (got <= 0) throw std::runtime_error("the bus hung up");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

void RawClient::expect_line(const std::string& start) {
  std::string line;
  while (!line.ends_with("\r\n")) line += receive(1);
  if (!line.starts_with(start)) throw std::runtime_error("the bus answers " + line);
}

Reply RawClient::call(const loop::testing::CallHeader& header, const std::string& body, int file) {
  const uint32_t serial = ++serial_;
  send(loop::testing::call_bytes(header, serial, body, file >= 0 ? 1 : 0), file);

  for (;;) {
    Reader head(receive(16));
    for (int i = 0; i < 4; ++i) head.byte();
    const uint32_t body_size = head.u32();
    head.u32();
    const uint32_t fields_size = head.u32();
    Reader read(receive((fields_size + 7) / 8 * 8).substr(0, fields_size));
    Reply reply;
    uint32_t answered = 0;
    std::string body_signature;
    while (!read.at_end()) {
      read.align(8);
      const uint8_t code = read.byte();
      const std::string type = read.signature();
      if (type == "u") {
        const uint32_t value = read.u32();
        if (code == loop::testing::reply_serial_field) answered = value;
      } else if (type == "g") {
        body_signature = read.signature();
      } else {
        const std::string value = read.string();
        if (code == loop::testing::error_field) reply.error = value;
      }
    }
    Reader content(receive(body_size));
    if (answered != serial) continue;
    if (body_signature.starts_with('s') || body_signature.starts_with('o')) {
      const std::string value = content.string();
      if (reply.ok()) {
        reply.values.push_back(path(value));
      } else {
        reply.message = value;
      }
    }
    return reply;
  }
}

Reply RawClient::call_with_handle(const std::string& member, const std::string& signature, uint32_t handle,
                                  int file) {
  Writer body;
  body.u32(handle);
  if (signature == "ha{sv}") {
    body.u32(0);  // bytes of the entries; they would begin at a multiple of eight
    body.align(8);
  }
  return call({root_path, manager_interface, member, service_name, signature}, body.bytes, file);
}

}  // namespace bus_test

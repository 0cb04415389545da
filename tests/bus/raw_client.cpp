// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/raw_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "tests/support/message_bytes.hpp"

namespace bus_test {
namespace {

using Writer = loop::testing::MessageWriter;

constexpr size_t most_files = 16;  // that Debian's buses take with a message

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

void RawClient::send(const std::string& bytes, const std::vector<int>& files) {
  iovec content{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &content;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(most_files * sizeof(int))] = {};
  if (!files.empty()) {
    if (files.size() > most_files) throw std::invalid_argument("too many descriptors");
    const size_t length = files.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(length);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(length);
    std::memcpy(CMSG_DATA(header), files.data(), length);
  }
  const auto deadline = Clock::now() + long_enough;
  while (content.iov_len > 0) {
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) throw std::system_error(errno, std::generic_category(), "sendmsg");
    if (sent < 0) {
      if (!wait(POLLIN | POLLOUT, deadline)) throw std::runtime_error("the bus reads nothing any more");
      read_available();
      continue;
    }
    content.iov_base = static_cast<char*>(content.iov_base) + sent;
    content.iov_len -= static_cast<size_t>(sent);
    message.msg_control = nullptr;  // they went with the first byte
    message.msg_controllen = 0;
  }
}

bool RawClient::wait(short events, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  pollfd waited{socket_.get(), events, 0};
  return ::poll(&waited, 1, std::max(0, static_cast<int>(left.count()))) > 0;
}

void RawClient::read_available() {
  std::array<char, 65536> buffer{};
  const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got > 0) {
    received_.append(buffer.data(), static_cast<size_t>(got));
  } else if (got == 0 || errno != EAGAIN) {
    throw std::runtime_error("the bus hung up");
  }
}

void RawClient::expect_line(const std::string& start) {
  const auto deadline = Clock::now() + long_enough;
  size_t end = std::string::npos;
  while ((end = received_.find("\r\n")) == std::string::npos) {
    if (!wait(POLLIN, deadline)) throw std::runtime_error("the bus does not answer");
    read_available();
  }
  if (!received_.starts_with(start)) throw std::runtime_error("the bus answers " + received_);
  received_.erase(0, end + 2);
}

// The first whole message of what was received, which is not left in it. Serial 0: no answer.
std::optional<RawClient::Answer> RawClient::take_message() {
  constexpr size_t fixed_size = 16;
  if (received_.size() < fixed_size) return std::nullopt;
  Reader head(received_.substr(0, fixed_size));
  for (int i = 0; i < 4; ++i) head.byte();
  const uint32_t body_size = head.u32();
  head.u32();
  const uint32_t fields_size = head.u32();
  const size_t body_at = fixed_size + (size_t{fields_size} + 7) / 8 * 8;
  if (received_.size() < body_at + body_size) return std::nullopt;
  Reader read(received_.substr(fixed_size, fields_size));
  Reader content(received_.substr(body_at, body_size));
  received_.erase(0, body_at + body_size);

  Answer answer;
  std::string body_signature;
  while (!read.at_end()) {
    read.align(8);
    const uint8_t code = read.byte();
    const std::string type = read.signature();
    if (type == "u") {
      const uint32_t value = read.u32();
      if (code == loop::testing::reply_serial_field) answer.serial = value;
    } else if (type == "g") {
      body_signature = read.signature();
    } else {
      const std::string value = read.string();
      if (code == loop::testing::error_field) answer.reply.error = value;
    }
  }
  if (body_signature.starts_with('s') || body_signature.starts_with('o')) {
    const std::string value = content.string();
    if (answer.reply.ok()) {
      answer.reply.values.push_back(path(value));
    } else {
      answer.reply.message = value;
    }
  }
  return answer;
}

std::optional<RawClient::Answer> RawClient::receive(milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  for (;;) {
    while (auto answer = take_message()) {
      if (answer->serial != 0) return answer;
    }
    if (!wait(POLLIN, deadline)) return std::nullopt;
    read_available();
  }
}

Reply RawClient::call(const loop::testing::CallHeader& header, const std::string& body, int file) {
  const uint32_t serial = next_serial();
  std::vector<int> files;
  if (file >= 0) files.push_back(file);
  send(loop::testing::call_bytes(header, serial, body, static_cast<uint32_t>(files.size())), files);
  while (auto answer = receive()) {
    if (answer->serial == serial) return answer->reply;
  }
  throw std::runtime_error("the bus does not answer");
}

Reply RawClient::call_with_handle(const std::string& member, const std::string& signature, uint32_t handle,
                                  int file) {
  Writer body;
  body.u32(handle);
  if (signature == "ha{sv}") {
    body.end_array(body.begin_array(8));
  }
  return call({root_path, manager_interface, member, service_name, signature}, body.bytes, file);
}

}  // namespace bus_test

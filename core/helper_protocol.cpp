// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/helper_protocol.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace loop::helper {
namespace {

union Control {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(int))> space;
};

}  // namespace

template <typename Packet>
int send_packet(int socket, const Packet& packet, int fd) {
  iovec part{const_cast<Packet*>(&packet), sizeof packet};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Control control{};
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  if (sent < 0) return -errno;
  return sent == static_cast<ssize_t>(sizeof packet) ? 0 : -EPIPE;
}

template <typename Packet>
int receive_packet(int socket, Packet& packet, UniqueFd& fd, int timeout_msec) {
  pollfd readable{socket, POLLIN, 0};
  const int ready = ::poll(&readable, 1, timeout_msec);
  if (ready < 0) return -errno;
  if (ready == 0) return -ETIME;
  iovec part{&packet, sizeof packet};
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return -errno;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int received = -1;
    std::memcpy(&received, CMSG_DATA(header), sizeof received);
    fd.reset(received);
  }
  return got == static_cast<ssize_t>(sizeof packet) ? 0 : -EPIPE;
}

template int send_packet(int, const Request&, int);
template int send_packet(int, const Reply&, int);
template int receive_packet(int, Request&, UniqueFd&, int);
template int receive_packet(int, Reply&, UniqueFd&, int);

template <size_t size>
void put_text(std::array<char, size>& field, const std::string& text) {
  const size_t length = std::min(text.size(), size - 1);
  std::copy_n(text.data(), length, field.data());
  field[length] = '\0';
}

template void put_text(std::array<char, 16>&, const std::string&);
template void put_text(std::array<char, 1024>&, const std::string&);
template void put_text(std::array<char, 4096>&, const std::string&);

}  // namespace loop::helper

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/passed_descriptors.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "service/log.hpp"

namespace loopd {
namespace {

constexpr std::string_view host_root_name = "hostroot";
constexpr std::string_view nodes_name = "nodes";

bool accepts_connections(int fd) {
  if (sd_is_socket_unix(fd, SOCK_STREAM, 1, nullptr, 0) <= 0) return false;
  return ::fcntl(fd, F_SETFL, O_NONBLOCK) == 0;  // who hung up before accept() must not block it
}

}  // namespace

PassedDescriptors take_passed_descriptors() {
  PassedDescriptors passed;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    loop::UniqueFd fd(SD_LISTEN_FDS_START + i);
    const std::string name = names[i];
    std::free(names[i]);
    if (name == host_root_name) {
      passed.host_root = std::move(fd);
    } else if (name == nodes_name) {
      passed.nodes = std::move(fd);
    } else if (accepts_connections(fd.get())) {
      passed.listeners.push_back(std::move(fd));
    } else {
      log::warning("passed descriptor '" + name + "' is no Unix stream socket that listens, closing it");
    }
  }
  std::free(names);
  return passed;
}

}  // namespace loopd

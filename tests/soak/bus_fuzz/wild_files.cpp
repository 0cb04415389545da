// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/wild_files.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "tests/bus/bus_client.hpp"

namespace soak {
namespace {

constexpr off_t memory_size = 1 << 20;

loop::UniqueFd memory(int seals) {
  loop::UniqueFd fd(::memfd_create(memory_file_name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), memory_size) < 0 || ::fcntl(fd.get(), F_ADD_SEALS, seals) < 0) {
    throw std::system_error(errno, std::generic_category(), "memfd");
  }
  return fd;
}

void add_pair(std::vector<loop::UniqueFd>& to, const int (&ends)[2]) {
  to.emplace_back(ends[0]);
  to.emplace_back(ends[1]);
}

}  // namespace

WildFiles::WildFiles(const Territory& territory) : territory_(territory) {
  for (const std::string& file : territory.files()) {
    images_.emplace_back(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    if (!images_.back()) throw std::system_error(errno, std::generic_category(), file);
  }
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) == 0) add_pair(others_, ends);
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) add_pair(others_, ends);
  others_.emplace_back(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  others_.emplace_back(::eventfd(0, EFD_CLOEXEC));
  others_.emplace_back(::epoll_create1(EPOLL_CLOEXEC));
  others_.emplace_back(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  for (const int seals : {0, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK | F_SEAL_GROW}) {
    others_.push_back(memory(seals));
  }
  std::erase_if(others_, [](const loop::UniqueFd& fd) { return !fd; });
}

int WildFiles::image(Chance& chance) {
  if (chance.one_in(8)) {
    return opened(territory_.file(chance).c_str(), chance.one_in(2) ? O_RDONLY : O_RDWR | O_DIRECT);
  }
  return chance.pick(images_).get();
}

int WildFiles::any(Chance& chance) {
  const std::string& file = territory_.file(chance);
  switch (chance.below(12)) {
    case 0:
      return opened(file.c_str(), O_PATH);
    case 1:
      return opened(file.c_str(), O_WRONLY);
    case 2:
      return opened(file.c_str(), O_RDWR | O_APPEND);
    case 3:
      return opened(file.substr(0, file.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY);
    case 4:
      return opened(chance.pick(territory_.odd_files()).c_str(), O_RDONLY);
    case 5:
      return opened("/dev/null", O_RDWR);
    case 6:
      return opened("/proc/self/status", O_RDONLY);
    case 7:
      return opened(bus_test::node_of(territory_.good_number(chance)).c_str(),
                    chance.one_in(2) ? O_RDONLY : O_RDWR);
    case 8:
    case 9:
      return image(chance);
    default:
      return chance.pick(others_).get();
  }
}

int WildFiles::opened(const char* path, int flags) {
  loop::UniqueFd fd(::open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return others_.front().get();
  momentary_.push_back(std::move(fd));
  return momentary_.back().get();
}

}  // namespace soak

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/peer_server.hpp"

#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-id128.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "dbus/peer_connection.hpp"
#include "dbus/peer_driver.hpp"
#include "service/bus_pump.hpp"
#include "service/log.hpp"
#include "service/system_error.hpp"

namespace loopd {
namespace {

// Each has objects of its own for all devices. Who comes when it is full is
// hung up on, and may come again.
constexpr size_t most_peers = 64;

constexpr auto pause_time = std::chrono::seconds(1);

sd_id128_t random_id() {
  sd_id128_t id;
  check(sd_id128_randomize(&id), "cannot make an id");
  return id;
}

std::string text_of(sd_id128_t id) {
  char text[SD_ID128_STRING_MAX];
  return sd_id128_to_string(id, text);
}

struct BusUnref {
  void operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }
};
using Bus = std::unique_ptr<sd_bus, BusUnref>;

// Takes the socket.
Bus make_server_bus(loop::UniqueFd socket) {
  sd_bus* made = nullptr;
  check(sd_bus_new(&made), "cannot make a connection");
  Bus bus(made);
  const int fd = socket.get();
  check(sd_bus_set_fd(made, fd, fd), "cannot take a connection");
  socket.release();
  check(sd_bus_set_description(made, "private"), "cannot name a connection");
  check(sd_bus_set_server(made, 1, random_id()), "cannot serve a connection");
  check(sd_bus_negotiate_fds(made, 1), "cannot take descriptors");
  // Who may connect was decided by the socket; sd-bus would ask for CAP_SYS_ADMIN.
  check(sd_bus_set_trusted(made, 1), "cannot trust a connection");
  check(PeerDriver::set_sender(made), "cannot name the service");
  check(sd_bus_start(made), "cannot start a connection");
  return bus;
}

// The socket's mode says so, too; it may have been handed on.
bool is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

}  // namespace

class PeerServer::Peer {
 public:
  Peer(PeerServer& server, uint64_t number, loop::UniqueFd socket)
      : server_(server),
        number_(number),
        bus_(make_server_bus(std::move(socket))),
        pump_(std::make_unique<BusPump>(server.events_.handle(), bus_.get(),
                                        BusPump::Hooks{[this] { ready(); }, [this] { ended(); }})) {}

  // The pump first: it watches the socket that the bus closes.
  ~Peer() {
    pump_.reset();
    if (connection_) connection_->closed();
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void dispatch() { pump_->dispatch(); }

 private:
  void ready() {
    try {
      connection_ = PeerConnection::make(sd_bus_ref(bus_.get()), server_.parts_, server_.run_, number_);
    } catch (const std::exception& error) {
      log::error(std::string("cannot serve a private connection: ") + error.what());
      ended();
    }
  }

  void ended() {
    server_.events_.post([&server = server_, number = number_] { server.remove(number); });
  }

  PeerServer& server_;
  uint64_t number_;
  Bus bus_;
  std::unique_ptr<BusPump> pump_;
  std::shared_ptr<PeerConnection> connection_;
};

PeerServer::PeerServer(EventLoop& events, const ServiceParts& parts)
    : events_(events), parts_(parts), run_(text_of(random_id())) {}

PeerServer::~PeerServer() = default;

void PeerServer::listen(loop::UniqueFd socket) {
  listeners_.push_back({std::move(socket), nullptr});
  watch(listeners_.back());
}

void PeerServer::watch(Listener& listener) {
  const int fd = listener.socket.get();
  listener.source = events_.on_readable(fd, [this, fd] { accept_from(fd); });
}

// Without descriptors the loop would spin: who waits there stays readable.
void PeerServer::pause() {
  log::error("no descriptor is left for a private connection");
  for (Listener& listener : listeners_) listener.source.reset();
  pause_ = events_.at(Clock::now() + pause_time, [this] {
    for (Listener& listener : listeners_) watch(listener);
  });
}

void PeerServer::accept_from(int listener) {
  loop::UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    if (errno == EMFILE || errno == ENFILE) pause();
    return;  // else whoever it was has gone again
  }
  if (!is_root(socket.get())) {
    log::warning("refused a private connection: it is not root's");
    return;
  }
  if (peers_.size() >= most_peers) {
    log::warning("refused a private connection: there are " + std::to_string(peers_.size()));
    return;
  }
  add(std::move(socket));
}

void PeerServer::add(loop::UniqueFd socket) {
  const uint64_t number = ++last_number_;
  try {
    peers_.emplace(number, std::make_unique<Peer>(*this, number, std::move(socket)));
  } catch (const std::system_error& error) {
    log::warning(std::string("a private connection failed: ") + error.what());
  }
}

void PeerServer::dispatch() {
  for (const auto& [number, peer] : peers_) peer->dispatch();
}

void PeerServer::disconnect() { peers_.clear(); }

void PeerServer::remove(uint64_t number) {
  if (peers_.erase(number) != 0 && left_) left_();
}

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"
#include "dbus/service_context.hpp"
#include "service/event_loop.hpp"

namespace loopd {

// Serves D-Bus to programs that connect to the private socket, without a bus in
// between. Event loop's thread only.
class PeerServer {
 public:
  PeerServer(EventLoop& events, const ServiceParts& parts);
  ~PeerServer();

  // Takes a socket that listens. Throws std::system_error.
  void listen(loop::UniqueFd socket);

  // From here on who connects waits in the socket's queue, for the next service.
  void stop_listening() { listeners_.clear(); }

  // Dispatches what has been read by now.
  void dispatch();

  // Hangs up on everybody. What they held ends with the next service.
  void disconnect();

  // Called for each peer that has gone.
  void on_leave(std::function<void()> left) { left_ = std::move(left); }

  bool listens() const { return !listeners_.empty(); }
  size_t size() const { return peers_.size(); }

 private:
  struct Listener {
    loop::UniqueFd socket;
    std::unique_ptr<Scheduler::Registration> source;
  };
  class Peer;

  void watch(Listener& listener);
  void pause();
  void accept_from(int listener);
  void add(loop::UniqueFd socket);
  void remove(uint64_t number);

  EventLoop& events_;
  const ServiceParts& parts_;
  std::string run_;  // names of peers are unique in it
  std::function<void()> left_;
  uint64_t last_number_ = 0;
  std::vector<Listener> listeners_;
  std::unique_ptr<Scheduler::Registration> pause_;
  std::map<uint64_t, std::unique_ptr<Peer>> peers_;
};

}  // namespace loopd

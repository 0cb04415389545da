// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The private socket: the same objects, without a bus in between.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Peer : public Bus {
 protected:
  static std::unique_ptr<BusClient> connect_peer() {
    return std::make_unique<BusClient>(stack().private_address());
  }

  // Connected, and nothing said.
  static loop::UniqueFd connect_raw() {
    loop::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, stack().private_path().c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
    return socket;
  }

  // The other side has hung up.
  static bool is_hung_up(int socket) {
    const auto deadline = Clock::now() + long_enough;
    while (Clock::now() < deadline) {
      pollfd waited{socket, POLLIN, 0};
      if (::poll(&waited, 1, static_cast<int>(long_enough.count())) <= 0) return false;
      std::array<char, 65536> buffer;
      const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
    }
    return false;
  }
};

TEST_F(Peer, SeesTheTreeAndHearsTheSignals) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const auto peer = connect_peer();
  ASSERT_TRUE(succeeds(peer->manager("ListDevices")));
  peer->listen();
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(peer->wait_for([&] { return peer->find_signal("InterfacesAdded", object) != nullptr; }));
  EXPECT_TRUE(peer->wait_for([&] { return peer->count_signals("PartitionAdded", object + "/p5") == 1; }));
  EXPECT_EQ(peer->properties(object).values.at(0), properties_of(object));
  EXPECT_TRUE(peer->has_object(object + "/p5"));
}

TEST_F(Peer, AttachesAndRemovesByDescriptor) {
  const ScratchFile file(MiB);
  const auto peer = connect_peer();
  const Reply attached = peer->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  remove_at_end(object);
  EXPECT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }))
      << "the bus hears of what a peer does";
  EXPECT_EQ(properties_of(object).at("OwnerUID"), u32(0));
  EXPECT_TRUE(succeeds(peer->device(object, "Remove")));
  EXPECT_FALSE(is_attached(number_of(object)));
}

// Who starts a program has copies of all descriptors for a moment.
TEST_F(Peer, HangsUpWhileAnotherProcessHasACopyOfItsSocket) {
  const pid_t loopd = stack().loopd().pid();
  const loop::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, loopd, 0)));
  std::vector<loop::UniqueFd> copies;
  {
    const auto peer = connect_peer();
    ASSERT_TRUE(succeeds(peer->manager("ListDevices")));
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(loopd) + "/fd")) {
      const int number = std::stoi(entry.path().filename());
      copies.emplace_back(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
    }
  }
  // More than one turn of the event loop, and memory is used again.
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(succeeds(root().manager("ListDevices")));
    ASSERT_TRUE(succeeds(connect_peer()->manager("ListDevices")));
  }
  EXPECT_TRUE(stack().loopd().running());
}

TEST_F(Peer, OfManyAreServedAtOnce) {
  std::vector<std::unique_ptr<BusClient>> peers;
  for (int i = 0; i < 40; ++i) peers.push_back(connect_peer());
  const ScratchFile file(MiB);
  const Reply attached = peers.back()->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  remove_at_end(object);
  for (const auto& peer : peers) EXPECT_TRUE(peer->has_object(object));
}

TEST_F(Peer, BeyondTheLimitIsHungUpOnAndTheOthersStay) {
  std::vector<loop::UniqueFd> sockets;
  const auto first = connect_peer();
  for (int i = 0; i < 80; ++i) sockets.push_back(connect_raw());
  EXPECT_TRUE(is_hung_up(sockets.back().get()));
  EXPECT_TRUE(succeeds(first->manager("ListDevices")));
  sockets.clear();
  // Their places are free again, one after the other.
  const auto deadline = Clock::now() + long_enough;
  bool served = false;
  while (!served && Clock::now() < deadline) {
    try {
      served = connect_peer()->manager("ListDevices").ok();
    } catch (const std::exception&) {
      // hung up on
    }
  }
  EXPECT_TRUE(served);
}

TEST_F(Peer, WhoSendsGarbageIsHungUpOnAndDisturbsNobody) {
  for (const std::string& garbage : {std::string("\0AUTH NONSENSE\r\n", 16), std::string(70'000, 'x'),
                                     std::string("\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\nl\xff\xff\xff", 32)}) {
    const loop::UniqueFd socket = connect_raw();
    [[maybe_unused]] const ssize_t sent =
        ::send(socket.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(socket.get(), SHUT_WR);
    EXPECT_TRUE(is_hung_up(socket.get()));
  }
  EXPECT_TRUE(succeeds(connect_peer()->manager("ListDevices")));
  EXPECT_TRUE(succeeds(root().manager("ListDevices")));
}

// It asks for all objects, again and again, and never reads an answer.
TEST_F(Peer, WhoNeverReadsIsNotReadFromAndDisturbsNobody) {
  const auto peer = connect_peer();
  std::vector<std::shared_ptr<std::optional<Reply>>> answers;
  for (int i = 0; i < 2'000; ++i) {
    answers.push_back(peer->start(
        {.object = root_path, .interface = object_manager_interface, .member = "GetManagedObjects"}));
  }
  const auto started = Clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(succeeds(root().manager("ListDevices")));
  EXPECT_LT(Clock::now() - started, milliseconds(5'000));
  EXPECT_TRUE(succeeds(connect_peer()->manager("ListDevices")));
  // When it reads at last, it gets every answer.
  EXPECT_TRUE(peer->wait_for([&] {
    return std::all_of(answers.begin(), answers.end(),
                       [](const auto& answer) { return answer->has_value(); });
  }));
}

TEST_F(Peer, ThatDiesWithCallsUnderWayDisturbsNobody) {
  std::vector<std::unique_ptr<ScratchFile>> files;
  for (int round = 0; round < 20; ++round) {
    files.push_back(std::make_unique<ScratchFile>(MiB));
    const auto peer = connect_peer();
    peer->start({.object = root_path,
                 .interface = manager_interface,
                 .member = "Attach",
                 .arguments = {handle(files.back()->fd()), options({{"lease", boolean(true)}})}});
    peer->process();
  }
  EXPECT_TRUE(succeeds(root().manager("ListDevices")));
  // It ends when all calls have, and what they promised nobody is undone.
  const auto status = stack().stop_loopd();
  EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0);
  for (const auto& file : files) {
    const CommandResult found = run({"losetup", "--noheadings", "--associated", file->path()});
    EXPECT_EQ(found.output, "") << "its lease did not end with it";
  }
  stack().start_loopd();
}

TEST_F(Peer, HoldsALeaseAsLongAsItIsConnected) {
  const ScratchFile file(MiB);
  auto peer = connect_peer();
  const Reply attached = peer->attach(file.fd(), {{"lease", boolean(true)}});
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  EXPECT_EQ(properties_of(object).at("Lease"), text("private"));
  const auto other = connect_peer();
  EXPECT_TRUE(other->has_object(object));
  peer.reset();
  EXPECT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesRemoved", object) != nullptr; }));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(Peer, LeaseEndsAlsoWhenTheServiceIsKilled) {
  const ScratchFile file(MiB);
  const auto peer = connect_peer();
  const Reply attached = peer->attach(file.fd(), {{"lease", boolean(true)}});
  ASSERT_TRUE(succeeds(attached));
  const unsigned number = number_of(attached.values.at(0).text);
  stack().stop_loopd(SIGKILL);
  EXPECT_TRUE(is_attached(number));
  stack().start_loopd();
  EXPECT_TRUE(root().wait_for([&] { return !is_attached(number); }));
}

TEST_F(Peer, WhoConnectsWhileNoServiceRunsIsServedByTheNext) {
  stack().stop_loopd();
  const loop::UniqueFd waiting = connect_raw();
  const std::string greeting("\0AUTH EXTERNAL\r\nDATA\r\n", 22);
  ASSERT_EQ(::send(waiting.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(greeting.size()));
  stack().start_loopd();
  pollfd readable{waiting.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, static_cast<int>(long_enough.count())), 1);
}

// As jeepney and GDBus do it: authentication and greeting in one go.
TEST_F(Peer, IsAnsweredWhatItSendsWithItsAuthentication) {
  const auto recorded = [] {
    std::string bytes("\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", 48);
    const std::string fields(
        "\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\x03\x01s\0\x05\0\0\0Hello\0\0\0"
        "\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0",
        109);
    return bytes + std::string("l\1\0\1\0\0\0\0\1\0\0\0\x6d\0\0\0", 16) + fields + std::string(3, '\0');
  }();
  const loop::UniqueFd socket = connect_raw();
  ASSERT_EQ(::send(socket.get(), recorded.data(), recorded.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(recorded.size()));
  std::string answer;
  const auto deadline = Clock::now() + long_enough;
  while (answer.find(":1.") == std::string::npos && Clock::now() < deadline) {
    pollfd waited{socket.get(), POLLIN, 0};
    if (::poll(&waited, 1, static_cast<int>(long_enough.count())) <= 0) break;
    std::array<char, 4096> buffer;
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got <= 0) break;
    answer.append(buffer.data(), static_cast<size_t>(got));
  }
  EXPECT_NE(answer.find(":1."), std::string::npos) << "Hello was not answered";
}

TEST_F(Peer, IsRootAlone) {
  EXPECT_THROW(BusClient(stack().private_address(), ordinary_user), std::exception);
}

TEST_F(Peer, CanUseBusctl) {
  const std::string address = "--address=" + stack().private_address();
  const CommandResult listed =
      run({"busctl", address, "call", service_name, root_path, manager_interface, "ListDevices"});
  EXPECT_EQ(listed.status, 0) << listed.output;
  EXPECT_TRUE(listed.output.starts_with("a(osss)")) << listed.output;
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  const CommandResult tree = run({"busctl", address, "--no-pager", "tree", service_name});
  EXPECT_NE(tree.output.find(object), std::string::npos) << tree.output;
  const CommandResult shown = run({"busctl", address, "--no-pager", "introspect", service_name, object});
  EXPECT_NE(shown.output.find("BackingFile"), std::string::npos) << shown.output;
}

TEST_F(Peer, AsksForNamesAsOfABus) {
  const auto peer = connect_peer();
  const auto ask = [&](const std::string& member, const std::string& name) {
    return peer->call({.object = "/org/freedesktop/DBus",
                       .interface = "org.freedesktop.DBus",
                       .member = member,
                       .arguments = {text(name)},
                       .destination = "org.freedesktop.DBus"});
  };
  const Reply owner = ask("GetNameOwner", service_name);
  ASSERT_TRUE(succeeds(owner));
  EXPECT_TRUE(owner.values.at(0).text.starts_with(":")) << owner;
  EXPECT_TRUE(ask("NameHasOwner", service_name).values.at(0).truth());
  EXPECT_FALSE(ask("NameHasOwner", "org.freedesktop.systemd1").values.at(0).truth());
  EXPECT_TRUE(fails_with(ask("GetNameOwner", "org.freedesktop.systemd1"),
                         "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.systemd1"));
}

}  // namespace
}  // namespace bus_test

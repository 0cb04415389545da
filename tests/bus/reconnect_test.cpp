// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The system bus goes and comes again; the service stays, and serves the new one.
#include <signal.h>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Reconnect : public Bus {
 protected:
  // Clients of the bus before are clients no more.
  void restart_bus() {
    stack().restart_bus();
    again_ = connect();
  }

  BusClient& again() { return *again_; }

 private:
  std::unique_ptr<BusClient> again_;
};

TEST_F(Reconnect, TheServiceIsOnTheNewBusWithEveryDeviceAndOwner) {
  const ScratchFile file(MiB, "allowed-reconnect.img");
  const Reply attached = connect(allowed_user)->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  for (int round = 0; round < 3; ++round) {
    restart_bus();
    EXPECT_EQ(again().property(object, "OwnerUID").values.at(0), u32(allowed_user));
  }
  EXPECT_TRUE(succeeds(connect(allowed_user)->device(object, "Remove")))
      << "polkit is asked on the new bus, too";
}

TEST_F(Reconnect, LeasesOfTheOldBusEnd) {
  const ScratchFile file(MiB);
  const auto holder = connect();
  const Reply attached = holder->attach(file.fd(), {{"lease", boolean(true)}});
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  restart_bus();
  again().listen();
  EXPECT_TRUE(again().wait_for([&] { return !again().has_object(object); }));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(Reconnect, CallsUnderWayAreCarriedThroughThoughNobodyHears) {
  const ScratchFile image(8 * MiB, "allowed-lost.img");
  partition(image, gpt_with_five_partitions);
  const auto client = connect(allowed_user);
  for (int i = 0; i < 20; ++i) {
    client->start({.object = root_path,
                   .interface = manager_interface,
                   .member = "Attach",
                   .arguments = {handle(image.fd()), options({{"read-only", boolean(true)}})}});
  }
  client->process();
  restart_bus();
  // Whatever became of each, what is there is the caller's.
  const Reply found = again().manager("FindByFile", {handle(image.fd())});
  ASSERT_TRUE(succeeds(found));
  for (const Value& device : found.values.at(0).items) {
    EXPECT_EQ(again().property(device.text, "OwnerUID").values.at(0), u32(allowed_user));
    EXPECT_TRUE(succeeds(again().device(device.text, "Remove")));
  }
}

// As at a shutdown, where both end at once: the bus does not live to say that the name is nobody's.
TEST_F(Reconnect, AServiceThatEndsDoesNotWaitForABusThatHasGone) {
  ASSERT_TRUE(succeeds(root().manager("ListDevices")));
  stack().bus().signal(SIGSTOP);
  stack().loopd().signal(SIGTERM);
  ASSERT_TRUE(soon([] { return stack().loopd_log().find("stopping") != std::string::npos; }));
  stack().bus().signal(SIGKILL);
  EXPECT_EQ(stack().loopd().wait(), 0);
  EXPECT_EQ(stack().loopd_log().find("still under way"), std::string::npos) << stack().loopd_log();
  stack().restart_bus();
  stack().start_loopd();
}

TEST_F(Reconnect, PeersOfThePrivateSocketHardlyNotice) {
  const ScratchFile file(MiB);
  BusClient peer(stack().private_address());
  const Reply attached = peer.attach(file.fd(), {{"lease", boolean(true)}});
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  restart_bus();
  EXPECT_EQ(again().property(object, "Lease").values.at(0), text("private"));
  EXPECT_TRUE(succeeds(peer.device(object, "Remove")));
}

}  // namespace
}  // namespace bus_test

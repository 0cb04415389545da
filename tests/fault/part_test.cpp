// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The parts around the service fail while it is at work: the bus, polkit, udevd, the
// state directory's file system, the process's own table of descriptors.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tests/bus/fuse_server.hpp"
#include "tests/bus/machine.hpp"
#include "tests/fault/faulty_service.hpp"

namespace fault_test {
namespace {

constexpr const char* no_reply = "org.freedesktop.DBus.Error.NoReply";

using bus_test::boolean;
using bus_test::Call;
using bus_test::Clock;
using bus_test::handle;
using bus_test::KiB;
using bus_test::MiB;
using bus_test::milliseconds;
using bus_test::options;
using bus_test::u32;
using bus_test::u64;

Call attach_call(const ScratchFile& file, const bus_test::Options& wishes = {}) {
  return {.object = bus_test::root_path,
          .interface = bus_test::manager_interface,
          .member = "Attach",
          .arguments = {handle(file.fd()), options(wishes)}};
}

class APart : public FaultyService {};

using TheBus = APart;

// The kernel is at work on the call when the bus goes.
TEST_F(TheBus, ThatIsLostInTheMiddleOfAnAttachLeavesTheWholeDeviceWithItsOwner) {
  const ScratchFile file(MiB, "allowed-lost-attach.img");
  const auto user = connect(bus_test::allowed_user);
  faults().hold("LOOP_CONFIGURE");
  user->start(attach_call(file));
  ASSERT_TRUE(faults().wait_held(1));
  stack().restart_bus();
  faults().release();
  const auto again = connect();
  again->listen();  // its signals are what is waited for
  const auto attached = [&] {
    return again->manager("FindByFile", {handle(file.fd())}).values.at(0).texts();
  };
  ASSERT_TRUE(again->wait_for([&] { return !attached().empty(); }));
  const std::string object = attached().at(0);
  EXPECT_EQ(again->property(object, "OwnerUID").values.at(0), u32(bus_test::allowed_user));
  EXPECT_TRUE(succeeds(remove(*connect(bus_test::allowed_user), object)));
  expect_health("the bus's coming again");
}

TEST_F(TheBus, ThatIsLostInTheMiddleOfARemovalLeavesNothing) {
  const ScratchFile file(MiB, "allowed-lost-removal.img");
  const auto user = connect(bus_test::allowed_user);
  const Reply attached = user->attach(file.fd());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  faults().hold("LOOP_CLR_FD");
  user->start({.object = object, .interface = bus_test::device_interface, .member = "Remove"});
  ASSERT_TRUE(faults().wait_held(1));
  stack().restart_bus();
  faults().release();
  const auto again = connect();
  again->listen();  // its signals are what is waited for
  EXPECT_TRUE(again->wait_for([&] { return !again->has_object(object); }));
  EXPECT_FALSE(bus_test::is_attached(bus_test::number_of(object)));
  expect_health("the bus's coming again");
}

using Polkit = APart;

TEST_F(Polkit, ThatIsKilledInTheMiddleOfAQuestionMeansNo) {
  const ScratchFile file(MiB, "allowed-unanswered.img");
  const auto user = connect(bus_test::allowed_user);
  const pid_t polkit = stack().polkit_pid();
  ASSERT_EQ(::kill(polkit, SIGSTOP), 0);
  const auto reply = user->start(attach_call(file));
  // Others are served meanwhile; and the question is on its way, as the bus keeps order.
  EXPECT_TRUE(succeeds(root().manager("ListDevices")));
  EXPECT_FALSE(reply->has_value());
  ASSERT_EQ(::kill(polkit, SIGKILL), 0);
  ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
  EXPECT_TRUE(fails_with(**reply, bus_test::access_denied));
  EXPECT_TRUE(is_free(file));
  stack().stop_polkit();
  stack().start_polkit();
  expect_health("polkit's coming again");
}

using Udevd = APart;

TEST_F(Udevd, ThatHangsIsWaitedForToTheDeadlineAndTheAnswerSaysSo) {
  bus_test::ChildProcess* udevd = bus_test::own_udevd();
  if (udevd == nullptr) GTEST_SKIP() << "the machine's own udevd runs, and is not to be stopped";
  const ScratchFile file(8 * MiB, "allowed-udevd.img");
  partition(file, bus_test::gpt_with_five_partitions);
  const unsigned number = own_number();
  udevd->signal(SIGSTOP);
  const auto start = Clock::now();
  const Reply reply = root().attach(file.fd(), {{"partition-scan", boolean(true)}, {"number", u32(number)}});
  const auto took = Clock::now() - start;
  udevd->signal(SIGCONT);
  EXPECT_TRUE(fails_with(reply, "org.freedesktop.DBus.Error.Timeout", "udev"));
  EXPECT_GE(took, milliseconds(9'500));
  EXPECT_LT(took, milliseconds(15'000)) << "a client's own patience is 25 s";
  EXPECT_TRUE(is_free(file));
  EXPECT_TRUE(soon([&] { return !bus_test::node_exists(number); }));
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 5U);
  EXPECT_TRUE(succeeds(remove(root(), object)));
  expect_health("udevd's going on");
}

// A full state directory of its own, below the service.
class AStateDirectory : public FaultyService {
 protected:
  void SetUp() override {
    FaultyService::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(::mount("tmpfs", stack().state_directory().c_str(), "tmpfs", 0, "size=64k"), 0);
    begin_anew();
  }
  void TearDown() override {
    if (!IsSkipped()) {
      ::unlink(filler_.c_str());
      ::umount2(stack().state_directory().c_str(), MNT_DETACH);
      restart_loopd();
    }
    FaultyService::TearDown();
  }

  void fill() {
    const loop::UniqueFd fd(::open(filler_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string page(4 * KiB, 'x');
    while (::write(fd.get(), page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
  }
  void clear() { ASSERT_EQ(::unlink(filler_.c_str()), 0); }

 private:
  std::string filler_ = stack().state_directory() + "/.filler";
};

TEST_F(AStateDirectory, ThatIsFullKeepsFilesFromBeingAttachedAndNothingElse) {
  const ScratchFile before(MiB, "allowed-before-full.img");
  const ScratchFile file(MiB, "allowed-full.img");
  const auto user = connect(bus_test::allowed_user);
  const Reply attached = user->attach(before.fd());
  ASSERT_TRUE(succeeds(attached));
  const unsigned number = own_number();
  fill();
  for (int round = 0; round < 3; ++round) {
    const Reply reply = user->attach(file.fd(), {{"number", u32(number)}});
    EXPECT_TRUE(fails_with(reply, "org.example.Loop1.Error.Failed", "No space left"));
    EXPECT_TRUE(is_free(file));
    EXPECT_FALSE(bus_test::node_exists(number));
  }
  EXPECT_TRUE(succeeds(user->device(attached.values.at(0).text, "Resize")));
  EXPECT_TRUE(succeeds(remove(*user, attached.values.at(0).text)));
  clear();
  expect_health("there is room again");
}

class ATableOfDescriptors : public FaultyService {
 protected:
  // The limit is one of the number, and there may be gaps below.
  static rlim_t limit_with_room_for(size_t more) {
    const std::string directory = "/proc/" + std::to_string(stack().loopd().pid()) + "/fd/";
    size_t room = 0;
    for (rlim_t number = 0;; ++number) {
      struct stat status {};
      const bool open = ::lstat((directory + std::to_string(number)).c_str(), &status) == 0;
      if (!open && room++ == more) return number;
    }
  }
  void limit(size_t more) {
    ASSERT_EQ(::prlimit(stack().loopd().pid(), RLIMIT_NOFILE, nullptr, &before_), 0);
    const rlimit tight{limit_with_room_for(more), before_.rlim_max};
    ASSERT_EQ(::prlimit(stack().loopd().pid(), RLIMIT_NOFILE, &tight, nullptr), 0);
  }
  void unlimit() { ASSERT_EQ(::prlimit(stack().loopd().pid(), RLIMIT_NOFILE, &before_, nullptr), 0); }

 private:
  rlimit before_{};
};

// However few are left, an attach is refused by name or done, the devices that are
// there stay published as they are, and afterwards everybody is served.
TEST_F(ATableOfDescriptors, ThatIsFullMakesNoDeviceVanishAndPasses) {
  const ScratchFile before(8 * MiB, "allowed-before.img");
  partition(before, bus_test::gpt_with_five_partitions);
  const auto user = connect(bus_test::allowed_user);
  const Reply attached = user->attach(before.fd(), {{"partition-scan", boolean(true)}});
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  let_events_arrive();
  root().forget_signals();  // of another attachment that had the number before
  const std::string node = bus_test::node_of(bus_test::number_of(object));
  // The kernel says that something has changed, and the service can't even look.
  limit(0);
  bus_test::run({"udevadm", "trigger", "--action=change", "--settle", node});
  const Reply listed = root().manager("ListDevices");
  EXPECT_TRUE(listed.ok() || is_typed(listed)) << listed;
  unlimit();
  unsigned refused = 0;
  for (size_t more = 1; more < 12; ++more) {
    SCOPED_TRACE(std::to_string(more) + " descriptors are left");
    limit(more);
    const ScratchFile file(MiB, "allowed-" + std::to_string(more) + ".img");
    const auto client = connect(bus_test::allowed_user);
    const Reply reply = client->attach(file.fd());
    unlimit();
    // Where there was no room for the very descriptor of the call, the kernel cuts it off, and
    // sd-bus gives up a connection on which that happened: the service comes back.
    const bool cut_off = reply.error == no_reply;
    if (cut_off) {
      ASSERT_TRUE(root().wait_for_name(bus_test::service_name));
    }
    EXPECT_TRUE(reply.ok() || cut_off || is_typed(reply)) << reply;
    if (!reply.ok()) ++refused;
    if (reply.ok()) {
      EXPECT_TRUE(succeeds(remove(*client, reply.values.at(0).text)));
    }
    EXPECT_TRUE(is_free(file));
    let_events_arrive();
    const Value properties = properties_of(object);
    ASSERT_FALSE(properties.items.empty());
    EXPECT_EQ(properties.at("OwnerUID"), u32(bus_test::allowed_user));
    EXPECT_EQ(properties.at("Partitions").items.size(), 5U);
  }
  EXPECT_GT(refused, 0U);
  EXPECT_EQ(root().count_signals("InterfacesRemoved", object), 0U);
  EXPECT_TRUE(succeeds(remove(*user, object)));
  expect_health("there is room again");
}

class ALimit : public FaultyService {};

TEST_F(ALimit, OfWorkersForOneUserIsFourAndNobodyElseWaits) {
  constexpr unsigned workers = 4;
  constexpr unsigned wanted = 10;
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  const auto user = connect(bus_test::allowed_user);
  const auto other = connect(bus_test::another_user);
  faults().hold("LOOP_CONFIGURE", workers);
  for (unsigned i = 0; i < wanted; ++i) {
    files.push_back(std::make_unique<ScratchFile>(64 * KiB, "allowed-worker-" + std::to_string(i)));
    replies.push_back(user->start(attach_call(*files.back())));
  }
  ASSERT_TRUE(faults().wait_held(workers));
  // A fifth would not be held, and so be answered.
  const ScratchFile others(64 * KiB, "allowed-others-worker");
  const Reply served = other->attach(others.fd());
  EXPECT_TRUE(succeeds(served));
  if (served.ok()) {
    EXPECT_TRUE(succeeds(remove(*other, served.values.at(0).text)));
  }
  user->process();
  for (const auto& reply : replies) EXPECT_FALSE(reply->has_value());
  faults().release();
  for (const auto& reply : replies) {
    ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
    EXPECT_TRUE(succeeds(**reply));
    if ((*reply)->ok()) {
      EXPECT_TRUE(succeeds(remove(*user, (*reply)->values.at(0).text)));
    }
  }
  expect_health("the crowd");
}

// As TasksMax= of the unit makes it. What is to be done is then done by fewer, and no call is refused.
TEST_F(ALimit, OfThreadsMakesWorkWaitForThoseThatThereAre) {
  constexpr unsigned wanted = 32;  // more than there are idle threads
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::string> objects;
  for (unsigned i = 0; i < wanted; ++i) {
    files.push_back(std::make_unique<ScratchFile>(64 * KiB, "thread-" + std::to_string(i)));
    objects.push_back(attach(*files.back()));
    ASSERT_FALSE(objects.back().empty());
  }
  faults().hold("LOOP_CLR_FD", wanted);
  faults().fail("clone3", 0, EAGAIN);
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (const std::string& object : objects) {
    // udev may look at a device while it is held.
    replies.push_back(root().start({.object = object,
                                    .interface = bus_test::device_interface,
                                    .member = "RemoveWithOptions",
                                    .arguments = {options({{"timeout", u64(15'000'000)}})}}));
  }
  ASSERT_TRUE(faults().wait_held(wanted - 1));
  EXPECT_TRUE(faults().was_hit());
  root().process();
  for (const auto& reply : replies) EXPECT_FALSE(reply->has_value());
  faults().release();
  for (const auto& reply : replies) {
    ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
    EXPECT_TRUE(succeeds(**reply));
  }
  expect_health("the threads were too few");
}

// A helper is a process of its own; the worker that would start it is there already.
TEST_F(ALimit, OfProcessesIsSaidWhereAFileNeedsOne) {
  const bus_test::FuseServer server("limited");
  const loop::UniqueFd file = server.open("file");
  const Reply before = root().attach(file.get());
  ASSERT_TRUE(succeeds(before));
  EXPECT_TRUE(succeeds(remove(root(), before.values.at(0).text)));
  faults().fail("clone3", 0, EAGAIN);
  const Reply refused = root().attach(file.get());
  EXPECT_TRUE(faults().was_hit());
  EXPECT_EQ(refused.error, "org.freedesktop.DBus.Error.LimitsExceeded") << refused;
  expect_health("a process could not be started");
}

// All wait for the one call that the kernel does not answer; one more is refused at
// once. When the device is gone they all learn it.
TEST_F(ALimit, OfCallsInAllIs4096AndRemovingGoesOn) {
  constexpr unsigned most_calls = 4096;
  constexpr unsigned calls_of_a_client = 120;  // the bus lets each wait for 128 answers
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  faults().hold("LOOP_CLR_FD");
  const auto removing =
      root().start({.object = object, .interface = bus_test::device_interface, .member = "Remove"});
  ASSERT_TRUE(faults().wait_held(1));
  std::vector<std::unique_ptr<BusClient>> clients;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  while (replies.size() < most_calls + calls_of_a_client) {
    if (replies.size() % calls_of_a_client == 0) clients.push_back(connect());
    replies.push_back(clients.back()->start(
        {.object = object, .interface = bus_test::device_interface, .member = "Resize"}));
  }
  // The last ones are refused while the first wait.
  BusClient& last = *clients.back();
  ASSERT_TRUE(last.wait_for([&] { return replies.back()->has_value(); }));
  EXPECT_TRUE(fails_with(**replies.back(), "org.freedesktop.DBus.Error.LimitsExceeded", "too many calls"));
  EXPECT_FALSE(replies.front()->has_value());
  faults().release();
  ASSERT_TRUE(root().wait_for([&] { return removing->has_value(); }));
  EXPECT_TRUE(succeeds(**removing));
  unsigned refused = 0;
  for (size_t i = 0; i < replies.size(); ++i) {
    ASSERT_TRUE(clients[i / calls_of_a_client]->wait_for([&] { return replies[i]->has_value(); }));
    EXPECT_FALSE((*replies[i])->ok());
    if ((*replies[i])->error == "org.freedesktop.DBus.Error.LimitsExceeded") ++refused;
  }
  // The removal is one of those under way.
  EXPECT_EQ(refused, replies.size() - (most_calls - 1));
  clients.clear();
  expect_health("the crowd");
}

}  // namespace
}  // namespace fault_test

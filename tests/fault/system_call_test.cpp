// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Each system call that matters fails in turn, at each step of Attach, Remove and
// Resize, in the real service: the caller has a typed error or the whole result, and
// nothing is left half-way.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>

#include "tests/fault/faulty_service.hpp"

namespace fault_test {
namespace {

using bus_test::boolean;
using bus_test::MiB;
using bus_test::u32;
using bus_test::u64;

constexpr unsigned most_of_one_step = 3;
constexpr int enough_failures = 20;

int failures() { return testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count(); }

// What a step can be answered by, of the errors that this is about.
std::vector<int> errors_of(const std::string& step) {
  static const std::map<std::string, std::vector<int>> known{
      {"open", {EMFILE, ENOMEM, EINTR}},
      {"open node", {EMFILE, ENOMEM, ENXIO, EIO, EINTR}},
      {"open own node", {EMFILE, ENOMEM, ENXIO, EIO, EINTR}},
      {"make own node", {EPERM, ENOSPC, ENOMEM}},
      {"unlink own node", {EIO}},
      {"open record", {EMFILE, EIO}},
      {"create record", {ENOSPC, EMFILE, EIO}},
      {"write record", {ENOSPC, EIO}},
      {"rename record", {ENOSPC, EIO}},
      {"unlink record", {}},  // what can't be erased stays, and is seen through at the next start
      {"read", {EIO, ENOMEM}},
      {"flock", {EINTR, ENOMEM}},
      {"fsync", {EIO}},
      {"inotify_init1", {EMFILE}},
      {"inotify_add_watch", {ENOSPC, ENOMEM}},
      {"epoll_create1", {EMFILE}},
      {"timerfd_create", {EMFILE}},
      {"clone3", {EAGAIN}},
      {"BLKFLSBUF", {}},  // of a look at what somebody may have written, which comes when it likes
      {"LOOP_CLR_FD", {ENOMEM, EBUSY, EIO, EINTR}},  // ENXIO is how the kernel says that it is detached
      {"BLKPG", {ENOMEM, ENXIO, EIO, EINTR}},        // EBUSY is one that overlaps another, and left out
      {"copy", {EMFILE}},
  };
  if (const auto found = known.find(step); found != known.end()) return found->second;
  if (const auto found = known.find(step.substr(0, step.find(' '))); found != known.end()) {
    return found->second;
  }
  return {ENOMEM, EBUSY, ENXIO, EIO, EINTR};  // an ioctl
}

struct Fault {
  std::string step;
  unsigned passes = 0;
  int error = 0;

  std::string text() const {
    return step + " (" + std::to_string(passes + 1) + ") failing with " + ::strerrorname_np(error);
  }
};

std::vector<Fault> faults_of(const std::vector<std::string>& steps) {
  std::vector<Fault> all;
  std::map<std::string, unsigned> seen;
  for (const std::string& step : steps) {
    const unsigned passes = seen[step]++;
    if (passes >= most_of_one_step) continue;
    for (const int error : errors_of(step)) all.push_back({step, passes, error});
  }
  return all;
}

class ASystemCall : public FaultyService {
 protected:
  void SetUp() override {
    FaultyService::SetUp();
    if (IsSkipped()) return;
    image_ = std::make_unique<ScratchFile>(8 * MiB, "allowed-fault.img");
    partition(*image_, bus_test::gpt_with_five_partitions);
    user_ = connect(bus_test::allowed_user);
  }
  void TearDown() override {
    user_.reset();
    image_.reset();
    FaultyService::TearDown();
  }

  const ScratchFile& image() { return *image_; }
  BusClient& user() { return *user_; }

  // Runs the operation once for each fault, between a preparation and a check.
  void fail_each_step(const std::function<void()>& prepare, const std::function<Reply()>& operation,
                      const std::function<void(const Reply&)>& check) {
    prepare();
    let_events_arrive();  // what is recorded is the operation's own
    faults().start_recording();
    const Reply whole = operation();
    const std::vector<Fault> all = faults_of(faults().recorded());
    ASSERT_TRUE(succeeds(whole));
    check(whole);
    ASSERT_FALSE(all.empty());
    for (const Fault& fault : all) {
      SCOPED_TRACE(fault.text());
      const int failures_before = failures();
      prepare();
      faults().fail(fault.step, fault.passes, fault.error);
      const Reply reply = operation();
      const bool hit = faults().was_hit();
      faults().release();
      ++tried_;
      if (hit) ++hit_;
      if (!reply.ok()) ++refused_;
      EXPECT_TRUE(reply.ok() || is_typed(reply)) << reply;
      check(reply);
      expect_health(fault.text());
      if (failures() == failures_before) continue;
      std::fprintf(stderr, "with %s: %s %s\n", fault.text().c_str(), reply.error.c_str(),
                   reply.message.c_str());
      if (failures() >= enough_failures) return;
      begin_anew();
    }
    std::printf("%u faults, %u of them met: %u refused, the others done all the same\n", tried_, hit_,
                refused_);
    EXPECT_GT(refused_, 0U);
    // A step that comes only when udev or another thread is in the way may not come again.
    EXPECT_GE(hit_ * 4, tried_ * 3);
  }

  void expect_whole(const std::string& object) {
    const Value properties = properties_of(object);
    if (properties.items.empty()) return;
    EXPECT_EQ(properties.at("OwnerUID"), u32(bus_test::allowed_user));
    EXPECT_EQ(properties.at("Autoclear"), boolean(false));
    EXPECT_EQ(properties.at("PartitionScan"), boolean(true));
    EXPECT_EQ(properties.at("Partitions").items.size(), 5U);
    const unsigned number = bus_test::number_of(object);
    EXPECT_EQ(bus_test::sysfs(number, "loop/autoclear"), "0");
    EXPECT_EQ(bus_test::sysfs_partitions(number).size(), 5U);
    EXPECT_EQ(state_files(), std::set<std::string>{*bus_test::sysfs(number, "diskseq")});
    struct stat status {};
    ASSERT_EQ(::fstat(image().fd(), &status), 0);
    EXPECT_EQ(properties.at("Size"), u64(static_cast<uint64_t>(status.st_size)));
  }

  Reply attach_image(unsigned number) {
    return user().attach(image().fd(), {{"partition-scan", boolean(true)}, {"number", u32(number)}});
  }

 private:
  std::unique_ptr<ScratchFile> image_;
  std::unique_ptr<BusClient> user_;
  unsigned tried_ = 0;
  unsigned hit_ = 0;
  unsigned refused_ = 0;
};

TEST_F(ASystemCall, ThatFailsInAttachLeavesNothing) {
  unsigned number = 0;
  const auto check = [&](const Reply& reply) {
    if (reply.ok()) {
      expect_whole(reply.values.at(0).text);
      EXPECT_TRUE(succeeds(remove(user(), reply.values.at(0).text)));
    }
    EXPECT_TRUE(is_free(image()));
    EXPECT_FALSE(bus_test::node_exists(number));
  };
  fail_each_step([&] { number = own_number(); }, [&] { return attach_image(number); }, check);
}

TEST_F(ASystemCall, ThatFailsInAttachToAnyDeviceLeavesNothing) {
  const auto attach = [&] { return user().attach(image().fd(), {{"partition-scan", boolean(true)}}); };
  const auto check = [&](const Reply& reply) {
    if (reply.ok()) {
      expect_whole(reply.values.at(0).text);
      EXPECT_TRUE(succeeds(remove(user(), reply.values.at(0).text)));
    }
    EXPECT_TRUE(is_free(image()));
  };
  fail_each_step([] {}, attach, check);
}

TEST_F(ASystemCall, ThatFailsInRemoveLeavesTheWholeDeviceOrNone) {
  std::string object;
  const auto prepare = [&] {
    const Reply reply = attach_image(own_number());
    ASSERT_TRUE(succeeds(reply));
    object = reply.values.at(0).text;
  };
  const auto check = [&](const Reply& reply) {
    const bool there = !is_free(image());
    EXPECT_FALSE(reply.ok() && there);
    EXPECT_EQ(root().has_object(object), there);
    if (there) {
      expect_whole(object);
      EXPECT_TRUE(succeeds(remove(user(), object)));
    }
    // The node may be what could not be deleted.
    EXPECT_FALSE(reply.ok() && bus_test::node_exists(bus_test::number_of(object)));
  };
  fail_each_step(
      prepare, [&] { return user().device(object, "Remove"); }, check);
}

TEST_F(ASystemCall, ThatFailsInResizeLeavesTheDeviceWithATrueSize) {
  std::string object;
  uint64_t size = 8 * MiB;
  const auto prepare = [&] {
    const Reply reply = attach_image(own_number());
    ASSERT_TRUE(succeeds(reply));
    object = reply.values.at(0).text;
    size += MiB;
    image().resize(size);
  };
  const auto check = [&](const Reply& reply) {
    const Reply again = reply.ok() ? reply : user().device(object, "Resize");
    EXPECT_TRUE(succeeds(again));
    EXPECT_EQ(bus_test::sysfs(bus_test::number_of(object), "size"), std::to_string(size / 512));
    expect_whole(object);
    EXPECT_TRUE(succeeds(remove(user(), object)));
    EXPECT_TRUE(is_free(image()));
  };
  fail_each_step(
      prepare, [&] { return user().device(object, "Resize"); }, check);
}

// The service looks at the device, as something may have changed, and hardly can.
TEST_F(ASystemCall, ThatFailsInALookMakesNothingChangeOrVanish) {
  constexpr unsigned steps_of_a_look = 24;
  const Reply attached = attach_image(own_number());
  ASSERT_TRUE(succeeds(attached));
  const std::string object = attached.values.at(0).text;
  const std::string node = bus_test::node_of(bus_test::number_of(object));
  let_events_arrive();
  root().forget_signals();
  for (unsigned passes = 0; passes < steps_of_a_look; ++passes) {
    const Fault fault{"open sysfs", passes, passes % 2 == 0 ? EMFILE : ENOMEM};
    SCOPED_TRACE(fault.text());
    faults().fail(fault.step, fault.passes, fault.error);
    bus_test::run({"udevadm", "trigger", "--action=change", node});
    EXPECT_TRUE(soon([] { return faults().was_hit(); }));
    faults().release();
    let_events_arrive();
    expect_whole(object);
  }
  EXPECT_EQ(root().count_signals("InterfacesRemoved", object), 0U);
  for (const bus_test::Signal& signal : root().signals()) {
    EXPECT_FALSE(signal.object == object && signal.member == "PartitionRemoved") << signal;
    if (signal.object != object || signal.member != "PropertiesChanged") continue;
    for (const Value& change : signal.arguments.at(1).items) {
      EXPECT_EQ(change.items.at(0).text, "Symlinks") << signal;
    }
  }
  EXPECT_TRUE(succeeds(remove(user(), object)));
}

}  // namespace
}  // namespace fault_test

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whose a device is: right when it is announced, after every end of the service, and
// at no instant somebody else's.
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Ownership : public Bus {
 protected:
  Value owner_of(const std::string& object) { return properties_of(object).at("OwnerUID"); }

  std::set<std::string> state_files() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(stack().state_directory())) {
      names.insert(entry.path().filename());
    }
    return names;
  }

  // Ours, in no order.
  std::vector<unsigned> attached_numbers() {
    std::vector<unsigned> numbers;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
      const std::string name = entry.path().filename();
      if (!name.starts_with("loop")) continue;
      const auto number = static_cast<unsigned>(std::stoul(name.substr(4)));
      const auto file = sysfs(number, "loop/backing_file");
      if (file && file->starts_with(scratch_directory() + "/")) numbers.push_back(number);
    }
    return numbers;
  }
};

TEST_F(Ownership, IsAnnouncedWithTheDeviceAndDoesNotChange) {
  const ScratchFile file(8 * MiB, "allowed-announced-owner.img");
  partition(file, gpt_with_five_partitions);
  const auto user = connect(allowed_user);
  for (int round = 0; round < 10; ++round) {
    root().forget_signals();
    const std::string object = attach_as(*user, file, {{"partition-scan", boolean(round % 2 == 0)}});
    ASSERT_FALSE(object.empty());
    ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
    EXPECT_EQ(
        root().find_signal("InterfacesAdded", object)->arguments.at(1).at(device_interface).at("OwnerUID"),
        u32(allowed_user));
    ASSERT_TRUE(succeeds(user->device(object, "Remove")));
    EXPECT_EQ(root().changed_property(object, "OwnerUID"), std::nullopt);
  }
}

TEST_F(Ownership, IsForgottenThoughTheNumberIsAnotherAttachmentAtOnce) {
  const ScratchFile before(MiB, "allowed-before.img");
  const ScratchFile behind(MiB);
  const unsigned number = own_number();
  const std::string object = attach_as(*connect(allowed_user), before, {{"number", u32(number)}});
  ASSERT_EQ(object, object_of(number));
  ASSERT_EQ(state_files().size(), 1U);
  // It never sees the number free.
  stack().loopd().signal(SIGSTOP);
  EXPECT_EQ(kernel_detach(number), 0);
  EXPECT_EQ(kernel_attach(number, behind.fd()), 0);
  stack().loopd().signal(SIGCONT);
  let_events_arrive();
  EXPECT_EQ(owner_of(object), u32(0));
  EXPECT_EQ(state_files(), std::set<std::string>());
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Ownership, IsRightAgainAfterTheServiceWasKilled) {
  const ScratchFile of_user(MiB, "allowed-killed-one.img");
  const ScratchFile of_another(MiB, "allowed-killed-two.img");
  const ScratchFile of_root(MiB);
  const ScratchFile of_nobody(MiB);
  const auto user = connect(allowed_user);
  const auto another = connect(another_user);
  const std::string first = attach_as(*user, of_user);
  const std::string second = attach_as(*another, of_another);
  const std::string third = attach(of_root);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, of_nobody.fd()), 0);
  for (int round = 0; round < 3; ++round) {
    stack().stop_loopd(SIGKILL);
    stack().start_loopd();
    EXPECT_EQ(owner_of(first), u32(allowed_user));
    EXPECT_EQ(owner_of(second), u32(another_user));
    EXPECT_EQ(owner_of(third), u32(0));
    EXPECT_EQ(owner_of(object_of(number)), u32(0));
  }
  EXPECT_FALSE(another->device(first, "Remove").ok());
  EXPECT_TRUE(succeeds(user->device(first, "Remove")));
  EXPECT_TRUE(succeeds(another->device(second, "Remove")));
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Ownership, IsNotInheritedByWhatIsAttachedWhileTheServiceIsAway) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    const ScratchFile file(MiB, "allowed-away.img");
    const unsigned number = own_number();
    const auto user = connect(allowed_user);
    ASSERT_EQ(attach_as(*user, file, {{"number", u32(number)}}), object_of(number));
    stack().stop_loopd(signal);
    ASSERT_EQ(kernel_detach(number), 0);
    ASSERT_EQ(kernel_attach(number, file.fd()), 0);  // the very same file
    stack().start_loopd();
    EXPECT_EQ(owner_of(object_of(number)), u32(0));
    EXPECT_FALSE(user->device(object_of(number), "Remove").ok());
    EXPECT_EQ(kernel_detach(number), 0);
    let_events_arrive();
  }
}

TEST_F(Ownership, IsNotInheritedByWhatIsAttachedWhileTheServiceWatches) {
  const ScratchFile file(MiB, "allowed-watched.img");
  const unsigned number = own_number();
  const auto user = connect(allowed_user);
  ASSERT_EQ(attach_as(*user, file, {{"number", u32(number)}}), object_of(number));
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  EXPECT_FALSE(user->device(object_of(number), "Remove").ok()) << "before its events have come";
  EXPECT_TRUE(is_attached(number));
  let_events_arrive();
  EXPECT_EQ(owner_of(object_of(number)), u32(0));
  EXPECT_FALSE(user->device(object_of(number), "Remove").ok());
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Ownership, IsLostWithTheFileThatSomebodySwaps) {
  const ScratchFile file(MiB, "allowed-swapped.img");
  const ScratchFile next(MiB);
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file, {{"read-only", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const unsigned number = number_of(object);
  {
    const loop::UniqueFd node(::open(node_of(number).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::ioctl(node.get(), LOOP_CHANGE_FD, next.fd()), 0);
  }
  EXPECT_FALSE(user->device(object, "Remove").ok());
  let_events_arrive();
  EXPECT_EQ(owner_of(object), u32(0));
  EXPECT_FALSE(user->device(object, "Remove").ok());
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Ownership, LeavesNoRecordOfWhatIsGone) {
  const std::set<std::string> before = state_files();
  const ScratchFile file(MiB, "allowed-recorded.img");
  const auto user = connect(allowed_user);
  const std::string removed = attach_as(*user, file);
  EXPECT_EQ(state_files().size(), before.size() + 1);
  ASSERT_TRUE(succeeds(user->device(removed, "Remove")));
  EXPECT_EQ(state_files(), before);
  const std::string detached = attach_as(*user, file);
  ASSERT_EQ(kernel_detach(number_of(detached)), 0);
  let_events_arrive();
  EXPECT_EQ(state_files(), before);
  EXPECT_FALSE(user->attach(file.fd(), {{"offset", u64(2 * MiB)}}).ok());
  EXPECT_EQ(state_files(), before);
}

// Whatever a kill leaves in the state directory is not read as something else.
TEST_F(Ownership, IsNobodysWhereTheRecordIsDamaged) {
  const ScratchFile file(MiB, "allowed-damaged.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file);
  ASSERT_FALSE(object.empty());
  const std::string record = stack().state_directory() + "/" + *sysfs(number_of(object), "diskseq");
  ASSERT_TRUE(std::filesystem::exists(record)) << record;
  for (const char* content : {"", "LOOPD_OWNER_UID=", "LOOPD_OWNER_UID=9\n", "\n\n", "nonsense"}) {
    stack().stop_loopd(SIGKILL);
    std::ofstream(record, std::ios::trunc) << content;
    stack().start_loopd();
    EXPECT_EQ(owner_of(object), u32(0)) << content;
  }
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  EXPECT_FALSE(std::filesystem::exists(record)) << "nobody ever takes it away";
}

// A service that was killed in the midst of an attach leaves an intent. Who got no answer deletes the file,
// and the next file that somebody makes has its inode.
class AnIntent : public Ownership {
 protected:
  // The service starts and finds the intent, of that file, born so much earlier, and what is attached.
  void find_attached(const ScratchFile& file, int64_t older_by, bool by_losetup) {
    stack().stop_loopd(SIGKILL);
    number_ = own_number();
    struct statx facts {};
    ASSERT_EQ(::statx(file.fd(), "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &facts), 0);
    const int64_t birth = facts.stx_btime.tv_sec * 1'000'000'000 + facts.stx_btime.tv_nsec - older_by;
    std::ofstream(intent()) << "LOOPD_OWNER_UID=" << allowed_user << "\nLOOPD_NUMBER=" << number_
                            << "\nLOOPD_DISK_SEQUENCE_BEFORE=1\nLOOPD_BACKING_DEV="
                            << makedev(facts.stx_dev_major, facts.stx_dev_minor)
                            << "\nLOOPD_BACKING_INODE=" << facts.stx_ino << "\nLOOPD_BACKING_BIRTH=" << birth
                            << "\nLOOPD_SERVED_LOCALLY=1\n";
    if (by_losetup) {
      const CommandResult attached = run({"losetup", node_of(number_), file.path()});
      ASSERT_EQ(attached.status, 0) << attached.output;
    } else {
      ASSERT_EQ(kernel_attach(number_, file.fd()), 0);
    }
    stack().start_loopd();
    EXPECT_FALSE(std::filesystem::exists(intent()));
  }
  bool is_attached() const { return sysfs(number_, "loop/backing_file").has_value(); }
  std::string intent() const { return stack().state_directory() + "/intent-" + std::to_string(number_); }

  void TearDown() override {
    if (is_attached()) kernel_detach(number_);
    Ownership::TearDown();
  }

  unsigned number_ = 0;
};

TEST_F(AnIntent, TakesWithItWhatTheKilledServiceAttached) {
  const ScratchFile file(MiB, "allowed-half-made.img");
  ASSERT_NO_FATAL_FAILURE(find_attached(file, 0, false));
  EXPECT_FALSE(is_attached());
}

TEST_F(AnIntent, LeavesAnotherFileThatHasTheInodeNow) {
  const ScratchFile file(MiB, "allowed-inode-of-another.img");
  ASSERT_NO_FATAL_FAILURE(find_attached(file, 1, false));
  ASSERT_TRUE(is_attached());
  EXPECT_EQ(owner_of(object_of(number_)), u32(0));
}

TEST_F(AnIntent, LeavesWhatLosetupAttached) {
  const ScratchFile file(MiB, "allowed-by-losetup.img");
  ASSERT_NO_FATAL_FAILURE(find_attached(file, 0, true));
  ASSERT_TRUE(is_attached());
  EXPECT_EQ(owner_of(object_of(number_)), u32(0));
}

// Clients of two users who attach and remove until the service dies under them.
class Storm {
 public:
  static constexpr unsigned clients = 4;

  Storm(const std::string& address, const std::vector<std::unique_ptr<ScratchFile>>& files) {
    for (unsigned i = 0; i < clients; ++i) {
      threads_.emplace_back([this, address, i, file = files[i]->fd()] { work(address, user(i), file); });
    }
  }

  // Whose the devices of a file are.
  static uid_t user(unsigned file) { return file % 2 == 0 ? allowed_user : another_user; }
  ~Storm() { end(); }

  bool wait_for_answers(unsigned count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, long_enough, [&] { return answers_ >= count; });
  }
  void end() {
    ending_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  // Those that no dying service gives.
  std::set<std::string> strange_errors() const { return errors_; }

 private:
  void work(const std::string& address, uid_t uid, int file) {
    BusClient client(address, uid);
    for (unsigned turn = 0; !ending_; ++turn) {
      const Reply attached =
          client.attach(file, {{"read-only", boolean(true)}, {"partition-scan", boolean(turn % 3 == 0)}});
      if (!note(attached)) return;
      if (turn % 4 == 3) continue;
      if (!note(client.device(attached.values.at(0).text, "Remove"))) return;
    }
  }
  bool note(const Reply& reply) {
    const std::lock_guard lock(mutex_);
    ++answers_;
    changed_.notify_all();
    if (!reply.ok() && !reply.error.starts_with("org.freedesktop.DBus.Error.") && reply.error != "no reply") {
      errors_.insert(reply.error + ": " + reply.message);
    }
    return reply.ok();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned answers_ = 0;
  std::set<std::string> errors_;
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

TEST_F(Ownership, IsAddedToWithoutLosingWhatElseIsRecorded) {
  const ScratchFile file(8 * MiB, "allowed-recorded.img");
  const std::string object = attach(file, {{"reference", text("recorded")}});
  ASSERT_FALSE(object.empty());
  const std::string path = stack().state_directory() + "/" + *sysfs(number_of(object), "diskseq");
  const auto recorded = [&path] {
    std::map<std::string, std::string> values;
    std::ifstream record(path);
    for (std::string line; std::getline(record, line);) {
      const auto equals = line.find('=');
      // It is in the file's name: what was an intent has that of the number before.
      if (!line.starts_with("LOOPD_DISK_SEQUENCE")) values[line.substr(0, equals)] = line.substr(equals + 1);
    }
    return values;
  };
  auto expected = recorded();
  EXPECT_EQ(expected["LOOPD_REFERENCE"], "recorded");
  EXPECT_EQ(expected["LOOPD_KEEPS_PARTITIONS"], "0");
  ASSERT_TRUE(succeeds(root().device(object, "RescanPartitions")));
  expected["LOOPD_KEEPS_PARTITIONS"] = "1";
  EXPECT_EQ(recorded(), expected);
}

TEST_F(Ownership, IsNeverWrongWhereverTheServiceIsKilled) {
  constexpr int kills = 60;
  std::vector<std::unique_ptr<ScratchFile>> files;
  for (unsigned i = 0; i < Storm::clients; ++i) {
    files.push_back(std::make_unique<ScratchFile>(8 * MiB, "allowed-storm-" + std::to_string(i) + ".img"));
    partition(*files.back(), gpt_with_five_partitions);
  }
  std::mt19937 random(20);
  unsigned found = 0;
  for (int kill = 0; kill < kills; ++kill) {
    {
      Storm storm(stack().address(), files);
      EXPECT_TRUE(storm.wait_for_answers(static_cast<unsigned>(random() % 12)));
      // Not at an answer, but at any instant after it.
      const auto until = Clock::now() + std::chrono::microseconds(random() % 5000);
      while (Clock::now() < until) std::this_thread::yield();
      stack().stop_loopd(SIGKILL);
      storm.end();
      EXPECT_EQ(storm.strange_errors(), std::set<std::string>());
    }
    stack().start_loopd();
    std::set<std::string> records;
    for (const unsigned number : attached_numbers()) {
      ++found;
      const std::string sequence = *sysfs(number, "diskseq");
      records.insert(sequence);
      const auto file = std::find_if(files.begin(), files.end(), [&](const auto& one) {
        return one->path() == sysfs(number, "loop/backing_file");
      });
      ASSERT_NE(file, files.end());
      EXPECT_EQ(owner_of(object_of(number)), u32(Storm::user(static_cast<unsigned>(file - files.begin()))))
          << "loop" << number << " is unused, so it is somebody's or gone; kill " << kill;
      EXPECT_TRUE(std::filesystem::exists(stack().state_directory() + "/" + sequence)) << sequence;
      EXPECT_EQ(sysfs(number, "loop/autoclear"), "0") << "loop" << number << " is going to vanish";
    }
    EXPECT_EQ(state_files(), records) << "kill " << kill;
    for (const unsigned number : attached_numbers()) {
      EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove"))) << "kill " << kill;
    }
  }
  EXPECT_GT(found, 0U);
  RecordProperty("devices_found", static_cast<int>(found));
}

}  // namespace
}  // namespace bus_test

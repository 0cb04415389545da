// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What was asked of one attachment is never done to another of the same number.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

loop::UniqueFd open_node(unsigned number) {
  return loop::UniqueFd(::open(node_of(number).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

uint64_t sequence_of(int node) {
  uint64_t sequence = 0;
  return ::ioctl(node, BLKGETDISKSEQ, &sequence) < 0 ? 0 : sequence;
}

bool all_threads_stopped(const std::filesystem::path& process) {
  for (const auto& thread : std::filesystem::directory_iterator(process / "task")) {
    std::ifstream file(thread.path() / "stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    if (stat.compare(stat.rfind(')'), 3, ") T") != 0) return false;
  }
  return true;
}

bool has_open(const std::filesystem::path& process, const std::string& node) {
  for (const auto& descriptor : std::filesystem::directory_iterator(process / "fd")) {
    std::error_code closed_meanwhile;
    if (std::filesystem::read_symlink(descriptor, closed_meanwhile) == node) return true;
  }
  return false;
}

// Not while it looks at the device: what it has open nobody could detach.
void stop_while_node_is_closed(pid_t service, const std::string& node) {
  const auto process = std::filesystem::path("/proc") / std::to_string(service);
  for (;;) {
    ::kill(service, SIGSTOP);
    while (!all_threads_stopped(process)) std::this_thread::yield();
    if (!has_open(process, node)) return;
    ::kill(service, SIGCONT);
  }
}

// Somebody who attaches and detaches two files in turn, on one number. The first
// until the race for it begins, and a moment longer; then at once the second, which
// nobody else may detach.
class Swapper {
 public:
  Swapper(unsigned number, const ScratchFile& fair_game, const ScratchFile& taboo)
      : number_(number), files_{fair_game.fd(), taboo.fd()}, thread_([this] { work(); }) {}
  ~Swapper() { stop(); }

  void stop() {
    ending_ = true;
    if (thread_.joinable()) thread_.join();
  }

  uint64_t newest_fair() const { return newest_fair_; }
  void start_race(uint64_t sequence) { racing_ = sequence; }

  // Of these files' attachments: what others have detached.
  std::set<uint64_t> fair_lost() const { return lost_[0]; }
  std::set<uint64_t> taboo_lost() const { return lost_[1]; }
  const std::string& failure() const { return failure_; }

 private:
  void work() {
    std::mt19937 random(number_);
    for (unsigned turn = 0; !ending_; ++turn) {
      const size_t which = turn % 2;
      const uint64_t sequence = attach(files_[which]);
      if (sequence == 0) return;
      if (which == 0) newest_fair_ = sequence;
      while (which == 0 && racing_ != sequence && !ending_) std::this_thread::yield();
      // For a random moment: of the calls some are to come in time, some late.
      const auto until = Clock::now() + std::chrono::microseconds(random() % 3000);
      while (Clock::now() < until && !ending_) std::this_thread::yield();
      if (!detach(sequence)) lost_[which].insert(sequence);
    }
  }

  uint64_t attach(int file) {
    const auto deadline = Clock::now() + long_enough;
    while (Clock::now() < deadline) {
      const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
      ::ioctl(control.get(), LOOP_CTL_ADD, static_cast<int>(number_));
      const loop::UniqueFd node = open_node(number_);
      loop_config config{};
      config.fd = static_cast<__u32>(file);
      config.info.lo_flags = LO_FLAGS_READ_ONLY;
      if (node && ::ioctl(node.get(), LOOP_CONFIGURE, &config) == 0) return sequence_of(node.get());
      std::this_thread::yield();
    }
    failure_ = "cannot attach";
    return 0;
  }

  // False: somebody else has.
  bool detach(uint64_t sequence) {
    const auto deadline = Clock::now() + long_enough;
    bool tried = false;
    while (Clock::now() < deadline) {
      const loop::UniqueFd node = open_node(number_);
      // Busy in the very moment of a detach, or gone with its node.
      loop_info64 info{};
      const bool there =
          node && ::ioctl(node.get(), LOOP_GET_STATUS64, &info) == 0 && sequence_of(node.get()) == sequence;
      if (!there) return tried;
      if (::ioctl(node.get(), LOOP_CLR_FD, 0) == 0) tried = true;
      std::this_thread::yield();
    }
    failure_ = "cannot detach";
    return true;
  }

  unsigned number_;
  std::array<int, 2> files_;
  std::atomic<bool> ending_ = false;
  std::atomic<uint64_t> newest_fair_ = 0;
  std::atomic<uint64_t> racing_ = 0;
  std::array<std::set<uint64_t>, 2> lost_;
  std::string failure_;
  std::thread thread_;
};

class Stale : public Bus {
 protected:
  // A call that waits for polkit until it is told to go on.
  struct Question {
    explicit Question(pid_t which) : polkit(which) { ::kill(polkit, SIGSTOP); }
    ~Question() { answer(); }
    void answer() const { ::kill(polkit, SIGCONT); }
    pid_t polkit;
  };

  Reply ask_and_swap(BusClient& user, const Call& call, const std::function<void()>& swap) {
    const Question question(stack().polkit_pid());
    const auto reply = user.start(call);
    user.manager("ListDevices");  // the service has the call when it answers this
    swap();
    question.answer();
    EXPECT_TRUE(user.wait_for([&] { return reply->has_value(); }));
    return reply->value_or(Reply{.error = "none"});
  }
};

TEST_F(Stale, ARemovalNeverHitsTheAttachmentAfterTheOneThatWasMeant) {
  constexpr int races = 1000;
  constexpr int calls = 3;  // in each
  const ScratchFile fair_game(64 * KiB);
  const ScratchFile taboo(128 * KiB);
  const unsigned number = own_number();
  const std::string object = object_of(number);
  std::map<std::string, int> answers;
  std::set<uint64_t> asked;
  Swapper swapper(number, fair_game, taboo);
  uint64_t sequence = 0;
  for (int race = 0; race < races; ++race) {
    const auto published = [&] {
      const uint64_t newest = swapper.newest_fair();
      if (newest == sequence) return false;
      root().manager("FindByFile", {handle(fair_game.fd())});  // makes the service look, before udev is done
      const Reply shown = root().property(object, "DiskSequence");
      if (!shown.ok() || shown.values.at(0) != u64(newest)) return false;
      sequence = newest;
      return true;
    };
    const auto deadline = Clock::now() + long_enough;
    bool in_time = published();
    while (!in_time && Clock::now() < deadline) in_time = published();
    ASSERT_TRUE(in_time) << "race " << race << " " << swapper.failure();
    root().forget_signals();
    asked.insert(sequence);
    swapper.start_race(sequence);
    // Deleting a node takes the kernel tens of milliseconds.
    const Options wishes{{"disk-sequence", u64(sequence)}, {"keep-node", boolean(race % 4 != 0)}};
    std::vector<std::shared_ptr<std::optional<Reply>>> replies;
    for (int i = 0; i < calls; ++i) {
      replies.push_back(root().start({.object = object,
                                      .interface = device_interface,
                                      .member = "RemoveWithOptions",
                                      .arguments = {options(wishes)}}));
    }
    for (const auto& reply : replies) {
      ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
      const std::string& error = (*reply)->error;
      ++answers[error];
      EXPECT_TRUE((*reply)->ok() || error == stale || error == not_attached || error == unknown_object ||
                  error == device_busy)
          << **reply;
    }
  }
  swapper.stop();
  EXPECT_EQ(swapper.failure(), "");
  EXPECT_EQ(swapper.taboo_lost(), std::set<uint64_t>()) << "the wrong device was removed";
  for (const uint64_t lost : swapper.fair_lost()) EXPECT_TRUE(asked.contains(lost)) << lost;
  EXPECT_GT(answers[""], 0) << "no removal was in time: the race was none";
  EXPECT_LT(answers[""], races) << "no removal was late: the race was none";
  for (const auto& [error, count] : answers) {
    RecordProperty(error.empty() ? "removed" : error, count);
  }
  if (is_attached(number)) kernel_detach(number);
}

TEST_F(Stale, IsARemovalOfWhatLosetupReplacedWhilePolkitThought) {
  const ScratchFile first(MiB, "allowed-remove-before.img");
  const ScratchFile second(MiB, "allowed-remove-after.img");
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(attach(first, {{"number", u32(number)}}), object);
  const auto user = connect(another_user);
  const Call call{.object = object, .interface = device_interface, .member = "Remove"};
  const Reply reply = ask_and_swap(*user, call, [&] {
    EXPECT_EQ(kernel_detach(number), 0);
    EXPECT_EQ(kernel_attach(number, second.fd()), 0);
    let_events_arrive();
  });
  EXPECT_TRUE(fails_with(reply, stale));
  EXPECT_EQ(sysfs(number, "loop/backing_file"), second.path());
  EXPECT_EQ(kernel_detach(number), 0);
}

// The answer comes before udev has told of the change.
TEST_F(Stale, IsARemovalOfWhatWasReplacedUnheard) {
  const ScratchFile first(MiB, "allowed-remove-before.img");
  const ScratchFile second(MiB, "allowed-remove-after.img");
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(attach(first, {{"number", u32(number)}}), object);
  const auto user = connect(another_user);
  const Call call{.object = object, .interface = device_interface, .member = "Remove"};
  const Reply reply = ask_and_swap(*user, call, [&] {
    EXPECT_EQ(kernel_detach(number), 0);
    EXPECT_EQ(kernel_attach(number, second.fd()), 0);
  });
  EXPECT_TRUE(reply.error == stale || reply.error == not_attached) << reply;
  EXPECT_EQ(sysfs(number, "loop/backing_file"), second.path());
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Stale, IsARemovalOfADeviceWhoseFileWasSwapped) {
  const ScratchFile first(MiB, "allowed-remove-before.img");
  const ScratchFile second(MiB, "allowed-remove-after.img");
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_EQ(attach(first, {{"number", u32(number)}, {"read-only", boolean(true)}}), object);
  const auto user = connect(another_user);
  const Call call{.object = object, .interface = device_interface, .member = "Remove"};
  const Reply reply = ask_and_swap(
      *user, call, [&] { EXPECT_EQ(::ioctl(open_node(number).get(), LOOP_CHANGE_FD, second.fd()), 0); });
  EXPECT_TRUE(fails_with(reply, stale));
  EXPECT_EQ(sysfs(number, "loop/backing_file"), second.path());
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Stale, IsAResizeOfWhatWasReplacedWhilePolkitThought) {
  const ScratchFile first(MiB, "allowed-modify-before.img");
  const ScratchFile second(MiB, "allowed-modify-after.img");
  const unsigned number = own_number();
  const std::string object = object_of(number);
  ASSERT_TRUE(succeeds(connect(allowed_user)->attach(first.fd(), {{"number", u32(number)}})));
  const auto user = connect(another_user);
  const Call call{.object = object, .interface = device_interface, .member = "Resize"};
  const Reply reply = ask_and_swap(*user, call, [&] {
    EXPECT_EQ(kernel_detach(number), 0);
    EXPECT_EQ(kernel_attach(number, second.fd()), 0);
    second.resize(2 * MiB);
  });
  EXPECT_TRUE(reply.error == stale || reply.error == not_attached) << reply;
  EXPECT_EQ(sysfs(number, "size"), "2048") << "another's device was resized";
  EXPECT_EQ(kernel_detach(number), 0);
}

TEST_F(Stale, IsEveryMethodOfAnObjectWhoseDeviceWasReplacedUnheard) {
  const std::vector<std::pair<std::string, std::vector<Value>>> methods{
      {"Resize", {}},
      {"ResizeWithOptions", {options({{"size-limit", u64(64 * KiB)}})}},
      {"Remove", {}},
      {"RemoveWithOptions", {options({{"lazy", boolean(true)}})}},
      {"Open", {text("r")}},
      {"SetAutoclear", {boolean(true)}},
      {"SetDirectIO", {boolean(true)}},
      {"RescanPartitions", {}},
  };
  const ScratchFile first(MiB);
  const ScratchFile second(MiB);
  for (const auto& [method, arguments] : methods) {
    const unsigned number = own_number();
    const std::string object = object_of(number);
    ASSERT_EQ(attach(first, {{"number", u32(number)}}), object);
    // Stopped, the service hears of the swap and of the call at once.
    stop_while_node_is_closed(stack().loopd().pid(), node_of(number));
    const auto reply = root().start(
        {.object = object, .interface = device_interface, .member = method, .arguments = arguments});
    const int detached = kernel_detach(number);
    const int attached = kernel_attach(number, second.fd());
    ::kill(stack().loopd().pid(), SIGCONT);
    EXPECT_EQ(detached, 0);
    EXPECT_EQ(attached, 0);
    ASSERT_TRUE(root().wait_for([&] { return reply->has_value(); }));
    // Where the event came first, the call found the new device's object.
    const Reply& got = **reply;
    if (got.ok()) {
      EXPECT_TRUE(root().find_signal("InterfacesRemoved", object) != nullptr) << method;
    } else {
      EXPECT_TRUE(got.error == stale || got.error == unknown_object || got.error == not_attached)
          << method << ": " << got;
      EXPECT_EQ(sysfs(number, "loop/backing_file"), second.path()) << method;
      EXPECT_EQ(sysfs(number, "size"), "2048") << method;
      EXPECT_EQ(sysfs(number, "loop/autoclear"), "0") << method;
      EXPECT_EQ(sysfs(number, "loop/dio"), "0") << method;
    }
    reply->reset();  // a descriptor of Open would keep the device
    if (is_attached(number)) {
      EXPECT_EQ(kernel_detach(number), 0) << method;
    }
    let_events_arrive();
    root().forget_signals();
  }
}

}  // namespace
}  // namespace bus_test

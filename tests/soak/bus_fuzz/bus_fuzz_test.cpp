// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Calls of everything that the service can be asked, made up at random, by root over the
// bus and the private socket and by ordinary users: it lives, holds no more than
// before, answers others meanwhile, and nothing stays attached.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>

#include "tests/bus/bus_fixture.hpp"
#include "tests/bus/scratch.hpp"
#include "tests/bus/stack.hpp"
#include "tests/soak/bus_fuzz/fuzz_user.hpp"
#include "tests/soak/service_process.hpp"
#include "tests/soak/settings.hpp"
#include "tests/support/image.hpp"

namespace soak {
namespace {

using bus_test::BusClient;
using bus_test::ChildProcess;
using bus_test::Clock;
using bus_test::KiB;
using bus_test::MiB;
using bus_test::milliseconds;
using bus_test::Reply;
using bus_test::ScratchFile;
using bus_test::Stack;

// What the allocator keeps in pieces; a leak of a few bytes in each call of a long run would be more.
constexpr uint64_t most_growth_kib = 8 * KiB;
// Of the calls, for what libraries open once and keep, and arenas of the workers.
constexpr uint64_t warm_up_share = 8;
constexpr unsigned numbers = 20;  // of devices: few, so that there are some when they are called
constexpr unsigned connections_of_each = 5;
constexpr milliseconds slowest_answer = bus_test::long_enough;

struct User {
  const char* name;
  uid_t uid;
  bool has_private_socket;
  bool may_nothing;
};
constexpr std::array users{User{"root", 0, true, false},
                           User{"allowed user", bus_test::allowed_user, false, false},
                           User{"another allowed", bus_test::another_user, false, false},
                           User{"ordinary user", bus_test::ordinary_user, false, true}};

// What is attached. The rules of the stack let two of the users attach what is "allowed".
class Images {
 public:
  Images() {
    for (const uint64_t size : {MiB, MiB, MiB, 2 * MiB, MiB + 17, 513 * uint64_t{1}, 1024 * MiB}) add(size);
    for (int i = 0; i < 4; ++i) partition(add(8 * MiB), bus_test::gpt_with_five_partitions);
    for (int i = 0; i < 4; ++i) partition(add(16 * MiB), bus_test::mbr_with_logicals);
    add(MiB).write(0, loop::testing::pattern(64 * KiB, 7));
    add_odd();
  }
  ~Images() {
    for (const std::string& path : odd_) std::filesystem::remove(path);
  }

  std::vector<std::string> paths() const {
    std::vector<std::string> found;
    for (const auto& file : files_) found.push_back(file->path());
    return found;
  }
  const std::vector<std::string>& odd() const { return odd_; }

 private:
  ScratchFile& add(uint64_t size, const std::string& name = "allowed-fuzz-") {
    files_.push_back(std::make_unique<ScratchFile>(size, name + std::to_string(files_.size())));
    ::chmod(files_.back()->path().c_str(), 0666);
    return *files_.back();
  }

  void add_odd() {
    const std::string start = bus_test::scratch_directory() + "/allowed-odd-";
    for (const char* kind : {"directory", "link", "fifo", "empty", "short", "secret"})
      odd_.push_back(start + kind);
    ::mkdir(odd_[0].c_str(), 0755);
    ::symlink(files_[0]->path().c_str(), odd_[1].c_str());
    ::mkfifo(odd_[2].c_str(), 0666);
    for (size_t i = 3; i < odd_.size(); ++i) {
      const loop::UniqueFd fd(::open(odd_[i].c_str(), O_RDWR | O_CREAT | O_CLOEXEC, i == 5 ? 0600 : 0666));
      ::ftruncate(fd.get(), i == 3 ? 0 : i == 4 ? 100 : 4096);
    }
  }

  std::vector<std::unique_ptr<ScratchFile>> files_;
  std::vector<std::string> odd_;
};

// Gives up root for good, in a child.
void become(uid_t uid) {
  if (uid == 0) return;
  const pid_t parent = ::getppid();
  if (::setgroups(0, nullptr) < 0 || ::setresgid(uid, uid, uid) < 0 || ::setresuid(uid, uid, uid) < 0)
    ::_exit(1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // other ids have cleared it
  if (::getppid() != parent) ::_exit(1);
}

class SharedReports {
 public:
  SharedReports()
      : memory_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    for (size_t i = 0; i < users.size(); ++i) ::new (&(*this)[i]) FuzzReport();
  }
  SharedReports(const SharedReports&) = delete;
  SharedReports& operator=(const SharedReports&) = delete;
  ~SharedReports() { ::munmap(memory_, size); }

  FuzzReport& operator[](size_t user) { return static_cast<FuzzReport*>(memory_)[user]; }

 private:
  static constexpr size_t size = users.size() * sizeof(FuzzReport);
  void* memory_;
};

class BusFuzz : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "attaches real loop devices: needs root";
    std::printf("seed %" PRIu64 "\n", settings().seed);
    images_ = std::make_unique<Images>();
    territory_ = std::make_unique<Territory>(700'000 + static_cast<unsigned>(::getpid() % 1000) * numbers,
                                             numbers, images_->paths(), images_->odd());
    let_allocator_return_memory();
    stack_ = std::make_unique<Stack>();
    client_ = std::make_unique<BusClient>(stack_->address());
    learn_interface();
  }

  void TearDown() override {
    if (!stack_) return;
    if (HasFailure()) {
      const std::string log = stack_->loopd_log();
      std::fprintf(stderr, "loopd's log ends with:\n%s\n",
                   log.substr(log.size() - std::min<size_t>(log.size(), 3000)).c_str());
    }
    bus_test::sweep_scratch();
    const auto status = stack_->stop_loopd();
    EXPECT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << "loopd did not end cleanly";
  }

  // Else the service keeps tens of MiB free, in pieces between what the workers use, and a leak would
  // not be seen beside them. What it inherits from this process.
  static void let_allocator_return_memory() {
    ::setenv("MALLOC_ARENA_MAX", "1", 1);
    ::setenv("MALLOC_MMAP_THRESHOLD_", "131072", 1);
    ::setenv("MALLOC_TRIM_THRESHOLD_", "131072", 1);
  }

  void learn_interface() {
    const ScratchFile file(16 * MiB);
    partition(file, bus_test::mbr_with_logicals);
    const Reply attached = client_->attach(file.fd(), {{"partition-scan", bus_test::boolean(true)}});
    ASSERT_TRUE(succeeds(attached));
    const std::string device = attached.values.at(0).text;
    interface_ = introspect(*client_, device, device + "/p1");
    ASSERT_TRUE(succeeds(client_->device(device, "Remove")));
    ASSERT_LE(interface_.methods.size(), most_methods);
    ASSERT_LE(error_names().size(), most_errors);
  }

  FuzzUser::Setting setting_of(const User& user, uint64_t calls, uint64_t phase) const {
    FuzzUser::Setting setting{.calls = calls,
                              .seed = settings().seed,
                              .whose = phase * users.size() + static_cast<uint64_t>(&user - users.data()),
                              .uid = user.uid,
                              .may_nothing = user.may_nothing};
    setting.addresses.assign(connections_of_each, stack_->address());
    if (user.has_private_socket) {
      setting.peers.insert(stack_->private_address());
      setting.addresses.insert(setting.addresses.end(), 3, stack_->private_address());
    }
    return setting;
  }

  std::unique_ptr<ChildProcess> start(size_t user, const FuzzUser::Setting& setting) {
    FuzzReport& report = reports_[user];
    return std::make_unique<ChildProcess>(ChildProcess::Setup{.body = [&setting, &report, this] {
      become(setting.uid);
      FuzzUser(setting, *territory_, interface_, report).run();
      return 0;
    }});
  }

  // All users, so many calls in all.
  void fuzz(uint64_t calls, uint64_t phase) {
    std::vector<FuzzUser::Setting> their_settings;
    for (const User& user : users) their_settings.push_back(setting_of(user, calls / users.size(), phase));
    std::vector<std::unique_ptr<ChildProcess>> processes;
    for (size_t i = 0; i < users.size(); ++i) processes.push_back(start(i, their_settings[i]));
    while (std::any_of(processes.begin(), processes.end(),
                       [](const auto& process) { return process->running(); }) &&
           is_served() && stack_->loopd().running()) {
      client_->wait_for([] { return false; }, milliseconds(50));
    }
    for (const auto& process : processes)
      EXPECT_EQ(process->wait(milliseconds(0)), 0) << "a user did not end well";
  }

  // Somebody who calls meanwhile has an answer.
  bool is_served() {
    const auto start = Clock::now();
    const Reply reply = client_->manager("ListDevices");
    slowest_ = std::max(slowest_, std::chrono::duration_cast<milliseconds>(Clock::now() - start));
    ++asked_;
    EXPECT_TRUE(succeeds(reply));
    return reply.ok();
  }

  struct Device {
    std::string object;
    uint64_t disk_sequence;
  };

  bool is_ours(const bus_test::Value& device) const {
    const std::string& file = device.items.at(2).text;
    return territory_->owns(bus_test::number_of(device.items.at(0).text)) ||
           file.starts_with(bus_test::scratch_directory()) ||
           file.starts_with(std::string("/memfd:") + memory_file_name);
  }

  std::vector<Device> our_devices() {
    std::vector<Device> found;
    const Reply listed = client_->manager("ListDevices");
    if (!listed.ok()) return found;
    for (const bus_test::Value& device : listed.values.at(0).items) {
      if (!is_ours(device)) continue;
      const std::string& object = device.items.at(0).text;
      const Reply sequence = client_->property(object, "DiskSequence");
      if (sequence.ok()) found.push_back({object, sequence.values.at(0).number});
    }
    return found;
  }

  bool soon(const std::function<bool()>& condition) {
    const auto deadline = Clock::now() + 3 * bus_test::long_enough;
    while (!condition()) {
      if (Clock::now() >= deadline) return false;
      client_->wait_for([] { return false; }, milliseconds(20));
    }
    return true;
  }

  // What clients left without a lease an administrator removes; a device below another in a later round.
  void remove_all() {
    std::vector<Device> left;
    std::string last;
    EXPECT_TRUE(soon([&] {
      left = our_devices();
      for (const Device& device : left) {
        const Reply reply =
            client_->remove(device.object, {{"disk-sequence", bus_test::u64(device.disk_sequence)}});
        if (reply.ok()) ++removed_;
        if (!reply.ok()) last = device.object + ": " + reply.error + ": " + reply.message;
      }
      return left.empty();
    })) << left.size()
        << " devices are left, the last: " << last;
    delete_kept_nodes();
  }

  // Those that clients wanted to keep.
  void delete_kept_nodes() {
    const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    for (unsigned i = 0; i < numbers; ++i) {
      const unsigned number = territory_->first_number() + i;
      EXPECT_FALSE(bus_test::is_attached(number)) << number;
      ::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<int>(number));
    }
  }

  // Without those of helpers that are just ending.
  std::vector<std::string> settled_descriptors(pid_t process) {
    std::vector<std::string> found;
    EXPECT_TRUE(soon([&] {
      found = open_descriptors(process);
      return std::count(found.begin(), found.end(), "anon_inode:[pidfd]") == 0;
    })) << testing::PrintToString(found);
    return found;
  }

  uint64_t sum(const std::function<uint64_t(const FuzzReport&)>& of) {
    uint64_t total = 0;
    for (size_t i = 0; i < users.size(); ++i) total += of(reports_[i]);
    return total;
  }

  void expect_no_findings() {
    for (size_t i = 0; i < users.size(); ++i) {
      EXPECT_EQ(reports_[i].findings, 0U) << "the first of them:\n" << reports_[i].text.data();
    }
  }

  uint64_t successes(const std::string& interface) {
    uint64_t found = 0;
    for (size_t i = 0; i < interface_.methods.size(); ++i) {
      if (interface_.methods[i].interface != interface) continue;
      found += sum([i](const FuzzReport& report) { return report.succeeded[i].load(); });
    }
    return found;
  }

  // A run that reaches nothing would find nothing.
  void expect_reach() {
    for (size_t i = 0; i < interface_.methods.size(); ++i) {
      const Method& method = interface_.methods[i];
      EXPECT_GT(sum([i](const FuzzReport& report) { return report.called[i].load(); }), 0U) << method.text();
      EXPECT_GT(successes(method.interface), 0U) << method.interface;
    }
    EXPECT_GT(removed_, 0U) << "no device that a client had left";
  }

  void print_error(size_t index) {
    std::printf("  %-60s %8" PRIu64 "\n", error_names()[index].c_str(),
                sum([index](const FuzzReport& report) { return report.errors[index].load(); }));
    for (size_t i = 0; i < users.size(); ++i) {
      const char* example = reports_[i].examples[index].data();
      if (*example != '\0') std::printf("    %s: %s\n", users[i].name, example);
    }
  }

  void print_figures(double seconds) {
    for (size_t i = 0; i < users.size(); ++i) {
      const FuzzReport& report = reports_[i];
      std::printf("%s: %" PRIu64 " messages over %" PRIu64 " connections, %" PRIu64
                  " of them broken, %" PRIu64 " answers, %" PRIu64 " calls hung up on\n",
                  users[i].name, report.calls.load(), report.connections.load(), report.broken.load(),
                  report.answers.load(), report.dropped.load());
    }
    for (size_t i = 0; i < interface_.methods.size(); ++i) {
      std::printf("  %-60s %8" PRIu64 " calls, %" PRIu64 " succeeded\n", interface_.methods[i].text().c_str(),
                  sum([i](const FuzzReport& report) { return report.called[i].load(); }),
                  sum([i](const FuzzReport& report) { return report.succeeded[i].load(); }));
    }
    for (size_t i = 0; i < error_names().size(); ++i) print_error(i);
    const uint64_t calls = sum([](const FuzzReport& report) { return report.calls.load(); });
    std::printf("%" PRIu64
                " calls in %.1f s, %.0f a second; %u devices without a lease removed; the slowest of %u "
                "answers to somebody beside took %lld ms\n",
                calls, seconds, static_cast<double>(calls) / seconds, removed_, asked_,
                static_cast<long long>(slowest_.count()));
  }

  std::unique_ptr<Images> images_;
  std::unique_ptr<Territory> territory_;
  std::unique_ptr<Stack> stack_;
  std::unique_ptr<BusClient> client_;
  Interface interface_;
  SharedReports reports_;
  milliseconds slowest_{0};
  unsigned asked_ = 0;
  unsigned removed_ = 0;
};

TEST_F(BusFuzz, NeitherHarmsTheServiceNorLeavesAnything) {
  const pid_t process = stack_->loopd().pid();
  const auto start = Clock::now();
  fuzz(settings().calls / warm_up_share, 0);
  remove_all();
  const auto descriptors = settled_descriptors(process);
  const uint64_t resident = resident_kib(process);

  fuzz(settings().calls - settings().calls / warm_up_share, 1);
  remove_all();
  const auto took = std::chrono::duration<double>(Clock::now() - start).count();
  EXPECT_TRUE(stack_->loopd().running()) << "loopd died";
  EXPECT_TRUE(soon([&] { return descriptors_since(descriptors, process).empty(); }))
      << "descriptors are left: " << testing::PrintToString(descriptors_since(descriptors, process));
  EXPECT_LE(resident_kib(process), resident + most_growth_kib);
  EXPECT_TRUE(soon([&] { return state_files(stack_->state_directory()).empty(); }))
      << testing::PrintToString(state_files(stack_->state_directory()));
  EXPECT_EQ(bus_test::sweep_scratch(), std::vector<std::string>());
  EXPECT_LT(slowest_, slowest_answer);
  expect_no_findings();
  expect_reach();
  print_figures(took);
  std::printf("resident %" PRIu64 " KiB after an eighth, %" PRIu64 " KiB at the end\n", resident,
              resident_kib(process));
}

}  // namespace
}  // namespace soak

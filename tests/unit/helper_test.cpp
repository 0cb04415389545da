// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The seam to the kernel by way of a helper: the same code above it, the same
// devices below, and nothing left of what nobody waits for.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "core/file_helpers.hpp"
#include "core/file_locality.hpp"
#include "core/helper_kernel.hpp"
#include "core/helper_server.hpp"
#include "core/loop_manager.hpp"
#include "core/removal.hpp"
#include "core/resizing.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto patience = 10'000ms;
constexpr auto no_patience = 20ms;

// A helper that is a thread here, on the fake kernel.
class ByWayOfAHelper : public ::testing::Test {
 protected:
  ~ByWayOfAHelper() override { end(); }

  HelperKernel& start(std::chrono::milliseconds time = patience) { return start(kernel_, time); }

  HelperKernel& start(LoopKernel& local, std::chrono::milliseconds time) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    its_socket_ = pair[1];
    server_ = std::thread([this, mine = UniqueFd(pair[1])] { serve_helper(mine.get(), kernel_); });
    way_ = std::make_unique<HelperKernel>(local, UniqueFd(pair[0]), time);
    return *way_;
  }

  // Hangs up, and waits until the helper has tidied up.
  void end() {
    way_.reset();
    if (server_.joinable()) server_.join();
  }

  static AttachRequest request() {
    AttachRequest request;
    request.file = memory_file(4 * mib);
    return request;
  }

  FakeLoopKernel kernel_;
  int its_socket_ = -1;  // the helper closes it when it ends
  std::thread server_;
  std::unique_ptr<HelperKernel> way_;
};

TEST_F(ByWayOfAHelper, AFileIsAttachedAsItWouldBeDirectly) {
  LoopManager loops(start());
  AttachRequest wanted = request();
  wanted.offset = 4096;
  wanted.size_limit = mib;
  wanted.block_size = 4096;
  wanted.reference = "by-helper";
  Attachment attachment = loops.attach(wanted);
  const unsigned number = attachment.snapshot().number;
  EXPECT_EQ(attachment.snapshot().size, mib);
  EXPECT_EQ(attachment.snapshot().reference, "by-helper");
  attachment.commit();
  end();
  ASSERT_TRUE(kernel_.bound(number));
  EXPECT_EQ(kernel_.info(number).lo_offset, 4096U);
  EXPECT_EQ(kernel_.open_nodes(), 0);
}

TEST_F(ByWayOfAHelper, PartitionsAreAdded) {
  LoopManager loops(start());
  AttachRequest wanted = request();
  write_gpt(wanted.file.get(), 4 * mib, {{1 * mib, 1 * mib, "one"}, {2 * mib, 1 * mib, "two"}});
  wanted.partition_scan = PartitionScan::service;
  Attachment attachment = loops.attach(wanted);
  EXPECT_EQ(attachment.partitions().size(), 2U);
  EXPECT_EQ(kernel_.partitions(attachment.snapshot().number).size(), 2U);
  attachment.commit();
}

TEST_F(ByWayOfAHelper, AnAttachmentThatIsNotCommittedIsUndone) {
  LoopManager loops(start());
  const std::string before = kernel_.describe();
  { Attachment attachment = loops.attach(request()); }
  end();
  EXPECT_EQ(kernel_.describe(), before);
}

TEST_F(ByWayOfAHelper, ADeviceIsResizedAndRemoved) {
  LoopManager loops(start());
  AttachRequest wanted = request();
  Attachment attachment = loops.attach(wanted);
  const unsigned number = attachment.snapshot().number;
  const uint64_t sequence = attachment.snapshot().disk_sequence;
  attachment.commit();
  ASSERT_EQ(::ftruncate(wanted.file.get(), 8 * mib), 0);
  EXPECT_EQ(resize(*way_, number, sequence).after, 8 * mib);
  remove(loops, number, sequence);
  end();
  EXPECT_FALSE(kernel_.bound(number));
  EXPECT_EQ(kernel_.open_nodes(), 0);
}

TEST_F(ByWayOfAHelper, AFileIsFoundByItsPath) {
  LoopKernel& kernel = start();
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(file.get(), 5000), 0);
  const auto found = kernel.find_file(path);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->size, 5000U);
  EXPECT_EQ(found->identity, identify_file(file.get()));
  EXPECT_EQ(kernel.find_file(directory.path()), std::nullopt);
  EXPECT_EQ(kernel.find_file(path + "/nothing"), std::nullopt);
}

TEST_F(ByWayOfAHelper, ABadFileIsRefusedInTheSameWords) {
  LoopManager loops(start());
  AttachRequest wanted;
  wanted.file.reset(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  try {
    loops.attach(wanted);
    FAIL() << "a directory was attached";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("a directory"), std::string::npos) << error.what();
  }
}

TEST_F(ByWayOfAHelper, AHelperThatHangsIsATimeoutAndWhatItAttachesAfterAllIsUndone) {
  std::mutex mutex;
  std::condition_variable wake;
  bool answers = false;
  kernel_.before(Call::configure, [&](unsigned) {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return answers; });
  });
  // The fake kernel stands still while it hangs: this side looks at another one.
  FakeLoopKernel here;
  LoopManager loops(start(here, no_patience));
  const std::string before = kernel_.describe();
  try {
    loops.attach(request());
    ADD_FAILURE() << "it was attached in time";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::timeout) << error.what();
  }
  EXPECT_TRUE(here.bound_numbers().empty());
  {
    const std::lock_guard lock(mutex);
    answers = true;
  }
  wake.notify_all();
  end();
  EXPECT_EQ(kernel_.describe(), before);
}

TEST_F(ByWayOfAHelper, AServiceThatDiesInTheMiddleLeavesNothing) {
  start();
  const std::string before = kernel_.describe();
  std::unique_ptr<LoopControl> control;
  ASSERT_EQ(way_->open_control(control), 0);
  const int number = control->get_free();
  ASSERT_GE(number, 0);
  control.reset();
  std::unique_ptr<LoopNode> node;
  ASSERT_EQ(way_->open_node(static_cast<unsigned>(number), NodeAccess::configure, node), 0);
  const UniqueFd file = memory_file(mib);
  loop_config config{};
  config.fd = static_cast<__u32>(file.get());
  ASSERT_EQ(node->configure(config), 0);
  ASSERT_TRUE(kernel_.bound(static_cast<unsigned>(number)));
  // The socket alone goes, as with the process: nothing is closed in order.
  ::shutdown(its_socket_, SHUT_RD);
  server_.join();
  EXPECT_EQ(kernel_.describe(), before);
}

TEST(FileHelpers, AreBoundedForEachUser) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  // Reads its standard input to the end, and so never answers.
  FileHelpers helpers(manager, "/usr/bin/tail", no_patience);
  std::vector<std::unique_ptr<KernelWay>> started;
  try {
    for (int i = 0; i < 100; ++i) started.push_back(helpers.way(false, 1000));
    ADD_FAILURE() << "no limit";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::limits_exceeded);
  }
  EXPECT_EQ(started.size(), 8U);
  EXPECT_NO_THROW(helpers.way(false, 1001));
}

// Each reads until we hang up, and is not gone at that very moment.
TEST(FileHelpers, ThatHaveDoneTheirWorkAreInNobodysWay) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  FileHelpers helpers(manager, "/usr/bin/cat", patience);
  std::vector<std::unique_ptr<KernelWay>> ways;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 8; ++i) ways.push_back(helpers.way(false, 1000));
    ways.clear();
  }
}

TEST(FileHelpers, TellThatOneHasEndedUntilItIsForgotten) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  FileHelpers helpers(manager, "/usr/bin/cat", patience);
  pollfd ends{helpers.ended_fd(), POLLIN, 0};
  auto way = helpers.way(false, 1000);
  EXPECT_EQ(::poll(&ends, 1, 0), 0) << "it runs";
  way.reset();
  EXPECT_EQ(::poll(&ends, 1, static_cast<int>(patience.count())), 1);
  helpers.forget_ended();
  EXPECT_EQ(::poll(&ends, 1, 0), 0) << "nothing is left of it";
}

TEST(FileHelpers, AreNotStartedForFilesThatTheKernelServes) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  FileHelpers helpers(manager, "/nonexistent/loopd-file-helper", no_patience);
  const auto way = helpers.way(true, 1000);
  EXPECT_EQ(&way->kernel(), &kernel);
  EXPECT_EQ(&way->manager(), &manager);
}

TEST(FileHelpers, SayWhichProgramIsMissing) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  FileHelpers helpers(manager, "/nonexistent/loopd-file-helper", no_patience);
  try {
    helpers.way(false, 0);
    FAIL() << "it was started";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nonexistent/loopd-file-helper"), std::string::npos);
  }
}

TEST(AFile, InMemoryIsServedLocallyAndAnUnknownOneIsNot) {
  EXPECT_TRUE(is_served_locally(memory_file(mib).get()));
  const UniqueFd proc(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(is_served_locally(proc.get()));  // not a known home of images
  EXPECT_FALSE(is_served_locally(-1));
}

}  // namespace
}  // namespace loop::testing

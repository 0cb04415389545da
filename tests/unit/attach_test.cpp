// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Attaching, against a kernel that fails, and against rivals, at every single
// call.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/attachment_records.hpp"
#include "core/error.hpp"
#include "core/free_numbers.hpp"
#include "core/loop_manager.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

constexpr uint64_t image_size = 4 * mib;

UniqueFd partitioned_image() {
  UniqueFd image = memory_file(image_size);
  write_gpt(image.get(), image_size, {{1 * mib, 1 * mib, "one"}, {2 * mib, 1 * mib, "two"}});
  return image;
}

AttachRequest plain_request() {
  AttachRequest request;
  request.file = memory_file(image_size);
  request.terms.owner = 1000;
  return request;
}

struct Scenario {
  const char* name;
  std::function<AttachRequest()> request;
  FakeLoopKernel::Options kernel;
};

std::vector<Scenario> scenarios() {
  auto partitioned = [] {
    AttachRequest request = plain_request();
    request.file = partitioned_image();
    request.partition_scan = PartitionScan::service;
    return request;
  };
  auto with_everything = [] {
    AttachRequest request = plain_request();
    request.offset = 4096;
    request.size_limit = 1 * mib;
    request.block_size = 4096;
    request.read_only = true;
    request.direct_io = true;
    request.reference = "everything";
    return request;
  };
  auto autoclear = [partitioned] {
    AttachRequest request = partitioned();
    request.autoclear = true;
    return request;
  };
  auto numbered = [] {
    AttachRequest request = plain_request();
    request.number = 12;
    return request;
  };
  const FakeLoopKernel::Options no_static{{6, 18}, 0, true};
  return {
      {"plain on a static device", plain_request, {}},
      {"plain on a device made for it", plain_request, no_static},
      {"partitioned on a static device", partitioned, {}},
      {"partitioned on a device made for it", partitioned, no_static},
      {"partitioned on 6.1", partitioned, {{6, 1}, 0, true}},
      {"everything", with_everything, no_static},
      {"everything on 5.8, which ignores limits", with_everything, {{5, 8}, 0, true}},
      {"autoclear", autoclear, {}},
      {"autoclear on a device made for it", autoclear, no_static},
      {"numbered", numbered, {}},
  };
}

class AnAttachment : public ::testing::Test {
 protected:
  std::vector<std::string> files_in_records() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.file("records"))) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  // The code of what attach() throws; nothing where it succeeds.
  std::optional<Errc> attach_error(FakeLoopKernel& kernel, const AttachRequest& request) {
    LoopManager manager(kernel, &records_);
    try {
      manager.attach(request).commit();
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    return std::nullopt;
  }

  void expect_attached_as_asked(const FakeLoopKernel& kernel, const AttachRequest& request,
                                const DeviceSnapshot& snapshot) {
    ASSERT_TRUE(kernel.bound(snapshot.number));
    const loop_info64 info = kernel.info(snapshot.number);
    struct stat st {};
    ::fstat(request.file.get(), &st);
    EXPECT_EQ(info.lo_inode, st.st_ino);
    EXPECT_EQ(info.lo_offset, request.offset);
    EXPECT_EQ(info.lo_sizelimit, request.size_limit);
    EXPECT_EQ((info.lo_flags & LO_FLAGS_READ_ONLY) != 0, request.read_only);
    EXPECT_EQ((info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0, request.autoclear);
    EXPECT_STREQ(reinterpret_cast<const char*>(info.lo_file_name), request.reference.c_str());
    EXPECT_EQ(snapshot.size, request.size_limit != 0 ? request.size_limit : image_size - request.offset);
    EXPECT_EQ(snapshot.reference, request.reference);
    if (kernel.version() < std::pair(5, 15)) return;
    EXPECT_EQ(snapshot.disk_sequence, kernel.sequence(snapshot.number));
    const auto record = records_.find(snapshot.disk_sequence);
    ASSERT_TRUE(record) << "the attachment has no record";
    EXPECT_EQ(record->owner, request.terms.owner);
    EXPECT_EQ(record->number, snapshot.number);
    EXPECT_EQ(record->backing, (FileIdentity{false, st.st_dev, st.st_ino}));
    EXPECT_EQ(files_in_records(), std::vector{std::to_string(snapshot.disk_sequence)});
  }

  void forget_records() {
    for (const std::string& name : files_in_records()) {
      std::filesystem::remove_all(directory_.file("records/" + name));
    }
  }

  TemporaryDirectory directory_;
  AttachmentRecords records_{directory_.file("records")};
  std::string message_;
};

TEST_F(AnAttachment, SucceedsInEveryScenarioAndLeavesNothingOpen) {
  for (const Scenario& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    FakeLoopKernel kernel(scenario.kernel);
    LoopManager manager(kernel, &records_);
    const AttachRequest request = scenario.request();
    Attachment attachment = manager.attach(request);
    expect_attached_as_asked(kernel, request, attachment.snapshot());
    if (request.partition_scan == PartitionScan::service) {
      EXPECT_EQ(attachment.partitions().size(), 2U);
      EXPECT_EQ(kernel.partitions(attachment.snapshot().number).size(), 2U);
    }
    attachment.commit();
    const auto holder = attachment.take_holder();
    EXPECT_EQ(holder != nullptr, request.autoclear);
    EXPECT_EQ(kernel.open_nodes(), request.autoclear ? 1 : 0);
    EXPECT_EQ(kernel.open_controls() + kernel.open_watches(), 0);
    forget_records();
  }
}

TEST_F(AnAttachment, LeavesNothingBehindWhicheverCallFails) {
  int failures = 0;
  for (const Scenario& scenario : scenarios()) {
    for (const int error_number : {EIO, EINTR, ENOMEM, ENXIO, EBUSY, EINVAL, EACCES, EPERM, ENODEV}) {
      for (int index = 1;; ++index) {
        FakeLoopKernel kernel(scenario.kernel);
        LoopManager manager(kernel, &records_);
        const AttachRequest request = scenario.request();
        const std::string before = kernel.describe();
        kernel.restart_counting();
        kernel.fail_call(index, error_number);
        std::optional<DeviceSnapshot> snapshot;
        std::string message;
        try {
          Attachment attachment = manager.attach(request);
          snapshot = attachment.snapshot();
          attachment.commit();
          if (request.autoclear) {
            EXPECT_NO_FATAL_FAILURE(expect_attached_as_asked(kernel, request, *snapshot));
          }
        } catch (const Error& error) {
          message = error.what();
        }
        if (kernel.calls() < index) {  // there is no such call any more
          forget_records();
          break;
        }
        SCOPED_TRACE(std::string(scenario.name) + ": call " + std::to_string(index) + ", " +
                     kernel.call_text(index) + ", fails with " + std::to_string(error_number) + "; " +
                     (snapshot ? "attached" : message));
        if (snapshot && !request.autoclear) {
          expect_attached_as_asked(kernel, request, *snapshot);
          EXPECT_EQ(kernel.bound_numbers().size(), 1U);
        }
        if (!snapshot) {
          ++failures;
          EXPECT_EQ(kernel.describe(), before);
          EXPECT_EQ(files_in_records(), std::vector<std::string>());
          EXPECT_FALSE(manager.claims().claimed(0) || manager.claims().claimed(12));
        }
        EXPECT_EQ(kernel.open_nodes() + kernel.open_controls() + kernel.open_watches(), 0);
        if (HasFailure()) return;
        forget_records();
      }
    }
  }
  EXPECT_GT(failures, 300) << "hardly anything failed: the script does not reach the code";
}

TEST_F(AnAttachment, IsUndoneByTheDestructorUntilItIsCommitted) {
  for (const Scenario& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    FakeLoopKernel kernel(scenario.kernel);
    LoopManager manager(kernel, &records_);
    const std::string before = kernel.describe();
    {
      const Attachment attachment = manager.attach(scenario.request());
      ASSERT_TRUE(kernel.bound(attachment.snapshot().number));
      EXPECT_TRUE(manager.claims().claimed(attachment.snapshot().number));
    }
    EXPECT_EQ(kernel.describe(), before);
    EXPECT_EQ(files_in_records(), std::vector<std::string>());
    EXPECT_FALSE(manager.claims().claimed(0) || manager.claims().claimed(12));
  }
}

TEST_F(AnAttachment, NeverTouchesTheDeviceThatARivalWinsAtAnyMoment) {
  for (const Scenario& scenario : scenarios()) {
    for (int index = 1;; ++index) {
      FakeLoopKernel kernel(scenario.kernel);
      LoopManager manager(kernel, &records_);
      const AttachRequest request = scenario.request();
      std::optional<unsigned> won;
      std::string rivals_device;
      bool came = false;
      auto rival = [&](unsigned) {
        if (came || kernel.calls() != index) return;
        came = true;
        // The number that everybody is offered, and the one that was asked for.
        const unsigned number = request.number.value_or(0);
        if (kernel.bound(number)) return;
        kernel.foreign_attach(number, 64 * kib);
        won = number;
        rivals_device = std::to_string(kernel.info(number).lo_inode);
      };
      for (int call = 0; call <= static_cast<int>(Call::attribute); ++call) {
        kernel.before(static_cast<Call>(call), rival);
      }
      kernel.restart_counting();
      const auto error = attach_error(kernel, request);
      if (!came) break;
      SCOPED_TRACE(std::string(scenario.name) + ": a rival at call " + std::to_string(index) + ", " +
                   kernel.call_text(index));
      if (won) {
        ASSERT_TRUE(kernel.bound(*won)) << "the rival's device was detached";
        EXPECT_EQ(std::to_string(kernel.info(*won).lo_inode), rivals_device);
        EXPECT_EQ(kernel.info(*won).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
        EXPECT_TRUE(kernel.partitions(*won).empty());
      }
      if (request.number && won) {
        EXPECT_EQ(error, Errc::device_busy);
      } else {
        EXPECT_FALSE(error) << message_;
      }
      if (!request.autoclear) {
        EXPECT_EQ(kernel.bound_numbers().size(), (won ? 1U : 0U) + (error ? 0U : 1U));
      }
      EXPECT_EQ(kernel.open_nodes(), 0);
      if (HasFailure()) return;
      forget_records();
    }
  }
}

TEST_F(AnAttachment, EndsAfterABoundedNumberOfAttemptsAgainstARivalWhoAlwaysWins) {
  FakeLoopKernel kernel;
  kernel.before(Call::configure, [&](unsigned number) {
    if (!kernel.bound(number)) kernel.foreign_attach(number, 64 * kib);
  });
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::no_free_device);
  EXPECT_LT(kernel.bound_numbers().size(), 200U);
  EXPECT_EQ(kernel.numbers(), kernel.bound_numbers()) << "a lost device was left unbound";
  EXPECT_EQ(files_in_records(), std::vector<std::string>());
}

TEST_F(AnAttachment, EndsSoonWhereARivalAlwaysHoldsTheNewDeviceExclusively) {
  FakeLoopKernel kernel({{6, 18}, 0, true});
  kernel.before(Call::configure, [&](unsigned number) { kernel.foreign_mount(number); });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::no_free_device);
  // It must not wait, 64 times, for somebody who has won to go away again.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(AnAttachment, TriesAgainWhileANewNodeCannotBeOpenedYet) {
  for (const int error_number : {ENXIO, ENOENT, EACCES}) {
    FakeLoopKernel kernel;
    int opens = 0;
    kernel.before(Call::open_node,
                  [&](unsigned) { kernel.fail_always(Call::open_node, ++opens <= 3 ? error_number : 0); });
    EXPECT_FALSE(attach_error(kernel, plain_request())) << message_;
    EXPECT_EQ(opens, 4);
    forget_records();
  }
}

TEST_F(AnAttachment, GivesUpOnANodeThatCanNeverBeOpened) {
  FakeLoopKernel kernel({{6, 18}, 0, true});
  kernel.fail_always(Call::open_node, ENXIO);
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::no_free_device);
  EXPECT_TRUE(kernel.numbers().empty());
}

TEST_F(AnAttachment, TakesTheChosenNumberAndMakesItsDevice) {
  FakeLoopKernel kernel;
  AttachRequest request = plain_request();
  request.number = 4711;
  EXPECT_FALSE(attach_error(kernel, request)) << message_;
  EXPECT_EQ(kernel.bound_numbers(), std::vector{4711U});
}

TEST_F(AnAttachment, RefusesAChosenNumberThatIsInUse) {
  FakeLoopKernel kernel;
  kernel.foreign_attach(3, 64 * kib);
  const std::string before = kernel.describe();
  AttachRequest request = plain_request();
  request.number = 3;
  EXPECT_EQ(attach_error(kernel, request), Errc::device_busy);
  EXPECT_NE(message_.find("loop3"), std::string::npos) << message_;
  EXPECT_EQ(kernel.describe(), before);
}

TEST_F(AnAttachment, RefusesAChosenNumberThatIsHeldExclusively) {
  FakeLoopKernel kernel;
  kernel.foreign_mount(3);  // some are mounted while empty: an installer holds it
  const std::string before = kernel.describe();
  AttachRequest request = plain_request();
  request.number = 3;
  EXPECT_EQ(attach_error(kernel, request), Errc::device_busy);
  EXPECT_EQ(kernel.describe(), before);
}

TEST_F(AnAttachment, TakesAnotherDeviceWhileSomebodyHasLockedTheFreeOne) {
  FakeLoopKernel kernel;
  kernel.foreign_lock(0);
  EXPECT_FALSE(attach_error(kernel, plain_request())) << message_;
  EXPECT_EQ(kernel.bound_numbers(), std::vector{1U});
}

TEST_F(AnAttachment, WaitsForTheLockOfAChosenNumber) {
  FakeLoopKernel kernel;
  kernel.foreign_lock(3);
  bool waited = false;
  kernel.after(Call::watch_use, [&](unsigned number) {
    waited = true;
    kernel.foreign_lock(number, false);
  });
  AttachRequest request = plain_request();
  request.number = 3;
  EXPECT_FALSE(attach_error(kernel, request)) << message_;
  EXPECT_TRUE(waited);
  EXPECT_EQ(kernel.bound_numbers(), std::vector{3U});
}

TEST_F(AnAttachment, GoesOnWhileAnotherProcessHasLockedLoopControl) {
  FakeLoopKernel kernel;
  kernel.foreign_lock_control();
  EXPECT_FALSE(attach_error(kernel, plain_request())) << message_;
}

TEST_F(AnAttachment, NeedsLinux58AndSaysSo) {
  FakeLoopKernel kernel({{5, 4}, 8, true});
  const std::string before = kernel.describe();
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::not_supported);
  EXPECT_NE(message_.find("5.8"), std::string::npos) << message_;
  EXPECT_NE(message_.find("5.4"), std::string::npos) << message_;
  EXPECT_EQ(kernel.describe(), before);
}

TEST_F(AnAttachment, SaysThatThereIsNoLoopDriver) {
  FakeLoopKernel kernel({{6, 18}, 8, false});
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::not_supported);
  EXPECT_NE(message_.find("loop-control"), std::string::npos) << message_;
}

TEST_F(AnAttachment, SaysWhyTheKernelGivesNoDevice) {
  FakeLoopKernel kernel;
  kernel.fail_always(Call::get_free, ENOSPC);
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::no_free_device);
  EXPECT_NE(message_.find(errno_text(ENOSPC)), std::string::npos) << message_;
}

TEST_F(AnAttachment, IsRefusedWhereTheKernelForcesReadOnly) {
  FakeLoopKernel kernel;
  kernel.lose_writes_to(0);
  const std::string before = kernel.describe();
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::not_writable);
  EXPECT_EQ(kernel.describe(), before);
}

// To ask the kernel for one goes through all devices there are.
TEST_F(AnAttachment, TakesTheLowestNumberThatIsKnownToBeFree) {
  FakeLoopKernel kernel;
  kernel.fail_always(Call::get_free, EIO);
  FreeNumbers known;
  known.replace({5, 3});
  LoopManager manager(kernel, &records_);
  manager.use_free_numbers(known);
  for (const unsigned number : {3U, 5U, 8U}) {  // the last is made, as none is known any more
    Attachment attachment = manager.attach(plain_request());
    EXPECT_EQ(attachment.snapshot().number, number);
    attachment.commit();
  }
}

TEST_F(AnAttachment, PassesOverKnownNumbersThatAreNotFreeAnyMore) {
  FakeLoopKernel kernel;
  kernel.foreign_attach(3);
  FreeNumbers known;
  known.replace({3, 70});  // which has no node any more
  LoopManager manager(kernel, &records_);
  manager.use_free_numbers(known);
  for (int i = 0; i < 2; ++i) {
    Attachment attachment = manager.attach(plain_request());
    EXPECT_NE(attachment.snapshot().number, 3U);
    EXPECT_TRUE(kernel.bound(attachment.snapshot().number));
    attachment.commit();
  }
  EXPECT_FALSE(kernel.exists(70));
  EXPECT_EQ(kernel.bound_numbers().size(), 3U);
}

// udev has it locked, and the kernel calls it free: another attach would lock it first.
TEST_F(AnAttachment, ClaimsTheNodeThatItMadeWhileItWaitsForItsLock) {
  FakeLoopKernel kernel({{6, 18}, 0, true});
  FreeNumbers known;
  LoopManager manager(kernel, &records_);
  manager.use_free_numbers(known);
  kernel.after(Call::add, [&](unsigned number) { kernel.foreign_lock(number); });
  std::optional<unsigned> claimed;
  kernel.before(Call::watch_use, [&](unsigned number) {
    if (manager.claims().claimed(number)) claimed = number;
    kernel.foreign_lock(number, false);
  });
  const Attachment attachment = manager.attach(plain_request());
  EXPECT_EQ(attachment.snapshot().number, claimed);
}

TEST_F(AnAttachment, GivesAKnownNumberBackWhereNothingCameOfIt) {
  FakeLoopKernel kernel;
  kernel.fail_always(Call::configure, EIO);
  FreeNumbers known;
  known.replace({3});
  LoopManager manager(kernel, &records_);
  manager.use_free_numbers(known);
  EXPECT_THROW(manager.attach(plain_request()), Error);
  EXPECT_EQ(known.take(), 3U);
  EXPECT_EQ(known.take(), std::nullopt);
}

TEST_F(AnAttachment, RepairsTheRangeThatLinux58Ignored) {
  FakeLoopKernel kernel({{5, 8}, 8, true});
  AttachRequest request = plain_request();
  request.size_limit = 64 * kib;
  LoopManager manager(kernel, &records_);
  Attachment attachment = manager.attach(request);
  EXPECT_EQ(attachment.snapshot().size, 64 * kib);
  EXPECT_EQ(attachment.snapshot().size_limit, 64 * kib);
  attachment.commit();
}

TEST_F(AnAttachment, DeletesAnEarlierUsersPartitionsBeforeItConfigures) {
  FakeLoopKernel kernel;
  kernel.foreign_partition(0, {1, 1 * mib, 1 * mib});
  kernel.foreign_partition(0, {5, 2 * mib, 1 * mib});
  bool clean = false;
  kernel.before(Call::configure, [&](unsigned number) { clean = kernel.partitions(number).empty(); });
  EXPECT_FALSE(attach_error(kernel, plain_request())) << message_;
  EXPECT_TRUE(clean) << "between CONFIGURE and the deletion the new file would show under the old table";
  EXPECT_TRUE(kernel.partitions(0).empty());
}

TEST_F(AnAttachment, CountsAPartitionThatIsThereAlready) {
  // Held open by somebody, an equal leftover cannot be deleted.
  FakeLoopKernel kernel;
  kernel.foreign_partition(0, {2, 2 * mib, 1 * mib});
  kernel.foreign_partition_open(0, 2);
  AttachRequest request = plain_request();
  request.file = partitioned_image();
  request.partition_scan = PartitionScan::service;
  LoopManager manager(kernel, &records_);
  Attachment attachment = manager.attach(request);
  EXPECT_EQ(attachment.partitions().size(), 2U);
  attachment.commit();
}

TEST_F(AnAttachment, LeavesOutAPartitionWhosePlaceIsTaken) {
  FakeLoopKernel kernel;
  kernel.foreign_partition(0, {2, 2 * mib, 512 * kib});
  kernel.foreign_partition_open(0, 2);
  AttachRequest request = plain_request();
  request.file = partitioned_image();
  request.partition_scan = PartitionScan::service;
  LoopManager manager(kernel, &records_);
  Attachment attachment = manager.attach(request);
  ASSERT_EQ(attachment.partitions().size(), 1U);
  EXPECT_EQ(attachment.partitions()[0].extent.number, 1U);
  attachment.commit();
}

TEST_F(AnAttachment, LooksOnceBeforeItAddsPartitionsOnAKernelWithAPendingScan) {
  // Up to about 6.5 the next open after CONFIGURE scans, and drops what BLKPG added.
  for (const auto& [version, expected_opens] : {std::pair{std::pair{6, 1}, 2}, {std::pair{6, 12}, 1}}) {
    FakeLoopKernel kernel({version, 8, true});
    int opens = 0;
    bool added = false;
    kernel.before(Call::open_node, [&](unsigned) {
      EXPECT_FALSE(added);
      ++opens;
    });
    kernel.before(Call::add_partition, [&](unsigned) { added = true; });
    AttachRequest request = plain_request();
    request.file = partitioned_image();
    request.partition_scan = PartitionScan::service;
    EXPECT_FALSE(attach_error(kernel, request)) << message_;
    EXPECT_TRUE(added);
    EXPECT_EQ(opens, expected_opens);
    forget_records();
  }
}

TEST_F(AnAttachment, IsUndoneWhenTheIntentCannotBeWritten) {
  FakeLoopKernel kernel;
  const std::string before = kernel.describe();
  // A directory in the place of the scratch file.
  std::filesystem::create_directory(directory_.file("records/.intent-0"));
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::failed);
  EXPECT_EQ(kernel.describe(), before);
  EXPECT_EQ(files_in_records(), std::vector<std::string>{".intent-0"});
}

TEST_F(AnAttachment, IsUndoneWhenTheRecordCannotBeWritten) {
  FakeLoopKernel kernel;
  const std::string before = kernel.describe();
  std::string blocked;
  kernel.after(Call::configure, [&](unsigned number) {
    blocked = std::to_string(kernel.sequence(number));
    std::filesystem::create_directory(directory_.file("records/" + blocked));
  });
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::failed);
  EXPECT_EQ(kernel.describe(), before);
  EXPECT_EQ(files_in_records(), std::vector{blocked}) << "the intent, or a record, is left";
}

TEST_F(AnAttachment, WritesItsIntentBeforeItConfigures) {
  FakeLoopKernel kernel;
  std::vector<AttachmentRecord> intents;
  uint64_t sequence_before = 0;
  kernel.before(Call::configure, [&](unsigned number) {
    intents = records_.intents();
    sequence_before = kernel.sequence(number);
  });
  EXPECT_FALSE(attach_error(kernel, plain_request())) << message_;
  ASSERT_EQ(intents.size(), 1U);
  EXPECT_EQ(intents[0].owner, 1000U);
  EXPECT_EQ(intents[0].number, 0U);
  EXPECT_EQ(intents[0].disk_sequence, sequence_before);
}

TEST_F(AnAttachment, IsLockedUntilItsRecordIsThereAndNoLonger) {
  FakeLoopKernel kernel;
  bool unlocked_too_early = false;
  bool locked_when_scanned = true;
  kernel.before_unlocking(
      [&](unsigned number) { unlocked_too_early |= !records_.find(kernel.sequence(number)).has_value(); });
  kernel.before(Call::add_partition, [&](unsigned number) {
    std::unique_ptr<LoopNode> node;
    locked_when_scanned = kernel.open_node(number, NodeAccess::read_only, node) < 0 || node->try_lock() < 0;
  });
  AttachRequest request = plain_request();
  request.file = partitioned_image();
  request.partition_scan = PartitionScan::service;
  EXPECT_FALSE(attach_error(kernel, request)) << message_;
  EXPECT_FALSE(unlocked_too_early) << "udev's rules would not find whose the device is";
  EXPECT_FALSE(locked_when_scanned) << "udev would come back 200 ms later, and the caller waits for it";
}

TEST_F(AnAttachment, WorksWithoutDiskSequencesAndKeepsNoRecordThen) {
  FakeLoopKernel kernel({{5, 10}, 8, true});
  LoopManager manager(kernel, &records_);
  Attachment attachment = manager.attach(plain_request());
  EXPECT_EQ(attachment.snapshot().disk_sequence, 0U);
  attachment.commit();
  EXPECT_EQ(files_in_records(), std::vector<std::string>());
}

TEST_F(AnAttachment, IsDeletedWithItsNodeAlsoWhenUdevLooksAtItWhileItIsUndone) {
  FakeLoopKernel kernel({{6, 18}, 0, true});
  kernel.before(Call::status, [&](unsigned number) { kernel.foreign_open(number); });
  kernel.fail_always(Call::status, EIO);
  // udev outlives the last descriptor of ours, and then closes: only with that
  // close the file goes.
  std::jthread udev;
  bool known = false;
  kernel.before(Call::attribute, [&](unsigned number) {
    if (kernel.open_nodes() > 0 || udev.joinable()) return;
    known = kernel.bound(number) && records_.find(kernel.sequence(number)).has_value();
    udev = std::jthread([&kernel, number] { kernel.foreign_close(number); });
  });
  EXPECT_EQ(attach_error(kernel, plain_request()), Errc::failed);
  EXPECT_TRUE(kernel.numbers().empty()) << kernel.describe();
  EXPECT_TRUE(known) << "udev's rules would take it for nobody's";
  EXPECT_EQ(files_in_records(), std::vector<std::string>());
}

TEST_F(AnAttachment, DoesNotUndoAnotherAttachmentOfTheSameNumber) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel, &records_);
  {
    const Attachment attachment = manager.attach(plain_request());
    kernel.foreign_detach(0);
    kernel.foreign_attach(0, 64 * kib);
  }
  EXPECT_EQ(kernel.bound_numbers(), std::vector{0U});
  EXPECT_EQ(kernel.info(0).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
  EXPECT_EQ(files_in_records(), std::vector<std::string>());
}

TEST_F(AnAttachment, KeepsItsClaimUntilWhoeverCommittedItReleasesIt) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel, &records_);
  Attachment attachment = manager.attach(plain_request());
  NumberClaims::Claim claim = attachment.commit();
  EXPECT_TRUE(manager.claims().claimed(0));
  claim.release();
  EXPECT_FALSE(manager.claims().claimed(0));
}

// The kernel offers the same number as long as nothing is bound to it.
TEST_F(AnAttachment, TakesTheNextFreeNodeWhereAnotherIsAtWorkOnTheOneOffered) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel, &records_);
  const NumberClaims::Claim claim = manager.claim(0);
  kernel.foreign_attach(1, 64 * kib);
  const Attachment attachment = manager.attach(plain_request());
  EXPECT_EQ(attachment.snapshot().number, 2U);
  EXPECT_EQ(kernel.numbers().size(), 8U) << "a node was made though one is free";
}

TEST_F(AnAttachment, MakesANodeWhereEveryFreeOneIsBeingWorkedOn) {
  FakeLoopKernel kernel({.static_devices = 2});
  LoopManager manager(kernel, &records_);
  const NumberClaims::Claim first = manager.claim(0);
  const NumberClaims::Claim second = manager.claim(1);
  const Attachment attachment = manager.attach(plain_request());
  EXPECT_EQ(attachment.snapshot().number, 2U);
}

TEST_F(AnAttachment, CanBeMovedWithoutBeingUndone) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel, &records_);
  {
    Attachment first = manager.attach(plain_request());
    Attachment second = std::move(first);
    second.commit();
  }
  EXPECT_TRUE(kernel.bound(0));
}

TEST_F(AnAttachment, GivesThreadsOfOneProcessDifferentDevices) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel, &records_);
  constexpr unsigned threads = 4;
  constexpr unsigned each = 10;
  std::array<std::vector<unsigned>, threads> numbers;
  {
    std::vector<std::jthread> running;
    for (auto& mine : numbers) {
      running.emplace_back([&] {
        for (unsigned i = 0; i < each; ++i) {
          Attachment attachment = manager.attach(plain_request());
          mine.push_back(attachment.snapshot().number);
          attachment.commit();
        }
      });
    }
  }
  std::set<unsigned> distinct;
  for (const auto& mine : numbers) distinct.insert(mine.begin(), mine.end());
  EXPECT_EQ(distinct.size(), threads * each);
  EXPECT_EQ(kernel.bound_numbers().size(), threads * each);
}

struct Refusal {
  int error_number;
  Errc code;
  const char* text;
};

TEST_F(AnAttachment, TellsInWordsWhatTheKernelRefused) {
  for (const Refusal& refusal :
       {Refusal{EBADF, Errc::invalid_argument, "leads back"},
        Refusal{EOVERFLOW, Errc::invalid_argument, "offset"}, Refusal{EINVAL, Errc::failed, "LOOP_CONFIGURE"},
        Refusal{ENOMEM, Errc::failed, "LOOP_CONFIGURE"}}) {
    FakeLoopKernel kernel;
    kernel.fail_always(Call::configure, refusal.error_number);
    EXPECT_EQ(attach_error(kernel, plain_request()), refusal.code);
    EXPECT_NE(message_.find(refusal.text), std::string::npos) << message_;
  }
}

class Leftovers : public AnAttachment {};

TEST_F(Leftovers, AreDeletedFromAnUnboundDevice) {
  FakeLoopKernel kernel;
  kernel.foreign_partition(2, {1, 1 * mib, 1 * mib});
  LoopManager(kernel).delete_leftover_partitions(2);
  EXPECT_TRUE(kernel.partitions(2).empty());
  EXPECT_EQ(kernel.open_nodes(), 0);
}

TEST_F(Leftovers, AreLeftAloneWhereTheDeviceIsAttachedAgain) {
  FakeLoopKernel kernel;
  kernel.foreign_attach(2, 4 * mib);
  kernel.foreign_partition(2, {1, 1 * mib, 1 * mib});
  LoopManager(kernel).delete_leftover_partitions(2);
  EXPECT_EQ(kernel.partitions(2).size(), 1U);
}

TEST_F(Leftovers, CannotBecomeANewFilesPartitionsWhileTheyAreDeleted) {
  FakeLoopKernel kernel;
  kernel.foreign_partition(2, {1, 1 * mib, 1 * mib});
  bool refused = false;
  kernel.before(Call::delete_partition, [&](unsigned number) {
    try {
      kernel.foreign_attach(number, 4 * mib);
    } catch (const std::logic_error&) {
      refused = true;
    }
  });
  LoopManager(kernel).delete_leftover_partitions(2);
  EXPECT_TRUE(refused);
  EXPECT_TRUE(kernel.partitions(2).empty());
}

TEST_F(Leftovers, OfADeviceThatIsGoneAreNoError) {
  FakeLoopKernel kernel;
  EXPECT_NO_THROW(LoopManager(kernel).delete_leftover_partitions(77));
}

}  // namespace
}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Removing: gone, or exactly as it was.
#include <gtest/gtest.h>
#include <linux/loop.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "core/attachment_records.hpp"
#include "core/error.hpp"
#include "core/loop_manager.hpp"
#include "core/removal.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

using namespace std::chrono_literals;

constexpr unsigned number = 9;  // no static one

class ARemoval : public ::testing::Test {
 protected:
  // A device like one that the service attached: record, reference, partitions.
  uint64_t attach(FakeLoopKernel& kernel, LoopManager& manager, uint32_t flags = 0) {
    const UniqueFd file = memory_file(4 * mib);
    kernel.foreign_attach(number, file.get(), flags);
    kernel.foreign_partition(number, {1, 1 * mib, 1 * mib});
    kernel.foreign_partition(number, {2, 2 * mib, 1 * mib});
    std::unique_ptr<LoopNode> node;
    kernel.open_node(number, NodeAccess::read_only, node);
    loop_info64 info{};
    node->status(info);
    std::memcpy(info.lo_file_name, "mine", 4);
    node->set_status(info);
    AttachmentRecord record;
    record.number = number;
    record.disk_sequence = kernel.sequence(number);
    if (manager.records()) manager.records()->write(record);
    return record.disk_sequence;
  }

  size_t record_count() const { return records_.all().size(); }

  std::optional<Errc> remove_error(LoopManager& manager, RemovalOptions options = {},
                                   std::chrono::milliseconds patience = probing_patience,
                                   uint64_t sequence = 0) {
    try {
      remove(manager, number, sequence, options, patience);
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    return std::nullopt;
  }

  TemporaryDirectory directory_;
  AttachmentRecords records_{directory_.file("records")};
  FakeLoopKernel kernel_;
  LoopManager manager_{kernel_, &records_};
  std::string message_;
};

TEST_F(ARemoval, DetachesAndDeletesPartitionsRecordAndNode) {
  const std::string before = kernel_.describe();
  attach(kernel_, manager_);
  EXPECT_FALSE(remove_error(manager_)) << message_;
  EXPECT_EQ(kernel_.describe(), before);
  EXPECT_EQ(record_count(), 0U);
  EXPECT_FALSE(manager_.claims().claimed(number));
}

TEST_F(ARemoval, DetachesOnOlderKernelsToo) {
  for (const auto& version : {std::pair{6, 1}, std::pair{5, 15}, std::pair{5, 8}}) {
    FakeLoopKernel kernel({version, 8, true});
    LoopManager manager(kernel, nullptr);
    const std::string before = kernel.describe();
    attach(kernel, manager);
    EXPECT_FALSE(remove_error(manager)) << message_;
    EXPECT_EQ(kernel.describe(), before);
  }
}

TEST_F(ARemoval, EitherDetachesOrLeavesTheDeviceAsItWasWhicheverCallFails) {
  int failures = 0;
  for (const auto& version : {std::pair{6, 18}, std::pair{6, 1}}) {
    for (const bool busy : {false, true}) {
      for (const bool autoclear : {false, true}) {
        for (const int error_number : {EIO, EINTR, EBUSY, EINVAL}) {
          for (int index = 1;; ++index) {
            FakeLoopKernel kernel({version, 8, true});
            LoopManager manager(kernel, &records_);
            const uint64_t sequence = attach(kernel, manager);
            if (busy || autoclear) kernel.foreign_open(number);
            if (autoclear) kernel.foreign_detach(number);  // armed: it goes with the last close
            const std::string before = kernel.describe();
            kernel.restart_counting();
            kernel.fail_call(index, error_number);
            std::optional<Errc> error;
            try {
              Removal removal(manager, number, sequence, {});
              if (removal.attempt() == Removal::State::busy && removal.give_way() == Removal::State::busy) {
                removal.refuse();
              }
              removal.finish(deadline_in(1s));
            } catch (const Error& thrown) {
              error = thrown.code();
              message_ = thrown.what();
            }
            if (kernel.calls() < index) break;
            const std::string failed_call = kernel.call_text(index);
            SCOPED_TRACE("Linux " + std::to_string(version.first) + "." + std::to_string(version.second) +
                         (busy ? ", in use" : "") + (autoclear ? ", autoclear" : "") + ": call " +
                         std::to_string(index) + ", " + failed_call + ", fails with " +
                         std::to_string(error_number) + "; " + (error ? message_ : "removed"));
            EXPECT_EQ(kernel.open_nodes() + kernel.open_controls() + kernel.open_watches(), 0);
            if (!error) {
              EXPECT_FALSE(busy || autoclear);
              EXPECT_FALSE(kernel.exists(number));
              EXPECT_EQ(record_count(), 0U);
            } else if (kernel.bound(number)) {
              ++failures;
              // What cannot be helped: the kernel itself refuses to take it back.
              if (!failed_call.starts_with("set_status")) {
                EXPECT_EQ(kernel.describe(), before);
              }
              EXPECT_EQ(record_count(), 1U);
            } else {
              // Detached, and only the node could not be deleted.
              EXPECT_TRUE(failed_call.starts_with("remove") || failed_call.starts_with("open_control") ||
                          failed_call.starts_with("clear"));
              EXPECT_EQ(record_count(), failed_call.starts_with("clear") ? 1U : 0U);
            }
            records_.erase(sequence);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
  EXPECT_GT(failures, 60) << "hardly anything failed: the script does not reach the code";
}

TEST_F(ARemoval, IsRefusedUnderAMountAndChangesNothing) {
  attach(kernel_, manager_);
  kernel_.foreign_mount(number);
  const std::string before = kernel_.describe();
  bool armed = false;
  kernel_.before(Call::clear, [&](unsigned) { armed = true; });
  EXPECT_EQ(remove_error(manager_), Errc::device_busy);
  EXPECT_FALSE(armed) << "an exclusive open tells of a mount without touching anything";
  EXPECT_EQ(kernel_.describe(), before);
  EXPECT_EQ(record_count(), 1U);
}

TEST_F(ARemoval, IsRefusedWhileAPlainDescriptorIsOpenAndTakesAutoclearBack) {
  attach(kernel_, manager_, LO_FLAGS_DIRECT_IO);
  kernel_.foreign_open(number);
  const std::string before = kernel_.describe();
  EXPECT_EQ(remove_error(manager_), Errc::device_busy);
  EXPECT_EQ(kernel_.describe(), before);
  kernel_.foreign_close(number);
  EXPECT_TRUE(kernel_.bound(number)) << "the refused device vanished with the last close";
}

TEST_F(ARemoval, IsRefusedWhileAPartitionIsOpen) {
  attach(kernel_, manager_);
  kernel_.foreign_partition_open(number, 2);
  const std::string before = kernel_.describe();
  EXPECT_EQ(remove_error(manager_), Errc::device_busy);
  EXPECT_EQ(kernel_.describe(), before);
}

TEST_F(ARemoval, LeavesAutoclearThatWasSetBeforeAsItWas) {
  attach(kernel_, manager_, LO_FLAGS_AUTOCLEAR);
  EXPECT_FALSE(kernel_.bound(number)) << "nobody holds it: attach()'s own close was the last";
  kernel_.foreign_attach(number, 1 * mib);
  kernel_.foreign_open(number);
  kernel_.foreign_detach(number);
  EXPECT_EQ(remove_error(manager_), Errc::device_busy);
  EXPECT_NE(kernel_.info(number).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
}

TEST_F(ARemoval, NeverArmsADeviceWithRequestsUnderWay) {
  attach(kernel_, manager_);
  kernel_.set_requests_under_way(number, true);
  bool armed = false;
  kernel_.before(Call::clear, [&](unsigned) { armed = true; });
  EXPECT_EQ(remove_error(manager_), Errc::device_busy);
  EXPECT_FALSE(armed);
}

TEST_F(ARemoval, SucceedsWhenTheHolderGoesDuringTheWait) {
  attach(kernel_, manager_);
  kernel_.foreign_open(number);
  int clears = 0;
  kernel_.after(Call::clear, [&](unsigned) {
    if (++clears == 2) kernel_.foreign_close(number);
  });
  EXPECT_FALSE(remove_error(manager_)) << message_;
  EXPECT_FALSE(kernel_.exists(number));
}

TEST_F(ARemoval, SucceedsWhenTheMountGoesWithinTheCallersPatience) {
  attach(kernel_, manager_);
  kernel_.foreign_mount(number);
  int opens = 0;
  kernel_.before(Call::open_node, [&](unsigned) { ++opens; });
  kernel_.after(Call::watch_use, [&](unsigned) { kernel_.foreign_unmount(number); });
  EXPECT_FALSE(remove_error(manager_, {}, 5s)) << message_;
  EXPECT_GE(opens, 1);
}

TEST_F(ARemoval, IsCommittedWhenTheLastHolderGoesWhileItIsTakenBack) {
  attach(kernel_, manager_);
  kernel_.foreign_open(number);
  Removal removal(manager_, number, 0, {});
  EXPECT_EQ(removal.attempt(), Removal::State::busy);
  kernel_.foreign_close(number);
  EXPECT_EQ(removal.attempt(), Removal::State::detached);
  removal.finish(deadline_in(1s));
  EXPECT_FALSE(kernel_.exists(number));
  EXPECT_EQ(record_count(), 0U);
}

TEST_F(ARemoval, IsTakenBackWhenItIsDestroyedHalfway) {
  attach(kernel_, manager_);
  kernel_.foreign_open(number);
  const std::string before = kernel_.describe();
  {
    Removal removal(manager_, number, 0, {});
    ASSERT_EQ(removal.attempt(), Removal::State::busy);
    ASSERT_NE(kernel_.info(number).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
  }
  EXPECT_EQ(kernel_.describe(), before);
  EXPECT_EQ(record_count(), 1U);
}

TEST_F(ARemoval, HoldsNothingOpenAfterItGaveWay) {
  attach(kernel_, manager_);
  kernel_.foreign_open(number);
  Removal removal(manager_, number, 0, {});
  ASSERT_EQ(removal.attempt(), Removal::State::busy);
  ASSERT_EQ(removal.give_way(), Removal::State::busy);
  EXPECT_EQ(kernel_.open_nodes(), 0) << "it would be a holder of the device while it waits";
  EXPECT_GE(removal.wait_fd(), 0);
}

TEST_F(ARemoval, IsStaleWhereTheNumberWasReused) {
  const uint64_t sequence = attach(kernel_, manager_);
  kernel_.foreign_detach(number);
  kernel_.foreign_attach(number, 1 * mib);
  const std::string before = kernel_.describe();
  EXPECT_EQ(remove_error(manager_, {}, probing_patience, sequence), Errc::stale);
  EXPECT_EQ(kernel_.describe(), before);
}

TEST_F(ARemoval, OfAnUnboundOrAbsentDeviceIsNotAttached) {
  EXPECT_EQ(remove_error(manager_), Errc::not_attached);
  kernel_.foreign_attach(number, 1 * mib);
  kernel_.foreign_detach(number);
  EXPECT_EQ(remove_error(manager_), Errc::not_attached);
  EXPECT_TRUE(kernel_.exists(number));
}

TEST_F(ARemoval, KeepsTheNodeWhereThatIsAsked) {
  attach(kernel_, manager_);
  EXPECT_FALSE(remove_error(manager_, {.keep_node = true})) << message_;
  EXPECT_TRUE(kernel_.exists(number));
  EXPECT_FALSE(kernel_.bound(number));
  EXPECT_TRUE(kernel_.partitions(number).empty());
}

TEST_F(ARemoval, LeavesNoPartitionOnAKeptNodeAlsoWhereUdevOpenedOneAtThatMoment) {
  attach(kernel_, manager_);
  bool opened = false;
  kernel_.before(Call::delete_partition, [&](unsigned) {
    if (!std::exchange(opened, true)) kernel_.foreign_partition_open(number, 2);
  });
  kernel_.before(Call::watch_use, [&](unsigned) {
    if (opened) kernel_.foreign_partition_close(number, 2);
  });
  EXPECT_FALSE(remove_error(manager_, {.keep_node = true})) << message_;
  EXPECT_TRUE(kernel_.partitions(number).empty());
  EXPECT_TRUE(kernel_.exists(number));
}

TEST_F(ARemoval, SaysThatAPartitionOfAKeptNodeIsHeld) {
  FakeLoopKernel old({{6, 1}, 8, true});  // where newcomers are let in
  LoopManager manager(old, &records_);
  attach(old, manager);
  old.after(Call::clear, [&](unsigned) { old.foreign_partition_open(number, 2); });
  Removal removal(manager, number, 0, {.keep_node = true});
  ASSERT_EQ(removal.attempt(), Removal::State::detached);
  try {
    removal.finish(deadline_in(20ms));
    FAIL() << "a partition is left";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::failed);
    EXPECT_STREQ(error.what(), "loop9: is detached, but a process holds a partition of it open");
  }
}

TEST_F(ARemoval, WaitsForUdevToLetGoOfTheNode) {
  attach(kernel_, manager_);
  int removes = 0;
  kernel_.before(Call::remove, [&](unsigned) {
    if (++removes == 1) kernel_.foreign_open(number);
  });
  kernel_.after(Call::remove, [&](unsigned) {
    if (removes == 2) kernel_.foreign_close(number);
  });
  EXPECT_FALSE(remove_error(manager_)) << message_;
  EXPECT_FALSE(kernel_.exists(number));
}

TEST_F(ARemoval, SucceedsWhereSomebodyAttachesToTheNumberAtOnce) {
  attach(kernel_, manager_);
  kernel_.before(Call::remove, [&](unsigned) {
    if (!kernel_.bound(number)) kernel_.foreign_attach(number, 64 * kib);
  });
  EXPECT_FALSE(remove_error(manager_)) << message_;
  EXPECT_TRUE(kernel_.bound(number));
  EXPECT_EQ(kernel_.info(number).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
}

TEST_F(ARemoval, SaysThatTheNodeIsHeldWhereItCannotBeDeleted) {
  attach(kernel_, manager_);
  kernel_.before(Call::remove, [&, once = true](unsigned) mutable {
    if (std::exchange(once, false)) kernel_.foreign_open(number);
  });
  Removal removal(manager_, number, 0, {});
  ASSERT_EQ(removal.attempt(), Removal::State::detached);
  try {
    removal.finish(deadline_in(20ms));
    FAIL() << "the node is held open";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::device_busy);
  }
  EXPECT_FALSE(kernel_.bound(number));
  EXPECT_EQ(record_count(), 0U);
}

class ALazyRemoval : public ARemoval {};

TEST_F(ALazyRemoval, IsDeferredWhileTheDeviceIsMountedAndHappensWithTheLastClose) {
  attach(kernel_, manager_);
  kernel_.foreign_mount(number);
  EXPECT_FALSE(remove_error(manager_, {.lazy = true})) << message_;
  EXPECT_TRUE(kernel_.bound(number));
  EXPECT_EQ(kernel_.open_nodes(), 0);
  kernel_.foreign_unmount(number);
  EXPECT_FALSE(kernel_.bound(number));
}

TEST_F(ALazyRemoval, OfAnUnusedDeviceHappensAtOnce) {
  attach(kernel_, manager_);
  EXPECT_FALSE(remove_error(manager_, {.lazy = true})) << message_;
  EXPECT_FALSE(kernel_.exists(number));
}

TEST_F(ALazyRemoval, IsNotTakenBackByTheDestructor) {
  attach(kernel_, manager_);
  kernel_.foreign_open(number);
  {
    Removal removal(manager_, number, 0, {.lazy = true});
    EXPECT_EQ(removal.attempt(), Removal::State::deferred);
  }
  EXPECT_NE(kernel_.info(number).lo_flags & LO_FLAGS_AUTOCLEAR, 0U);
}

}  // namespace
}  // namespace loop::testing

// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the methods of the contract do, on a scripted kernel and without a bus; each piece of work is carried
// out when the test says so.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "core/attachment_records.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"
#include "core/path_opener.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/operations.hpp"
#include "dbus/task_group.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/step_by_step.hpp"

namespace loopd {

class OperationsOnAScriptedKernel : public testing::Test {
 protected:
  static constexpr unsigned number = 3;

  // Somebody has attached it before; the service starts.
  void start_with(const loop::AttachmentTerms& terms) {
    kernel_.foreign_attach(number);
    loop::AttachmentRecord record;
    static_cast<loop::AttachmentTerms&>(record) = terms;
    record.number = number;
    record.disk_sequence = kernel_.sequence(number);
    records_.write(record);
    start(follower_.start());
    ASSERT_NE(registry_.find(number), nullptr);
  }

  void start(Task<void> task) {
    tasks_.start(std::move(task));
    scheduler_.run();
  }

  void time_passes() {
    scheduler_.let_timers_end();
    scheduler_.run();
  }

  Target target() const { return {number, kernel_.sequence(number)}; }
  bool is_attached() const { return kernel_.has_attribute(number, "loop"); }

  loop::testing::TemporaryDirectory directory_;
  loop::testing::FakeLoopKernel kernel_;
  loop::AttachmentRecords records_{directory_.file("state")};
  loop::LoopManager loops_{kernel_, &records_};
  loop::FileHelpers helpers_{loops_, "/nonexistent", std::chrono::seconds(1)};
  loop::PathOpener paths_;
  StepByStep scheduler_;
  TaskGroup tasks_{scheduler_, [](const std::exception_ptr&) { ADD_FAILURE() << "a task threw"; }};
  ObjectRegistry registry_;
  DeviceFollower follower_{scheduler_, tasks_, loops_, helpers_, registry_};
  std::string log_;
  Operations operations_{{scheduler_, loops_, paths_, helpers_, registry_, follower_,
                          [this](const std::string& line) { log_ += line + "\n"; }},
                         {},
                         tasks_};
};

}  // namespace loopd

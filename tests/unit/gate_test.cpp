// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What waits at the gate until udev's links are known: two ends of a connection in one process.
#include "dbus/gate.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-id128.h>

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

constexpr const char* properties_interface = "org.freedesktop.DBus.Properties";
constexpr const char* object_manager_interface = "org.freedesktop.DBus.ObjectManager";
constexpr const char* device = "/org/example/Loop1/loop3";

struct CloseUnref {
  void operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }
};
using Bus = std::unique_ptr<sd_bus, CloseUnref>;

Bus make_bus(loop::UniqueFd socket) {
  sd_bus* bus = nullptr;
  if (sd_bus_new(&bus) < 0) return nullptr;
  const int fd = socket.release();
  sd_bus_set_fd(bus, fd, fd);
  sd_bus_set_trusted(bus, 1);
  return Bus(bus);
}

class AGate : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), 0);
    server_ = make_bus(loop::UniqueFd(ends[0]));
    client_ = make_bus(loop::UniqueFd(ends[1]));
    ASSERT_GE(sd_bus_set_server(server_.get(), 1, sd_id128_t{}), 0);
    ASSERT_GE(sd_bus_start(server_.get()), 0);
    ASSERT_GE(sd_bus_start(client_.get()), 0);
    const Gate::Hooks hooks{[] { return size_t{0}; }, [this] { return known_; },
                            [this](const std::string& name) { return left_.contains(name); }};
    // Filters are asked in the opposite order: this is what is behind the gate.
    sd_bus_slot* slot = nullptr;
    ASSERT_GE(sd_bus_add_filter(server_.get(), &slot, on_passed, this), 0);
    behind_.reset(slot);
    gate_ = std::make_unique<Gate>(server_.get(), hooks);
  }

  struct Answer {
    std::optional<std::string> error;  // empty: it passed
  };

  std::shared_ptr<Answer> call(const char* path, const char* interface, const char* member,
                               const std::vector<std::string>& arguments = {}, const char* sender = nullptr) {
    sd_bus_message* made = nullptr;
    EXPECT_GE(sd_bus_message_new_method_call(client_.get(), &made, nullptr, path, interface, member), 0);
    const MessageReference message(made);
    for (const std::string& argument : arguments) sd_bus_message_append(made, "s", argument.c_str());
    if (sender != nullptr) {
      EXPECT_GE(sd_bus_message_set_sender(made, sender), 0);
    }
    auto answer = std::make_shared<Answer>();
    answers_.push_back(answer);
    EXPECT_GE(sd_bus_call_async(client_.get(), nullptr, made, on_answer, answer.get(), 0), 0);
    return answer;
  }

  // Both ends do what there is to do.
  void process() {
    for (int idle = 0; idle < 3; ++idle) {
      for (sd_bus* bus : {server_.get(), client_.get()}) {
        while (sd_bus_process(bus, nullptr) > 0) idle = 0;
      }
    }
  }

  std::shared_ptr<Answer> all_objects(const char* sender = nullptr) {
    return call(root_path, object_manager_interface, "GetManagedObjects", {}, sender);
  }

  void let_in() {
    known_ = true;
    gate_->let_in();
    process();
  }

  static testing::AssertionResult passed(const std::shared_ptr<Answer>& answer) {
    if (!answer->error) return testing::AssertionFailure() << "it waits";
    if (!answer->error->empty()) return testing::AssertionFailure() << *answer->error;
    return testing::AssertionSuccess();
  }

 private:
  static int on_passed(sd_bus_message* message, void*, sd_bus_error*) {
    uint8_t type = 0;
    if (sd_bus_message_get_type(message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL) return 0;
    sd_bus_reply_method_return(message, "");
    return 1;
  }

  static int on_answer(sd_bus_message* reply, void* answer, sd_bus_error*) {
    const sd_bus_error* error = sd_bus_message_get_error(reply);
    static_cast<Answer*>(answer)->error = error ? error->name : "";
    return 1;
  }

  std::vector<std::shared_ptr<Answer>> answers_;
  bool known_ = false;
  Bus server_;
  Bus client_;
  BusSlot behind_;

 protected:
  std::set<std::string> left_;
  std::unique_ptr<Gate> gate_;
};

TEST_F(AGate, KeepsWhatTellsLinksUntilTheyAreKnown) {
  const std::vector<std::shared_ptr<Answer>> calls{
      all_objects(),
      call(root_path, nullptr, "GetManagedObjects"),
      call(device, properties_interface, "GetAll", {device_interface}),
      call(device, properties_interface, "GetAll", {""}),
      call(device, properties_interface, "Get", {device_interface, "Symlinks"}),
  };
  process();
  for (const auto& answer : calls) EXPECT_FALSE(answer->error) << *answer->error;
  let_in();
  for (const auto& answer : calls) EXPECT_TRUE(passed(answer));
  const auto later = all_objects();
  process();
  EXPECT_TRUE(passed(later));
}

TEST_F(AGate, LetsEverythingElseInAtOnce) {
  const std::vector<std::shared_ptr<Answer>> calls{
      call(root_path, manager_interface, "ListDevices"),
      call(root_path, properties_interface, "GetAll", {manager_interface}),
      call(device, properties_interface, "Get", {device_interface, "Size"}),
      call(device, properties_interface, "Get", {std::string(1 << 20, 'x'), "Symlinks"}),
      call(device, properties_interface, "GetAll", {partition_interface}),
      call(device, device_interface, "Remove"),
      call(device, nullptr, "Ping"),
      call(root_path, object_manager_interface, "GetManagedObjects", {"too many arguments"}),
  };
  process();
  for (const auto& answer : calls) EXPECT_TRUE(passed(answer));
}

TEST_F(AGate, KeepsNoMoreThanItHasRoomFor) {
  constexpr size_t room = 1024;
  std::vector<std::shared_ptr<Answer>> calls;
  for (size_t i = 0; i <= room; ++i) {
    calls.push_back(all_objects());
    process();
  }
  EXPECT_EQ(calls.back()->error, error_name::limits_exceeded);
  calls.pop_back();
  let_in();
  for (const auto& answer : calls) EXPECT_TRUE(passed(answer));
}

TEST_F(AGate, KeepsLittleOfOneClient) {
  constexpr size_t room = 64;
  std::vector<std::shared_ptr<Answer>> calls;
  for (size_t i = 0; i <= room; ++i) calls.push_back(all_objects(":1.1"));
  const auto of_another = all_objects(":1.2");
  process();
  EXPECT_EQ(calls.back()->error, error_name::limits_exceeded);
  calls.pop_back();
  let_in();
  for (const auto& answer : calls) EXPECT_TRUE(passed(answer));
  EXPECT_TRUE(passed(of_another));
}

// Noted again as a client, it would be one for ever.
TEST_F(AGate, DoesNotLetInWhoHasLeft) {
  const auto gone = all_objects(":1.1");
  const auto there = all_objects(":1.2");
  process();
  left_ = {":1.1"};
  let_in();
  EXPECT_FALSE(gone->error);
  EXPECT_TRUE(passed(there));
}

TEST_F(AGate, ForgetsThoseWhoWaitWhenItGoes) {
  const auto answer = all_objects();
  process();
  gate_.reset();  // nothing leaks, as the address sanitizer would tell
  process();
  EXPECT_FALSE(answer->error);
}

}  // namespace
}  // namespace loopd

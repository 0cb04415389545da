// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Who may do what, asked of the real polkitd. The rules that some of the users have
// are in stack.cpp.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <map>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Policy : public Bus {
 protected:
  static Call attach_call(int file, bool interactive = false) {
    return {.object = root_path,
            .interface = manager_interface,
            .member = "Attach",
            .arguments = {handle(file), options({})},
            .interactive = interactive};
  }

  // Attached by that user; empty: refused.
  std::string attach_as(BusClient& user, const ScratchFile& file, const Options& wishes = {}) {
    const Reply reply = user.attach(file.fd(), wishes);
    EXPECT_TRUE(succeeds(reply));
    if (!reply.ok()) return {};
    remove_at_end(reply.values.at(0).text);
    return reply.values.at(0).text;
  }

  Reply attach_path_as(BusClient& user, const std::string& file, bool interactive = false) {
    return user.call({.object = root_path,
                      .interface = manager_interface,
                      .member = "AttachPath",
                      .arguments = {text(file), options({})},
                      .interactive = interactive});
  }
};

TEST_F(Policy, RootNeedsNoPermission) {
  const ScratchFile file(MiB);
  stack().stop_polkit();
  const std::string object = attach(file);
  EXPECT_FALSE(object.empty());
  if (!object.empty()) {
    EXPECT_TRUE(succeeds(root().device(object, "Resize")));
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
  stack().start_polkit();
}

TEST_F(Policy, AnOrdinaryUserIsToldThatAuthorizationIsInteractive) {
  const ScratchFile file(MiB);
  const auto user = connect(ordinary_user);
  EXPECT_TRUE(fails_with(user->attach(file.fd()), interactive_authorization_required));
  EXPECT_TRUE(fails_with(attach_path_as(*user, file.path()), interactive_authorization_required));
  EXPECT_TRUE(root().manager("FindByFile", {handle(file.fd())}).values.at(0).items.empty());
}

TEST_F(Policy, AnOrdinaryUserWithoutAnAgentIsDenied) {
  const ScratchFile file(MiB);
  const auto user = connect(ordinary_user);
  EXPECT_TRUE(fails_with(user->attach(file.fd(), {}, true), access_denied));
  EXPECT_TRUE(fails_with(attach_path_as(*user, file.path(), true), access_denied));
  EXPECT_TRUE(root().manager("FindByFile", {handle(file.fd())}).values.at(0).items.empty());
}

TEST_F(Policy, ARuleThatReadsTheDetailsAllowsAttach) {
  const ScratchFile allowed(MiB, "allowed.img");
  const ScratchFile other(MiB, "other.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, allowed);
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("OwnerUID"), u32(allowed_user));
  EXPECT_FALSE(user->attach(other.fd()).ok());
}

TEST_F(Policy, AnObjectIsAnnouncedWithItsOwner) {
  const ScratchFile file(MiB, "allowed-announced.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file);
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", object) != nullptr; }));
  const Value* announced =
      root().find_signal("InterfacesAdded", object)->arguments.at(1).find(device_interface);
  ASSERT_NE(announced, nullptr);
  EXPECT_EQ(announced->at("OwnerUID"), u32(allowed_user));
}

TEST_F(Policy, ARuleAllowsAttachPathAndFindByPath) {
  const ScratchFile file(MiB, "allowed-path.img");
  const auto user = connect(allowed_user);
  const Reply attached = attach_path_as(*user, file.path());
  ASSERT_TRUE(succeeds(attached));
  remove_at_end(attached.values.at(0).text);
  const Reply found = user->manager("FindByPath", {text(file.path())});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0).texts(), std::vector<std::string>{attached.values.at(0).text});
}

TEST_F(Policy, WhoMayNotAttachAPathLearnsNothingOfIt) {
  const auto user = connect(ordinary_user);
  const Reply here = attach_path_as(*user, "/etc/shadow");
  const Reply absent = attach_path_as(*user, "/etc/absent");
  EXPECT_EQ(here.error, interactive_authorization_required);
  EXPECT_EQ(here.error, absent.error);
}

TEST_F(Policy, AReferenceNeedsItsOwnPermission) {
  const ScratchFile plain(MiB, "allowed-plain.img");
  const ScratchFile named(MiB, "allowed-reference.img");
  const auto user = connect(allowed_user);
  const Reply refused = user->attach(plain.fd(), {{"reference", text("by-user")}});
  EXPECT_TRUE(fails_with(refused, interactive_authorization_required));
  EXPECT_TRUE(root().manager("FindByFile", {handle(plain.fd())}).values.at(0).items.empty());
  const std::string object = attach_as(*user, named, {{"reference", text("by-user")}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("Reference"), text("by-user"));
}

TEST_F(Policy, TheOwnerResizesAndRemovesWithoutARule) {
  const ScratchFile file(MiB, "allowed-mine.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file);
  ASSERT_FALSE(object.empty());
  file.resize(2 * MiB);
  stack().stop_polkit();  // nobody is asked
  const auto same_user = connect(allowed_user);
  const Reply resized = same_user->device(object, "Resize");
  const Reply removed = same_user->device(object, "Remove");
  stack().start_polkit();
  EXPECT_TRUE(succeeds(resized));
  EXPECT_TRUE(succeeds(removed));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(Policy, TheOwnerMayRemoveWithOptions) {
  const ScratchFile file(MiB, "allowed-mine-too.img");
  const auto user = connect(allowed_user);
  const std::string object = attach_as(*user, file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(succeeds(user->remove(object, {{"keep-node", boolean(true)}})));
}

TEST_F(Policy, AnotherUserMayNotTouchTheDevice) {
  const ScratchFile file(MiB, "allowed-not-yours.img");
  const auto owner = connect(allowed_user);
  const std::string object = attach_as(*owner, file);
  ASSERT_FALSE(object.empty());
  for (const uid_t uid : {ordinary_user, another_user}) {
    const auto other = connect(uid);
    for (const char* method : {"Resize", "Remove"}) {
      EXPECT_TRUE(fails_with(other->device(object, method), interactive_authorization_required)) << method;
      EXPECT_TRUE(fails_with(other->device(object, method, {}, true), access_denied)) << method;
    }
    EXPECT_TRUE(
        fails_with(other->remove(object, {{"lazy", boolean(true)}}), interactive_authorization_required));
  }
  EXPECT_TRUE(is_attached(number_of(object)));
  EXPECT_TRUE(succeeds(root().device(object, "Resize")));
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Policy, AUserMayNotTouchRootsDevice) {
  const ScratchFile file(MiB, "allowed-of-root.img");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const auto user = connect(allowed_user);
  EXPECT_TRUE(fails_with(user->device(object, "Resize"), interactive_authorization_required));
  EXPECT_TRUE(fails_with(user->device(object, "Remove"), interactive_authorization_required));
}

TEST_F(Policy, ARuleLetsAnotherUserResizeByDeviceAndOwner) {
  const ScratchFile file(MiB, "allowed-modify.img");
  const auto owner = connect(allowed_user);
  const std::string object = attach_as(*owner, file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(succeeds(connect(another_user)->device(object, "Resize")));
}

TEST_F(Policy, ARuleLetsAnotherUserRemoveRootsDevice) {
  const ScratchFile file(MiB, "allowed-remove.img");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  EXPECT_TRUE(succeeds(connect(another_user)->device(object, "Remove")));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(Policy, ADeviceThatLosetupAttachedIsRoots) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; }));
  EXPECT_FALSE(connect(ordinary_user)->device(object_of(number), "Remove").ok());
  EXPECT_TRUE(is_attached(number));
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

TEST_F(Policy, EverybodyMayRead) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const auto user = connect(ordinary_user);
  EXPECT_TRUE(succeeds(user->properties(object)));
  EXPECT_TRUE(succeeds(user->property(object, "Size")));
  EXPECT_TRUE(succeeds(user->properties(root_path, manager_interface)));
  EXPECT_TRUE(succeeds(user->managed_objects()));
  EXPECT_TRUE(succeeds(user->manager("ListDevices")));
  for (const char* method : {"Ping", "GetMachineId"}) {
    EXPECT_TRUE(
        succeeds(user->call({.object = object, .interface = "org.freedesktop.DBus.Peer", .member = method})));
  }
  EXPECT_TRUE(succeeds(user->call(
      {.object = object, .interface = "org.freedesktop.DBus.Introspectable", .member = "Introspect"})));
}

TEST_F(Policy, BadInputIsRefusedBeforeAnybodyIsAsked) {
  const ScratchFile file(MiB);
  const auto user = connect(ordinary_user);
  EXPECT_TRUE(fails_with(user->attach(file.fd(), {{"nonsense", u32(1)}}), invalid_args, "nonsense"));
}

TEST_F(Policy, WithoutPolkitUsersAreDenied) {
  const ScratchFile file(MiB, "allowed-but-nobody-says-so.img");
  const auto user = connect(allowed_user);
  stack().stop_polkit();
  const Reply reply = user->attach(file.fd());
  const Reply interactive = user->attach(file.fd(), {}, true);
  stack().start_polkit();
  EXPECT_TRUE(fails_with(reply, access_denied));
  EXPECT_TRUE(fails_with(interactive, access_denied));
  EXPECT_TRUE(root().manager("FindByFile", {handle(file.fd())}).values.at(0).items.empty());
  EXPECT_FALSE(attach_as(*user, file).empty()) << "polkit is back, and still nobody is allowed";
}

TEST_F(Policy, ASlowPolkitDelaysNobodyElse) {
  const ScratchFile file(MiB, "allowed-slowly.img");
  const ScratchFile other(MiB);
  const auto user = connect(allowed_user);
  const pid_t polkit = stack().polkit_pid();
  ASSERT_EQ(::kill(polkit, SIGSTOP), 0);
  const auto reply = user->start(attach_call(file.fd()));
  const std::string object = attach(other);  // answered meanwhile
  const bool listed = root().manager("ListDevices").ok();
  const bool removed = !object.empty() && root().device(object, "Remove").ok();
  user->process();
  const bool early = reply->has_value();
  ::kill(polkit, SIGCONT);
  EXPECT_TRUE(listed);
  EXPECT_TRUE(removed);
  EXPECT_FALSE(early);
  ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
  ASSERT_TRUE(succeeds(**reply));
  remove_at_end((*reply)->values.at(0).text);
}

TEST_F(Policy, ACallerWhoLeavesWhilePolkitThinksGetsNoDevice) {
  const ScratchFile file(MiB, "allowed-too-late.img");
  const pid_t polkit = stack().polkit_pid();
  auto user = connect(allowed_user);
  ASSERT_EQ(::kill(polkit, SIGSTOP), 0);
  user->start(attach_call(file.fd()));
  // The service has the call when it answers another of the same connection's.
  user->manager("ListDevices");
  const std::string name = user->unique_name();
  user.reset();
  EXPECT_TRUE(root().wait_for_name(name, false));
  ::kill(polkit, SIGCONT);
  let_events_arrive();
  EXPECT_TRUE(root().manager("FindByFile", {handle(file.fd())}).values.at(0).items.empty());
}

TEST_F(Policy, ADeviceThatIsReplacedWhilePolkitThinksIsNotRemoved) {
  const ScratchFile first(MiB, "allowed-remove-first.img");
  const ScratchFile second(MiB, "allowed-remove-second.img");
  const unsigned number = own_number();
  ASSERT_EQ(attach(first, {{"number", u32(number)}}), object_of(number));
  const auto user = connect(another_user);
  const pid_t polkit = stack().polkit_pid();
  ASSERT_EQ(::kill(polkit, SIGSTOP), 0);
  const auto reply =
      user->start({.object = object_of(number), .interface = device_interface, .member = "Remove"});
  user->manager("ListDevices");
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
  EXPECT_EQ(attach(second, {{"number", u32(number)}}), object_of(number));
  ::kill(polkit, SIGCONT);
  ASSERT_TRUE(user->wait_for([&] { return reply->has_value(); }));
  EXPECT_FALSE((*reply)->ok());
  EXPECT_EQ(sysfs(number, "loop/backing_file"), second.path());
}

TEST_F(Policy, OnlyRootMayOwnTheName) {
  const auto request = [](BusClient& client, const std::string& name) {
    return client.call({.object = "/org/freedesktop/DBus",
                        .interface = "org.freedesktop.DBus",
                        .member = "RequestName",
                        .arguments = {text(name), u32(0)},
                        .destination = "org.freedesktop.DBus"});
  };
  EXPECT_TRUE(fails_with(request(*connect(ordinary_user), service_name), access_denied));
  EXPECT_TRUE(succeeds(request(root(), service_name)));  // queued behind loopd
}

TEST_F(Policy, TheBusLetsOnlyTheContractsInterfacesIn) {
  const Reply reply =
      connect(ordinary_user)
          ->call({.object = root_path, .interface = "org.example.Other", .member = "Anything"});
  EXPECT_TRUE(fails_with(reply, access_denied));
}

TEST_F(Policy, PolkitKnowsEveryActionWithItsDefaults) {
  // 2: auth_admin, 4: auth_admin_keep, 5: yes.
  const std::map<std::string, std::vector<uint64_t>> expected{
      {"attach", {2, 2, 5}},        {"attach-path", {2, 2, 4}}, {"modify-others", {2, 2, 4}},
      {"remove-others", {2, 2, 4}}, {"open", {2, 2, 4}},        {"set-reference", {2, 2, 4}}};
  const Reply reply = root().call({.object = "/org/freedesktop/PolicyKit1/Authority",
                                   .interface = "org.freedesktop.PolicyKit1.Authority",
                                   .member = "EnumerateActions",
                                   .arguments = {text("")},
                                   .destination = "org.freedesktop.PolicyKit1"});
  ASSERT_TRUE(succeeds(reply));
  const std::string prefix = "org.example.Loop1.";
  std::map<std::string, std::vector<uint64_t>> known;
  for (const Value& action : reply.values.at(0).items) {
    const std::string& id = action.items.at(0).text;
    if (!id.starts_with(prefix)) continue;
    EXPECT_FALSE(action.items.at(1).text.empty()) << id << " has no description";
    EXPECT_FALSE(action.items.at(2).text.empty()) << id << " has no message";
    known[id.substr(prefix.size())] = {action.items.at(6).number, action.items.at(7).number,
                                       action.items.at(8).number};
  }
  EXPECT_EQ(known, expected);
}

}  // namespace
}  // namespace bus_test

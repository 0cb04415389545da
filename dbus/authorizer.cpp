// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/authorizer.hpp"

#include <chrono>
#include <optional>
#include <utility>

#include "dbus/errors.hpp"
#include "dbus/names.hpp"
#include "dbus/one_shot.hpp"

namespace loopd {
namespace {

// dbus-daemon allows a connection 128 replies under way, and our questions count.
constexpr unsigned most_questions = 100;
constexpr unsigned most_questions_per_user = 64;
constexpr unsigned most_dialogs_per_user = 8;  // nobody reads more

// A dialog waits for a person; after that nobody sits there.
constexpr std::chrono::minutes patience(5);

constexpr uint32_t allow_user_interaction = 1;

struct Answer {
  std::optional<std::string> failure;
  bool authorized = false;
  bool challenge = false;
  bool dismissed = false;
};

}  // namespace

class Authorizer::Question {
 public:
  Question(Authorizer& authorizer, uid_t uid, bool dialog) : authorizer_(authorizer), uid_(uid) {
    unsigned& of_user = authorizer_.open_questions_[uid_];
    const unsigned most = dialog ? most_dialogs_per_user : most_questions_per_user;
    if (of_user >= most || authorizer_.open_in_all_ >= most_questions) {
      throw_limits("too many authorization questions are open");
    }
    ++of_user;
    ++authorizer_.open_in_all_;
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;
  ~Question() {
    --authorizer_.open_in_all_;
    if (--authorizer_.open_questions_[uid_] == 0) authorizer_.open_questions_.erase(uid_);
  }

 private:
  Authorizer& authorizer_;
  uid_t uid_;
};

Authorizer::Authorizer(sdbus::IConnection& connection)
    : authority_(sdbus::createProxy(connection, sdbus::ServiceName("org.freedesktop.PolicyKit1"),
                                    sdbus::ObjectPath("/org/freedesktop/PolicyKit1/Authority"))) {}

Task<void> Authorizer::require(Caller caller, Action action, AuthorizationDetails details) {
  if (action == Action::none || caller.uid == 0) co_return;
  const Question question(*this, caller.uid, caller.interactive);
  const std::string name = polkit_name(action);

  // The subject is the connection, not a process id, which may be another's by
  // the time that polkit looks.
  std::map<std::string, sdbus::Variant> subject_details;
  subject_details.emplace("name", sdbus::Variant(caller.name));
  const sdbus::Struct<std::string, std::map<std::string, sdbus::Variant>> subject("system-bus-name",
                                                                                  std::move(subject_details));
  const uint32_t flags = caller.interactive ? allow_user_interaction : 0;
  const std::string no_cancellation;
  OneShot<Answer> answer;
  using Result = sdbus::Struct<bool, bool, std::map<std::string, std::string>>;
  authority_->callMethodAsync("CheckAuthorization")
      .onInterface("org.freedesktop.PolicyKit1.Authority")
      .withTimeout(patience)
      .withArguments(subject, name, details, flags, no_cancellation)
      .uponReplyInvoke([sender = answer.sender()](std::optional<sdbus::Error> error, const Result& result) {
        Answer got;
        if (error) {
          got.failure = error->getMessage();
        } else {
          got.authorized = std::get<0>(result);
          got.challenge = std::get<1>(result);
          got.dismissed = std::get<2>(result).contains("polkit.dismissed");
        }
        sender.deliver(std::move(got));
      });
  const Answer got = co_await answer;
  if (got.authorized) co_return;
  if (got.failure)
    throw_denied("not authorized for " + name + ": polkit does not answer (" + *got.failure + ")");
  if (got.dismissed) throw_denied("not authorized for " + name + ": the dialog was dismissed");
  if (got.challenge && !caller.interactive) {
    throw sdbus::Error(
        sdbus::Error::Name(error_name::interactive_authorization_required),
        "authorization for " + name + " needs a password, and the call does not allow to ask for it");
  }
  throw_denied("not authorized for " + name);
}

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <exception>
#include <tuple>
#include <utility>

#include "dbus/bus_message.hpp"
#include "dbus/bus_slot.hpp"
#include "dbus/errors.hpp"

namespace loopd {

// Serves the interface on every path that `find` knows. sd-bus calls it a fallback vtable.
// `self` is handed to `find`. Throws sdbus::Error.
BusSlot add_fallback_vtable(sd_bus* bus, const char* interface, const sd_bus_vtable* vtable,
                            sd_bus_object_find_t find, void* self);

// Flags of properties: of those that never change, and of those whose changes are told.
inline constexpr uint64_t constant = SD_BUS_VTABLE_PROPERTY_CONST;
inline constexpr uint64_t changing = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;

// The reply to a call that sd-bus dispatched; as sdbus::Result, which has the same
// members. Given once.
template <typename... Results>
class CallResult {
 public:
  explicit CallResult(sd_bus_message* call) : call_(sd_bus_message_ref(call)) {}

  void returnResults(const Results&... results) const {
    if (!sd_bus_message_get_expect_reply(call_.get())) return;
    sd_bus_message* made = nullptr;
    int r = sd_bus_message_new_method_return(call_.get(), &made);
    const MessageReference reply(made);
    if (r >= 0) {
      BusMessage message(made);
      (void)(message << ... << results);
      r = sd_bus_send(nullptr, made, nullptr);
    }
    if (r < 0) throw sdbus::createError(-r, "cannot send a reply");
  }

  void returnError(const sdbus::Error& error) const {
    const int r =
        sd_bus_reply_method_errorf(call_.get(), error.getName().c_str(), "%s", error.getMessage().c_str());
    if (r < 0) throw sdbus::createError(-r, "cannot send an error");
  }

 private:
  MessageReference call_;
};

namespace detail {

// What is thrown becomes sd-bus's answer.
template <typename Function>
int answer_of(sd_bus_error* error, Function function) {
  try {
    function();
    return 1;
  } catch (...) {
    const sdbus::Error reason = to_bus_error(std::current_exception());
    return sd_bus_error_set(error, reason.getName().c_str(), reason.getMessage().c_str());
  }
}

template <typename Method>
struct MethodParts;

template <typename Object, typename... Results, typename... Arguments>
struct MethodParts<void (Object::*)(CallResult<Results...>, Arguments...)> {
  using Class = Object;
  using Result = CallResult<Results...>;
  using Parameters = std::tuple<Arguments...>;
};

template <typename Getter>
struct GetterParts;

template <typename Object, typename Value>
struct GetterParts<Value (Object::*)()> {
  using Class = Object;
};

}  // namespace detail

// For the vtable of an interface whose member functions the methods and properties are;
// the object is what sd-bus's `find` callback gave.
template <auto Method>
int call_method(sd_bus_message* call, void* object, sd_bus_error* error) {
  using Parts = detail::MethodParts<decltype(Method)>;
  return detail::answer_of(error, [&] {
    typename Parts::Parameters parameters;
    BusMessage message(call);
    std::apply([&](auto&... each) { (void)(message >> ... >> each); }, parameters);
    std::apply(
        [&](auto&... each) {
          (static_cast<typename Parts::Class*>(object)->*Method)(typename Parts::Result(call),
                                                                 std::move(each)...);
        },
        parameters);
  });
}

template <auto Getter>
int get_property(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* object,
                 sd_bus_error* error) {
  using Class = typename detail::GetterParts<decltype(Getter)>::Class;
  return detail::answer_of(error, [&] {
    const int r = append_value(reply, (static_cast<Class*>(object)->*Getter)());
    if (r < 0) throw sdbus::createError(-r, "cannot append a property");
  });
}

}  // namespace loopd

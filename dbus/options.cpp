// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/options.hpp"

#include <algorithm>
#include <functional>

#include "dbus/errors.hpp"

namespace loopd {
namespace {

// A wait that is longer needs another call.
constexpr std::chrono::microseconds longest_timeout = std::chrono::hours(1);

template <typename Target>
struct OptionRule {
  const char* key;
  const char* type;  // D-Bus signature of the value
  std::function<void(Target&, const sdbus::Variant&)> store;
};

template <typename Value, typename Target, typename Member>
OptionRule<Target> rule(const char* key, const char* type, Member Target::*member) {
  return {key, type,
          [member](Target& target, const sdbus::Variant& value) { target.*member = value.get<Value>(); }};
}

// One that goes into the request of an attach.
template <typename Value, typename Member>
OptionRule<AttachOptions> request_rule(const char* key, const char* type,
                                       Member loop::AttachRequest::*member) {
  return {key, type, [member](AttachOptions& target, const sdbus::Variant& value) {
            target.request.*member = value.get<Value>();
          }};
}

const std::vector<OptionRule<AttachOptions>>& attach_rules() {
  using loop::AttachRequest;
  static const std::vector<OptionRule<AttachOptions>> rules{
      request_rule<uint64_t>("offset", "t", &AttachRequest::offset),
      request_rule<uint64_t>("size-limit", "t", &AttachRequest::size_limit),
      request_rule<uint32_t>("block-size", "u", &AttachRequest::block_size),
      request_rule<bool>("block-size-auto", "b", &AttachRequest::probe_block_size),
      request_rule<bool>("read-only", "b", &AttachRequest::read_only),
      {"partition-scan", "b",
       [](AttachOptions& options, const sdbus::Variant& value) {
         options.request.partition_scan =
             value.get<bool>() ? loop::PartitionScan::service : loop::PartitionScan::none;
       }},
      request_rule<bool>("direct-io", "b", &AttachRequest::direct_io),
      request_rule<std::string>("reference", "s", &AttachRequest::reference),
      request_rule<uint32_t>("number", "u", &AttachRequest::number),
      rule<bool>("reuse", "b", &AttachOptions::reuse),
      rule<bool>("allow-overlap", "b", &AttachOptions::allow_overlap),
      rule<bool>("lease", "b", &AttachOptions::lease),
      {"autoclear", "b",
       [](AttachOptions& options, const sdbus::Variant& value) {
         options.request.terms.autoclear_pending = value.get<bool>();
       }},
  };
  return rules;
}

const std::vector<OptionRule<RemoveOptions>>& remove_rules() {
  static const std::vector<OptionRule<RemoveOptions>> rules{
      {"lazy", "b",
       [](RemoveOptions& options, const sdbus::Variant& value) { options.removal.lazy = value.get<bool>(); }},
      {"keep-node", "b",
       [](RemoveOptions& options, const sdbus::Variant& value) {
         options.removal.keep_node = value.get<bool>();
       }},
      rule<uint64_t>("disk-sequence", "t", &RemoveOptions::disk_sequence),
      {"timeout", "t",
       [](RemoveOptions& options, const sdbus::Variant& value) {
         const auto microseconds = value.get<uint64_t>();
         if (microseconds > static_cast<uint64_t>(longest_timeout.count())) {
           throw_invalid("timeout: " + std::to_string(microseconds) + " µs is more than one hour");
         }
         options.timeout = std::chrono::microseconds(microseconds);
       }},
  };
  return rules;
}

const std::vector<OptionRule<loop::ResizeOptions>>& resize_rules() {
  static const std::vector<OptionRule<loop::ResizeOptions>> rules{
      rule<bool>("force", "b", &loop::ResizeOptions::force),
      rule<uint64_t>("size-limit", "t", &loop::ResizeOptions::size_limit),
  };
  return rules;
}

template <typename Target>
Target decode(const Options& options, const std::vector<OptionRule<Target>>& rules) {
  Target target;
  for (const auto& [key, value] : options) {
    const auto found = std::find_if(rules.begin(), rules.end(), [&](const auto& r) { return r.key == key; });
    if (found == rules.end()) {
      throw_invalid(key + ": is no option of this method");
    }
    const char* type = value.peekValueType();
    if (type == nullptr || found->type != std::string(type)) {
      throw_invalid(key + ": needs a value of D-Bus type '" + found->type + "', not '" + (type ? type : "") +
                    "'");
    }
    found->store(target, value);
  }
  return target;
}

}  // namespace

std::vector<std::string> attach_option_names() {
  std::vector<std::string> names;
  for (const auto& r : attach_rules()) names.emplace_back(r.key);
  return names;
}

AttachOptions decode_attach_options(const Options& options) {
  AttachOptions decoded = decode(options, attach_rules());
  if (decoded.reuse && decoded.lease) {
    throw_invalid("lease: makes no sense with reuse, as another may rely on the device");
  }
  decoded.direct_io_given = options.contains("direct-io");
  decoded.partition_scan_given = options.contains("partition-scan");
  // It goes with its last close; nothing stays behind.
  decoded.request.terms.delete_node = decoded.request.terms.autoclear_pending;
  return decoded;
}

loop::ResizeOptions decode_resize_options(const Options& options) { return decode(options, resize_rules()); }

RemoveOptions decode_remove_options(const Options& options) {
  RemoveOptions decoded = decode(options, remove_rules());
  if (decoded.removal.lazy && decoded.timeout) {
    throw_invalid("timeout: makes no sense with lazy, which never waits");
  }
  return decoded;
}

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

namespace loopd {

inline constexpr const char* bus_name = "org.example.Loop1";
inline constexpr const char* root_path = "/org/example/Loop1";
inline constexpr const char* root_parent_path = "/org/example";
inline constexpr const char* manager_interface = "org.example.Loop1.Manager";
inline constexpr const char* device_interface = "org.example.Loop1";
inline constexpr const char* partition_interface = "org.example.Loop1.Partition";

namespace error_name {
inline constexpr const char* invalid_args = "org.freedesktop.DBus.Error.InvalidArgs";
inline constexpr const char* access_denied = "org.freedesktop.DBus.Error.AccessDenied";
inline constexpr const char* interactive_authorization_required =
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
inline constexpr const char* limits_exceeded = "org.freedesktop.DBus.Error.LimitsExceeded";
inline constexpr const char* file_not_found = "org.freedesktop.DBus.Error.FileNotFound";
inline constexpr const char* not_supported = "org.freedesktop.DBus.Error.NotSupported";
inline constexpr const char* timeout = "org.freedesktop.DBus.Error.Timeout";
inline constexpr const char* unknown_method = "org.freedesktop.DBus.Error.UnknownMethod";
inline constexpr const char* unknown_object = "org.freedesktop.DBus.Error.UnknownObject";
inline constexpr const char* device_busy = "org.example.Loop1.Error.DeviceBusy";
inline constexpr const char* not_a_loop_device = "org.example.Loop1.Error.NotALoopDevice";
inline constexpr const char* not_attached = "org.example.Loop1.Error.NotAttached";
inline constexpr const char* not_writable = "org.example.Loop1.Error.NotWritable";
inline constexpr const char* overlap = "org.example.Loop1.Error.Overlap";
inline constexpr const char* stale = "org.example.Loop1.Error.Stale";
inline constexpr const char* would_truncate = "org.example.Loop1.Error.WouldTruncate";
inline constexpr const char* no_free_device = "org.example.Loop1.Error.NoFreeDevice";
inline constexpr const char* failed = "org.example.Loop1.Error.Failed";
}  // namespace error_name

}  // namespace loopd

// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <syslog.h>

#include <optional>
#include <string>

namespace loopd::log {

// The levels of syslog: LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG.
void set_max_level(int level);

// "err", "warning", "notice", "info", "debug", or 0…7.
std::optional<int> parse_level(const std::string& text);

// One line. Goes to the journal where stderr is connected to it, else to stderr.
void write(int level, const std::string& message);

inline void error(const std::string& message) { write(LOG_ERR, message); }
inline void warning(const std::string& message) { write(LOG_WARNING, message); }
inline void info(const std::string& message) { write(LOG_INFO, message); }
inline void debug(const std::string& message) { write(LOG_DEBUG, message); }

}  // namespace loopd::log

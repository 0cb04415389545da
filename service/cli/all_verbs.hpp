// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Each is in the file of its name.
#pragma once

#include "service/cli/verb.hpp"

namespace loopctl {

extern const Verb attach_verb;
extern const Verb find_verb;
extern const Verb list_verb;
extern const Verb monitor_verb;
extern const Verb open_verb;
extern const Verb probe_verb;
extern const Verb remove_verb;
extern const Verb rescan_verb;
extern const Verb resize_verb;
extern const Verb set_verb;
extern const Verb status_verb;
extern const Verb tab_verb;

}  // namespace loopctl

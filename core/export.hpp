// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

// What libloopdev.so offers; all else is hidden. The headers that are installed
// name each other without a directory, so that they are the same in the source
// tree (core/) and installed (loopdev/).
#define LOOPDEV_PUBLIC __attribute__((visibility("default")))

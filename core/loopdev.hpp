// SPDX-License-Identifier: LGPL-2.1-or-later
//
// All of libloopdev. Needs C++20. Everything is in namespace loop; sizes and
// offsets are in bytes; what fails throws loop::Error.
#pragma once

#include "attach_request.hpp"
#include "device_snapshot.hpp"
#include "error.hpp"
#include "image_probe.hpp"
#include "loop_device.hpp"
#include "partition.hpp"
#include "removal_options.hpp"
#include "resize_options.hpp"
#include "unique_fd.hpp"

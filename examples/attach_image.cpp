// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libloopdev in a page: attaches an image read-only, shows its partitions, and
// removes it. Needs root, and no service.
//
//     c++ -std=c++20 attach_image.cpp $(pkg-config --cflags --libs libloopdev) -o attach_image
//     ./attach_image disk.img
#include <fcntl.h>

#include <cstdio>
#include <cstdlib>
#include <loopdev/loopdev.hpp>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "Usage: %s IMAGE\n", argv[0]);
    return EXIT_FAILURE;
  }
  loop::AttachRequest request;
  request.file.reset(::open(argv[1], O_RDONLY | O_CLOEXEC));
  if (!request.file) {
    std::perror(argv[1]);
    return EXIT_FAILURE;
  }
  request.read_only = true;
  request.partition_scan = loop::PartitionScan::service;
  try {
    loop::LoopDevice device = loop::LoopDevice::attach(request);
    const loop::DeviceSnapshot snapshot = device.snapshot();
    std::printf("%s: %llu bytes of %s\n", device.dev_path().c_str(),
                static_cast<unsigned long long>(snapshot.size), snapshot.backing_file.c_str());
    for (const auto& [entry, dev] : device.partitions()) {
      std::printf("%sp%u: %llu bytes at %llu, %s\n", device.dev_path().c_str(), entry.extent.number,
                  static_cast<unsigned long long>(entry.extent.size),
                  static_cast<unsigned long long>(entry.extent.offset), entry.name.c_str());
    }
    device.remove();
  } catch (const loop::Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[1], error.what());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

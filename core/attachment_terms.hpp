// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>

namespace loop {

// What holds for an attachment beside what the kernel keeps of it.
struct AttachmentTerms {
  uid_t owner = 0;
  bool keeps_partitions = false;   // the service added them, and deletes them
  bool autoclear_pending = false;  // the kernel's flag is to be set at the first use
  bool delete_node = false;        // the node goes with the last close
  bool served_locally = true;      // by the kernel alone: no server that might not answer
  bool detaching = false;          // AUTOCLEAR is set for a removal that may be taken back
  std::string lease;               // unique bus name whose leaving ends the attachment
  std::string lease_bus;           // the bus's id: names start anew on another
  std::string declaration;         // the line of looptab, or the image's path, that declares it

  bool operator==(const AttachmentTerms&) const = default;
};

}  // namespace loop

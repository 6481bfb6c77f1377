// SPDX-License-Identifier: MIT
#include "rights.h"

#include <cstring>

namespace spillway::rights {

void put(msghdr &message, const int *descriptors, std::size_t count) {
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  std::memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
}

std::vector<UniqueFd> take(const msghdr &message) {
  std::vector<UniqueFd> taken;
  auto *all = const_cast<msghdr *>(&message);
  for (cmsghdr *header = CMSG_FIRSTHDR(all); header; header = CMSG_NXTHDR(all, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
      continue;
    std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t index = 0; index < count; index++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + index * sizeof(int), sizeof(fd));
      taken.emplace_back(fd);
    }
  }
  return taken;
}

} // namespace spillway::rights

// SPDX-License-Identifier: MIT
#include "manager.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace spillway::keeper {

Manager::Manager() {
  const char *path = std::getenv("NOTIFY_SOCKET");
  std::size_t letters = path ? std::strlen(path) : 0;
  if (letters < 2 || letters >= sizeof(address_.sun_path))
    return;
  address_.sun_family = AF_UNIX;
  std::memcpy(address_.sun_path, path, letters);
  if (path[0] == '@')
    address_.sun_path[0] = '\0';
  length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + letters + (path[0] == '@' ? 0 : 1));
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

void Manager::tell(const std::string &news) const {
  if (!socket_.valid() || news.empty())
    return;
  [[maybe_unused]] ssize_t sent =
      ::sendto(socket_.get(), news.data(), news.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr *>(&address_), length_);
}

} // namespace spillway::keeper

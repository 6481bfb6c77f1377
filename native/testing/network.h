// SPDX-License-Identifier: MIT
//
// A network namespace of its own for the tests of one file.
#pragma once

#include "../result.h"

namespace spillway::testing {

// Moves the calling thread, and every thread and process it starts from then on, into a new network namespace
// whose loopback interface is up. Threads that exist already stay where they are. Needs CAP_SYS_ADMIN.
Result<> unshare_network();

// Gives an interface one more IPv6 address, on its own without a network around it.
Result<> add_ipv6_address(const std::string &interface, const std::string &address);

} // namespace spillway::testing

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The selector for Linux 6.2 and newer, which reads a listener by bpf_rdonly_cast. Same maps, same programs.
#define SPILLWAY_READ_BY_CAST
#include "selector.bpf.c"

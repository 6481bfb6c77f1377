// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Counts the live connections of every slot, of any program: from the end of the handshake until the server
// has closed its side, or both have.
//
// A listener has a tag with its slot's number, which the kernel clones into every connection it makes of a
// request (BPF_F_CLONE), and the connection's changes of state are seen by the tracepoint
// sock:inet_sock_set_state. Loaded with the first policy that needs it, which the default does: every change
// of state of every TCP connection of the machine runs it, once for each such group.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "layout.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
  __type(key, int);
  __type(value, struct spillway_tag);
} tags SEC(".maps");

// The selector's; the loader puts it in the place of this one.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SPILLWAY_MAX_SLOTS);
  __type(key, __u32);
  __type(value, __u32);
} live SEC(".maps");

// Of include/net/tcp_states.h.
#define TCP_ESTABLISHED 1
#define TCP_CLOSE_WAIT 8

// The client may have closed its side and wait for the rest of an answer.
static __always_inline int is_live(int state) { return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT; }

struct sock;

// Whether a connection is counted is noted at the connection: an event that nobody saw is made up for by the
// next one, and makes no count wrong for good.
static __always_inline int note(struct sock *connection, int after) {
  struct spillway_tag *tag = bpf_sk_storage_get(&tags, connection, 0, 0);
  __u32 counts = is_live(after);
  __u32 *count;

  if (!tag || __sync_lock_test_and_set(&tag->live, counts) == counts)
    return 0;
  count = bpf_map_lookup_elem(&live, &tag->slot);
  if (count)
    __sync_fetch_and_add(count, counts ? 1 : -1);
  return 0;
}

// There are two, because a program is left out where an interrupt finds it running on the same processor: the
// other one is not running there then. Whoever comes second finds nothing to do.
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(count_live, struct sock *connection, int before, int after) { return note(connection, after); }

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(count_again, struct sock *connection, int before, int after) { return note(connection, after); }

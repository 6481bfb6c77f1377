// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Counts the open connections of every instance of a worker, of any program: from the end of the handshake
// until the server has closed its side, or both have.
//
// A listener has a tag that says whose it is, which the kernel clones into every connection it makes of a
// request (BPF_F_CLONE), and the connection's changes of state are seen by the tracepoint
// sock:inet_sock_set_state. Loaded with the first policy or limit that needs it, which the default does:
// every change of state of every TCP connection of the machine runs it, once for each such group.
//
// A connection that comes to somebody else than its listener's owner has an entry in `owners`: the selector
// makes one for whom the kernel moves, and a worker that helps another, or takes from the waiting list,
// changes what it finds there (claims.h).
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "admission.h"
#include "kernel.h"
#include "layout.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
  __type(key, int);
  __type(value, struct spillway_tag);
} tags SEC(".maps");

// The selector's; the loader puts them in the place of these.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct spillway_config);
} config SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct spillway_admission);
} admissions SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, SPILLWAY_MAX_OWNED);
  __type(key, __u64);
  __type(value, __u64);
} owners SEC(".maps");

static const __u32 zero = 0;

static __always_inline struct spillway_admission *row_of(__u32 row) {
  return bpf_map_lookup_elem(&admissions, &row);
}

// Notes whether the connection counts as open. 0 if that was so already.
static __always_inline int change(struct spillway_tag *tag, __u32 open) {
#pragma unroll
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    __u32 before = *(volatile __u32 *)&tag->open;

    if (before == open)
      return 0;
    if (__sync_val_compare_and_swap(&tag->open, before, open) == before)
      return 1;
  }
  return 0;
}

static __always_inline void note_open(struct sock *connection, const struct spillway_tag *tag) {
  struct spillway_config *group = bpf_map_lookup_elem(&config, &zero);
  struct spillway_admission *row = row_of(tag->row);
  __u64 cookie, owner;

  if (row)
    open_promised(row);
  if (!group || (!group->track && tag->row != SPILLWAY_ADMISSION_WAITING))
    return;
  cookie = bpf_get_socket_cookie(connection);
  owner = SPILLWAY_OWNER(cookie, tag->row);
  bpf_map_update_elem(&owners, &cookie, &owner, BPF_ANY);
}

static __always_inline void note_closed(struct sock *connection, const struct spillway_tag *tag) {
  __u64 cookie = connection->__sk_common.skc_cookie.counter;
  __u64 *entry = cookie ? bpf_map_lookup_elem(&owners, &cookie) : 0;
  struct spillway_admission *row;
  __u32 owner = tag->row;

  if (entry) {
    owner = __sync_lock_test_and_set(entry, SPILLWAY_OWNER(cookie, SPILLWAY_OWNER_GONE));
    bpf_map_delete_elem(&owners, &cookie);
  }
  row = row_of(owner);
  if (row)
    closed(row);
}

// Whether a connection is counted is noted at the connection: an event that nobody saw is made up for by the
// next one, and makes no count wrong for good.
static __always_inline int note(struct sock *connection, int after) {
  struct spillway_tag *tag = bpf_sk_storage_get(&tags, connection, 0, 0);
  __u32 open = is_open(after);

  if (!tag || !change(tag, open))
    return 0;
  if (open)
    note_open(connection, tag);
  else
    note_closed(connection, tag);
  return 0;
}

// There are two, because a program is left out where an interrupt finds it running on the same processor: the
// other one is not running there then. Whoever comes second finds nothing to do.
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(count_live, struct sock *connection, int before, int after) { return note(connection, after); }

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(count_again, struct sock *connection, int before, int after) { return note(connection, after); }

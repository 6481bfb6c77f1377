// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Places that workers take by themselves, and whose a connection is: what a worker says into its socket of
// claims (struct spillway_claim), by which the socket's filter is run.
#pragma once

#include "admission.h"
#include "kernel.h"
#include "look.h"
#include "maps.h"

// The connection behind a descriptor of the process that runs, by its cookie; 0 for anything else.
static __always_inline __u64 cookie_behind(__u32 fd) {
  struct task_struct *task = (void *)bpf_get_current_task();
  struct fdtable *table = BPF_CORE_READ(task, files, fdt);
  struct file **entries = BPF_CORE_READ(table, fd);
  struct file *file = 0;
  struct socket *socket;

  if (fd >= BPF_CORE_READ(table, max_fds))
    return 0;
  bpf_probe_read_kernel(&file, sizeof(file), &entries[fd]);
  if (!file)
    return 0;
  socket = BPF_CORE_READ(file, private_data);
  return BPF_CORE_READ(socket, sk, __sk_common.skc_cookie.counter);
}

// Whether the worker has a place, one at a time, for what it is about to accept.
static __always_inline int take_claim(struct spillway_admission *row, __u32 limit) {
  if (row->claimed)
    return 1;
  if (!hold(row, limit, 0))
    return 0;
  // Another thread of the worker may have come first.
  if (__sync_lock_test_and_set(&row->claimed, 1))
    let_go(row, 1);
  return 1;
}

static __always_inline void give_claim_back(struct spillway_admission *row) {
  if (__sync_lock_test_and_set(&row->claimed, 0))
    let_go(row, 1);
}

// The connection is that worker's from now on, and not its listener's owner's. Of one that has been closed
// meanwhile there is no entry, or a crossed out one.
static __always_inline void own(__u64 cookie, __u32 instance, struct spillway_admission *row) {
  __u64 *entry = cookie ? bpf_map_lookup_elem(&owners, &cookie) : 0;
  struct spillway_admission *from;
  __u64 before;
  __u32 owner;

  if (!entry)
    return;
  before = *(volatile __u64 *)entry;
  owner = before;
  // The entry may have become another connection's in between.
  if (before != SPILLWAY_OWNER(cookie, owner) || owner == instance)
    return;
  from = bpf_map_lookup_elem(&admissions, &owner);
  if (!from || __sync_val_compare_and_swap(entry, before, SPILLWAY_OWNER(cookie, instance)) != before)
    return;
  closed(from);
  if (__sync_lock_test_and_set(&row->claimed, 0))
    open_promised(row);
  else
    open_unpromised(row);
}

// Runs while the worker sends. What it lets pass can be read by the worker at the other end.
static __always_inline int answer_claim(struct __sk_buff *message) {
  __u64 socket = bpf_get_socket_cookie(message);
  __u32 *instance = bpf_map_lookup_elem(&claimants, &socket);
  struct spillway_admission *row = instance ? bpf_map_lookup_elem(&admissions, instance) : 0;
  struct spillway_claim claim = {};

  if (!row || bpf_skb_load_bytes(message, 0, &claim, sizeof(claim)))
    return 0;
  switch (claim.what) {
  case SPILLWAY_CLAIM_TAKE:
    return take_claim(row, limit_of(*instance)) ? sizeof(claim) : 0;
  case SPILLWAY_CLAIM_GIVE_BACK:
    give_claim_back(row);
    return 0;
  case SPILLWAY_CLAIM_OWN:
    own(cookie_behind(claim.fd), *instance, row);
    return 0;
  }
  return 0;
}

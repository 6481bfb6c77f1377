// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The parts of the kernel's own types that are read, and how. Only the fields that are read are named; CO-RE
// finds their place in the running kernel.
//
// What is read belongs to others, who change and free it at any time: a pointer may be old, and what it leads
// to may be nonsense or, where nothing is mapped, zero. It is never written, and no decision depends on it
// beyond being better or worse.
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define KERNEL_TYPE __attribute__((preserve_access_index))

typedef struct {
  int counter;
} KERNEL_TYPE atomic_t;

typedef struct {
  long counter;
} KERNEL_TYPE atomic64_t;

struct list_head {
  struct list_head *next;
} KERNEL_TYPE;

struct wait_queue_head {
  struct list_head head;
} KERNEL_TYPE;

struct wait_queue_entry {
  void *private;
  struct list_head entry;
} KERNEL_TYPE;

struct socket_wq {
  struct wait_queue_head wait;
} KERNEL_TYPE;

struct eventpoll {
  struct wait_queue_head wq;
} KERNEL_TYPE;

struct epitem {
  struct eventpoll *ep;
} KERNEL_TYPE;

struct eppoll_entry {
  struct epitem *base;
  struct wait_queue_entry wait;
} KERNEL_TYPE;

struct sock_common {
  atomic64_t skc_cookie;
} KERNEL_TYPE;

struct sock {
  struct sock_common __sk_common;
  struct socket_wq *sk_wq;
  __u32 sk_ack_backlog;
  __u32 sk_max_ack_backlog;
} KERNEL_TYPE;

struct inet_sock {
  struct sock sk;
} KERNEL_TYPE;

struct request_sock;

struct tcp_request_sock {
  __u64 snt_synack;
} KERNEL_TYPE;

struct request_sock_queue {
  atomic_t qlen;
  atomic_t young;
  struct request_sock *rskq_accept_head;
} KERNEL_TYPE;

struct inet_connection_sock {
  struct inet_sock icsk_inet;
  struct request_sock_queue icsk_accept_queue;
} KERNEL_TYPE;

struct socket {
  struct sock *sk;
} KERNEL_TYPE;

struct file {
  void *private_data;
} KERNEL_TYPE;

struct fdtable {
  unsigned int max_fds;
  struct file **fd;
} KERNEL_TYPE;

struct files_struct {
  struct fdtable *fdt;
} KERNEL_TYPE;

struct sched_entity {
  __u64 sum_exec_runtime;
} KERNEL_TYPE;

struct task_struct {
  unsigned int __state;
  int on_cpu;
  struct sched_entity se;
  __u64 start_time;
  struct files_struct *files;
} KERNEL_TYPE;

// bpf_rdonly_cast makes an address readable like any pointer and needs Linux 6.2; otherwise every field is
// copied by a helper. They are two objects (selector_cast.bpf.c is the other one), because naming a kernel
// function that does not exist has a price even where it is never called: libbpf looks for it in the BTF of
// all modules, which takes CAP_SYS_ADMIN, and before its version 1.3 the load fails for want of it.
#ifdef SPILLWAY_READ_BY_CAST
extern void *bpf_rdonly_cast(const void *address, __u32 type_id) __ksym;

#define READ(type, address, field)                                                                           \
  (((type *)bpf_rdonly_cast((void *)(address), bpf_core_type_id_kernel(type)))->field)
#else
#define READ(type, address, field)                                                                           \
  ({                                                                                                         \
    typeof(((type *)0)->field) value_ = 0;                                                                   \
    type *from_ = (type *)(__u64)(address);                                                                  \
    bpf_core_read(&value_, sizeof(value_), &from_->field);                                                   \
    value_;                                                                                                  \
  })
#endif

// The structure that has `address` in its field.
#define AROUND(type, address, field) ((address)-bpf_core_field_offset(type, field))
// The address of a field.
#define WITHIN(type, address, field) ((address) + bpf_core_field_offset(type, field))

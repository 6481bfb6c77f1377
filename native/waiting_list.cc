// SPDX-License-Identifier: MIT
#include "waiting_list.h"

#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <memory>
#include <utility>

#include "accepting.h"
#include "arguments.h"
#include "claims.h"
#include "delivery.h"
#include "errors.h"
#include "loop_state.h"
#include "unique_fd.h"

namespace spillway {
namespace {

// Connections that are taken before others in the loop have their turn.
constexpr int batch = 16;

// Milliseconds after which it is tried again without having been told that there is room.
constexpr std::uint64_t look_again_after = 100;

// Whether the client has closed its side and said nothing before: nobody waits for an answer.
bool has_gone(int fd) {
  char byte;
  ssize_t length = ::recv(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
  return length == 0 || (length < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

} // namespace

struct WaitingListState : LoopState<WaitingListState> {
  uv_poll_t poll{};
  uv_timer_t pause{};

  UniqueFd listener;
  Claims claims;
  bool wanted = false;
  bool looking = false;
  std::unique_ptr<Delivery> deliver;

  std::array<uv_handle_t *, 2> handles() { return {base(poll), base(pause)}; }
  void release() {
    claims.give_back();
    deliver.reset();
    listener.reset();
  }

  void look() {
    if (closing || !wanted || looking)
      return;
    uv_timer_stop(&pause);
    looking = uv_poll_start(&poll, UV_READABLE, [](uv_poll_t *handle, int, int) {
                static_cast<WaitingListState *>(handle->data)->take();
              }) == 0;
  }

  void look_away() {
    looking = false;
    uv_poll_stop(&poll);
  }

  void look_later(std::uint64_t milliseconds) {
    look_away();
    uv_timer_start(
        &pause, [](uv_timer_t *handle) { static_cast<WaitingListState *>(handle->data)->look(); },
        milliseconds, 0);
  }

  void take() {
    for (int count = 0; count < batch && looking && !closing; count++) {
      if (!claims.take()) {
        look_later(look_again_after);
        return;
      }
      int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      int error = errno;
      if (fd >= 0 && has_gone(fd)) {
        ::close(fd);
      } else if (fd >= 0) {
        claims.own(fd);
        if (!(*deliver)(fd) && !closing)
          stop();
      } else if (!is_of_one_connection(error)) {
        if (is_shortage(error))
          look_later(pause_after_shortage);
        // Another worker was faster; or the list has ended.
        else if (error != EAGAIN && error != EWOULDBLOCK)
          stop();
        break;
      }
    }
    // What was called back may have closed everything.
    if (!closing)
      claims.give_back();
  }

  void stop() {
    wanted = false;
    look_away();
    uv_timer_stop(&pause);
  }
};

Napi::Function WaitingList::define(Napi::Env env) {
  return DefineClass(env, "WaitingList",
                     {
                         InstanceMethod<&WaitingList::start>("start"),
                         InstanceMethod<&WaitingList::stop>("stop"),
                         InstanceMethod<&WaitingList::room>("room"),
                         InstanceMethod<&WaitingList::close>("close"),
                     });
}

// new WaitingList(listener, sender, receiver, callback): takes over the descriptors, in any case.
WaitingList::WaitingList(const Napi::CallbackInfo &info) : Napi::ObjectWrap<WaitingList>(info) {
  UniqueFd listener(number(info, 0));
  Claims claims{UniqueFd(number(info, 1)), UniqueFd(number(info, 2))};
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *state = new WaitingListState;
  int result = uv_poll_init(loop, &state->poll, listener.get());
  if (result != 0) {
    delete state;
    throw_failure(info.Env(), Failure{-result, "uv_poll_init", {}});
    return;
  }
  // It cannot fail.
  uv_timer_init(loop, &state->pause);
  // The worker's own listener keeps it alive.
  uv_unref(base(state->poll));
  uv_unref(base(state->pause));
  state->listener = std::move(listener);
  state->claims = std::move(claims);
  state->deliver = std::make_unique<Delivery>(info.Env(), info[3].As<Napi::Function>());
  auto bound = state->belong_to(info.Env(), state_);
  if (!bound.ok())
    throw_failure(info.Env(), bound.failure());
}

WaitingList::~WaitingList() {
  if (state_)
    state_->close();
}

Napi::Value WaitingList::start(const Napi::CallbackInfo &info) {
  if (state_) {
    state_->wanted = true;
    state_->look();
  }
  return info.Env().Undefined();
}

Napi::Value WaitingList::stop(const Napi::CallbackInfo &info) {
  if (state_)
    state_->stop();
  return info.Env().Undefined();
}

Napi::Value WaitingList::room(const Napi::CallbackInfo &info) {
  if (state_)
    state_->look();
  return info.Env().Undefined();
}

Napi::Value WaitingList::close(const Napi::CallbackInfo &info) {
  if (state_)
    state_->close();
  return info.Env().Undefined();
}

} // namespace spillway

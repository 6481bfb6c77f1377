// SPDX-License-Identifier: MIT
#include "acceptor.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "accepting.h"
#include "arguments.h"
#include "claims.h"
#include "delivery.h"
#include "errors.h"
#include "loop_state.h"
#include "socket.h"
#include "unique_fd.h"

namespace spillway {
namespace {

// Connections that are accepted in one turn at most.
constexpr int batch = 16;

// Nanoseconds. A turn that takes longer is one that connections should not have had to wait for: for a while
// after it they are accepted one at a time, so that none is behind another when it happens again.
constexpr std::uint64_t long_turn = 20'000'000;
constexpr std::uint64_t cautious_for = 2'000'000'000;

// Listeners that are helped at a time.
constexpr std::size_t most_helped = 8;

} // namespace

struct AcceptorState : LoopState<AcceptorState> {
  uv_poll_t poll{};
  uv_prepare_t prepare{};
  uv_idle_t idle{}; // keeps the loop from waiting while another listener is helped
  uv_timer_t pause{};

  UniqueFd listener;
  struct Helped {
    UniqueFd listener;
    unsigned left; // connections that are taken from it at most
  };
  std::vector<Helped> helped;
  bool readable = false;
  std::uint64_t turn_ended = 0; // nanoseconds, of the turn before
  std::uint64_t idle_by_then = 0;
  std::uint64_t cautious_until = 0;
  bool wanted = false; // it accepts, or will again after a pause
  bool referred = true;

  Claims claims; // for what is taken from another listener
  std::unique_ptr<Delivery> delivery;

  std::array<uv_handle_t *, 4> handles() { return {base(poll), base(prepare), base(idle), base(pause)}; }
  void release() {
    claims.give_back();
    delivery.reset();
    helped.clear();
    listener.reset();
  }

  void refer() {
    // Exactly one of the two is active while connections are wanted.
    for (auto *handle : {base(poll), base(pause)}) {
      if (referred)
        uv_ref(handle);
      else
        uv_unref(handle);
    }
  }

  int watch() {
    return uv_poll_start(&poll, UV_READABLE, [](uv_poll_t *handle, int status, int) {
      auto *state = static_cast<AcceptorState *>(handle->data);
      state->readable = true;
      (void)status; // accept() tells what is wrong
    });
  }

  // Called in every turn, just before the loop waits.
  void note_turns() {
    note_turn();
    uv_prepare_start(&prepare,
                     [](uv_prepare_t *handle) { static_cast<AcceptorState *>(handle->data)->turn_ends(); });
  }

  // How long the turn has taken, in nanoseconds, without what the loop waited.
  std::uint64_t note_turn() {
    std::uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(prepare.loop);
    std::uint64_t since = now - turn_ended, waited = idle - idle_by_then;
    turn_ended = now;
    idle_by_then = idle;
    return since > waited ? since - waited : 0;
  }

  void turn_ends() {
    if (note_turn() > long_turn)
      cautious_until = turn_ended + cautious_for;
    if (readable || !helped.empty())
      take(turn_ended < cautious_until ? 1 : batch);
  }

  void take(int most) {
    if (readable) {
      readable = false;
      while (most-- > 0 && !closing && take_from(listener.get(), true))
        ;
    }
    bool helping = !helped.empty();
    for (std::size_t index = 0; !closing && index < helped.size();) {
      auto &each = helped[index];
      bool more = each.left-- > 0 && take_from(each.listener.get(), false);
      // What was called back may have closed everything, or had more help asked for.
      if (more)
        index++;
      else if (index < helped.size())
        helped.erase(helped.begin() + static_cast<std::ptrdiff_t>(index));
    }
    if (helping && !closing)
      claims.give_back();
    if (!closing && helped.empty())
      uv_idle_stop(&idle);
  }

  // Whether there may be more. A listener reports by itself that it still has something.
  bool take_from(int from, bool own) {
    // Another worker's listener may be made to wait in accept(2) at any time, which would stop this loop.
    if (!own && ((::fcntl(from, F_GETFL) & O_NONBLOCK) == 0 || !claims.take()))
      return false;
    int fd = ::accept4(from, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      if (!own)
        claims.own(fd);
      deliver(fd);
      return !closing && wanted;
    }
    int error = errno;
    if (error == EAGAIN || error == EWOULDBLOCK)
      return false;
    if (is_of_one_connection(error))
      return true;
    if (is_shortage(error))
      rest();
    else if (own) {
      uv_poll_stop(&poll);
      deliver(-error);
    }
    return false;
  }

  void rest() {
    helped.clear();
    uv_poll_stop(&poll);
    uv_timer_start(
        &pause,
        [](uv_timer_t *handle) {
          auto *state = static_cast<AcceptorState *>(handle->data);
          if (state->wanted)
            state->watch();
        },
        pause_after_shortage, 0);
  }

  void deliver(int value) {
    if ((*delivery)(value))
      return;
    // What waits is for others to take.
    wanted = false;
    helped.clear();
    if (!closing)
      uv_poll_stop(&poll);
  }
};

Napi::Function Acceptor::define(Napi::Env env) {
  return DefineClass(env, "Acceptor",
                     {
                         InstanceMethod<&Acceptor::start>("start"),
                         InstanceMethod<&Acceptor::help>("help"),
                         InstanceMethod<&Acceptor::claim>("claim"),
                         InstanceMethod<&Acceptor::ref>("ref"),
                         InstanceMethod<&Acceptor::unref>("unref"),
                         InstanceMethod<&Acceptor::has_ref>("hasRef"),
                         InstanceMethod<&Acceptor::close>("close"),
                     });
}

// new Acceptor(fd, callback): works on a duplicate of the listener.
Acceptor::Acceptor(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Acceptor>(info) {
  auto duplicate = socket::duplicate(info[0].As<Napi::Number>().Int32Value());
  if (!duplicate.ok()) {
    throw_failure(info.Env(), duplicate.failure());
    return;
  }
  uv_loop_t *loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto *state = new AcceptorState;
  // Node has it on already, for performance.eventLoopUtilization().
  uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
  // It makes the listener non-blocking, for all who hold it.
  int result = uv_poll_init(loop, &state->poll, duplicate.value().get());
  if (result != 0) {
    delete state;
    throw_failure(info.Env(), Failure{-result, "uv_poll_init", {}});
    return;
  }
  // None of these can fail.
  uv_prepare_init(loop, &state->prepare);
  uv_idle_init(loop, &state->idle);
  uv_timer_init(loop, &state->pause);
  uv_unref(base(state->prepare));
  uv_unref(base(state->idle));
  state->listener = std::move(duplicate.value());
  state->delivery = std::make_unique<Delivery>(info.Env(), info[1].As<Napi::Function>());
  auto bound = state->belong_to(info.Env(), state_);
  if (!bound.ok())
    throw_failure(info.Env(), bound.failure());
}

Acceptor::~Acceptor() {
  if (state_)
    state_->close();
}

Napi::Value Acceptor::start(const Napi::CallbackInfo &info) {
  if (!state_)
    return done(info.Env(), Failure{EBADF, "start", "the acceptor was closed"});
  state_->wanted = true;
  state_->note_turns();
  int result = state_->watch();
  if (result != 0)
    return done(info.Env(), Failure{-result, "uv_poll_start", {}});
  return info.Env().Undefined();
}

// help(fd, most): takes over the descriptor, in any case.
Napi::Value Acceptor::help(const Napi::CallbackInfo &info) {
  UniqueFd listener(info[0].As<Napi::Number>().Int32Value());
  if (!state_ || !state_->wanted || state_->helped.size() >= most_helped)
    return info.Env().Undefined();
  state_->helped.push_back({std::move(listener), info[1].As<Napi::Number>().Uint32Value()});
  uv_idle_start(&state_->idle, [](uv_idle_t *) {});
  return info.Env().Undefined();
}

// claim(sender, receiver): takes over the descriptors, in any case.
Napi::Value Acceptor::claim(const Napi::CallbackInfo &info) {
  Claims claims{UniqueFd(number(info, 0)), UniqueFd(number(info, 1))};
  if (state_)
    state_->claims = std::move(claims);
  return info.Env().Undefined();
}

Napi::Value Acceptor::ref(const Napi::CallbackInfo &info) {
  if (state_) {
    state_->referred = true;
    state_->refer();
  }
  return info.Env().Undefined();
}

Napi::Value Acceptor::unref(const Napi::CallbackInfo &info) {
  if (state_) {
    state_->referred = false;
    state_->refer();
  }
  return info.Env().Undefined();
}

Napi::Value Acceptor::has_ref(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), state_ && state_->wanted && state_->referred);
}

Napi::Value Acceptor::close(const Napi::CallbackInfo &info) {
  if (state_)
    state_->close();
  return info.Env().Undefined();
}

} // namespace spillway

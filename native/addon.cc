// SPDX-License-Identifier: MIT
//
// The addon's face: classes and functions per environment, no global state.
#include <napi.h>

#include "acceptor.h"
#include "diag_binding.h"
#include "help_channel.h"
#include "hints_binding.h"
#include "process_binding.h"
#include "process_watch.h"
#include "queue_watch.h"
#include "rescuer_binding.h"
#include "selector_binding.h"
#include "socket_binding.h"
#include "unix_socket_binding.h"
#include "waiting_list.h"

namespace spillway {

class Addon : public Napi::Addon<Addon> {
public:
  Addon(Napi::Env env, Napi::Object exports) {
    exports.Set("Socket", SocketBinding::define(env));
    exports.Set("Selector", SelectorBinding::define(env));
    exports.Set("QueueWatch", QueueWatch::define(env));
    exports.Set("Hints", HintsBinding::define(env));
    exports.Set("Acceptor", Acceptor::define(env));
    exports.Set("ProcessWatch", ProcessWatch::define(env));
    exports.Set("become", Napi::Function::New<become>(env, "become"));
    exports.Set("createMemory", Napi::Function::New<create_memory>(env, "createMemory"));
    exports.Set("WaitingList", WaitingList::define(env));
    exports.Set("HelpChannel", HelpChannel::define(env));
    exports.Set("Rescuer", RescuerBinding::define(env));
    exports.Set("openHelpChannel", Napi::Function::New<open_help_channel>(env, "openHelpChannel"));
    exports.Set("sendWaitingList", Napi::Function::New<send_waiting_list>(env, "sendWaitingList"));
    exports.Set("createHintsMap", Napi::Function::New<create_hints_map>(env, "createHintsMap"));
    exports.Set("openHintsPage", Napi::Function::New<open_hints_page>(env, "openHintsPage"));
    exports.Set("clearHintsPage", Napi::Function::New<clear_hints_page>(env, "clearHintsPage"));
    exports.Set("idleSince", Napi::Function::New<idle_since>(env, "idleSince"));
    exports.Set("reset", Napi::Function::New<reset>(env, "reset"));
    exports.Set("socketKind", Napi::Function::New<socket_kind>(env, "socketKind"));
    exports.Set("socketsAt", Napi::Function::New<sockets_at>(env, "socketsAt"));
    exports.Set("kernelHasCast", Napi::Function::New<kernel_has_cast>(env, "kernelHasCast"));
    exports.Set("accountRunTime", Napi::Function::New<account_run_time>(env, "accountRunTime"));
    exports.Set("peerCredentials", Napi::Function::New<peer_credentials>(env, "peerCredentials"));
    exports.Set("sendWithDescriptor", Napi::Function::New<send_with_descriptor>(env, "sendWithDescriptor"));
    exports.Set("exchange", Napi::Function::New<exchange>(env, "exchange"));
    exports.Set("notify", Napi::Function::New<notify>(env, "notify"));
    exports.Set("dieWithParent", Napi::Function::New<die_with_parent>(env, "dieWithParent"));
    exports.Set("setAffinity", Napi::Function::New<set_affinity>(env, "setAffinity"));
    exports.Set("allowedCpus", Napi::Function::New<allowed_cpus>(env, "allowedCpus"));
    exports.Set("lockFile", Napi::Function::New<lock_file>(env, "lockFile"));
    exports.Set("constants", socket_constants(env));
    exports.Set("layout", layout(env));
  }
};

} // namespace spillway

using SpillwayAddon = spillway::Addon;
NODE_API_ADDON(SpillwayAddon)

{
  "variables": {
    # The published package comes without these sources ("files" in package.json).
    "spillway_testing%": "<!(node -p \"Number(fs.existsSync('native/testing'))\")",
    "spillway_bench%": "<!(node -p \"Number(fs.existsSync('bench/native'))\")"
  },
  "target_defaults": {
    "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
    "cflags": ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-cast-function-type"]
  },
  "targets": [
    {
      "target_name": "spillway",
      "include_dirs": ["<(SHARED_INTERMEDIATE_DIR)"],
      "sources": [
        "native/acceptor.cc",
        "native/addon.cc",
        "native/affinity.cc",
        "native/beat.cc",
        "native/bpf_messages.cc",
        "native/claims.cc",
        "native/diag.cc",
        "native/diag_binding.cc",
        "native/errors.cc",
        "native/help.cc",
        "native/help_channel.cc",
        "native/hints.cc",
        "native/hints_binding.cc",
        "native/live.cc",
        "native/process.cc",
        "native/process_binding.cc",
        "native/process_watch.cc",
        "native/queue_watch.cc",
        "native/rescuer.cc",
        "native/rescuer_binding.cc",
        "native/rights.cc",
        "native/selector.cc",
        "native/selector_binding.cc",
        "native/slice.cc",
        "native/socket.cc",
        "native/socket_binding.cc",
        "native/unix_socket.cc",
        "native/unix_socket_binding.cc",
        "native/waiting_list.cc"
      ],
      "actions": [
        {
          "action_name": "selector_skeleton",
          "inputs": ["native/bpf/selector.bpf.c", "native/bpf/admission.h", "native/bpf/claims.h", "native/bpf/count.h", "native/bpf/kernel.h", "native/bpf/layout.h", "native/bpf/look.h", "native/bpf/maps.h", "native/bpf/policy.h", "native/bpf/rescue.h", "scripts/build-bpf.mjs", "scripts/project.mjs", "scripts/toolchain.mjs"],
          "outputs": ["<(SHARED_INTERMEDIATE_DIR)/selector.skel.h"],
          "action": ["node", "scripts/build-bpf.mjs", "native/bpf/selector.bpf.c", "<(SHARED_INTERMEDIATE_DIR)/selector.skel.h"],
          "message": "Compiling the selector for the kernel"
        },
        {
          "action_name": "selector_cast_skeleton",
          "inputs": ["native/bpf/selector_cast.bpf.c", "native/bpf/selector.bpf.c", "native/bpf/admission.h", "native/bpf/claims.h", "native/bpf/count.h", "native/bpf/kernel.h", "native/bpf/layout.h", "native/bpf/look.h", "native/bpf/maps.h", "native/bpf/policy.h", "native/bpf/rescue.h", "scripts/build-bpf.mjs", "scripts/project.mjs", "scripts/toolchain.mjs"],
          "outputs": ["<(SHARED_INTERMEDIATE_DIR)/selector_cast.skel.h"],
          "action": ["node", "scripts/build-bpf.mjs", "native/bpf/selector_cast.bpf.c", "<(SHARED_INTERMEDIATE_DIR)/selector_cast.skel.h"],
          "message": "Compiling the selector for kernels with bpf_rdonly_cast"
        },
        {
          "action_name": "live_skeleton",
          "inputs": ["native/bpf/live.bpf.c", "native/bpf/admission.h", "native/bpf/kernel.h", "native/bpf/layout.h", "scripts/build-bpf.mjs", "scripts/project.mjs", "scripts/toolchain.mjs"],
          "outputs": ["<(SHARED_INTERMEDIATE_DIR)/live.skel.h"],
          "action": ["node", "scripts/build-bpf.mjs", "native/bpf/live.bpf.c", "<(SHARED_INTERMEDIATE_DIR)/live.skel.h"],
          "message": "Compiling the count of live connections for the kernel"
        }
      ],
      "libraries": ["-lbpf"]
    },
    {
      "target_name": "spillway-launch",
      "type": "executable",
      "sources": ["native/affinity.cc", "native/launch.cc", "native/process.cc"]
    },
    {
      "target_name": "spillway-keeper",
      "type": "executable",
      "sources": ["native/affinity.cc", "native/keeper/keeper.cc", "native/keeper/manager.cc", "native/keeper/notices.cc", "native/keeper/store.cc", "native/rights.cc"]
    }
  ],
  "conditions": [
    ["spillway_testing==1", {
      "targets": [
        {
          "target_name": "spillway_testing",
          "sources": [
            "native/errors.cc",
            "native/slice.cc",
            "native/socket.cc",
            "native/testing/addon.cc",
            "native/testing/network.cc",
            "native/testing/peers.cc"
          ]
        }
      ]
    }],
    ["spillway_bench==1", {
      "targets": [
        {
          "target_name": "spillway-bench-load",
          "type": "executable",
          "sources": [
            "bench/native/answer.cc",
            "bench/native/engine.cc",
            "bench/native/load.cc",
            "bench/native/machine.cc",
            "bench/native/plan.cc"
          ]
        },
        {
          "target_name": "spillway-bench-delay",
          "type": "executable",
          "sources": ["bench/native/delay.cc", "bench/native/machine.cc", "bench/native/tunnel.cc"]
        }
      ]
    }]
  ]
}

// SPDX-License-Identifier: MIT
#include "live.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>

#include "bpf/layout.h"
#include "bpf_messages.h"
#include "live.skel.h"

namespace spillway {

Result<std::unique_ptr<Live>> Live::load(const Maps &maps) {
  BpfMessages messages;
  std::unique_ptr<Live> live(new Live);
  live->skeleton_ = live_bpf__open();
  if (!live->skeleton_)
    return Failure{errno, "bpf_object__open live", messages.tail()};
  auto &own = live->skeleton_->maps;
  int error = bpf_map__reuse_fd(own.config, maps.config);
  if (error == 0)
    error = bpf_map__reuse_fd(own.admissions, maps.admissions);
  if (error == 0)
    error = bpf_map__reuse_fd(own.owners, maps.owners);
  if (error == 0 && maps.tags >= 0)
    error = bpf_map__reuse_fd(own.tags, maps.tags);
  if (error == 0)
    error = live_bpf__load(live->skeleton_);
  if (error == 0)
    error = live_bpf__attach(live->skeleton_);
  if (error != 0)
    return Failure{-error, "bpf_object__load live", messages.tail()};
  return live;
}

std::vector<std::pair<std::string, int>> Live::parts() const {
  return {{"tags", bpf_map__fd(skeleton_->maps.tags)},
          {"count_live", bpf_link__fd(skeleton_->links.count_live)},
          {"count_again", bpf_link__fd(skeleton_->links.count_again)}};
}

Live::~Live() { live_bpf__destroy(skeleton_); }

Result<> Live::tag(int listener, std::uint32_t instance) {
  spillway_tag value{instance, 0};
  int result =
      bpf_map__update_elem(skeleton_->maps.tags, &listener, sizeof(listener), &value, sizeof(value), BPF_ANY);
  if (result != 0)
    return Failure{-result, "bpf(MAP_UPDATE_ELEM tags)", {}};
  return Done{};
}

} // namespace spillway

#include "cri/stats_items.h"

namespace berth::cri {

template <class Attributes, class Record>
void StatsWriter::make_attributes(Attributes& attributes, const Record& record) {
  attributes.set_id(record.id);
  *attributes.mutable_metadata() = record.config.metadata();
  bytes_.clear();
  attributes.AppendToString(&bytes_);
  put_map(bytes_, Attributes::kLabelsFieldNumber, record.config.labels(), entry_);
  put_map(bytes_, Attributes::kAnnotationsFieldNumber, record.config.annotations(), entry_);
}

void StatsWriter::append(std::string& out, const ContainerRecord& record) {
  make_attributes(container_attributes_, record);
  proto::put_bytes(out, pb::ContainerStats::kAttributesFieldNumber, bytes_);
  figures_.Clear();
  containers_->fill_figures(record, disk_root_, figures_);
  figures_.AppendToString(&out);
}

void StatsWriter::append(std::string& out, const SandboxRecord& record, const std::vector<ContainerPtr>& running) {
  make_attributes(pod_attributes_, record);
  proto::put_bytes(out, pb::PodSandboxStats::kAttributesFieldNumber, bytes_);
  pod_figures_.Clear();
  const bool known = pods_->fill_figures(record.id, pod_figures_);
  // As without figures and containers: absent.
  if (!known && running.empty()) return;
  linux_.clear();
  pod_figures_.AppendToString(&linux_);
  for (const auto& container : running) {
    container_.clear();
    append(container_, *container);
    proto::put_bytes(linux_, pb::LinuxPodSandboxStats::kContainersFieldNumber, container_);
  }
  proto::put_bytes(out, pb::PodSandboxStats::kLinuxFieldNumber, linux_);
}

}  // namespace berth::cri

#include "cri/metrics.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "base/proto_wire.h"

namespace berth::cri {

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

enum class Extra : std::uint8_t { kNone, kInterface, kFailure };

struct Described {
  std::string_view name;
  std::string_view help;
  pb::MetricType type;
  Extra extra = Extra::kNone;  ///< a label beside kLabels
};

// cAdvisor's label keys: the cgroup, the container's (or sandbox's) id, its image and its Kubernetes names.
constexpr std::array<std::string_view, 6> kLabels{"id", "name", "image", "container", "pod", "namespace"};

constexpr std::array kMetrics{
    Described{"container_cpu_usage_seconds_total", "CPU time used, over all cores", pb::COUNTER},
    Described{"container_memory_usage_bytes", "memory charged now, caches included", pb::GAUGE},
    Described{"container_memory_working_set_bytes", "memory in use less inactive file pages", pb::GAUGE},
    Described{"container_memory_rss", "anonymous memory", pb::GAUGE},
    Described{"container_memory_swap", "swap used", pb::GAUGE},
    Described{"container_memory_failures_total", "page faults since creation", pb::COUNTER, Extra::kFailure},
    Described{"container_processes", "tasks in the pod", pb::GAUGE},
    Described{"container_network_receive_bytes_total", "bytes received", pb::COUNTER, Extra::kInterface},
    Described{"container_network_receive_errors_total", "errors while receiving", pb::COUNTER, Extra::kInterface},
    Described{"container_network_transmit_bytes_total", "bytes sent", pb::COUNTER, Extra::kInterface},
    Described{"container_network_transmit_errors_total", "errors while sending", pb::COUNTER, Extra::kInterface},
    Described{"container_pressure_cpu_waiting_seconds_total", "time in which a task waited for a CPU", pb::COUNTER},
    Described{"container_pressure_cpu_stalled_seconds_total", "time in which all waited for a CPU", pb::COUNTER},
    Described{"container_pressure_memory_waiting_seconds_total", "time in which a task waited for memory", pb::COUNTER},
    Described{"container_pressure_memory_stalled_seconds_total", "time in which all waited for memory", pb::COUNTER},
    Described{"container_pressure_io_waiting_seconds_total", "time in which a task waited for I/O", pb::COUNTER},
    Described{"container_pressure_io_stalled_seconds_total", "time in which all waited for I/O", pb::COUNTER},
    Described{"container_fs_usage_bytes", "bytes in the writable layer", pb::GAUGE},
    Described{"container_start_time_seconds", "when it was started, since the epoch", pb::GAUGE},
    Described{"berth_container_log_dropped_bytes_total", "output that could not be written to the log", pb::COUNTER},
};

/// Appends metrics that share their labels, as the field `field` of a message.
class Writer {
 public:
  Writer(std::string& out, unsigned field, const std::array<std::string, kLabels.size()>& labels)
      : out_(out), field_(field) {
    for (const auto& label : labels) proto::put_bytes(labels_, pb::Metric::kLabelValuesFieldNumber, label);
  }

  void add(std::string_view name, std::int64_t timestamp, std::uint64_t value, const std::string& extra = {}) {
    const auto* const known = std::ranges::find(kMetrics, name, &Described::name);
    if (known == kMetrics.end()) return;
    metric_.clear();
    proto::put_bytes(metric_, pb::Metric::kNameFieldNumber, name);
    proto::put_number(metric_, pb::Metric::kTimestampFieldNumber, timestamp);
    proto::put_number(metric_, pb::Metric::kMetricTypeFieldNumber, known->type);
    metric_ += labels_;
    if (known->extra != Extra::kNone) proto::put_bytes(metric_, pb::Metric::kLabelValuesFieldNumber, extra);
    value_.clear();
    proto::put_number(value_, pb::UInt64Value::kValueFieldNumber, static_cast<std::int64_t>(value));
    proto::put_bytes(metric_, pb::Metric::kValueFieldNumber, value_);
    proto::put_bytes(out_, field_, metric_);
  }
  void add_cpu(const pb::CpuUsage& cpu) {
    add("container_cpu_usage_seconds_total", cpu.timestamp(), cpu.usage_core_nano_seconds().value() / kNsPerSecond);
    if (cpu.has_psi()) add_pressure("cpu", cpu.timestamp(), cpu.psi());
  }
  void add_memory(const pb::MemoryUsage& memory) {
    const auto at = memory.timestamp();
    add("container_memory_usage_bytes", at, memory.usage_bytes().value());
    add("container_memory_working_set_bytes", at, memory.working_set_bytes().value());
    add("container_memory_rss", at, memory.rss_bytes().value());
    add("container_memory_failures_total", at, memory.page_faults().value(), "pgfault");
    add("container_memory_failures_total", at, memory.major_page_faults().value(), "pgmajfault");
    if (memory.has_psi()) add_pressure("memory", at, memory.psi());
  }
  void add_io(const pb::IoUsage& io) {
    if (io.has_psi()) add_pressure("io", io.timestamp(), io.psi());
  }
  void add_link(std::int64_t at, const pb::NetworkInterfaceUsage& link) {
    add("container_network_receive_bytes_total", at, link.rx_bytes().value(), link.name());
    add("container_network_receive_errors_total", at, link.rx_errors().value(), link.name());
    add("container_network_transmit_bytes_total", at, link.tx_bytes().value(), link.name());
    add("container_network_transmit_errors_total", at, link.tx_errors().value(), link.name());
  }

 private:
  void add_pressure(std::string_view of, std::int64_t at, const pb::PsiStats& pressure) {
    const std::string name = "container_pressure_" + std::string(of);
    add(name + "_waiting_seconds_total", at, pressure.some().total() / kNsPerSecond);
    add(name + "_stalled_seconds_total", at, pressure.full().total() / kNsPerSecond);
  }

  std::string& out_;
  unsigned field_;
  std::string labels_;
  std::string metric_;
  std::string value_;
};

/// The bytes of a ContainerMetrics; nothing for a container that is gone.
std::string container_metrics(const MetricSources& sources, const pb::ContainerStats& stats) {
  std::string out;
  const std::string& id = stats.attributes().id();
  const auto record = sources.container(id);
  if (record == nullptr) return out;
  const auto& pod = sources.sandbox.config.metadata();
  proto::put_bytes(out, pb::ContainerMetrics::kContainerIdFieldNumber, id);
  Writer writer(out, pb::ContainerMetrics::kMetricsFieldNumber,
                {record->cgroups_path, id, record->config.image().image(), record->config.metadata().name(), pod.name(),
                 pod.namespace_()});
  if (stats.has_cpu()) writer.add_cpu(stats.cpu());
  if (stats.has_memory()) writer.add_memory(stats.memory());
  if (stats.has_io()) writer.add_io(stats.io());
  if (stats.has_swap()) {
    writer.add("container_memory_swap", stats.swap().timestamp(), stats.swap().swap_usage_bytes().value());
  }
  const auto& layer = stats.writable_layer();
  writer.add("container_fs_usage_bytes", layer.timestamp(), layer.used_bytes().value());
  writer.add("container_start_time_seconds", 0, static_cast<std::uint64_t>(record->started_at_ns) / kNsPerSecond);
  if (!record->log_path.empty()) {
    writer.add("berth_container_log_dropped_bytes_total", stats.cpu().timestamp(), sources.log_dropped(id));
  }
  return out;
}

}  // namespace

pb::ListMetricDescriptorsResponse metric_descriptors() {
  pb::ListMetricDescriptorsResponse answer;
  for (const auto& metric : kMetrics) {
    auto& out = *answer.add_descriptors();
    out.set_name(std::string(metric.name));
    out.set_help(std::string(metric.help));
    for (const auto key : kLabels) out.add_label_keys(std::string(key));
    if (metric.extra == Extra::kInterface) out.add_label_keys("interface");
    if (metric.extra == Extra::kFailure) out.add_label_keys("failure_type");
  }
  return answer;
}

std::string pod_metrics(const MetricSources& sources) {
  std::string out;
  const auto& sandbox = sources.sandbox;
  const auto& figures = sources.stats.linux();
  proto::put_bytes(out, pb::PodSandboxMetrics::kPodSandboxIdFieldNumber, sandbox.id);
  const auto& names = sandbox.config.metadata();
  Writer writer(out, pb::PodSandboxMetrics::kMetricsFieldNumber,
                {sandbox.cgroup_parent, sandbox.id, "", "", names.name(), names.namespace_()});
  if (figures.has_cpu()) writer.add_cpu(figures.cpu());
  if (figures.has_memory()) writer.add_memory(figures.memory());
  if (figures.has_io()) writer.add_io(figures.io());
  if (figures.has_process()) {
    writer.add("container_processes", figures.process().timestamp(), figures.process().process_count().value());
  }
  if (figures.has_network()) {
    const auto at = figures.network().timestamp();
    if (figures.network().has_default_interface()) writer.add_link(at, figures.network().default_interface());
    for (const auto& link : figures.network().interfaces()) writer.add_link(at, link);
  }
  for (const auto& container : figures.containers()) {
    const auto metrics = container_metrics(sources, container);
    if (!metrics.empty()) proto::put_bytes(out, pb::PodSandboxMetrics::kContainerMetricsFieldNumber, metrics);
  }
  return out;
}

}  // namespace berth::cri

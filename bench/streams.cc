// Bytes through exec and port-forward of two CRI servers, over SPDY as kubectl speaks it, alternately in one run: MB/s
// as the client sees it, and CPU time of all that took part, from the server's cgroup. What comes back is compared with
// what was sent by SHA-256. Usage: bench_streams --image IMAGE --peer NAME=SOCKET=CGROUP --peer ... [--megabytes 256]
// [--rounds 3]; peer 0 is ours. tools/bench starts all of it.
#include <openssl/evp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "base/strings.h"
#include "cri_driver.h"
#include "spdy_client.h"

namespace berth::bench {
namespace {

using Clock = std::chrono::steady_clock;
using test::SpdyClient;

constexpr std::chrono::seconds kPatience{300};
constexpr std::size_t kPiece = 32U << 10;

class Sha256 final {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }
  void add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string finish() {
    std::string digest(32, '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr);
    return digest;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

// So many bytes that no compression and no constant explains.
class Source final {
 public:
  explicit Source(std::size_t size) : left_(size), block_(kPiece + 8191, '\0') {
    std::uint32_t state = 1;
    for (char& c : block_) c = static_cast<char>((state = state * 1664525U + 1013904223U) >> 24);
  }
  std::string next() {
    const std::size_t size = std::min(left_, kPiece);
    std::string piece = block_.substr(left_ / kPiece % 8191, size);
    left_ -= size;
    sent.add(piece);
    return piece;
  }
  Sha256 sent;

 private:
  std::size_t left_;
  std::string block_;
};

struct Streams {
  std::unique_ptr<SpdyClient> client;
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  std::uint32_t error = 0;
};

Result<Streams> open_exec(const Driver& driver, const Pod& pod, const std::vector<std::string>& command, bool in) {
  pb::ExecRequest request;
  request.set_container_id(pod.container_id);
  for (const auto& word : command) request.add_cmd(word);
  request.set_stdin(in);
  request.set_stdout(true);
  pb::ExecResponse response;
  grpc::ClientContext context;
  if (const auto status = driver.runtime().Exec(&context, request, &response); !status.ok()) {
    return fail(Code::kInternal, "Exec: " + status.error_message());
  }
  Streams streams;
  BERTH_ASSIGN(streams.client, SpdyClient::connect(response.url(), {"v4.channel.k8s.io"}), "exec");
  streams.error = streams.client->open({{"streamtype", "error"}});
  if (in) streams.in = streams.client->open({{"streamtype", "stdin"}});
  streams.out = streams.client->open({{"streamtype", "stdout"}});
  return streams;
}

Result<Streams> open_port(const Driver& driver, const Pod& pod) {
  pb::PortForwardRequest request;
  request.set_pod_sandbox_id(pod.sandbox_id);
  request.add_port(7);
  pb::PortForwardResponse response;
  grpc::ClientContext context;
  if (const auto status = driver.runtime().PortForward(&context, request, &response); !status.ok()) {
    return fail(Code::kInternal, "PortForward: " + status.error_message());
  }
  Streams streams;
  BERTH_ASSIGN(streams.client, SpdyClient::connect(response.url(), {"portforward.k8s.io"}), "port-forward");
  streams.error = streams.client->open({{"streamtype", "error"}, {"port", "7"}, {"requestid", "1"}});
  streams.out = streams.in = streams.client->open({{"streamtype", "data"}, {"port", "7"}, {"requestid", "1"}});
  BERTH_TRY(streams.client->write(streams.error, {}, true), "port-forward");
  return streams;
}

// What comes of `bytes` bytes: the same ones, others, or their count as a text.
enum class Answer : std::uint8_t { kEcho, kAsMany, kCount };

Result<> move_bytes(Streams streams, std::size_t sends, Answer answer, std::size_t bytes) {
  Source source(sends);
  Sha256 received;
  std::size_t count = 0;
  std::string text;
  SpdyClient& client = *streams.client;
  client.tap = [&](std::uint32_t id, std::string_view piece) {
    if (id == streams.error) {
      client.at(id).data.append(piece);
    } else {
      count += piece.size();
      if (answer == Answer::kEcho) received.add(piece);
      if (answer == Answer::kCount) text.append(piece);
    }
  };
  const auto over = [&] { return client.at(streams.error).ended; };
  auto moved = sends > 0 ? client.exchange(
                               streams.in, [&] { return source.next(); }, over, kPatience)
                         : client.read_until(over, kPatience);
  // containerd ends the connection with the command, without an end of the error stream.
  if (!moved && (moved.error().code() != Code::kUnavailable || client.at(streams.error).data.empty())) return moved;
  if (answer == Answer::kCount) count = parse_number<std::size_t>(trim(text)).value_or(0);
  if (count != bytes) {
    return fail(Code::kCorrupt,
                std::to_string(count) + " of " + std::to_string(bytes) + " bytes; " + client.at(streams.error).data);
  }
  const bool same = answer != Answer::kEcho || received.finish() == source.sent.finish();
  return same ? Result<>() : fail(Code::kCorrupt, "other bytes came back");
}

struct Way {
  const char* name;
  std::function<Result<>(const Driver&, const Pod&, std::size_t)> run;
};

const std::vector<Way>& ways() {
  static const std::vector<Way> all = {
      {"exec, out",
       [](const Driver& driver, const Pod& pod, std::size_t bytes) -> Result<> {
         const std::string count = "count=" + std::to_string(bytes >> 16);
         BERTH_ASSIGN(auto streams,
                      open_exec(driver, pod, {"/bin/busybox", "dd", "if=/dev/zero", "bs=65536", count}, false), "exec");
         return move_bytes(std::move(streams), 0, Answer::kAsMany, bytes);
       }},
      {"exec, in",
       [](const Driver& driver, const Pod& pod, std::size_t bytes) -> Result<> {
         BERTH_ASSIGN(auto streams, open_exec(driver, pod, {"/bin/busybox", "wc", "-c"}, true), "exec");
         return move_bytes(std::move(streams), bytes, Answer::kCount, bytes);
       }},
      {"exec, both ways",
       [](const Driver& driver, const Pod& pod, std::size_t bytes) -> Result<> {
         BERTH_ASSIGN(auto streams, open_exec(driver, pod, {"/bin/busybox", "cat"}, true), "exec");
         return move_bytes(std::move(streams), bytes, Answer::kEcho, bytes);
       }},
      {"port-forward, both ways",
       [](const Driver& driver, const Pod& pod, std::size_t bytes) -> Result<> {
         BERTH_ASSIGN(auto streams, open_port(driver, pod), "port-forward");
         return move_bytes(std::move(streams), bytes, Answer::kEcho, bytes);
       }},
  };
  return all;
}

struct Figures {
  std::vector<double> speed;  // MB/s
  std::vector<double> cost;   // CPU ms per 100 MB
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Result<> one_round(const Driver& driver, const Pod& pod, const Way& way, std::size_t bytes, Figures& figures) {
  BERTH_ASSIGN(const auto before, driver.cpu_ns(), "CPU");
  const auto begin = Clock::now();
  BERTH_TRY(way.run(driver, pod, bytes), driver.peer().name + ": " + way.name);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  BERTH_ASSIGN(const auto after, driver.cpu_ns(), "CPU");
  const double megabytes = static_cast<double>(bytes) / 1e6;
  figures.speed.push_back(megabytes / seconds);
  figures.cost.push_back(static_cast<double>(after - before) / 1e6 / megabytes * 100);
  return {};
}

// A server that sends each connection back what it says.
Result<> serve_port(const Driver& driver, const Pod& pod) {
  pb::ExecSyncRequest request;
  request.set_container_id(pod.container_id);
  for (const char* word :
       {"/bin/sh", "-c", "/bin/busybox nc -ll -p 7 -e /bin/busybox cat >/dev/null 2>&1 </dev/null &"}) {
    request.add_cmd(word);
  }
  pb::ExecSyncResponse response;
  grpc::ClientContext context;
  const auto status = driver.runtime().ExecSync(&context, request, &response);
  return status.ok() ? Result<>() : fail(Code::kInternal, "ExecSync: " + status.error_message());
}

Result<> compare(std::vector<Driver>& drivers, std::size_t bytes, int rounds) {
  std::vector<Pod> pods(drivers.size());
  PodTimes times;
  for (std::size_t i = 0; i < drivers.size(); ++i) {  // when one fails, tools/bench ends what is left
    BERTH_TRY(drivers[i].pull(), "pull");
    BERTH_ASSIGN(pods[i], drivers[i].up(40'000, times), "up");
    BERTH_TRY(serve_port(drivers[i], pods[i]), "server");
  }
  std::printf("%zu MB a way, %d rounds, alternately; medians\n", bytes / 1'000'000, rounds);
  std::printf("%-26s %-12s %10s %16s\n", "", "", "MB/s", "CPU ms/100 MB");
  Result<> done;
  for (const auto& way : ways()) {
    std::vector<Figures> figures(drivers.size());
    for (int round = 0; round < rounds && done; ++round) {
      for (std::size_t i = 0; i < drivers.size() && done; ++i) {
        done = one_round(drivers[i], pods[i], way, bytes, figures[i]);
      }
    }
    if (!done) break;
    for (std::size_t i = 0; i < drivers.size(); ++i) {
      std::printf("%-26s %-12s %10.0f %16.1f\n", i == 0 ? way.name : "", drivers[i].peer().name.c_str(),
                  median(figures[i].speed), median(figures[i].cost));
    }
    std::fflush(stdout);
  }
  for (std::size_t i = 0; i < drivers.size(); ++i) {
    if (auto down = drivers[i].down(pods[i], times); !down && done) done = std::move(down);
  }
  return done;
}

}  // namespace
}  // namespace berth::bench

int main(int argc, char** argv) {
  CLI::App app("Compares what bytes cost through exec and port-forward", "bench_streams");
  std::string image;
  std::vector<std::string> peers;
  std::size_t megabytes = 256;
  int rounds = 3;
  app.add_option("--image", image)->required();
  app.add_option("--peer", peers, "NAME=SOCKET=CGROUP")->required();
  app.add_option("--megabytes", megabytes)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds)->capture_default_str()->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  auto drivers = berth::bench::make_drivers(peers, image, 1);
  if (!drivers) {
    std::fprintf(stderr, "bench_streams: %s\n", drivers.error().text().c_str());
    return 2;
  }
  const auto done = berth::bench::compare(*drivers, megabytes << 20, rounds);
  if (!done) {
    std::fprintf(stderr, "bench_streams: %s\n", done.error().text().c_str());
    return 1;
  }
  return 0;
}

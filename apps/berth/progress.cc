#include "progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/strings.h"
#include "client.h"

namespace berth::cli {
namespace {

using ::berth::v1::PullImageProgress;

const char* state_word(const PullImageProgress& progress) {
  switch (progress.state()) {
    case ::berth::v1::LAYER_WAITING:
      return "waiting";
    case ::berth::v1::LAYER_FETCHING:
      return "fetching";
    case ::berth::v1::LAYER_UNPACKING:
      return "unpacking";
    case ::berth::v1::LAYER_DONE:
      return "done";
    case ::berth::v1::LAYER_PRESENT:
      return "present";
    default:
      return "?";
  }
}

bool finished(const PullImageProgress& progress) {
  return progress.state() == ::berth::v1::LAYER_DONE || progress.state() == ::berth::v1::LAYER_PRESENT;
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return 80;
  return size.ws_col;
}

// "a1b2c3d4e5f6a  fetching  [=========>          ]  12.3 MiB / 40.0 MiB", no wider than the terminal.
std::string bar_line(const PullImageProgress& progress, std::size_t width) {
  char head[64];
  std::snprintf(head, sizeof head, "%s  %-9s  ", short_id(progress.layer()).c_str(), state_word(progress));
  const auto total = progress.total_bytes();
  const auto done = finished(progress) ? total : std::min(progress.done_bytes(), total);
  const std::string tail = "  " + human_bytes(done) + " / " + human_bytes(total);
  const std::string start = head;
  const std::size_t used = start.size() + tail.size() + 2;
  const std::size_t room = width > used + 11 ? std::min<std::size_t>(width - used - 1, 40) : 10;
  const auto filled = total == 0 ? room
                                 : static_cast<std::size_t>(static_cast<double>(done) / static_cast<double>(total) *
                                                            static_cast<double>(room));
  std::string bar(filled, '=');
  if (filled < room) bar += '>';
  bar.resize(room, ' ');
  return start + "[" + bar + "]" + tail;
}

}  // namespace

void PullDisplay::show(const PullImageProgress& progress) {
  if (quiet_ || progress.layer().empty()) return;
  const auto known = layers_.find(progress.layer());
  const bool changed = known == layers_.end() || known->second.state() != progress.state();
  if (known == layers_.end()) order_.push_back(progress.layer());
  layers_[progress.layer()] = progress;
  if (terminal_) {
    redraw();
  } else if (changed) {
    std::fprintf(stderr, "layer %s %s %s\n", short_id(progress.layer()).c_str(), state_word(progress),
                 human_bytes(progress.total_bytes()).c_str());
  }
}

void PullDisplay::redraw() {
  const std::size_t width = terminal_width();
  std::string out;
  if (drawn_lines_ > 0) out += "\x1b[" + std::to_string(drawn_lines_) + "A";
  for (const auto& layer : order_) out += "\r\x1b[2K" + bar_line(layers_[layer], width) + "\n";
  drawn_lines_ = order_.size();
  std::fputs(out.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace berth::cli

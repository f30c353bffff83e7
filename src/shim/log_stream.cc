#include "shim/log_stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/clock.h"

namespace berth::shim {
namespace {

constexpr std::size_t kMinOutBytes = 128U << 10;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

}  // namespace

std::size_t LogStream::out_bytes(std::size_t max_line_bytes) {
  return std::max(kMinOutBytes, max_line_bytes + kLogHeaderBytes + 1);
}

LogStream::LogStream(LogFile& file, StreamName name, std::size_t max_line_bytes, Scratch& scratch)
    : file_(file), scratch_(scratch), max_line_(max_line_bytes), name_(name) {}

void LogStream::write(std::string_view bytes) {
  out_ = scratch_.out_buffer();
  out_used_ = 0;
  if (out_.size() < max_line_ + kLogHeaderBytes + 1) {
    file_.add_dropped(bytes.size());
    return;
  }
  while (!bytes.empty()) {
    const std::size_t room = max_line_ - pending_.size();
    // One byte more than fits: a newline right behind a line of the full length ends it, it is not split.
    const std::string_view window = bytes.substr(0, room + 1);
    const std::size_t newline = window.find('\n');
    if (newline != std::string_view::npos) {
      add_entry('F', window.substr(0, newline));
      bytes.remove_prefix(newline + 1);
    } else if (window.size() > room) {
      add_entry('P', window.substr(0, room));
      bytes.remove_prefix(room);
    } else {
      pending_.append(bytes);
      break;
    }
  }
  send();
}

void LogStream::flush() {
  if (pending_.empty()) return;
  out_ = scratch_.out_buffer();
  out_used_ = 0;
  if (out_.empty()) {
    file_.add_dropped(pending_.size());
    std::string().swap(pending_);
    return;
  }
  add_entry('P', {});
  send();
}

void LogStream::add_entry(char tag, std::string_view more) {
  const std::size_t size = kLogHeaderBytes + pending_.size() + more.size() + 1;
  if (out_used_ + size > out_.size()) send();
  char* at = out_.data() + out_used_;
  stamp(at);
  const std::string_view name = name_ == StreamName::kStdout ? " stdout " : " stderr ";
  std::copy(name.begin(), name.end(), at + stamp_.size());
  at[38] = tag;
  at[39] = ' ';
  at += kLogHeaderBytes;
  at = std::copy(pending_.begin(), pending_.end(), at);
  at = std::copy(more.begin(), more.end(), at);
  *at = '\n';
  out_used_ += size;
  if (!pending_.empty()) std::string().swap(pending_);
}

void LogStream::send() {
  if (out_used_ == 0) return;
  scratch_.used(out_used_);
  file_.append(std::string_view(out_.data(), out_used_));
  out_used_ = 0;
}

void LogStream::stamp(char* out) {
  last_ns_ = std::max(wall_now_ns(), last_ns_ + 1);
  const std::int64_t second = last_ns_ / kNsPerSecond;
  if (second != stamp_second_) {
    format_rfc3339_into(WallTime(std::chrono::nanoseconds(last_ns_)), stamp_.data());
    stamp_second_ = second;
  } else {
    // Only the nine digits of the fraction differ: "....:01.123456789Z".
    std::int64_t fraction = last_ns_ % kNsPerSecond;
    for (std::size_t i = 28; i >= 20; --i) {
      stamp_[i] = static_cast<char>('0' + fraction % 10);
      fraction /= 10;
    }
  }
  std::memcpy(out, stamp_.data(), stamp_.size());
}

}  // namespace berth::shim

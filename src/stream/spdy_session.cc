#include "stream/spdy_session.h"

#include <utility>

namespace berth::stream {
namespace {

// RST_STREAM (2.6.3) and GOAWAY (2.6.6).
constexpr std::uint32_t kProtocolError = 1;
constexpr std::uint32_t kInvalidStream = 2;
constexpr std::uint32_t kRefusedStream = 3;
constexpr std::uint32_t kCancel = 5;
constexpr std::uint32_t kGoAwayOk = 0;

// A client that reads nothing and asks for answers all the same. Above what all forwards of a session may have read
// from their ports at once.
constexpr std::size_t kMaxUnsent = 96U << 20;

// A frame must not keep others of the connection waiting for long.
constexpr std::size_t kMaxPiece = 64U << 10;

Result<std::uint32_t> stream_id(std::string_view payload) {
  if (payload.size() < 4) return fail(Code::kInvalid, "a control frame is too short");
  return spdy_word(payload, 0) & kMaxSpdyStreamId;
}

}  // namespace

// Keeps the reader's interface out of the session's own.
class SpdySession::Frames final : public SpdyFrames {
 public:
  explicit Frames(SpdySession& session) : session_(session) {}
  Result<> on_control(SpdyType type, std::uint8_t flags, std::string_view payload) override {
    return session_.on_control(type, flags, payload);
  }
  Result<> on_data(std::uint32_t stream, std::string_view bytes, bool fin) override {
    return session_.on_data(stream, bytes, fin);
  }

 private:
  SpdySession& session_;
};

void SpdySession::accept_stream(std::uint32_t id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || closed_) return;
  found->second.accepted = true;
  std::string payload;
  append_spdy_word(payload, id);
  payload.append(encoder_.encode({}));
  wire_->send(spdy_control(SpdyType::kSynReply, 0, payload));
}

void SpdySession::reset(std::uint32_t id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || closed_) return;
  send_reset(id, found->second.accepted ? kCancel : kRefusedStream);
  streams_.erase(found);
}

void SpdySession::send_reset(std::uint32_t id, std::uint32_t status) {
  std::string payload;
  append_spdy_word(payload, id);
  append_spdy_word(payload, status);
  wire_->send(spdy_control(SpdyType::kRstStream, 0, payload));
}

void SpdySession::send(std::uint32_t id, std::string_view bytes, bool fin) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || found->second.we_ended || closed_) return;
  while (!bytes.empty() || fin) {
    const std::string_view piece = bytes.substr(0, kMaxPiece);
    bytes.remove_prefix(piece.size());
    const bool last = fin && bytes.empty();
    std::string frame = spdy_data_head(id, last ? kSpdyFin : 0, piece.size());
    frame.append(piece);
    wire_->send(std::move(frame));
    if (last) break;
  }
  if (!fin) return;
  found->second.we_ended = true;
  forget_if_over(id);
}

void SpdySession::close() {
  if (closed_) return;
  closed_ = true;
  std::string payload;
  append_spdy_word(payload, last_id_);
  append_spdy_word(payload, kGoAwayOk);
  wire_->send(spdy_control(SpdyType::kGoAway, 0, payload));
  wire_->close();
  streams_.clear();
  handler_.reset();
}

void SpdySession::on_bytes(std::string_view bytes, bool /*first*/) {
  if (closed_) return;
  // Whoever is called may close us, which lets the handler go.
  const auto keep = handler_;
  Frames frames(*this);
  auto fed = wire_->unsent() > kMaxUnsent ? Result<>(fail(Code::kExhausted, "the client does not read"))
                                          : reader_.feed(bytes, frames);
  if (!fed && !closed_) {
    const Error why = std::move(fed).error();
    wire_->close();
    end(why);
  }
}

void SpdySession::on_writable() {
  if (closed_) return;
  const auto keep = handler_;
  keep->on_writable();
}

void SpdySession::on_gone(const Error& why) {
  if (!closed_) end(why);
}

void SpdySession::end(const Error& why) {
  closed_ = true;
  streams_.clear();
  const auto handler = std::exchange(handler_, nullptr);
  handler->on_gone(why);
}

Result<> SpdySession::on_control(SpdyType type, std::uint8_t flags, std::string_view payload) {
  if (closed_) return {};
  switch (type) {
    case SpdyType::kSynStream:
      return new_stream(flags, payload);
    case SpdyType::kRstStream: {
      BERTH_ASSIGN(const std::uint32_t id, stream_id(payload), "RST_STREAM");
      if (streams_.erase(id) > 0) handler_->on_reset(id);
      return {};
    }
    case SpdyType::kPing:
      // A client's numbers are odd; an even one would answer a ping of ours, and we send none.
      if (payload.size() >= 4 && (spdy_word(payload, 0) & 1) != 0) {
        wire_->send(spdy_control(SpdyType::kPing, 0, payload.substr(0, 4)));
      }
      return {};
    case SpdyType::kSynReply:
    case SpdyType::kHeaders: {
      // Their blocks are part of the one compressed stream, read or lost for all that follow.
      if (payload.size() < 4) return fail(Code::kInvalid, "a control frame is too short");
      BERTH_TRY(decoder_.decode(payload.substr(4)), "HEADERS");
      return {};
    }
    case SpdyType::kSettings:
    case SpdyType::kGoAway:
    case SpdyType::kWindowUpdate:
      return {};
  }
  return {};
}

Result<> SpdySession::new_stream(std::uint8_t flags, std::string_view payload) {
  constexpr std::size_t kBlockAt = 10;  // after the stream, the associated stream, priority and slot
  if (payload.size() < kBlockAt) return fail(Code::kInvalid, "SYN_STREAM is too short");
  BERTH_ASSIGN(const std::uint32_t id, stream_id(payload), "SYN_STREAM");
  BERTH_ASSIGN(const SpdyHeaders headers, decoder_.decode(payload.substr(kBlockAt)), "SYN_STREAM");
  if ((id & 1) == 0 || id <= last_id_) {
    send_reset(id, kProtocolError);
    return fail(Code::kInvalid, "SYN_STREAM with number " + std::to_string(id));
  }
  last_id_ = id;
  if (streams_.size() >= kMaxStreams) {
    send_reset(id, kRefusedStream);
    return {};
  }
  streams_.emplace(id, Stream{});
  handler_->on_stream(id, headers);
  if ((flags & kSpdyFin) != 0) peer_ended(id);
  return {};
}

Result<> SpdySession::on_data(std::uint32_t id, std::string_view bytes, bool fin) {
  if (closed_) return {};
  const auto found = streams_.find(id);
  if (found == streams_.end() || found->second.peer_ended) {
    // What was on its way while we gave the stream up. One answer, in however many pieces a frame comes.
    if (id > last_id_ && id != unknown_id_) send_reset(id, kInvalidStream);
    if (id > last_id_) unknown_id_ = id;
    return {};
  }
  if (!bytes.empty()) handler_->on_data(id, bytes);
  if (fin && !closed_) peer_ended(id);
  return {};
}

void SpdySession::peer_ended(std::uint32_t id) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;
  found->second.peer_ended = true;
  handler_->on_end(id);
  forget_if_over(id);
}

void SpdySession::forget_if_over(std::uint32_t id) {
  const auto found = streams_.find(id);
  if (found != streams_.end() && found->second.we_ended && found->second.peer_ended) streams_.erase(found);
}

}  // namespace berth::stream

#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/proto_wire.h"

/// Lists as they go over the wire. A message for each item costs dozens of allocations, most of them for labels and
/// annotations: for 500 pods more time than all the rest of a call. So an item's bytes are made at once, of a message
/// that is used again for each item (without the maps) and of the maps as the record has them.
namespace berth::cri {

/// The items of a list one after another: appends the next one, a serialized message, to `out`, or answers false when
/// there are no more. What is listed is what there was when the source was made; it holds that and nothing of what it
/// has told. Called by one thread at a time; takes no lock that anybody holds over anything slow.
using Items = std::function<bool(std::string& out)>;

/// The items of those of `records` (pointers) for which `append(out, record)` answers true.
template <class Pointer, class Append>
[[nodiscard]] Items items_of(std::vector<Pointer> records, Append append) {
  return [records = std::move(records), at = std::size_t{0}, append = std::move(append)](std::string& out) mutable {
    while (at < records.size()) {
      const Pointer record = std::move(records[at++]);
      if (append(out, *record)) return true;
    }
    return false;
  };
}

/// Appends a field map<string, string>. Source: protobuf.dev, "Encoding", "Maps".
template <class Map>
void put_map(std::string& out, unsigned field, const Map& map, std::string& scratch) {
  constexpr unsigned kKey = 1;
  constexpr unsigned kValue = 2;
  for (const auto& [key, value] : map) {
    scratch.clear();
    proto::put_bytes(scratch, kKey, key);
    proto::put_bytes(scratch, kValue, value);
    proto::put_bytes(out, field, scratch);
  }
}

}  // namespace berth::cri

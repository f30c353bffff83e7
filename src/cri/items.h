#pragma once
#include <google/protobuf/repeated_ptr_field.h>

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace berth::cri {

/// The items of a list one after another: fills `item`, which is empty, or answers false when there are no more. What
/// is listed is what there was when the source was made; it holds that and nothing of what it has told. Called by one
/// thread at a time; takes no lock that anybody holds over anything slow.
template <class Item>
using Items = std::function<bool(Item& item)>;

/// The items of those of `records` (pointers) for which `fill(item, record)` answers true.
template <class Item, class Pointer, class Fill>
[[nodiscard]] Items<Item> items_of(std::vector<Pointer> records, Fill fill) {
  return [records = std::move(records), at = std::size_t{0}, fill = std::move(fill)](Item& item) mutable {
    while (at < records.size()) {
      const Pointer record = std::move(records[at++]);
      if (fill(item, *record)) return true;
    }
    return false;
  };
}

/// All that is left.
template <class Item>
void collect(const Items<Item>& next, google::protobuf::RepeatedPtrField<Item>& out) {
  while (next(*out.Add())) {
  }
  out.RemoveLast();
}

}  // namespace berth::cri

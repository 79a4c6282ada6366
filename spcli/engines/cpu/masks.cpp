// Neighbour masks: which taps feed each output row. A mask is `words` 64-bit words, the lowest taps first.
#include "common.hpp"

using namespace spcli;

namespace {

uint64_t scrambled(uint64_t value) {  // the finaliser of splitmix64
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

}  // namespace

// masks [words][count], zeroed by the caller: bit t of row r is set where tap t, whose rules end in rows[splits[t]] to
// rows[splits[t + 1]], has one that ends in r.
SPCLI_API void spcli_row_masks(const int32_t* rows, const int64_t* splits, int64_t taps, int64_t count,
                               uint64_t* masks) {
  for (int64_t tap = 0; tap < taps; ++tap) {
    uint64_t* word = masks + tap / 64 * count;
    const uint64_t bit = uint64_t{1} << (tap % 64);
    for (int64_t i = splits[tap]; i < splits[tap + 1]; ++i) word[rows[i]] |= bit;
  }
}

// The different masks among `masks` [words][count], in the order they are first seen: writes the row of the first of
// each and how many rows have it, and gives their number, or -1 when memory runs out.
SPCLI_API int64_t spcli_distinct_masks(const uint64_t* masks, int64_t words, int64_t count, int32_t* rows,
                                       int64_t* counts) {
  size_t size = 16;
  while (size < 2 * static_cast<size_t>(count)) size *= 2;
  const auto table = or_null([&] { return std::make_unique<std::vector<int32_t>>(size, -1); });
  if (!table) return -1;
  int64_t distinct = 0;
  for (int64_t row = 0; row < count; ++row) {
    uint64_t hash = 0;
    for (int64_t w = 0; w < words; ++w) hash = scrambled(hash ^ masks[w * count + row]);
    const auto equal = [&](int32_t other) {
      for (int64_t w = 0; w < words; ++w)
        if (masks[w * count + row] != masks[w * count + other]) return false;
      return true;
    };
    size_t place = hash & (size - 1);
    while ((*table)[place] >= 0 && !equal(rows[(*table)[place]])) place = (place + 1) & (size - 1);
    if ((*table)[place] < 0) {
      (*table)[place] = static_cast<int32_t>(distinct);
      rows[distinct] = static_cast<int32_t>(row);
      counts[distinct++] = 0;
    }
    ++counts[(*table)[place]];
  }
  return distinct;
}

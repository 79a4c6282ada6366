// Pooling over the active sites of each output's window, and over all sites of each scan.
#include <algorithm>
#include <limits>

#include "common.hpp"

using namespace spcli;

namespace {

constexpr int32_t kBlock = 256;

// Both loops keep a NaN once they have met one, as torch does.
void take_maximum(float* out, const float* in, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) out[c] = in[c] < out[c] || out[c] != out[c] ? out[c] : in[c];
}

void take_sum(float* out, const float* in, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) out[c] += in[c];
}

}  // namespace

// out [outputs, channels]: maximum (or mean) of the input rows that the map's rules bring to each output row.
SPCLI_API void spcli_pool(const float* in, int64_t in_stride, int64_t channels, Map* map, int32_t inverted,
                          int32_t mean, float* out, int64_t out_stride, int64_t outputs) {
  const std::vector<int64_t>& starts = map->block_starts(kBlock, inverted != 0);
  const int64_t blocks = (outputs + kBlock - 1) / kBlock;
  const float start = mean ? 0.0f : -std::numeric_limits<float>::infinity();
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * kBlock, last = std::min(outputs, first + kBlock);
    int32_t degree[kBlock] = {0};
    for (int64_t row = first; row < last; ++row) std::fill_n(out + row * out_stride, channels, start);
    for (int tap = 0; tap < map->taps; ++tap) {
      const Rules rules = map->rules(tap, inverted != 0);
      const int64_t* at = starts.data() + tap * (blocks + 1) + block;
      for (int64_t i = at[0]; i < at[1]; ++i) {
        float* row = out + rules.out[i] * out_stride;
        const float* source = in + rules.in[i] * in_stride;
        if (mean) {
          take_sum(row, source, channels);
          ++degree[rules.out[i] - first];
        } else {
          take_maximum(row, source, channels);
        }
      }
    }
    if (mean)
      for (int64_t row = first; row < last; ++row)
        for (int64_t c = 0; c < channels; ++c) out[row * out_stride + c] /= static_cast<float>(degree[row - first]);
  }
}

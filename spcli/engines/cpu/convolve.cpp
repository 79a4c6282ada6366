// Convolution over a rulebook. A block of output rows has one owner, who adds its rules tap by tap with a register
// micro-kernel that reads the gathered input rows in place. Every output element is one chain of fused multiply-adds in
// the order (tap, input channel), so its bits depend neither on the number of threads nor on the vector length.
#include <algorithm>
#include <cstring>

#include "common.hpp"

namespace spcli {

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kStripVectors = 4;
#elif defined(__AVX__)
constexpr int kLanes = 8, kStripVectors = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kStripVectors = 4;
#else
constexpr int kLanes = 4, kStripVectors = 2;
#endif
constexpr int kStrip = kLanes * kStripVectors;  // output channels of one weight strip

// Rows of a tile by its width in vectors: as many accumulators as the registers hold beside one weight row.
template <int NV>
constexpr int tile_rows() {
#if defined(__AVX512F__) || defined(__aarch64__)
  return NV == 4 ? 6 : NV == 3 ? 8 : 12;
#else
  return NV == 2 ? 6 : 12;
#endif
}

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef float Unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// One strip of one tap for one block: where rows come from, where they are added.
struct Panel {
  const float* in;
  int64_t in_stride;
  float* out;  // the block's accumulators, at this strip's first column
  int64_t out_stride;
  const float* weight;  // [Cin][NV * kLanes]
  int32_t channels;     // Cin
  int32_t first_row;    // the block's first output row
};

template <int MR, int NV>
inline __attribute__((always_inline)) void tile(const Panel& p, const int32_t* in_rows, const int32_t* out_rows) {
  const float* a[MR];
  float* c[MR];
  Vector acc[MR][NV];
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r) {
    a[r] = p.in + in_rows[r] * p.in_stride;
    c[r] = p.out + (out_rows[r] - p.first_row) * p.out_stride;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] = load(c[r] + v * kLanes);
  }
  const float* w = p.weight;
  for (int32_t ci = 0; ci < p.channels; ++ci, w += NV * kLanes) {
    Vector b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = load(w + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r) {
      const Vector x = a[r][ci] - Vector{};
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[r][v] += x * b[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(c[r] + v * kLanes, acc[r][v]);
}

// The rows left over, fewer than a full tile.
template <int MR, int NV>
inline __attribute__((always_inline)) void last_tile(const Panel& p, const int32_t* in_rows, const int32_t* out_rows,
                                                     int64_t count) {
  if constexpr (MR > 0) {
    if (count == MR) return tile<MR, NV>(p, in_rows, out_rows);
    last_tile<MR - 1, NV>(p, in_rows, out_rows, count);
  }
}

// Gathered rows follow no stride that the processor could guess, so they are asked for a tile ahead.
inline void prefetch_rows(const Panel& p, const int32_t* in_rows, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = p.in + in_rows[i] * p.in_stride;
    for (int32_t ci = 0; ci < p.channels; ci += 16) __builtin_prefetch(row + ci);
  }
}

template <int NV>
__attribute__((noinline)) void add_rules(const Panel& p, const int32_t* in_rows, const int32_t* out_rows,
                                         int64_t count) {
  constexpr int MR = tile_rows<NV>();
  int64_t i = 0;
  for (; i + MR <= count; i += MR) {
    prefetch_rows(p, in_rows + i + MR, std::min<int64_t>(MR, count - i - MR));
    tile<MR, NV>(p, in_rows + i, out_rows + i);
  }
  last_tile<MR - 1, NV>(p, in_rows + i, out_rows + i, count - i);
}

int64_t padded(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Output rows of a block: wide layers take more, to read their weights less often; small inputs less, to feed threads.
int32_t block_rows(int64_t in_channels, int64_t out_channels, int64_t outputs) {
  const int64_t most = in_channels * out_channels >= 96 * 96 ? 512 : 256;
  const int64_t share = (outputs + 4 * threads() - 1) / (4 * threads());
  return static_cast<int32_t>(std::min(most, std::max<int64_t>(32, (share + 31) / 32 * 32)));
}

}  // namespace

}  // namespace spcli

using namespace spcli;

// Weights in the order the kernel reads them: [taps][strip][Cin][columns of the strip], columns padded with zeros.
struct spcli_packed {
  Buffer<float> weight;
  Buffer<float> shift;
  int32_t taps, in_channels, out_channels;
};

// Packs weight [Cout, taps, Cin], multiplied by scale [Cout] where not null; shift [Cout] may be null for zeros.
SPCLI_API spcli_packed* spcli_pack(const float* weight, const double* scale, const double* shift, int32_t taps,
                                   int32_t in_channels, int32_t out_channels) {
  return or_null([&] {
    auto packed = std::make_unique<spcli_packed>();
    packed->taps = taps;
    packed->in_channels = in_channels;
    packed->out_channels = out_channels;
    const int64_t width = padded(out_channels);
    packed->weight = Buffer<float>(static_cast<size_t>(taps) * in_channels * width);
    packed->shift = Buffer<float>(width);
    for (int64_t c = 0; c < width; ++c)
      packed->shift[c] = c < out_channels && shift ? static_cast<float>(shift[c]) : 0.0f;
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1)
    for (int32_t tap = 0; tap < taps; ++tap)
      for (int64_t first = 0; first < width; first += kStrip) {
        const int64_t columns = std::min<int64_t>(kStrip, width - first);
        float* strip = &packed->weight[(tap * width + first) * in_channels];
        for (int64_t column = 0; column < columns; ++column) {
          const int64_t out = first + column;
          const double factor = out < out_channels && scale ? scale[out] : 1.0;
          const float* source = weight + (out * taps + tap) * in_channels;
          for (int32_t ci = 0; ci < in_channels; ++ci)
            strip[ci * columns + column] = out < out_channels ? static_cast<float>(source[ci] * factor) : 0.0f;
        }
      }
    return packed.release();
  });
}

SPCLI_API void spcli_packed_free(spcli_packed* packed) { delete packed; }

namespace {

// What one convolution call works on; `map` null is the pointwise product of a Linear layer.
struct Call {
  const float* in;
  int64_t in_stride;
  Map* map;
  bool inverted;
  const spcli_packed* packed;
  float* out;
  int64_t out_stride, outputs;
  Epilogue epilogue;
};

void add_tap(const Call& call, Panel panel, float* rows, int32_t tap, Rules rules) {
  const int64_t width = padded(call.packed->out_channels);
  for (int64_t first = 0; first < width; first += kStrip) {
    panel.out = rows + first;
    panel.weight = &call.packed->weight[(tap * width + first) * panel.channels];
    switch (std::min<int64_t>(kStrip, width - first) / kLanes) {
      case 1:
        add_rules<1>(panel, rules.in, rules.out, rules.count);
        break;
      case 2:
        add_rules<2>(panel, rules.in, rules.out, rules.count);
        break;
#if !defined(__x86_64__) || defined(__AVX512F__)
      case 3:
        add_rules<3>(panel, rules.in, rules.out, rules.count);
        break;
      case 4:
        add_rules<4>(panel, rules.in, rules.out, rules.count);
        break;
#endif
      default:
        break;
    }
  }
}

void convolve_block(const Call& call, int32_t block, int64_t index, const int64_t* starts, int64_t starts_stride,
                    float* rows, const int32_t* iota) {
  const int64_t width = padded(call.packed->out_channels);
  const int64_t first = index * block, count = std::min<int64_t>(block, call.outputs - first);
  for (int64_t r = 0; r < count; ++r) std::memcpy(rows + r * width, call.packed->shift.data(), width * sizeof(float));
  Panel panel{call.in, call.in_stride, rows, width, nullptr, call.packed->in_channels, static_cast<int32_t>(first)};
  if (!call.map) {
    panel.in += first * call.in_stride;
    panel.first_row = 0;
    add_tap(call, panel, rows, 0, {iota, iota, count});
  } else {
    for (int32_t tap = 0; tap < call.packed->taps; ++tap) {
      const int64_t* at = starts + tap * starts_stride + index;
      if (at[0] == at[1]) continue;
      const Rules all = call.map->rules(tap, call.inverted);
      add_tap(call, panel, rows, tap, {all.in + at[0], all.out + at[0], at[1] - at[0]});
    }
  }
  finish_rows(rows, width, call.out + first * call.out_stride, call.out_stride, count, call.packed->out_channels,
              call.epilogue, first);
}

}  // namespace

// out [outputs, Cout] = activation(conv(in [., Cin]) + shift + add). Strides are in floats between rows.
SPCLI_API void spcli_convolve(const float* in, int64_t in_stride, Map* map, int32_t inverted,
                              const spcli_packed* packed, float* out, int64_t out_stride, int64_t outputs,
                              const float* add, int64_t add_stride, int32_t activation, float slope) {
  const Call call{
      in, in_stride, map, inverted != 0, packed, out, out_stride, outputs, {add, add_stride, activation, slope}};
  const int32_t block = block_rows(packed->in_channels, packed->out_channels, outputs);
  const int64_t blocks = (outputs + block - 1) / block;
  const int64_t* starts = map ? map->block_starts(block, call.inverted).data() : nullptr;
  Buffer<int32_t> iota(block);
  for (int32_t i = 0; i < block; ++i) iota[i] = i;
#pragma omp parallel num_threads(threads())
  {
    Buffer<float> rows(static_cast<size_t>(block) * padded(packed->out_channels));
#pragma omp for schedule(dynamic, 1)
    for (int64_t index = 0; index < blocks; ++index)
      convolve_block(call, block, index, starts, blocks + 1, rows.data(), iota.data());
  }
}

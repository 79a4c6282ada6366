// What works on each row alone: the end of a convolution, sums, layer norm. Compiled without contraction, so that every
// build gives the same bits.
#include <cmath>
#include <cstring>

#include "common.hpp"

namespace spcli {

namespace {

enum Kind { kNone, kRelu, kLeakyRelu, kGelu };

template <class Function>
void map_rows(const float* rows, int64_t stride, float* out, int64_t out_stride, int64_t count, int64_t channels,
              Function function) {
  for (int64_t r = 0; r < count; ++r) {
    const float* from = rows + r * stride;
    float* to = out + r * out_stride;
    for (int64_t c = 0; c < channels; ++c) to[c] = function(from[c]);
  }
}

template <class Function>
void map_sums(const float* rows, int64_t stride, float* out, int64_t out_stride, int64_t count, int64_t channels,
              const float* add, int64_t add_stride, Function function) {
  for (int64_t r = 0; r < count; ++r) {
    const float* from = rows + r * stride;
    const float* more = add + r * add_stride;
    float* to = out + r * out_stride;
    for (int64_t c = 0; c < channels; ++c) to[c] = function(from[c] + more[c]);
  }
}

template <class Function>
void dispatch_add(const float* rows, int64_t stride, float* out, int64_t out_stride, int64_t count, int64_t channels,
                  const Epilogue& e, int64_t first_row, Function function) {
  if (e.add)
    map_sums(rows, stride, out, out_stride, count, channels, e.add + first_row * e.add_stride, e.add_stride, function);
  else
    map_rows(rows, stride, out, out_stride, count, channels, function);
}

constexpr int64_t kRowsAtOnce = 256;

}  // namespace

void finish_rows(const float* rows, int64_t stride, float* out, int64_t out_stride, int64_t count, int64_t channels,
                 const Epilogue& e, int64_t first_row) {
  const float slope = e.slope;
  // `x < 0 ? 0 : x` rather than a maximum: a NaN stays a NaN.
  switch (e.activation) {
    case kRelu:
      return dispatch_add(rows, stride, out, out_stride, count, channels, e, first_row,
                          [](float x) { return x < 0.0f ? 0.0f : x; });
    case kLeakyRelu:
      return dispatch_add(rows, stride, out, out_stride, count, channels, e, first_row,
                          [slope](float x) { return x < 0.0f ? x * slope : x; });
    case kGelu:
      return dispatch_add(rows, stride, out, out_stride, count, channels, e, first_row, [](float x) {
        return static_cast<float>(0.5 * x * (1.0 + std::erf(x * 0.70710678118654752440)));
      });
    default:
      return dispatch_add(rows, stride, out, out_stride, count, channels, e, first_row, [](float x) { return x; });
  }
}

}  // namespace spcli

using namespace spcli;

// out = activation(in + add), row by row; `out` may be `in`.
SPCLI_API void spcli_add(const float* in, int64_t in_stride, const float* add, int64_t add_stride, float* out,
                         int64_t out_stride, int64_t rows, int64_t channels, int32_t activation, float slope) {
  const Epilogue epilogue{add, add_stride, activation, slope};
#pragma omp parallel for num_threads(threads()) schedule(static)
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const int64_t count = rows - first < kRowsAtOnce ? rows - first : kRowsAtOnce;
    finish_rows(in + first * in_stride, in_stride, out + first * out_stride, out_stride, count, channels, epilogue,
                first);
  }
}

// out = activation(weight * (in - mean) / sqrt(variance + eps) + bias + add) over the channels of each row, in float64.
SPCLI_API void spcli_layer_norm(const float* in, int64_t in_stride, const float* weight, const float* bias, double eps,
                                const float* add, int64_t add_stride, float* out, int64_t out_stride, int64_t rows,
                                int64_t channels, int32_t activation, float slope) {
  const Epilogue epilogue{add, add_stride, activation, slope};
#pragma omp parallel for num_threads(threads()) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = in + row * in_stride;
    float* to = out + row * out_stride;
    double sum = 0.0, squares = 0.0;
    for (int64_t c = 0; c < channels; ++c) sum += from[c];
    const double mean = sum / static_cast<double>(channels);
    for (int64_t c = 0; c < channels; ++c) squares += (from[c] - mean) * (from[c] - mean);
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(channels) + eps);
    for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<float>((from[c] - mean) * factor * weight[c] + bias[c]);
    finish_rows(to, out_stride, to, out_stride, 1, channels, epilogue, row);
  }
}

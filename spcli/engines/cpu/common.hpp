// What the CPU engine's translation units share: buffers, threads, active sites and the C boundary.
#pragma once

#include <omp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#define SPCLI_API extern "C" __attribute__((visibility("default")))

namespace spcli {

using std::int32_t;
using std::int64_t;
using std::size_t;
using std::uint64_t;

// What `make` gives, or null when memory runs out: no exception may cross the C boundary.
template <class Make>
auto or_null(Make&& make) -> decltype(make()) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Threads for every parallel region, set by spcli_set_threads. Results never depend on it.
int threads();

// Memory is kept and handed out again: fresh pages cost more than the work done on them.
void* pool_take(size_t bytes, size_t* capacity);
void pool_give(void* memory, size_t capacity);

// An uninitialised, 64-byte aligned array from the pool.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : count_(count) {
    if (count) data_ = static_cast<T*>(pool_take(count * sizeof(T), &capacity_));
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_) pool_give(data_, capacity_);
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  // Forgets the rows behind the first `count`.
  void shrink(size_t count) { count_ = count; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    std::swap(capacity_, other.capacity_);
  }
  T* data_ = nullptr;
  size_t count_ = 0;
  size_t capacity_ = 0;
};

// Active sites in lexicographic order as a three-level tree: planes (batch, z), rows (y) of a plane, sites (x) of a
// row. No hash and no dense grid, so a grid may have any number of cells. 2-D sites have one z.
struct Sites {
  int ndim = 3;
  int64_t shape[3] = {1, 1, 1};  // z, y, x
  int batch = 1;
  std::vector<int64_t> plane_key;    // batch * Z + z, rising
  std::vector<int32_t> plane_start;  // planes + 1, into rows
  Buffer<int32_t> row_y;             // rows
  Buffer<int32_t> row_start;         // rows + 1, into x
  Buffer<int32_t> x;                 // sites

  int32_t count() const { return static_cast<int32_t>(x.size()); }
  int32_t rows() const { return static_cast<int32_t>(row_y.size()); }
  int32_t planes() const { return static_cast<int32_t>(plane_key.size()); }
};

// Rules of one tap: `count` pairs, both ends rising.
struct Rules {
  const int32_t* in;
  const int32_t* out;
  int64_t count;
};

// An executable rulebook. Submanifold maps store the taps before the centre only: a translation keeps the
// lexicographic order, so the mirrored tap's rules are the same two lists with the ends swapped.
struct Map {
  std::shared_ptr<Sites> in, out;
  int taps = 1;
  bool half = false;
  std::vector<int64_t> splits;  // stored taps + 1, into the rows below
  Buffer<int32_t> in_rows, out_rows;
  Buffer<int32_t> identity;  // half: 0, 1, 2 ... for the centre tap

  Rules rules(int tap, bool inverted) const;
  // Where each block of `block` output rows begins in each tap's rules: [taps][blocks + 1].
  const std::vector<int64_t>& block_starts(int32_t block, bool inverted);

 private:
  struct Starts {
    int32_t block;
    bool inverted;
    std::vector<int64_t> starts;
  };
  std::vector<std::unique_ptr<Starts>> starts_;
};

// What follows a convolution's rows: out = activation(rows + add); `add` may be null.
struct Epilogue {
  const float* add;
  int64_t add_stride;
  int32_t activation;  // 0 none, 1 relu, 2 leaky relu, 3 gelu
  float slope;
};
void finish_rows(const float* rows, int64_t stride, float* out, int64_t out_stride, int64_t count, int64_t channels,
                 const Epilogue& epilogue, int64_t first_row);

}  // namespace spcli

// Buffers, threads and the parts of the C boundary that belong to no single operation.
#include "common.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

namespace spcli {

namespace {

int thread_count = 1;

struct Block {
  void* memory;
  size_t capacity;
};
std::mutex pool_mutex;
std::vector<Block> pool;
constexpr size_t kPooledBytes = size_t{256} << 20;
size_t pooled_bytes = 0;

size_t rounded(size_t bytes) {
  size_t step = 4096;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

int threads() { return thread_count; }

void* pool_take(size_t bytes, size_t* capacity) {
  const size_t need = rounded(bytes);
  {
    std::lock_guard<std::mutex> lock(pool_mutex);
    auto best = pool.end();
    for (auto it = pool.begin(); it != pool.end(); ++it)
      if (it->capacity >= need && it->capacity <= 2 * need && (best == pool.end() || it->capacity < best->capacity))
        best = it;
    if (best != pool.end()) {
      void* memory = best->memory;
      *capacity = best->capacity;
      pool.erase(best);
      pooled_bytes -= *capacity;
      return memory;
    }
  }
  void* memory = std::aligned_alloc(64, need);
  if (!memory) throw std::bad_alloc();
  *capacity = need;
  return memory;
}

void pool_give(void* memory, size_t capacity) {
  std::lock_guard<std::mutex> lock(pool_mutex);
  pool.push_back({memory, capacity});
  pooled_bytes += capacity;
  while (pooled_bytes > kPooledBytes) {
    pooled_bytes -= pool.front().capacity;
    std::free(pool.front().memory);
    pool.erase(pool.begin());
  }
}

}  // namespace spcli

using namespace spcli;

SPCLI_API void spcli_set_threads(int count) { thread_count = std::max(1, count); }

SPCLI_API int spcli_threads() { return thread_count; }

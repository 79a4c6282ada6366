// Rulebooks from sorted sites, by merging rows: no hash table and no dense grid. A neighbour row is found once per pair
// of rows; inside it both site lists rise, so every tap's rules come out sorted by output and by input row at once.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "common.hpp"

namespace spcli {

namespace {

constexpr int64_t kBitmapCells = int64_t{1} << 24;  // longer axes collect their sites by sorting
constexpr int32_t kParallelRows = 2000;             // fewer rows than this are not worth waking a second thread
constexpr size_t kParallelSteps = 12000;            // less work than this is not worth waking a second thread

// The pair equation on one axis, seen from the input: which (kernel index, output coordinate) a coordinate feeds.
class Axis {
 public:
  struct Candidate {
    int32_t k;
    int64_t shift;
  };

  Axis(int32_t kernel, int32_t stride, int32_t padding, int32_t dilation, bool transposed, int64_t outputs)
      : kernel_(kernel), stride_(stride), padding_(padding), transposed_(transposed), outputs_(outputs) {
    by_residue_.resize(transposed ? 1 : stride);
    for (int32_t k = 0; k < kernel; ++k) {
      const int64_t reach = int64_t{dilation} * k;
      if (transposed)
        by_residue_[0].push_back({k, reach});
      else
        by_residue_[reach % stride].push_back({k, -(reach / stride)});
    }
  }

  int32_t kernel() const { return kernel_; }

  // Most outputs that one coordinate feeds.
  int64_t most_outputs() const {
    size_t most = 0;
    for (const auto& candidates : by_residue_) most = std::max(most, candidates.size());
    return static_cast<int64_t>(most);
  }

  template <class Visit>
  void each(int64_t in, Visit&& visit) const {
    int64_t base, residue = 0;
    if (transposed_) {
      base = in * stride_ - padding_;
    } else if (stride_ == 1) {
      base = in + padding_;
    } else {
      // Unsigned 32-bit division is several times faster than signed 64-bit, and a coordinate plus a padding fits.
      base = static_cast<uint32_t>(in + padding_) / static_cast<uint32_t>(stride_);
      residue = (in + padding_) - base * stride_;
    }
    for (const Candidate& c : by_residue_[residue]) {
      const int64_t out = base + c.shift;
      if (static_cast<uint64_t>(out) < static_cast<uint64_t>(outputs_)) visit(c.k, out);
    }
  }

 private:
  int32_t kernel_, stride_, padding_;
  bool transposed_;
  int64_t outputs_;
  std::vector<std::vector<Candidate>> by_residue_;
};

// A set of coordinates that is filled, ranked and cleared: a bitmap with the range of words it touched.
class BitSet {
 public:
  explicit BitSet(int64_t cells) : words_((cells + 63) / 64, 0), base_(words_.size()) {}
  void mark(int64_t at) {
    const int64_t word = at >> 6;
    words_[word] |= uint64_t{1} << (at & 63);
    low_ = std::min(low_, word);
    high_ = std::max(high_, word);
  }
  // Marks cells that lie between `low` and `high`.
  void mark_all(const int32_t* cell, const int32_t* end, int32_t low, int32_t high) {
    for (; cell < end; ++cell) words_[*cell >> 6] |= uint64_t{1} << (*cell & 63);
    low_ = std::min<int64_t>(low_, low >> 6);
    high_ = std::max<int64_t>(high_, high >> 6);
  }
  template <class Emit>
  int32_t rank_all(Emit&& emit) {
    int32_t count = 0;
    for (int64_t word = low_; word <= high_; ++word) {
      base_[word] = count;
      for (uint64_t bits = words_[word]; bits; bits &= bits - 1) {
        emit((word << 6) + __builtin_ctzll(bits));
        ++count;
      }
    }
    return count;
  }
  int32_t rank(int64_t at) const {
    const uint64_t below = words_[at >> 6] & ((uint64_t{1} << (at & 63)) - 1);
    return base_[at >> 6] + __builtin_popcountll(below);
  }
  void clear() {
    for (int64_t word = low_; word <= high_; ++word) words_[word] = 0;
    low_ = INT64_MAX;
    high_ = -1;
  }

 private:
  std::vector<uint64_t> words_;
  std::vector<int32_t> base_;
  int64_t low_ = INT64_MAX, high_ = -1;
};

// The same set for axes too long for a bitmap.
class SortedSet {
 public:
  explicit SortedSet(int64_t) {}
  void mark(int64_t at) { cells_.push_back(at); }
  void mark_all(const int32_t* cell, const int32_t* end, int32_t, int32_t) { cells_.insert(cells_.end(), cell, end); }
  template <class Emit>
  int32_t rank_all(Emit&& emit) {
    std::sort(cells_.begin(), cells_.end());
    cells_.erase(std::unique(cells_.begin(), cells_.end()), cells_.end());
    for (int64_t cell : cells_) emit(cell);
    return static_cast<int32_t>(cells_.size());
  }
  int32_t rank(int64_t at) const {
    return static_cast<int32_t>(std::lower_bound(cells_.begin(), cells_.end(), at) - cells_.begin());
  }
  void clear() { cells_.clear(); }

 private:
  std::vector<int64_t> cells_;
};

// For every output row, the input row of each (kz, ky), -1 where there is none: [rows][Kz * Ky].
struct RowTable {
  int32_t width = 0;
  std::vector<int32_t> in_row;
  const int32_t* operator[](int64_t row) const { return in_row.data() + row * width; }
};

struct Planes {
  std::vector<int64_t> key;
  std::vector<int32_t> in_plane;  // [planes][Kz], -1 where there is none
};

Planes find_planes(const Sites& in, const Sites& out, const Axis& z_axis, bool fixed) {
  Planes planes;
  struct Link {
    int64_t key;
    int32_t kz, in_plane;
  };
  std::vector<Link> links;
  for (int32_t p = 0; p < in.planes(); ++p) {
    const int64_t batch = in.plane_key[p] / in.shape[0], z = in.plane_key[p] % in.shape[0];
    z_axis.each(z, [&](int32_t kz, int64_t oz) { links.push_back({batch * out.shape[0] + oz, kz, p}); });
  }
  if (fixed) {
    planes.key = out.plane_key;
  } else {
    for (const Link& link : links) planes.key.push_back(link.key);
    std::sort(planes.key.begin(), planes.key.end());
    planes.key.erase(std::unique(planes.key.begin(), planes.key.end()), planes.key.end());
  }
  planes.in_plane.assign(planes.key.size() * z_axis.kernel(), -1);
  for (const Link& link : links) {
    const auto at = std::lower_bound(planes.key.begin(), planes.key.end(), link.key);
    if (at != planes.key.end() && *at == link.key)
      planes.in_plane[(at - planes.key.begin()) * z_axis.kernel() + link.kz] = link.in_plane;
  }
  return planes;
}

// Calls visit(kz, ky, output y, input row) for every input row that reaches output plane `plane`.
template <class Visit>
void each_row(const Sites& in, const Planes& planes, const Axis& z_axis, const Axis& y_axis, size_t plane,
              Visit&& visit) {
  for (int32_t kz = 0; kz < z_axis.kernel(); ++kz) {
    const int32_t source = planes.in_plane[plane * z_axis.kernel() + kz];
    if (source < 0) continue;
    for (int32_t row = in.plane_start[source]; row < in.plane_start[source + 1]; ++row)
      y_axis.each(in.row_y[row], [&](int32_t ky, int64_t oy) { visit(kz, ky, oy, row); });
  }
}

// The output rows that the input reaches, plane by plane.
template <class Set>
void find_output_rows(const Sites& in, const Planes& planes, const Axis& z_axis, const Axis& y_axis, Sites& out) {
  const int64_t count = static_cast<int64_t>(planes.key.size());
  std::vector<std::vector<int32_t>> found(count);
#pragma omp parallel num_threads(threads()) if (in.rows() > kParallelRows)
  {
    Set set(out.shape[1]);
#pragma omp for schedule(dynamic, 1)
    for (int64_t plane = 0; plane < count; ++plane) {
      each_row(in, planes, z_axis, y_axis, plane, [&](int32_t, int32_t, int64_t oy, int32_t) { set.mark(oy); });
      set.rank_all([&](int64_t oy) { found[plane].push_back(static_cast<int32_t>(oy)); });
      set.clear();
    }
  }
  out.plane_key = planes.key;
  out.plane_start.assign(1, 0);
  for (const auto& rows : found) out.plane_start.push_back(out.plane_start.back() + static_cast<int32_t>(rows.size()));
  out.row_y = Buffer<int32_t>(out.plane_start.back());
  for (int64_t plane = 0; plane < count; ++plane)
    std::copy(found[plane].begin(), found[plane].end(), out.row_y.data() + out.plane_start[plane]);
}

// The input rows that feed each output row through its first `width` pairs (kz, ky). The output rows are known when
// `fixed` (submanifold) and found here otherwise.
template <class Set>
RowTable find_rows(const Sites& in, Sites& out, const Axis& z_axis, const Axis& y_axis, bool fixed, int32_t width) {
  const Planes planes = find_planes(in, out, z_axis, fixed);
  if (!fixed) find_output_rows<Set>(in, planes, z_axis, y_axis, out);
  RowTable table;
  table.width = width;
  table.in_row.assign(static_cast<size_t>(out.rows()) * width, -1);
  const int64_t count = static_cast<int64_t>(planes.key.size());
#pragma omp parallel num_threads(threads()) if (in.rows() > kParallelRows)
  {
    Set set(out.shape[1]);
#pragma omp for schedule(dynamic, 1)
    for (int64_t plane = 0; plane < count; ++plane) {
      const int32_t first = out.plane_start[plane], rows = out.plane_start[plane + 1] - first;
      const int32_t* y = out.row_y.data() + first;
      for (int32_t row = 0; row < rows; ++row) set.mark(y[row]);
      set.rank_all([](int64_t) {});
      each_row(in, planes, z_axis, y_axis, plane, [&](int32_t kz, int32_t ky, int64_t oy, int32_t row) {
        const int32_t pair = kz * y_axis.kernel() + ky;
        if (pair >= width) return;
        const int32_t rank = set.rank(oy);
        if (rank < rows && y[rank] == oy) table.in_row[static_cast<size_t>(first + rank) * width + pair] = row;
      });
      set.clear();
    }
  }
  return table;
}

// Rules of one chunk of output rows, a list a tap, rows counted from the chunk's first site.
struct Chunk {
  int32_t first_row = 0, last_row = 0;
  int32_t sites = 0;  // output sites of the chunk, once known
  Buffer<int32_t> x;  // their x, where outputs are computed
  Buffer<int32_t> in_rows, out_rows;
  std::vector<int64_t> begin;  // taps: where a list begins
  std::vector<int64_t> count;  // taps: how long it is
};

// A rule appended at the end of its tap's list.
inline void emit(Chunk& chunk, int64_t* cursor, int32_t tap, int32_t in, int32_t out) {
  const int64_t at = cursor[tap]++;
  chunk.in_rows[at] = in;
  chunk.out_rows[at] = out;
}

// Room for the rules of a chunk: an input row gives each of its taps one rule a site at most.
void reserve_rules(const Sites& in, const RowTable& table, int32_t kernel_x, int32_t taps, Chunk& chunk) {
  std::vector<int64_t> room(table.width, 0);
  for (int32_t row = chunk.first_row; row < chunk.last_row; ++row)
    for (int32_t k = 0; k < table.width; ++k)
      if (table[row][k] >= 0) room[k] += in.row_start[table[row][k] + 1] - in.row_start[table[row][k]];
  chunk.begin.assign(taps, 0);
  chunk.count.assign(taps, 0);
  int64_t total = 0;
  for (int32_t tap = 0; tap < taps; ++tap) {
    chunk.begin[tap] = total;
    total += room[tap / kernel_x] + 4;  // the merge writes up to a few entries ahead of its cursor
  }
  chunk.in_rows = Buffer<int32_t>(total);
  chunk.out_rows = Buffer<int32_t>(total);
}

void finish_counts(Chunk& chunk, const std::vector<int64_t>& cursor) {
  for (size_t tap = 0; tap < chunk.count.size(); ++tap) chunk.count[tap] = cursor[tap] - chunk.begin[tap];
}

// What each input site feeds along x, worked out once: it is wanted again for every output row its row reaches.
struct Feeds {
  Buffer<int32_t> site, kx, ox;  // entries: input site, kernel index, output x
  Buffer<int64_t> first, last;   // input rows: their range of entries
  Buffer<int32_t> low, high;     // input rows: the range of their output x, empty where high < low
};

Feeds find_feeds(const Sites& in, const Axis& x_axis) {
  const int64_t most = x_axis.most_outputs();
  const size_t entries = static_cast<size_t>(in.count()) * most, rows = in.rows();
  Feeds feeds{Buffer<int32_t>(entries), Buffer<int32_t>(entries), Buffer<int32_t>(entries), Buffer<int64_t>(rows),
              Buffer<int64_t>(rows),    Buffer<int32_t>(rows),    Buffer<int32_t>(rows)};
#pragma omp parallel for num_threads(threads()) schedule(static) if (entries > kParallelSteps)
  for (int32_t row = 0; row < in.rows(); ++row) {
    int64_t at = in.row_start[row] * most;
    int32_t low = INT32_MAX, high = -1;
    feeds.first[row] = at;
    for (int32_t i = in.row_start[row]; i < in.row_start[row + 1]; ++i)
      x_axis.each(in.x[i], [&](int32_t kx, int64_t ox) {
        feeds.site[at] = i;
        feeds.kx[at] = kx;
        feeds.ox[at++] = static_cast<int32_t>(ox);
        low = std::min(low, static_cast<int32_t>(ox));
        high = std::max(high, static_cast<int32_t>(ox));
      });
    feeds.last[row] = at;
    feeds.low[row] = low;
    feeds.high[row] = high;
  }
  return feeds;
}

// Output sites and rules of a chunk in one pass: mark what the rows reach, rank it, then write the rules.
template <class Set>
void compute_chunk(const Sites& in, const RowTable& table, const Feeds& feeds, int32_t kernel, int64_t width,
                   Buffer<int32_t>& row_count, Chunk& chunk) {
  reserve_rules(in, table, kernel, table.width * kernel, chunk);
  Set set(width);
  std::vector<int64_t> cursor = chunk.begin;
  chunk.x = Buffer<int32_t>(chunk.in_rows.size());  // every site has a rule
  int32_t* const x = chunk.x.data();
  int32_t found = 0;
  for (int32_t row = chunk.first_row; row < chunk.last_row; ++row) {
    const int32_t* sources = table[row];
    for (int32_t k = 0; k < table.width; ++k) {
      const int32_t source = sources[k];
      if (source < 0 || feeds.high[source] < 0) continue;
      set.mark_all(&feeds.ox[feeds.first[source]], &feeds.ox[feeds.last[source]], feeds.low[source],
                   feeds.high[source]);
    }
    const int32_t base = found;
    row_count[row] = set.rank_all([&](int64_t ox) { x[found++] = static_cast<int32_t>(ox); });
    for (int32_t k = 0; k < table.width; ++k) {
      const int32_t source = sources[k];
      if (source < 0) continue;
      for (int64_t e = feeds.first[source]; e < feeds.last[source]; ++e)
        emit(chunk, cursor.data(), k * kernel + feeds.kx[e], feeds.site[e], base + set.rank(feeds.ox[e]));
    }
    set.clear();
  }
  finish_counts(chunk, cursor);
  chunk.sites = found;
}

// Rules of one output row with one input row of a submanifold map, taps [0, limit) of the row's kernel.
// `reach` is how far the window extends to either side; `tap_of[distance]` is the tap, or -1 between dilated taps.
void merge_row(const Sites& sites, int32_t row, int32_t source, int64_t reach, const std::vector<int32_t>& tap_of,
               int32_t tap_base, int32_t limit, Chunk& chunk, int64_t* cursor) {
  const int32_t* x = sites.x.data();
  int32_t at = sites.row_start[source];
  const int32_t end = sites.row_start[source + 1];
  for (int32_t i = sites.row_start[row]; i < sites.row_start[row + 1]; ++i) {
    const int64_t low = x[i] - reach, high = x[i] + reach;
    while (at < end && x[at] < low) ++at;
    if (at == end) return;
    for (int32_t j = at; j < end && x[j] <= high; ++j) {
      const int32_t tap = tap_of[x[j] - low];
      if (tap >= 0 && tap < limit) emit(chunk, cursor, tap_base + tap, j, i);
    }
  }
}

// The common case of the above, three neighbouring taps: entries are written always and counted when they are rules.
void merge_row_of_three(const Sites& sites, int32_t row, int32_t source, int32_t tap_base, Chunk& chunk,
                        int64_t* cursor) {
  const int32_t* x = sites.x.data();
  const int32_t* at = x + sites.row_start[source];
  const int32_t* const end = x + sites.row_start[source + 1];
  int64_t c0 = cursor[tap_base], c1 = cursor[tap_base + 1], c2 = cursor[tap_base + 2];
  int32_t* const in = chunk.in_rows.data();
  int32_t* const out = chunk.out_rows.data();
  for (int32_t i = sites.row_start[row]; i < sites.row_start[row + 1]; ++i) {
    const int32_t low = x[i] - 1;
    while (at < end && *at < low) ++at;
    if (at == end) break;
    const int32_t* j = at;
    in[c0] = static_cast<int32_t>(j - x);
    out[c0] = i;
    int32_t hit = *j == low;
    c0 += hit;
    j += hit;
    hit = j < end && *j == low + 1;
    in[c1] = static_cast<int32_t>(j - x);
    out[c1] = i;
    c1 += hit;
    j += hit;
    hit = j < end && *j == low + 2;
    in[c2] = static_cast<int32_t>(j - x);
    out[c2] = i;
    c2 += hit;
  }
  cursor[tap_base] = c0;
  cursor[tap_base + 1] = c1;
  cursor[tap_base + 2] = c2;
}

struct SubmanifoldKernel {
  int32_t kernel_x;
  int32_t centre;  // taps before this one are stored
  int64_t reach;
  bool three;  // three taps, no dilation
  std::vector<int32_t> tap_of;
};

void submanifold_chunk(const Sites& sites, const RowTable& table, const SubmanifoldKernel& kernel, Chunk& chunk) {
  reserve_rules(sites, table, kernel.kernel_x, kernel.centre, chunk);
  std::vector<int64_t> cursor = chunk.begin;
  for (int32_t row = chunk.first_row; row < chunk.last_row; ++row) {
    const int32_t* sources = table[row];
    for (int32_t k = 0; k * kernel.kernel_x < kernel.centre; ++k) {
      if (sources[k] < 0) continue;
      const int32_t base = k * kernel.kernel_x;
      const int32_t limit = std::min(kernel.kernel_x, kernel.centre - base);
      if (kernel.three && limit == 3)
        merge_row_of_three(sites, row, sources[k], base, chunk, cursor.data());
      else
        merge_row(sites, row, sources[k], kernel.reach, kernel.tap_of, base, limit, chunk, cursor.data());
    }
  }
  finish_counts(chunk, cursor);
}

// Output rows cut into chunks of about equal work.
std::vector<Chunk> cut(const Sites& in, const RowTable& table, int32_t rows) {
  std::vector<int64_t> work(static_cast<size_t>(rows) + 1, 0);
  for (int32_t row = 0; row < rows; ++row) {
    int64_t sites = 1;
    for (int32_t k = 0; k < table.width; ++k)
      if (table[row][k] >= 0) sites += in.row_start[table[row][k] + 1] - in.row_start[table[row][k]];
    work[row + 1] = work[row] + sites;
  }
  const bool alone = threads() == 1 || work[rows] < static_cast<int64_t>(kParallelSteps);
  const int32_t wanted = alone ? 1 : 4 * threads();
  std::vector<Chunk> chunks;
  for (int32_t c = 0, row = 0; c < wanted; ++c) {
    const int64_t until = work[rows] * (c + 1) / wanted;
    Chunk chunk;
    chunk.first_row = row;
    row = c + 1 == wanted
              ? rows
              : static_cast<int32_t>(std::upper_bound(work.begin() + row, work.end(), until) - work.begin()) - 1;
    row = std::max(row, chunk.first_row);
    chunk.last_row = row;
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

// The chunks' lists joined, tap after tap.
void join_chunks(const std::vector<Chunk>& chunks, const std::vector<int32_t>& first_site, int32_t taps, Map& map) {
  map.splits.assign(static_cast<size_t>(taps) + 1, 0);
  for (int32_t tap = 0; tap < taps; ++tap) {
    map.splits[tap + 1] = map.splits[tap];
    for (const Chunk& chunk : chunks) map.splits[tap + 1] += chunk.count[tap];
  }
  map.in_rows = Buffer<int32_t>(map.splits[taps]);
  map.out_rows = Buffer<int32_t>(map.splits[taps]);
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1) if (map.in_rows.size() > kParallelSteps)
  for (int32_t tap = 0; tap < taps; ++tap) {
    int64_t at = map.splits[tap];
    for (size_t c = 0; c < chunks.size(); ++c) {
      const Chunk& chunk = chunks[c];
      const int64_t count = chunk.count[tap];
      if (!count) continue;
      std::memcpy(&map.in_rows[at], &chunk.in_rows[chunk.begin[tap]], count * sizeof(int32_t));
      for (int64_t i = 0; i < count; ++i) map.out_rows[at + i] = chunk.out_rows[chunk.begin[tap] + i] + first_site[c];
      at += count;
    }
  }
}

struct Geometry {
  int32_t kernel[3], stride[3], padding[3], dilation[3];
  bool submanifold, transposed;
};

void build_submanifold(const Geometry& g, const Axis* axes, Map& map) {
  const Sites& sites = *map.in;
  SubmanifoldKernel kernel;
  kernel.kernel_x = g.kernel[2];
  kernel.centre = map.taps / 2;
  kernel.reach = int64_t{g.dilation[2]} * (g.kernel[2] / 2);
  kernel.three = g.kernel[2] == 3 && g.dilation[2] == 1;
  kernel.tap_of.assign(2 * kernel.reach + 1, -1);
  for (int32_t k = 0; k < g.kernel[2]; ++k) kernel.tap_of[int64_t{g.dilation[2]} * k] = k;
  map.half = true;
  map.identity = Buffer<int32_t>(sites.count());
  std::iota(map.identity.data(), map.identity.data() + sites.count(), 0);
  if (map.taps == 1) {
    map.splits = {0};
    return;
  }
  const int32_t width = (kernel.centre + kernel.kernel_x - 1) / kernel.kernel_x;
  const RowTable table = sites.shape[1] <= kBitmapCells
                             ? find_rows<BitSet>(sites, *map.out, axes[0], axes[1], true, width)
                             : find_rows<SortedSet>(sites, *map.out, axes[0], axes[1], true, width);
  std::vector<Chunk> chunks = cut(sites, table, sites.rows());
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1) if (chunks.size() > 1)
  for (size_t c = 0; c < chunks.size(); ++c) submanifold_chunk(sites, table, kernel, chunks[c]);
  join_chunks(chunks, std::vector<int32_t>(chunks.size(), 0), kernel.centre, map);
}

void build_computed(const Axis* axes, Map& map) {
  const Sites& in = *map.in;
  Sites& out = *map.out;
  const bool short_y = out.shape[1] <= kBitmapCells, short_x = out.shape[2] <= kBitmapCells;
  const int32_t width = axes[0].kernel() * axes[1].kernel();
  const RowTable table = short_y ? find_rows<BitSet>(in, out, axes[0], axes[1], false, width)
                                 : find_rows<SortedSet>(in, out, axes[0], axes[1], false, width);
  const Feeds feeds = find_feeds(in, axes[2]);
  const int32_t rows = out.rows();
  std::vector<Chunk> chunks = cut(in, table, rows);
  Buffer<int32_t> row_count(rows);
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1) if (chunks.size() > 1)
  for (size_t c = 0; c < chunks.size(); ++c) {
    if (short_x)
      compute_chunk<BitSet>(in, table, feeds, axes[2].kernel(), out.shape[2], row_count, chunks[c]);
    else
      compute_chunk<SortedSet>(in, table, feeds, axes[2].kernel(), out.shape[2], row_count, chunks[c]);
  }
  std::vector<int32_t> first_site;
  int64_t sites = 0;
  for (const Chunk& chunk : chunks) {
    first_site.push_back(static_cast<int32_t>(sites));
    sites += chunk.sites;
  }
  out.x = Buffer<int32_t>(sites);
  for (size_t c = 0; c < chunks.size(); ++c)
    std::copy(chunks[c].x.data(), chunks[c].x.data() + chunks[c].sites, out.x.data() + first_site[c]);
  out.row_start = Buffer<int32_t>(static_cast<size_t>(rows) + 1);
  out.row_start[0] = 0;
  for (int32_t row = 0; row < rows; ++row) out.row_start[row + 1] = out.row_start[row] + row_count[row];
  join_chunks(chunks, first_site, map.taps, map);
}

// A row none of whose window's sites falls on an output cell has no site; it must not stay in the tree.
void drop_empty_rows(Sites& sites) {
  int32_t kept = 0;
  std::vector<int64_t> plane_key;
  std::vector<int32_t> plane_start;
  for (int32_t plane = 0; plane < sites.planes(); ++plane) {
    const int32_t before = kept;
    for (int32_t row = sites.plane_start[plane]; row < sites.plane_start[plane + 1]; ++row) {
      if (sites.row_start[row] == sites.row_start[row + 1]) continue;
      sites.row_y[kept] = sites.row_y[row];
      sites.row_start[kept++] = sites.row_start[row];
    }
    if (kept == before) continue;
    plane_key.push_back(sites.plane_key[plane]);
    plane_start.push_back(before);
  }
  plane_start.push_back(kept);
  sites.row_start[kept] = sites.count();
  sites.row_y.shrink(kept);
  sites.row_start.shrink(static_cast<size_t>(kept) + 1);
  sites.plane_key = std::move(plane_key);
  sites.plane_start = std::move(plane_start);
}

}  // namespace

Rules Map::rules(int tap, bool inverted) const {
  Rules rules;
  const int centre = taps / 2;
  if (half && tap == centre) {
    rules = {identity.data(), identity.data(), static_cast<int64_t>(identity.size())};
  } else {
    const bool mirrored = half && tap > centre;
    const int stored = mirrored ? taps - 1 - tap : tap;
    rules = {in_rows.data() + splits[stored], out_rows.data() + splits[stored], splits[stored + 1] - splits[stored]};
    if (mirrored) std::swap(rules.in, rules.out);
  }
  if (inverted) std::swap(rules.in, rules.out);
  return rules;
}

const std::vector<int64_t>& Map::block_starts(int32_t block, bool inverted) {
  for (const auto& known : starts_)
    if (known->block == block && known->inverted == inverted) return known->starts;
  const int64_t outputs = (inverted ? in : out)->count();
  const int64_t blocks = (outputs + block - 1) / block;
  auto fresh = std::make_unique<Starts>(Starts{block, inverted, {}});
  fresh->starts.resize(static_cast<size_t>(taps) * (blocks + 1));
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 1) if (fresh->starts.size() > kParallelSteps)
  for (int tap = 0; tap < taps; ++tap) {
    const Rules r = rules(tap, inverted);
    int64_t* starts = fresh->starts.data() + tap * (blocks + 1);
    const int32_t* at = r.out;
    for (int64_t b = 0; b <= blocks; ++b) {
      const int64_t row = b * block;
      // A block holds at most `block` of a tap's rules, so the next boundary is never further away.
      const int32_t* limit = r.out + std::min<int64_t>(r.count, (at - r.out) + block);
      at = std::lower_bound(at, limit, row, [](int32_t a, int64_t b_) { return a < b_; });
      starts[b] = at - r.out;
    }
  }
  starts_.push_back(std::move(fresh));
  return starts_.back()->starts;
}

}  // namespace spcli

using namespace spcli;
using SitesRef = std::shared_ptr<Sites>;

namespace {

// The first row that cannot be a site: outside batch or shape, or not after the row before it; -1 where all can.
int64_t first_wrong_row(const int32_t* indices, int64_t count, int32_t ndim, const int64_t* shape, int32_t batch) {
  uint64_t plane_before = 0, place_before = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t* site = indices + i * (ndim + 1);
    // A negative number is a large one without its sign.
    const uint32_t b = site[0], z = ndim == 3 ? site[1] : 0, y = site[ndim - 1], x = site[ndim];
    const bool inside = b < static_cast<uint32_t>(batch) && z < shape[0] && y < shape[1] && x < shape[2];
    const uint64_t plane = uint64_t{b} << 32 | z, place = uint64_t{y} << 32 | x;
    const bool rises = i == 0 || plane > plane_before || (plane == plane_before && place > place_before);
    if (!(inside && rises)) return i;
    plane_before = plane;
    place_before = place;
  }
  return -1;
}

}  // namespace

// Sites from sorted unique indices [count, 1 + ndim] inside `shape` (z, y, x; 2-D: z is 1). Null where they are not:
// `wrong` gets the first such row, -1 otherwise.
SPCLI_API SitesRef* spcli_sites_new(const int32_t* indices, int64_t count, int32_t ndim, const int64_t* shape,
                                    int32_t batch, int64_t* wrong) {
  *wrong = first_wrong_row(indices, count, ndim, shape, batch);
  if (*wrong >= 0) return nullptr;
  return or_null([&] {
    auto sites = std::make_shared<Sites>();
    sites->ndim = ndim;
    sites->batch = batch;
    std::copy(shape, shape + 3, sites->shape);
    sites->x = Buffer<int32_t>(count);
    Buffer<int32_t> row_y(count), row_start(count + 1);
    int32_t rows = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t* site = indices + i * (ndim + 1);
      const int64_t plane = ndim == 3 ? site[0] * shape[0] + site[1] : site[0];
      const int32_t y = site[ndim - 1];
      const bool new_plane = sites->plane_key.empty() || sites->plane_key.back() != plane;
      if (new_plane) {
        sites->plane_key.push_back(plane);
        sites->plane_start.push_back(rows);
      }
      if (new_plane || row_y[rows - 1] != y) {
        row_y[rows] = y;
        row_start[rows++] = static_cast<int32_t>(i);
      }
      sites->x[i] = site[ndim];
    }
    sites->plane_start.push_back(rows);
    row_start[rows] = static_cast<int32_t>(count);
    row_y.shrink(rows);
    row_start.shrink(static_cast<size_t>(rows) + 1);
    sites->row_y = std::move(row_y);
    sites->row_start = std::move(row_start);
    return new SitesRef(std::move(sites));
  });
}

SPCLI_API void spcli_sites_free(SitesRef* sites) { delete sites; }

SPCLI_API int64_t spcli_sites_count(const SitesRef* sites) { return (*sites)->count(); }

// Writes indices [count, 1 + ndim].
SPCLI_API void spcli_sites_indices(const SitesRef* self, int32_t* indices) {
  const Sites& sites = **self;
  for (int32_t plane = 0; plane < sites.planes(); ++plane) {
    const int32_t batch = static_cast<int32_t>(sites.plane_key[plane] / sites.shape[0]);
    const int32_t z = static_cast<int32_t>(sites.plane_key[plane] % sites.shape[0]);
    for (int32_t row = sites.plane_start[plane]; row < sites.plane_start[plane + 1]; ++row)
      for (int32_t i = sites.row_start[row]; i < sites.row_start[row + 1]; ++i) {
        int32_t* site = indices + int64_t{i} * (sites.ndim + 1);
        site[0] = batch;
        if (sites.ndim == 3) site[1] = z;
        site[sites.ndim - 1] = sites.row_y[row];
        site[sites.ndim] = sites.x[i];
      }
  }
}

// `sizes` holds kernel, stride, padding and dilation, three each in z, y, x order; `out_shape` three more.
SPCLI_API Map* spcli_map_build(const SitesRef* sites, const int32_t* sizes, int32_t submanifold, int32_t transposed,
                               const int64_t* out_shape) {
  return or_null([&] {
    Geometry g;
    std::copy(sizes, sizes + 3, g.kernel);
    std::copy(sizes + 3, sizes + 6, g.stride);
    std::copy(sizes + 6, sizes + 9, g.padding);
    std::copy(sizes + 9, sizes + 12, g.dilation);
    g.submanifold = submanifold;
    g.transposed = transposed;
    auto map = std::make_unique<Map>();
    map->in = *sites;
    map->taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
    std::vector<Axis> axes;
    for (int a = 0; a < 3; ++a)
      axes.emplace_back(g.kernel[a], g.stride[a], g.padding[a], g.dilation[a], g.transposed, out_shape[a]);
    if (submanifold) {
      map->out = map->in;
      build_submanifold(g, axes.data(), *map);
    } else {
      map->out = std::make_shared<Sites>();
      map->out->ndim = map->in->ndim;
      map->out->batch = map->in->batch;
      std::copy(out_shape, out_shape + 3, map->out->shape);
      build_computed(axes.data(), *map);
      drop_empty_rows(*map->out);
    }
    return map.release();
  });
}

SPCLI_API void spcli_map_free(Map* map) { delete map; }

// A new reference to the map's output sites.
SPCLI_API SitesRef* spcli_map_outputs(const Map* map) { return new SitesRef(map->out); }

// Rules of each tap.
SPCLI_API void spcli_map_counts(const Map* map, int64_t* pairs) {
  for (int tap = 0; tap < map->taps; ++tap) pairs[tap] = map->rules(tap, false).count;
}

// Most rules that end in one output row.
SPCLI_API int64_t spcli_map_fullest(const Map* map) {
  std::vector<int32_t> degree(map->out->count(), 0);
  for (int tap = 0; tap < map->taps; ++tap) {
    const Rules rules = map->rules(tap, false);
    for (int64_t i = 0; i < rules.count; ++i) ++degree[rules.out[i]];
  }
  return degree.empty() ? 0 : *std::max_element(degree.begin(), degree.end());
}

// All rules by tap, then output row; both arrays hold the sum of spcli_map_counts.
SPCLI_API void spcli_map_rules(const Map* map, int32_t* in_rows, int32_t* out_rows) {
  int64_t at = 0;
  for (int tap = 0; tap < map->taps; ++tap) {
    const Rules rules = map->rules(tap, false);
    if (rules.count) {
      std::memcpy(in_rows + at, rules.in, rules.count * sizeof(int32_t));
      std::memcpy(out_rows + at, rules.out, rules.count * sizeof(int32_t));
    }
    at += rules.count;
  }
}

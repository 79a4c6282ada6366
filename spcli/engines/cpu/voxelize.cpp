// Points to voxels: a counting sort by (z, y) row and a stable sort by x inside each row. The output is in rulebook
// order and the points of a voxel stay in file order without a hash table.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common.hpp"

using namespace spcli;

namespace {

constexpr int64_t kCountedRows = int64_t{1} << 22;  // above this many (z, y) rows sort keys instead of counting them
constexpr size_t kInsertion = 48;                   // rows of up to this many points are sorted by insertion

enum Fate : int64_t { kNonfinite = -1, kOutOfRange = -2 };

struct Cell {
  int32_t x;
  int32_t point;
};

struct Grid {
  float origin[3], size[3];  // x, y, z
  int64_t cells[3];          // z, y, x
};

struct Input {
  const float* points;
  int64_t count, stride;
  int32_t xyz[3];
  const int32_t* features;
  int32_t channels;
};

bool finite(const Input& in, const float* p) {
  // A float minus itself is 0 unless it is infinite or NaN, so one sum answers for all columns.
  float sum = 0.0f;
  for (int axis = 0; axis < 3; ++axis) sum += p[in.xyz[axis]] - p[in.xyz[axis]];
  for (int32_t c = 0; c < in.channels; ++c) sum += p[in.features[c]] - p[in.features[c]];
  return sum == 0.0f;
}

// The (z, y) row of a point and its x, or what became of it.
int64_t locate(const Input& in, const Grid& grid, const float* p, int32_t* x) {
  if (!finite(in, p)) return kNonfinite;
  float site[3];
  for (int axis = 0; axis < 3; ++axis) {
    site[axis] = std::floor((p[in.xyz[axis]] - grid.origin[axis]) / grid.size[axis]);
    // Compared as doubles: float(cells) may round up past the grid.
    if (!(site[axis] >= 0.0f && static_cast<double>(site[axis]) < static_cast<double>(grid.cells[2 - axis])))
      return kOutOfRange;
  }
  *x = static_cast<int32_t>(site[0]);
  return static_cast<int64_t>(site[2]) * grid.cells[1] + static_cast<int64_t>(site[1]);
}

void sort_row(Cell* first, Cell* last) {
  if (static_cast<size_t>(last - first) > kInsertion) {
    std::stable_sort(first, last, [](const Cell& a, const Cell& b) { return a.x < b.x; });
    return;
  }
  for (Cell* at = first + 1; at < last; ++at) {
    const Cell moved = *at;
    Cell* hole = at;
    for (; hole > first && (hole - 1)->x > moved.x; --hole) *hole = *(hole - 1);
    *hole = moved;
  }
}

struct Voxelization {
  Sites sites;
  Buffer<Cell> cells;           // kept points, by (z, y, x), then file order
  Buffer<int32_t> voxel_start;  // voxels + 1, into cells
  int64_t tally[6] = {0};       // in_range, nonfinite, out_of_range, over_max_points, over_max_voxels, fullest
  int64_t dropped_voxels = 0;
};

struct Rows {
  std::vector<int64_t> key;    // (z, y) rows that hold points, rising
  std::vector<int32_t> start;  // rows + 1, into cells
};

// Stable order of the points by (z, y) row: by counting where the rows are few, else by sorting keys.
Rows order_by_row(const Buffer<int64_t>& row_of, const Buffer<int32_t>& x_of, int64_t points, int64_t grid_rows,
                  Buffer<Cell>& cells) {
  Rows rows;
  if (grid_rows <= kCountedRows) {
    Buffer<int32_t> count(static_cast<size_t>(grid_rows) + 1);
    std::memset(count.data(), 0, count.size() * sizeof(int32_t));
    for (int64_t p = 0; p < points; ++p)
      if (row_of[p] >= 0) ++count[row_of[p]];
    int32_t total = 0;
    for (int64_t row = 0; row < grid_rows; ++row) {
      const int32_t in_row = count[row];
      if (!in_row) continue;
      rows.key.push_back(row);
      rows.start.push_back(total);
      count[row] = total;
      total += in_row;
    }
    for (int64_t p = 0; p < points; ++p)
      if (row_of[p] >= 0) cells[count[row_of[p]]++] = {x_of[p], static_cast<int32_t>(p)};
    rows.start.push_back(total);
    return rows;
  }
  std::vector<std::pair<int64_t, int32_t>> keys;
  for (int64_t p = 0; p < points; ++p)
    if (row_of[p] >= 0) keys.emplace_back(row_of[p], static_cast<int32_t>(p));
  std::sort(keys.begin(), keys.end());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (i == 0 || keys[i].first != keys[i - 1].first) {
      rows.key.push_back(keys[i].first);
      rows.start.push_back(static_cast<int32_t>(i));
    }
    cells[i] = {x_of[keys[i].second], keys[i].second};
  }
  rows.start.push_back(static_cast<int32_t>(keys.size()));
  return rows;
}

// Voxels beyond `max_voxels` in order of first appearance are emptied: their first cell is marked in `keep`.
void apply_voxel_cap(const Buffer<Cell>& cells, const std::vector<int32_t>& start, int64_t max_voxels,
                     std::vector<char>& keep) {
  const size_t voxels = start.size() - 1;
  std::vector<int32_t> first(voxels);
  for (size_t v = 0; v < voxels; ++v) first[v] = cells[start[v]].point;
  std::vector<int32_t> ranked = first;
  std::nth_element(ranked.begin(), ranked.begin() + max_voxels, ranked.end());
  const int32_t limit = ranked[max_voxels];
  for (size_t v = 0; v < voxels; ++v) keep[v] = first[v] < limit;
}

// Splits sorted rows into voxels and writes the tree of sites, leaving out capped voxels.
void make_sites(Voxelization& out, const Rows& rows, const Grid& grid, int64_t max_voxels) {
  const size_t row_count = rows.key.size();
  std::vector<int32_t> row_voxels(row_count + 1, 0);
  std::vector<int32_t> start;
  start.reserve(out.cells.size() / 2 + 2);
  for (size_t r = 0; r < row_count; ++r) {
    for (int32_t i = rows.start[r]; i < rows.start[r + 1]; ++i)
      if (i == rows.start[r] || out.cells[i].x != out.cells[i - 1].x) start.push_back(i);
    row_voxels[r + 1] = static_cast<int32_t>(start.size());
  }
  const size_t voxels = start.size();
  start.push_back(row_count ? rows.start[row_count] : 0);
  std::vector<char> keep(voxels, 1);
  if (max_voxels >= 0 && static_cast<size_t>(max_voxels) < voxels) apply_voxel_cap(out.cells, start, max_voxels, keep);

  Sites& sites = out.sites;
  sites.row_y = Buffer<int32_t>(row_count);
  sites.row_start = Buffer<int32_t>(row_count + 1);
  sites.x = Buffer<int32_t>(voxels);
  out.voxel_start = Buffer<int32_t>(2 * voxels);
  int32_t kept = 0, kept_rows = 0;
  for (size_t r = 0; r < row_count; ++r) {
    const int32_t before = kept;
    for (int32_t v = row_voxels[r]; v < row_voxels[r + 1]; ++v) {
      const int64_t points = start[v + 1] - start[v];
      out.tally[5] = std::max(out.tally[5], points);
      if (!keep[v]) {
        out.tally[4] += points;
        continue;
      }
      sites.x[kept] = out.cells[start[v]].x;
      out.voxel_start[2 * kept] = start[v];
      out.voxel_start[2 * kept + 1] = start[v + 1];
      ++kept;
    }
    if (kept == before) continue;
    const int64_t z = rows.key[r] / grid.cells[1];
    if (sites.plane_key.empty() || sites.plane_key.back() != z) {
      sites.plane_key.push_back(z);
      sites.plane_start.push_back(kept_rows);
    }
    sites.row_y[kept_rows] = static_cast<int32_t>(rows.key[r] % grid.cells[1]);
    sites.row_start[kept_rows++] = before;
  }
  sites.plane_start.push_back(kept_rows);
  sites.row_start[kept_rows] = kept;
  sites.row_y.shrink(kept_rows);
  sites.row_start.shrink(kept_rows + 1);
  sites.x.shrink(kept);
  out.dropped_voxels = static_cast<int64_t>(voxels) - kept;
}

enum Reduce { kMean, kFirst, kMax, kSum };

void reduce_voxel(const Input& in, const Cell* cells, int32_t count, int reduce, float* out) {
  for (int32_t c = 0; c < in.channels; ++c) {
    const int32_t column = in.features[c];
    const float first = in.points[cells[0].point * in.stride + column];
    if (reduce == kFirst) {
      out[c] = first;
    } else if (reduce == kMax) {
      float most = first;
      for (int32_t i = 1; i < count; ++i) most = std::max(most, in.points[cells[i].point * in.stride + column]);
      out[c] = most;
    } else {
      double sum = 0.0;
      for (int32_t i = 0; i < count; ++i) sum += in.points[cells[i].point * in.stride + column];
      out[c] = static_cast<float>(reduce == kMean ? sum / count : sum);
    }
  }
}

}  // namespace

struct spcli_voxelization {
  std::shared_ptr<Sites> sites;
  Voxelization work;
};

// Sorts points into voxels. `cells` and `shape` are z, y, x. Tally as in Voxelization, then the voxels left out.
SPCLI_API spcli_voxelization* spcli_voxelize(const float* points, int64_t count, int64_t stride, const int32_t* xyz,
                                             const int32_t* features, int32_t channels, const float* origin,
                                             const float* size, const int64_t* cells, const int64_t* shape,
                                             int64_t max_voxels, int64_t* tally) {
  return or_null([&] {
    const Input in{points, count, stride, {xyz[0], xyz[1], xyz[2]}, features, channels};
    Grid grid;
    for (int axis = 0; axis < 3; ++axis) {
      grid.origin[axis] = origin[axis];
      grid.size[axis] = size[axis];
      grid.cells[axis] = cells[axis];
    }
    auto result = std::make_unique<spcli_voxelization>();
    Voxelization& work = result->work;
    Buffer<int64_t> row_of(count);
    Buffer<int32_t> x_of(count);
    int64_t nonfinite = 0, out_of_range = 0;
#pragma omp parallel for num_threads(threads()) reduction(+ : nonfinite, out_of_range) schedule(static)
    for (int64_t p = 0; p < count; ++p) {
      row_of[p] = locate(in, grid, points + p * stride, &x_of[p]);
      nonfinite += row_of[p] == kNonfinite;
      out_of_range += row_of[p] == kOutOfRange;
    }
    work.tally[0] = count - nonfinite - out_of_range;
    work.tally[1] = nonfinite;
    work.tally[2] = out_of_range;
    work.cells = Buffer<Cell>(work.tally[0]);
    const Rows rows = order_by_row(row_of, x_of, count, cells[0] * cells[1], work.cells);
    const int64_t row_count = static_cast<int64_t>(rows.key.size());
#pragma omp parallel for num_threads(threads()) schedule(dynamic, 256)
    for (int64_t r = 0; r < row_count; ++r)
      sort_row(&work.cells[0] + rows.start[r], &work.cells[0] + rows.start[r + 1]);
    for (int axis = 0; axis < 3; ++axis) work.sites.shape[axis] = shape[axis];
    make_sites(work, rows, grid, max_voxels);
    std::copy(work.tally, work.tally + 6, tally);
    tally[6] = work.dropped_voxels;
    result->sites = std::make_shared<Sites>(std::move(work.sites));
    return result.release();
  });
}

// Fills features [N, channels], num_points [N] and, where not null, point_rows [P] (all -1 before) and hard points
// [N, max_points, channels]. `max_points` < 0 keeps all. Returns the points over that cap.
SPCLI_API int64_t spcli_voxel_features(const spcli_voxelization* self, const float* points, int64_t stride,
                                       const int32_t* columns, int32_t channels, int64_t max_points, int32_t reduce,
                                       float* features, int32_t* num_points, int32_t* point_rows, float* hard) {
  const Input in{points, 0, stride, {0, 0, 0}, columns, channels};
  const Voxelization& work = self->work;
  const int64_t voxels = self->sites->count();
  int64_t over = 0;
#pragma omp parallel for num_threads(threads()) reduction(+ : over) schedule(static)
  for (int64_t v = 0; v < voxels; ++v) {
    const Cell* first = &work.cells[work.voxel_start[2 * v]];
    const int32_t found = work.voxel_start[2 * v + 1] - work.voxel_start[2 * v];
    const int32_t kept = max_points >= 0 && found > max_points ? static_cast<int32_t>(max_points) : found;
    over += found - kept;
    num_points[v] = kept;
    reduce_voxel(in, first, kept, reduce, features + v * channels);
    if (point_rows)
      for (int32_t i = 0; i < kept; ++i) point_rows[first[i].point] = static_cast<int32_t>(v);
    if (hard) {
      float* slot = hard + v * max_points * channels;
      std::memset(slot, 0, static_cast<size_t>(max_points) * channels * sizeof(float));
      for (int32_t i = 0; i < kept; ++i)
        for (int32_t c = 0; c < channels; ++c) slot[i * channels + c] = points[first[i].point * stride + columns[c]];
    }
  }
  return over;
}

SPCLI_API void spcli_voxelization_free(spcli_voxelization* self) { delete self; }

// A new reference to the sites, to be freed by spcli_sites_free.
SPCLI_API std::shared_ptr<Sites>* spcli_voxelization_sites(const spcli_voxelization* self) {
  return new std::shared_ptr<Sites>(self->sites);
}

// What ptxsim.cpp takes from AVX-512, for machines that have AVX2 and FMA only: the same functions, lane by lane.
// The compiler reads this before that file (-include). Where the machine has AVX-512 it changes nothing.
#pragma once
#include <immintrin.h>
#if !defined(__AVX512F__) || !defined(__AVX512BW__)
#include <cstdint>
#include <type_traits>

namespace without_avx512 {
template <class V> inline V load(const void* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <class V> inline void store(void* to, const V& value) { __builtin_memcpy(to, &value, sizeof value); }

// The lowest three bits of a predicate say which comparison. With NaN the four from 3 to 6 hold, or with bit 3 the others.
template <int PREDICATE, class T> inline bool holds(T x, T y) {
  constexpr int which = PREDICATE & 7;
  if (std::is_floating_point<T>::value && (x != x || y != y)) return (which > 2 && which < 7) != bool(PREDICATE & 8);
  return which == 0 ? x == y : which == 1 ? x < y : which == 2 ? x <= y : which == 3 ? false
       : which == 4 ? x != y : which == 5 ? x >= y : which == 6 ? x > y : true;
}
template <int PREDICATE, class T, class V> inline uint32_t compare(const V& left, const V& right) {
  constexpr int lanes = sizeof(V) / sizeof(T);
  T x[lanes], y[lanes];
  store(x, left), store(y, right);
  uint32_t mask = 0;
  for (int l = 0; l < lanes; l++) mask |= uint32_t(holds<PREDICATE>(x[l], y[l])) << l;
  return mask;
}
template <class T> inline void masked_store(void* to, uint32_t mask, const __m512i& values) {
  constexpr int lanes = sizeof values / sizeof(T);
  T now[lanes], next[lanes];
  __builtin_memcpy(now, to, sizeof now), store(next, values);
  for (int l = 0; l < lanes; l++) now[l] = mask >> l & 1 ? next[l] : now[l];
  __builtin_memcpy(to, now, sizeof now);
}
inline __m512i masked16(const __m512i& before, uint32_t mask, const __m512i& next) {
  __m512i values = before;
  masked_store<uint16_t>(&values, mask, next);
  return values;
}
inline __m256i low_halves(const __m512i& values) {
  uint32_t whole[16];
  uint16_t low[16];
  store(whole, values);
  for (int l = 0; l < 16; l++) low[l] = uint16_t(whole[l]);
  return load<__m256i>(low);
}
inline __m512i shifted(const __m512i& values, int bits) {
  uint32_t whole[16];
  store(whole, values);
  for (int l = 0; l < 16; l++) whole[l] >>= bits;
  return load<__m512i>(whole);
}
inline __m512 widened(const __m256i& halves) {
  const __m256 parts[] = {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
  return load<__m512>(parts);
}
struct Eight {  // the compiler keeps these two in registers, other than a vector that it has no registers for
  __m256d low, high;
};
inline Eight fused(const Eight& a, const Eight& b, const Eight& c) {
  return {_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
}
inline Eight filled(double value) { return {_mm256_set1_pd(value), _mm256_set1_pd(value)}; }
}  // namespace without_avx512

#define __m512d without_avx512::Eight
#define _mm512_loadu_si512 without_avx512::load<__m512i>
#define _mm512_loadu_ps without_avx512::load<__m512>
#define _mm512_loadu_pd without_avx512::load<__m512d>
#define _mm512_load_pd without_avx512::load<__m512d>
#define _mm512_storeu_si512 without_avx512::store
#define _mm512_storeu_ps without_avx512::store
#define _mm512_store_ps without_avx512::store
#define _mm512_store_pd without_avx512::store
#define _mm512_mask_mov_epi16 without_avx512::masked16
#define _mm512_mask_storeu_epi32 without_avx512::masked_store<uint32_t>
#define _mm512_mask_storeu_epi64 without_avx512::masked_store<uint64_t>
#define _mm512_cvtepi32_epi16 without_avx512::low_halves
#define _mm512_srli_epi32 without_avx512::shifted
#define _mm512_cvtph_ps without_avx512::widened
#define _mm512_fmadd_pd without_avx512::fused
#define _mm512_set1_pd without_avx512::filled
#define _mm512_cmp_epi16_mask(x, y, p) without_avx512::compare<p, int16_t>(x, y)
#define _mm512_cmp_epu16_mask(x, y, p) without_avx512::compare<p, uint16_t>(x, y)
#define _mm512_cmp_epi32_mask(x, y, p) without_avx512::compare<p, int32_t>(x, y)
#define _mm512_cmp_epu32_mask(x, y, p) without_avx512::compare<p, uint32_t>(x, y)
#define _mm512_cmp_epi64_mask(x, y, p) without_avx512::compare<p, int64_t>(x, y)
#define _mm512_cmp_epu64_mask(x, y, p) without_avx512::compare<p, uint64_t>(x, y)
#define _mm512_cmp_ps_mask(x, y, p) without_avx512::compare<p, float>(x, y)
#define _mm512_cmp_pd_mask(x, y, p) without_avx512::compare<p, double>(x, y)
#endif

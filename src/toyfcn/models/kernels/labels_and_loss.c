/* The labels of the highest scores and the cross-entropy, in one pass over the scores: see
   compiled.py. Loops over pixels are written so that a compiler turns them into vectors. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PIXELS 256 /* at a time, whose values stay in a processor's cache */
#define PARTS 64   /* that threads share */
#define LN2 0.69314718055994530942f

/* 2^x for -126 <= x <= 0: the power of the nearest integer, times Taylor's e^(f ln 2) */
static inline float power_of_2(float x) {
  int32_t whole = (int32_t)(x - 0.5f);
  float y = (x - whole) * LN2, power;
  uint32_t bits = (uint32_t)(whole + 127) << 23;
  memcpy(&power, &bits, sizeof power);
  float series = 1 + y * (1.f / 6 + y * (1.f / 42));
  series = 1 + y * (1.f / 4 + y * (1.f / 20) * series);
  series = 1 + y * (1.f / 2 + y * (1.f / 6) * series);
  return power * (1 + y * series);
}

/* log2(x) for normal x > 0: the exponent, and 2 artanh((m - 1) / (m + 1)) / ln 2 of the rest */
static inline float log_2(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits -= 0x3f3504f3; /* sqrt(1/2), so that m lies between it and sqrt(2) */
  int32_t exponent = (int32_t)bits >> 23;
  bits = (bits & 0x7fffff) + 0x3f3504f3;
  float m;
  memcpy(&m, &bits, sizeof m);
  float z = (m - 1) / (m + 1), z2 = z * z;
  return exponent + 2 / LN2 * z * (1 + z2 * (1.f / 3 + z2 * (1.f / 5 + z2 * (1.f / 7 + z2 / 9))));
}

/* PIXELS of what labels_and_loss is given, or fewer; sums: loss and weight are added to them. */
static void block(const float *scores, int64_t stride, int32_t classes, int32_t n, float scale,
                  uint8_t *labels, const uint8_t *target, const float *weights, double *sums) {
  float highest[PIXELS], total[PIXELS], exponent[PIXELS];
  int32_t label[PIXELS], is_nan[PIXELS];
  for (int32_t i = 0; i < n; i++) {
    highest[i] = scores[i];
    label[i] = 0;
    is_nan[i] = highest[i] != highest[i];
  }
  for (int32_t c = 1; c < classes; c++) {
    const float *row = scores + c * stride;
    for (int32_t i = 0; i < n; i++) {
      label[i] = row[i] > highest[i] ? c : label[i];
      highest[i] = row[i] > highest[i] ? row[i] : highest[i];
      is_nan[i] |= row[i] != row[i];
    }
  }
  for (int32_t i = 0; i < n; i++) labels[i] = is_nan[i] ? 0 : label[i];
  if (!target) return;

  memset(total, 0, sizeof total);
  for (int32_t c = 0; c < classes; c++) {
    const float *row = scores + c * stride;
    for (int32_t i = 0; i < n; i++) {
      float x = (row[i] - highest[i]) * scale;
      exponent[i] = x > -126 ? x : -126;
    }
    for (int32_t i = 0; i < n; i++) total[i] += power_of_2(exponent[i]);
  }
  for (int32_t i = 0; i < n; i++) total[i] = is_nan[i] ? NAN : log_2(total[i]);
  for (int32_t i = 0; i < n; i++) {
    int32_t t = target[i];
    float weight = weights[t];
    if (t >= classes || weight == 0) continue;
    float below = (highest[i] - scores[t * stride + i]) * scale;
    sums[0] += (double)weight * LN2 * (total[i] + below);
    sums[1] += weight;
  }
}

/* scores: a row of floats for each class, `stride` apart, of which `count` are read; an exponent of
   2 is `scale` times a score. labels: `count` bytes; of equal scores the first label, 0 where one
   is NaN. target: `count` bytes, or NULL if no loss is wanted; weights: one for each of 256 labels.
   sums: the weighted loss and the weights are added to them, in an order that does not depend on
   the number of threads. */
void labels_and_loss(const float *scores, int64_t stride, int32_t classes, int64_t count,
                     float scale, uint8_t *labels, const uint8_t *target, const float *weights,
                     double *sums) {
  double parts[PARTS][2] = {{0}};
  int64_t length = (count / PIXELS / PARTS + 1) * PIXELS;
#pragma omp parallel for
  for (int32_t part = 0; part < PARTS; part++) {
    int64_t start = part * length, end = start + length < count ? start + length : count;
    for (; start < end; start += PIXELS) {
      int32_t n = end - start < PIXELS ? end - start : PIXELS;
      block(scores + start, stride, classes, n, scale, labels + start,
            target ? target + start : NULL, weights, parts[part]);
    }
  }
  for (int32_t part = 0; part < PARTS; part++) {
    sums[0] += parts[part][0];
    sums[1] += parts[part][1];
  }
}

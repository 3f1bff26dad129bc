/* Elementary functions and conversions, of additions, multiplications, divisions and bits alone: IEEE 754 rounds those
   the same everywhere, so long as nobody contracts or reorders them (-ffp-contract=off, never -ffast-math).

   Polynomials of the exponential: interpolated at the Chebyshev nodes of |r| <= log(2) / 2. */

#ifndef SEQLOSS_NUMBERS_H
#define SEQLOSS_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t bits_f32(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
INLINE uint64_t bits_f64(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
INLINE float float_of(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }
INLINE double double_of(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }

/* The nearest integer is x + MAGIC - MAGIC, and the last bits of x + MAGIC are those of that integer. rintf would be a
   call on processors without SSE 4.1. */
#define MAGIC_F32 0x1.8p23f
#define MAGIC_F64 0x1.8p52
#define LOG2E 1.4426950408889634
/* Two parts of log(2); a product of an exponent and the first is exact. */
#define LN2_HIGH_F32 0.693359375f
#define LN2_LOW_F32 -0.00021219444f
#define LN2_HIGH_F64 0x1.62e42feep-1
#define LN2_LOW_F64 1.9082149292705877e-10

/* exp(x + lost) 2**(shift - 127) for x <= 0; exactly 0 below `lowest`, which keeps the exponent of the power normal. */
INLINE float power_f32(float x, float lost, uint32_t shift, float lowest)
{
    float t = x * (float)LOG2E + MAGIC_F32, n = t - MAGIC_F32;
    float r = ((x - n * LN2_HIGH_F32) - n * LN2_LOW_F32) + lost;
    /* Pairs of terms first: short chains of operations keep more units of the processor at work. */
    float r2 = r * r;
    float p = (0.5f + 0.166666672f * r) + (0.041666463f + 0.00833331048f * r) * r2;
    p += (0.00139337312f + 0.000198910799f * r) * (r2 * r2);
    p = 1 + (r + r2 * p);
    float e = p * float_of((bits_f32(t) + shift) << 23);
    return x < lowest ? 0 : e;
}

/* exp(r) = 1 + r + r r q(r) */
INLINE double series_f64(double r)
{
    double r2 = r * r, r4 = r2 * r2;
    double low = (0.5 + 0.16666666666666671 * r) + (0.041666666666666671 + 0.0083333333333260838 * r) * r2;
    double middle = (0.0013888888888883711 + 0.00019841269875002279 * r) +
                    (2.4801587325677461e-05 + 2.7557255170000888e-06 * r) * r2;
    double high = (2.7557273478718582e-07 + 2.5105312729622103e-08 * r) + 2.0914755325893202e-09 * r2;
    return r + r2 * (low + (middle + high * r4) * r4);
}

/* Below this an exponential is subnormal in float64, and counts as 0. */
#define LOWEST_F64 -708.0

/* exp(x) for x <= 0 */
INLINE double power_f64(double x)
{
    double t = x * LOG2E + MAGIC_F64, n = t - MAGIC_F64;
    double r = (x - n * LN2_HIGH_F64) - n * LN2_LOW_F64;
    double e = (1 + series_f64(r)) * double_of((bits_f64(t) + 1023) << 52);
    return x < LOWEST_F64 ? 0 : e;
}

/* exp(x) - 1 for x <= 0 */
INLINE double power_less_1(double x)
{
    double t = x * LOG2E + MAGIC_F64, n = t - MAGIC_F64;
    double r = (x - n * LN2_HIGH_F64) - n * LN2_LOW_F64;
    double scale = double_of((bits_f64(t) + 1023) << 52);
    double e = scale * series_f64(r) + (scale - 1);
    return x < LOWEST_F64 ? -1 : e;
}

/* log(1 + x) for x >= 0. With 1 + x = 2**k (1 + f) and s = f / (2 + f), log(1 + f) = f - s (f - R),
   R = 2 s**2 / 3 + 2 s**4 / 5 + ... Without a branch, so that it makes vectors. */
INLINE double log_1_plus(double x)
{
    double whole = 1 + x;
    uint64_t b = bits_f64(whole);
    double scaled = double_of((b & 0xfffffffffffff) | (uint64_t)1023 << 52);
    /* The exponent as a number: the last bits of 2**52 + n are those of n. */
    double k = double_of(b >> 52 | (uint64_t)1075 << 52) - (0x1p52 + 1023);
    k = scaled > 1.4 ? k + 1 : k;
    scaled = scaled > 1.4 ? scaled * 0.5 : scaled;
    /* What was cut off from the sum, in units of it. */
    double cut = (x < 1 ? x - (whole - 1) : 1 - (whole - x)) / whole;
    double f = x > 0.4 ? scaled - 1 : x;
    k = x > 0.4 ? k : 0;
    cut = x > 0.4 ? cut : 0;
    double s = f / (2 + f), z = s * s, z2 = z * z, z4 = z2 * z2;
    double low = (2.0 / 3 + 2.0 / 5 * z) + (2.0 / 7 + 2.0 / 9 * z) * z2;
    double middle = (2.0 / 11 + 2.0 / 13 * z) + (2.0 / 15 + 2.0 / 17 * z) * z2;
    double high = (2.0 / 19 + 2.0 / 21 * z) + (2.0 / 23 + 2.0 / 25 * z) * z2;
    double r = z * (low + (middle + high * z4) * z4);
    double log = k * LN2_HIGH_F64 + (f - (s * (f - r) - (k * LN2_LOW_F64 + cut)));
    return x < DBL_MAX ? log : x; /* or infinite, or NaN */
}

/* c tanh(x / c); infinities stay what they are. */
INLINE double capped(double x, double c)
{
    double v = power_less_1(fabs(x) * (-2 / c));
    double z = copysign(v / (v + 2) * -c, x);
    return fabs(x) > DBL_MAX ? x : z;
}

/* The derivative of that. */
INLINE double cap_slope(double x, double c)
{
    double e = power_f64(fabs(x) * (-2 / c)), whole = 1 + e;
    return 4 * e / (whole * whole);
}

/* Both of a finite number for a result in float32: 11 digits, by one exponential and one division. */
typedef struct {
    double z, slope;
} Capped;

INLINE Capped capped_11(double x, double c)
{
    double u = fabs(x) * (-2 / c);
    u = u < LOWEST_F64 ? LOWEST_F64 : u;
    double t = u * LOG2E + MAGIC_F64, r = u - (t - MAGIC_F64) * 0.6931471805599453, r2 = r * r;
    double low = (0.5 + 0.16666666719028936 * r) + (0.04166666671901226 + 0.00833329846980059 * r) * r2;
    double high = (0.001388885403566671 + 0.00019899285575896282 * r) + 2.4859589834589056e-05 * r2;
    double series = r + r2 * (low + high * (r2 * r2)), scale = double_of((bits_f64(t) + 1023) << 52);
    double less_1 = scale * series + (scale - 1), e = scale + scale * series, part = 1 / (less_1 + 2);
    return (Capped){copysign(less_1 * part * -c, x), 4 * e * part * part};
}

INLINE float from_bfloat16(uint16_t b) { return float_of((uint32_t)b << 16); }

INLINE float from_float16(uint16_t b)
{
    uint32_t magnitude = b & 0x7fff, sign = (uint32_t)(b & 0x8000) << 16;
    /* The exponent 31 means infinities and NaN, and becomes 255. */
    uint32_t normal = (magnitude << 13) + ((magnitude < 0x7c00 ? 112u : 224u) << 23);
    /* Without an operation on a subnormal float32, which some programs have switched to 0. */
    uint32_t small = bits_f32((float)(int32_t)magnitude * 0x1p-24f);
    return float_of((magnitude < 0x400 ? small : normal) | sign);
}

/* Rounded to the nearest, ties to even. */
INLINE uint16_t to_bfloat16(float x)
{
    uint32_t b = bits_f32(x);
    return x != x ? 0x7fc0 : (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

INLINE uint16_t to_float16(float x)
{
    uint32_t b = bits_f32(x), sign = b >> 16 & 0x8000, magnitude = b & 0x7fffffff;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    /* Near 1/2 the floats have the spacing of the smallest float16. */
    uint32_t small = bits_f32(float_of(magnitude) + 0.5f) - bits_f32(0.5f);
    uint32_t rounded = magnitude < 113u << 23 ? small : normal;
    rounded = magnitude >= 0x47800000 ? 0x7c00 : rounded; /* 65536 */
    rounded = magnitude > 0x7f800000 ? 0x7e00 : rounded;
    return (uint16_t)(rounded | sign);
}

/* On the way to half precision float32 keeps a trace of what is cut off: so nothing is rounded twice. */
INLINE float rounded_to_odd(double x)
{
    uint64_t b = bits_f64(x), cut = ((uint64_t)1 << 29) - 1;
    uint64_t odd = (uint64_t)((b & cut) != 0) << 29;
    return (float)double_of((b & ~cut) | odd);
}

#endif

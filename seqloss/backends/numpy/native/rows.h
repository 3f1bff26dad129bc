/* Rows of logits, forward and back, computing in REAL. Included once for float (WIDE 0) and once for double (WIDE 1).

   A row is read in tiles. What is done to each number of a tile is a loop of its own without a branch, which the
   compiler makes vectors of. The formulas stand in seqloss/core/contract.py. Left out of the sum of exponentials is one
   class with the highest logit: those that have it are counted, not added, so that none has to be taken away. */

#define TILE_LOOP for (int64_t j = 0; j < n; j++)

/* n numbers of a row from class `first`, filled up to a multiple of LANES. */
INLINE const REAL *F(read_as)(int64_t dtype, const void *row, int64_t first, int64_t n, REAL *room, REAL fill)
{
    switch (dtype) {
    case WIDE ? FLOAT64 : FLOAT32: {
        const REAL *x = (const REAL *)row + first;
        if (n % LANES == 0)
            return x;
        memcpy(room, x, (size_t)n * sizeof *x);
        break;
    }
#if WIDE
    case FLOAT32: {
        const float *x = (const float *)row + first;
        TILE_LOOP room[j] = x[j];
        break;
    }
#endif
    case BFLOAT16: {
        const uint16_t *x = (const uint16_t *)row + first;
        TILE_LOOP room[j] = from_bfloat16(x[j]);
        break;
    }
    case FLOAT16: {
        const uint16_t *x = (const uint16_t *)row + first;
        TILE_LOOP room[j] = from_float16(x[j]);
        break;
    }
    }
    for (int64_t j = n; j % LANES; j++)
        room[j] = fill;
    return room;
}

INLINE const REAL *F(read)(const Call *c, const void *row, int64_t first, int64_t n, REAL *room)
{
    return F(read_as)(c->dtype, row, first, n, room, -INFINITY);
}

INLINE double F(one)(const Call *c, const void *row, int64_t place)
{
    REAL room[LANES];
    return F(read)(c, row, place, 1, room)[0];
}

INLINE int64_t F(filled)(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* The same as they are to be used: through the cap. */
INLINE const REAL *F(read_capped)(const Call *c, const void *row, int64_t first, int64_t n, REAL *room)
{
    const REAL *x = F(read)(c, row, first, n, room);
#if WIDE
    if (c->softcap != 0) {
        double cap = c->softcap;
        n = F(filled)(n);
        TILE_LOOP room[j] = capped(x[j], cap);
        return room;
    }
#endif
    return x;
}

INLINE double F(total)(const REAL *part)
{
    double sums[LANES];
    for (int l = 0; l < LANES; l++)
        sums[l] = part[l];
    for (int width = LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++)
            sums[l] += sums[l + width];
    return sums[0];
}

typedef struct {
    REAL highest, second; /* The same if two classes have it. */
} F(Peak);

INLINE F(Peak) F(peak)(const Call *c, const void *row)
{
    REAL room[TILE], high[LANES], next[LANES];
    for (int l = 0; l < LANES; l++)
        high[l] = next[l] = -INFINITY;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read)(c, row, first, n, room);
        for (int64_t j = 0; j < n; j += LANES)
            for (int l = 0; l < LANES; l++) {
                REAL v = x[j + l];
#if WIDE
                REAL low = v < high[l] ? v : high[l];
                next[l] = low > next[l] ? low : next[l];
#endif
                high[l] = v > high[l] ? v : high[l];
            }
    }
    for (int width = LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++) {
            REAL v = high[l + width], low = v < high[l] ? v : high[l];
            low = next[l + width] > low ? next[l + width] : low;
            next[l] = low > next[l] ? low : next[l];
            high[l] = v > high[l] ? v : high[l];
        }
    return (F(Peak)){high[0], next[0]};
}

#if !WIDE
/* Exponentials of the forward are taken times 2**64, so that small ones have all their digits; those of the pullback
   times 2**126, if the scale is large. */
#define FORWARD_SHIFT 64
#define FORWARD_LOWEST -130.0f

/* exp(x - highest), with the error of the difference carried along. */
INLINE float below_f32(float x, float highest, uint32_t shift, float lowest)
{
    float d = x - highest, back = d - x;
    float lost = (x - (d - back)) - (highest + back);
    return power_f32(d, lost, shift, lowest);
}
#endif

/* The sum of exp(z_j - highest) over the classes below the highest logit, and the number of those at it. */
typedef struct {
    double powers, peaks;
} F(Powers);

INLINE void F(add_powers)(const REAL *x, int64_t n, REAL highest, double grid, REAL *multiples, REAL *rests, REAL *peaks)
{
    for (int64_t j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            REAL v = x[j + l];
            peaks[l] += v == highest ? 1 : 0;
#if WIDE
            double e = power_f64(v - highest);
            e = v == highest ? 0 : e;
            /* Multiples of a power of 2, whose sum no order can change, and what they leave. */
            double multiple = (e + grid) - grid;
            multiples[l] += multiple;
            rests[l] += e - multiple;
#else
            float e = below_f32(v, highest, 127 + FORWARD_SHIFT, FORWARD_LOWEST);
            multiples[l] += v == highest ? 0 : e;
#endif
        }
    (void)grid, (void)rests;
}

INLINE double F(grid)(const Call *c, F(Peak) peak)
{
    double digits = 18, below = (double)(peak.second - peak.highest) * LOG2E;
    while ((double)c->classes > ldexp(1, (int)digits))
        digits += 1;
    double finer = below > -900 ? floor(below) + 1 : -900;
    return ldexp(1.5, (int)(digits + (finer < 0 ? finer : 0)));
}

typedef struct {
    double distance, mass;
} F(Away);

/* The sums of prior_j (highest - z_j) 2**-8 and of prior_j over the possible classes. */
INLINE void F(add_away)(const REAL *x, const REAL *prior, int64_t n, REAL highest, REAL *distance, REAL *mass)
{
    for (int64_t j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            REAL v = x[j + l], weight = prior[j + l];
            weight = v > -INFINITY ? weight : 0;
            v = v > -INFINITY ? v : highest;
            /* A difference that overflows is infinite, as in every framework; that of a class without mass counts 0. */
            distance[l] += weight == 0 ? 0 : (highest - v) * (REAL)0x1p-8 * weight;
            mass[l] += weight;
        }
}

typedef struct {
    double raw; /* The highest logit before the cap. */
    double highest, rest, distance, mass;
} F(Sums);

static F(Sums) F(sums)(const Call *c, const void *row)
{
    F(Peak) peak = F(peak)(c, row);
    double raw = peak.highest;
    double grid = 0;
#if WIDE
    if (c->softcap != 0) {
        /* A cap puts numbers in no other order. */
        peak.highest = capped(peak.highest, c->softcap);
        peak.second = capped(peak.second, c->softcap);
    }
    grid = F(grid)(c, peak);
#endif
    const REAL *prior = address(c->prior);
    double powers = 0, peaks = 0, distance = 0, mass = 0;
    REAL room[TILE], part[2][LANES] = {{0}}, count[LANES] = {0};
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read_capped)(c, row, first, n, room);
        n = F(filled)(n);
        F(add_powers)(x, n, peak.highest, grid, part[0], part[1], count);
#if !WIDE
        powers += F(total)(part[0]);
        peaks += F(total)(count);
        memset(part, 0, sizeof part);
        memset(count, 0, sizeof count);
#endif
        if (c->unl) {
            REAL away[LANES] = {0}, weight[LANES] = {0};
            F(add_away)(x, prior + first, n, peak.highest, away, weight);
            distance += F(total)(away);
            mass += F(total)(weight);
        }
    }
#if WIDE
    powers = F(total)(part[0]) + F(total)(part[1]);
    peaks = F(total)(count);
#else
    powers *= 0x1p-64;
#endif
    double rest = powers + (peaks - 1);
    if (!(fabs((double)peak.highest) <= DBL_MAX))
        rest = NAN;
    distance = mass == 0 ? 0 : distance / mass * 0x1p8;
    return (F(Sums)){raw, peak.highest, rest, distance, mass};
}

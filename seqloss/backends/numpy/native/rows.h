/* Rows of logits, forward and back, computing in REAL. Included once for float (WIDE 0) and once for double (WIDE 1).

   A row is read in tiles. What is done to each number of a tile is a loop of its own without a branch, which the
   compiler makes vectors of. The formulas stand in seqloss/core/contract.py. Left out of the sum of exponentials is one
   class with the highest logit: those that have it are counted, not added, so that none has to be taken away. */

#define TILE_LOOP for (int64_t j = 0; j < n; j++)

/* n numbers of a row from class `first`, filled up with -infinity to a multiple of LANES. */
INLINE const REAL *F(read)(const Call *c, const void *row, int64_t first, int64_t n, REAL *room)
{
    switch (c->dtype) {
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
        room[j] = -INFINITY;
    return room;
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
        n = F(filled)(n);
        TILE_LOOP room[j] = capped(x[j], c->softcap);
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
    F(Peak) peak = {-INFINITY, -INFINITY};
    for (int l = 0; l < LANES; l++) {
        REAL low = high[l] < peak.highest ? high[l] : peak.highest;
        low = next[l] > low ? next[l] : low;
        peak.second = low > peak.second ? low : peak.second;
        peak.highest = high[l] > peak.highest ? high[l] : peak.highest;
    }
    return peak;
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
            REAL v = x[j + l], weight = prior ? prior[j + l] : 1;
            REAL away = (highest - v) * (REAL)0x1p-8 * weight;
            distance[l] += weight != 0 && v > -INFINITY ? away : 0;
            mass[l] += v > -INFINITY ? weight : 0;
        }
}

typedef struct {
    double highest, rest, distance, mass;
} F(Sums);

static F(Sums) F(sums)(const Call *c, const void *row)
{
    F(Peak) peak = F(peak)(c, row);
    double grid = 0;
#if WIDE
    if (c->softcap != 0) {
        /* A cap puts numbers in no other order. */
        peak.highest = capped(peak.highest, c->softcap);
        peak.second = capped(peak.second, c->softcap);
    }
    grid = F(grid)(c, peak);
#endif
    const REAL *prior = (const REAL *)(uintptr_t)c->prior;
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
            F(add_away)(x, prior ? prior + first : 0, n, peak.highest, away, weight);
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
    return (F(Sums)){peak.highest, rest, distance, mass};
}

static void F(forward)(const Call *c)
{
    const int64_t *targets = (const int64_t *)(uintptr_t)c->targets;
    const uint8_t *active = (const uint8_t *)(uintptr_t)c->active;
    double *highest = (double *)(uintptr_t)c->highest, *rest = (double *)(uintptr_t)c->rest;
    for (int64_t i = c->first; i < c->last; i++) {
        double nll = 0, lse = 0, unl = 0;
        F(Sums) sums = {0, 0, 0, 0};
        if (!active || active[i]) {
            const void *row = (const void *)(uintptr_t)(c->logits + i * c->stride);
            sums = F(sums)(c, row);
            int is_legal = targets[i] >= 0 && targets[i] < c->classes;
            double label = is_legal ? F(one)(c, row, targets[i]) : NAN;
            if (!is_legal)
                sums.rest = NAN;
            if (c->softcap != 0)
                label = capped(label, c->softcap);
            double log = log_1_plus(sums.rest);
            nll = log - (label - sums.highest);
            lse = sums.highest + log;
            unl = sums.mass == 0 ? log - log : sums.distance + log;
        }
        highest[i] = sums.highest;
        rest[i] = sums.rest;
        put(c, c->nll, i, nll);
        put(c, c->lse, i, lse);
        put(c, c->unl, i, unl);
        put(c, c->mass, i, sums.mass);
    }
}

/* What flows back to a row. */
typedef struct {
    double highest;
    double scale;    /* Of the exponentials. */
    double label;    /* The entry at the label, in place of its exponential. */
    double to_prior; /* What of the prior is taken away. */
} F(Flow);

INLINE void F(entries)(const Call *c, const REAL *x, const REAL *prior, int64_t n, const F(Flow) *flow, REAL *out)
{
    REAL highest = (REAL)flow->highest;
#if WIDE
    double scale = flow->scale;
    TILE_LOOP out[j] = power_f64(x[j] - highest) * scale;
#else
    int is_large = !(fabs(flow->scale) < 1);
    float scale = (float)(is_large ? flow->scale * 0x1p-126 : flow->scale);
    float lowest = is_large ? -174.5f : -87.5f;
    uint32_t shift = is_large ? 127 + 126 : 127;
    TILE_LOOP out[j] = below_f32(x[j], highest, shift, lowest) * scale;
#endif
    if (flow->to_prior != 0) {
        REAL part = (REAL)flow->to_prior;
        TILE_LOOP out[j] -= x[j] > -INFINITY ? part * (prior ? prior[j] : 1) : 0;
    }
    (void)c;
}

/* Numbers of a tile as entries of the gradient. */
INLINE void F(write)(const Call *c, REAL *out, int64_t n, void *row, int64_t first)
{
    if (c->exact)
        TILE_LOOP out[j] = fabs((double)out[j]) < FLT_MIN ? 0 : out[j];
    switch (c->dtype) {
    case FLOAT32: {
        float *to = (float *)row + first;
        if ((const void *)to != (const void *)out)
            TILE_LOOP to[j] = (float)out[j];
        break;
    }
    case FLOAT64: {
        double *to = (double *)row + first;
        if ((const void *)to != (const void *)out)
            TILE_LOOP to[j] = out[j];
        break;
    }
    case BFLOAT16: {
        uint16_t *to = (uint16_t *)row + first;
        TILE_LOOP to[j] = to_bfloat16(WIDE ? rounded_to_odd(out[j]) : (float)out[j]);
        break;
    }
    case FLOAT16: {
        uint16_t *to = (uint16_t *)row + first;
        TILE_LOOP to[j] = to_float16(WIDE ? rounded_to_odd(out[j]) : (float)out[j]);
        break;
    }
    }
}

static void F(pull_row)(const Call *c, const void *row, void *gradient, int64_t label, const F(Flow) *flow)
{
    const REAL *prior = (const REAL *)(uintptr_t)c->prior;
    REAL room[TILE], own[TILE];
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read_capped)(c, row, first, n, room);
        int in_place = c->dtype == (WIDE ? FLOAT64 : FLOAT32) && n % LANES == 0;
        REAL *out = in_place ? (REAL *)gradient + first : own;
        F(entries)(c, x, prior ? prior + first : 0, F(filled)(n), flow, out);
#if WIDE
        if (c->softcap != 0) {
            const REAL *raw = F(read)(c, row, first, n, room);
            TILE_LOOP out[j] *= cap_slope(raw[j], c->softcap);
        }
#endif
        F(write)(c, out, n, gradient, first);
    }
    double raw = F(one)(c, row, label), entry = flow->label;
    if (flow->to_prior != 0 && raw > -INFINITY)
        entry -= flow->to_prior * (prior ? prior[label] : 1);
    if (c->softcap != 0)
        entry *= cap_slope(raw, c->softcap);
    REAL last = (REAL)entry;
    F(write)(c, &last, 1, gradient, label);
}

static void F(pullback)(const Call *c)
{
    const int64_t *targets = (const int64_t *)(uintptr_t)c->targets;
    const uint8_t *active = (const uint8_t *)(uintptr_t)c->active;
    const double *highest = (const double *)(uintptr_t)c->highest, *rest = (const double *)(uintptr_t)c->rest;
    size_t length = (size_t)c->classes * size_of[c->dtype];
    for (int64_t i = c->first; i < c->last; i++) {
        char *gradient = (char *)(uintptr_t)c->gradient + (size_t)i * length;
        double to_nll = get(c, c->nll, i), to_lse = get(c, c->lse, i), to_unl = get(c, c->unl, i);
        if ((to_nll == 0 && to_lse == 0 && to_unl == 0) || (active && !active[i])) {
            if (!c->is_clean)
                memset(gradient, 0, length);
            continue;
        }
        const void *row = (const void *)(uintptr_t)(c->logits + i * c->stride);
        int64_t label = targets[i] >= 0 && targets[i] < c->classes ? targets[i] : 0;
        double mass = get(c, c->mass, i), gap = F(one)(c, row, label);
        if (c->softcap != 0)
            gap = capped(gap, c->softcap);
        gap -= highest[i];
        to_unl = mass == 0 ? 0 : to_unl;
        double whole = 1 + rest[i], to_powers = to_lse + to_unl;
        F(Flow) flow = {
            .highest = highest[i],
            .scale = (to_nll + to_powers) / whole,
            .label = (to_powers * power_f64(gap) - to_nll * (rest[i] - power_less_1(gap))) / whole,
            .to_prior = mass == 0 ? 0 : to_unl / mass,
        };
        F(pull_row)(c, row, gradient, label, &flow);
    }
}

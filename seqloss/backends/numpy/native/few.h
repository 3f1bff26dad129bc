/* Rows of few classes, turned: a group of them lies side by side in the lanes, which then add up nothing across.
   Included after gradient.h, for float and for double. Lanes without a row hold zeros. */

typedef REAL F(Turned)[FEW][LANES];

typedef struct {
    F(Turned) x; /* The logits, or under a cap in float their differences to the highest, */
    F(Turned) powers;
    F(Turned) slopes; /* of the cap, in float times SLOPES; */
#if !WIDE
    F(Turned) lost; /* and what the differences have lost. */
#endif
    REAL highest[LANES]; /* 0 if x are differences. */
} F(Few);

#define LANE_LOOP for (int l = 0; l < LANES; l++)
#define CLASS_LOOP for (int64_t j = 0; j < c->classes; j++)

/* Numbers of a group, with rows `stride` bytes apart. */
INLINE void F(turn)(const Call *c, const Group *g, int64_t dtype, int64_t start, int64_t stride, REAL (*to)[LANES])
{
#define TURN(type, read)                                                                                               \
    GROUP_LOOP {                                                                                                       \
        const type *from = address(start + (g->first + r) * stride);                                                   \
        CLASS_LOOP to[j][r] = (REAL)read(from[j]);                                                                     \
    }
    if (g->count < LANES)
        memset(to, 0, (size_t)c->classes * sizeof *to);
    switch (dtype) {
    case FLOAT32:
        TURN(float, )
        break;
#if WIDE
    case FLOAT64:
        TURN(double, )
        break;
#endif
    case BFLOAT16:
        TURN(uint16_t, from_bfloat16)
        break;
    case FLOAT16:
        TURN(uint16_t, from_float16)
        break;
    }
#undef TURN
}

/* Read the logits and find the highest of each row. */
INLINE void F(few_peaks)(const Call *c, Group *g, F(Few) *few, REAL *raw, REAL *second)
{
    F(turn)(c, g, c->dtype, c->logits, c->stride, few->x);
    LANE_LOOP raw[l] = second[l] = -INFINITY;
    CLASS_LOOP LANE_LOOP {
        REAL v = few->x[j][l];
#if WIDE
        REAL low = v < raw[l] ? v : raw[l];
        second[l] = low > second[l] ? low : second[l];
#endif
        raw[l] = v > raw[l] ? v : raw[l];
    }
    GROUP_LOOP g->raw[r] = raw[r];
}

/* Replace the logits by what a cap makes of them, and find its slopes. */
INLINE void F(few_capped)(const Call *c, F(Few) *few, const double *highest)
{
    double cap = c->softcap;
    CLASS_LOOP {
        REAL *x = few->x[j], *slopes = few->slopes[j];
#if WIDE
        (void)highest;
        LANE_LOOP {
            double raw = x[l];
            x[l] = capped(raw, cap);
            slopes[l] = cap_slope(raw, cap);
        }
#else
        float *lost = few->lost[j];
        LANE_LOOP {
            Capped y = capped_11(x[l], cap);
            double d = y.z - highest[l];
            x[l] = x[l] == -INFINITY ? -INFINITY : (float)d;
            lost[l] = (float)(d - (float)d);
            slopes[l] = (float)(y.slope * SLOPES);
        }
#endif
    }
}

/* The exponentials; then x and powers are as the rest wants them. */
INLINE void F(few_powers)(const Call *c, F(Few) *few, const double *highest)
{
    LANE_LOOP few->highest[l] = (REAL)highest[l];
    if (c->softcap != 0) {
        F(few_capped)(c, few, highest);
#if !WIDE
        LANE_LOOP few->highest[l] = 0;
        CLASS_LOOP {
            const REAL *x = few->x[j], *lost = few->lost[j];
            REAL *powers = few->powers[j];
            LANE_LOOP powers[l] = F(power)(x[l], lost[l], 1, 0);
        }
        return;
#endif
    }
    CLASS_LOOP {
        const REAL *x = few->x[j], *top = few->highest;
        REAL *powers = few->powers[j];
        LANE_LOOP powers[l] = F(power)(x[l], 0, 0, top[l]);
    }
}

static void F(few_sums)(const Call *c, Group *g, F(Few) *few)
{
    REAL raw[LANES], second[LANES];
    double highest[LANES];
    F(few_peaks)(c, g, few, raw, second);
    LANE_LOOP highest[l] = F(cap)(c, raw[l]);
#if WIDE
    double grid[LANES];
    int digits = digits_of(c->classes);
    LANE_LOOP grid[l] = grid_of(digits, highest[l], F(cap)(c, second[l]));
#endif
    F(few_powers)(c, few, highest);
    double sum[LANES] = {0}, rests[LANES] = {0}, peaks[LANES] = {0}, distance[LANES] = {0}, mass[LANES] = {0};
    const REAL *prior = address(c->prior), *top = few->highest;
    /* In float only a few are added up before they go into double. */
    for (int64_t first = 0; first < c->classes; first += 8) {
        int64_t last = first + 8 < c->classes ? first + 8 : c->classes;
        REAL part[LANES] = {0}, count[LANES] = {0};
        for (int64_t j = first; j < last; j++) {
            const REAL *x = few->x[j], *powers = few->powers[j];
            LANE_LOOP {
                REAL v = x[l], high = top[l], e = powers[l];
                count[l] += v == high ? 1 : 0;
                e = v == high ? 0 : e;
#if WIDE
                double multiple = (e + grid[l]) - grid[l];
                part[l] += multiple;
                rests[l] += e - multiple;
#else
                part[l] += e;
#endif
            }
        }
        LANE_LOOP sum[l] += part[l];
        LANE_LOOP peaks[l] += count[l];
    }
    if (c->unl)
        CLASS_LOOP {
            const REAL *x = few->x[j];
            REAL given = prior[j];
            LANE_LOOP {
                REAL weight = x[l] > -INFINITY ? given : 0, v = x[l] > -INFINITY ? x[l] : top[l];
                distance[l] += weight == 0 ? 0 : (top[l] - v) * (REAL)0x1p-8 * weight;
                mass[l] += weight;
            }
        }
    LANE_LOOP sum[l] = WIDE ? sum[l] + rests[l] : sum[l] * 0x1p-64;
    GROUP_LOOP {
        g->highest[r] = highest[r];
        g->rest[r] = fabs(highest[r]) <= DBL_MAX ? sum[r] + (peaks[r] - 1) : NAN;
        g->distance[r] = mass[r] == 0 ? 0 : distance[r] / mass[r] * 0x1p8;
        g->mass[r] = mass[r];
    }
}

/* For a pullback that comes later. */
static void F(few_again)(const Call *c, Group *g, F(Few) *few)
{
    double highest[LANES] = {0};
    F(turn)(c, g, c->dtype, c->logits, c->stride, few->x);
    GROUP_LOOP highest[r] = g->highest[r];
    F(few_powers)(c, few, highest);
}

/* Write what is turned to the rows that are used, and zeros to the others. */
INLINE void F(turn_back)(
    const Call *c, const Group *g, const uint8_t *used, int64_t dtype, int exact, int64_t start, REAL (*out)[LANES])
{
    if (exact)
        CLASS_LOOP LANE_LOOP out[j][l] = fabs((double)out[j][l]) < FLT_MIN ? 0 : out[j][l];
#define TURN(type, number)                                                                                             \
    GROUP_LOOP {                                                                                                       \
        type *to = (type *)address(start) + (g->first + r) * c->classes;                                               \
        if (used[r])                                                                                                   \
            CLASS_LOOP to[j] = number;                                                                                 \
        else if (!c->is_clean)                                                                                         \
            memset(to, 0, (size_t)c->classes * sizeof *to);                                                            \
    }
    uint16_t half[FEW][LANES];
    switch (dtype) {
    case FLOAT32:
        TURN(float, (float)out[j][r])
        return;
    case FLOAT64:
        TURN(double, out[j][r])
        return;
    case BFLOAT16:
        CLASS_LOOP LANE_LOOP half[j][l] = to_bfloat16(WIDE ? rounded_to_odd(out[j][l]) : (float)out[j][l]);
        break;
    case FLOAT16:
        CLASS_LOOP LANE_LOOP half[j][l] = to_float16(WIDE ? rounded_to_odd(out[j][l]) : (float)out[j][l]);
        break;
    }
    TURN(uint16_t, half[j][r])
#undef TURN
}

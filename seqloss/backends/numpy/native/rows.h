/* Rows of logits, computing in REAL. Included once for float (WIDE 0) and once for double (WIDE 1).

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

/* A number of a row. */
INLINE double F(one_as)(int64_t dtype, const void *row, int64_t place)
{
    switch (dtype) {
    case FLOAT32:
        return ((const float *)row)[place];
    case FLOAT64:
        return ((const double *)row)[place];
    case BFLOAT16:
        return from_bfloat16(((const uint16_t *)row)[place]);
    default:
        return from_float16(((const uint16_t *)row)[place]);
    }
}

INLINE double F(cap)(const Call *c, double x)
{
    if (c->softcap == 0)
        return x;
    if (WIDE)
        return capped(x, c->softcap);
    double z = capped_11(x, c->softcap).z;
    return fabs(x) > DBL_MAX ? x : z;
}

INLINE double F(slope)(const Call *c, double x)
{
    if (c->softcap == 0)
        return 1;
    return WIDE ? cap_slope(x, c->softcap) : capped_11(x, c->softcap).slope;
}

INLINE int64_t F(filled)(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Logits as they are to be used. In float those under a cap are differences to the highest logit, with what their
   rounding has cut off; then `highest` is 0. */
typedef struct {
    const REAL *x;
    const float *lost;
    REAL highest;
} F(Tile);

/* Slopes of the cap are times this in float, where they would be too small. */
#define SLOPES 0x1p64

typedef struct {
    REAL x[TILE];
    float lost[TILE], slopes[TILE];
} F(Room);

/* Also the slopes of a cap, unless `slopes` is NULL. */
INLINE F(Tile) F(tile)(const Call *c, const void *row, int64_t first, int64_t n, double highest, F(Room) *room, float *slopes)
{
    const REAL *x = F(read)(c, row, first, n, room->x);
    if (c->softcap == 0)
        return (F(Tile)){x, 0, (REAL)highest};
    double cap = c->softcap;
    n = F(filled)(n);
    REAL *to = room->x;
#if WIDE
    (void)slopes;
    TILE_LOOP to[j] = capped(x[j], cap);
    return (F(Tile)){to, 0, highest};
#else
    float *lost = room->lost;
    if (slopes)
        TILE_LOOP {
            Capped y = capped_11(x[j], cap);
            double d = y.z - highest;
            to[j] = x[j] == -INFINITY ? -INFINITY : (float)d;
            lost[j] = (float)(d - (float)d);
            slopes[j] = (float)(y.slope * SLOPES);
        }
    else
        TILE_LOOP {
            double d = capped_11(x[j], cap).z - highest;
            to[j] = x[j] == -INFINITY ? -INFINITY : (float)d;
            lost[j] = (float)(d - (float)d);
        }
    return (F(Tile)){to, lost, 0};
#endif
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
    double highest, second; /* The same if two classes have it. Only double asks for the second. */
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
            REAL v = high[l + width];
#if WIDE
            REAL low = v < high[l] ? v : high[l];
            low = next[l + width] > low ? next[l + width] : low;
            next[l] = low > next[l] ? low : next[l];
#endif
            high[l] = v > high[l] ? v : high[l];
        }
    return (F(Peak)){high[0], next[0]};
}

#if !WIDE
/* Exponentials are taken times 2**64, so that small ones have all their digits. */
#define SHIFT (127 + 64)
#define LOWEST -130.0f

/* exp(x - highest), with the error of the difference carried along. */
INLINE float below_f32(float x, float highest, uint32_t shift, float lowest)
{
    float d = x - highest, back = d - x;
    float lost = (x - (d - back)) - (highest + back);
    return power_f32(d, lost, shift, lowest);
}
#endif

/* The exponential of a number of a tile: in float times 2**64. */
INLINE REAL F(power)(REAL x, float lost, int has_lost, REAL highest)
{
#if WIDE
    (void)lost, (void)has_lost;
    return power_f64(x - highest);
#else
    return has_lost ? power_f32(x, lost, SHIFT, LOWEST) : below_f32(x, highest, SHIFT, LOWEST);
#endif
}

/* Add up exp(z_j - highest) over the classes below the highest logit, count those at it, and keep all powers, unless
   `keep` is NULL. In double these are multiples of a power of 2, whose sum no order can change, and what they leave. */
INLINE void F(add_powers)(
    F(Tile) tile, const float *lost, int64_t n, double grid, REAL *restrict keep, REAL *multiples, REAL *rests,
    REAL *peaks)
{
    for (int64_t j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            REAL v = tile.x[j + l], e = F(power)(v, lost ? lost[j + l] : 0, lost != 0, tile.highest);
            if (keep)
                keep[j + l] = e;
            peaks[l] += v == tile.highest ? 1 : 0;
            e = v == tile.highest ? 0 : e;
#if WIDE
            double multiple = (e + grid) - grid;
            multiples[l] += multiple;
            rests[l] += e - multiple;
#else
            multiples[l] += e;
#endif
        }
    (void)grid, (void)rests;
}

/* The sums of prior_j (highest - z_j) 2**-8 and of prior_j over the possible classes. */
INLINE void F(add_away)(F(Tile) tile, const REAL *prior, int64_t n, REAL *distance, REAL *mass)
{
    for (int64_t j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            REAL v = tile.x[j + l], weight = prior[j + l];
            weight = v > -INFINITY ? weight : 0;
            v = v > -INFINITY ? v : tile.highest;
            /* A difference that overflows is infinite, as in every framework; that of a class without mass counts 0. */
            distance[l] += weight == 0 ? 0 : (tile.highest - v) * (REAL)0x1p-8 * weight;
            mass[l] += weight;
        }
}

/* What a group is to know of its row r. `powers` and `slopes` are room for those of a row, or NULL. */
static void F(row_sums)(const Call *c, Group *g, int64_t r, REAL *powers, float *slopes)
{
    const void *row = row_of(c, g->first + r);
    F(Peak) peak = F(peak)(c, row);
    /* A cap puts numbers in no other order. */
    double highest = F(cap)(c, peak.highest), grid = 0;
#if WIDE
    grid = grid_of(digits_of(c->classes), highest, F(cap)(c, peak.second));
#endif
    const REAL *prior = address(c->prior);
    double sum = 0, peaks = 0, distance = 0, mass = 0;
    F(Room) room;
    REAL own[TILE], part[2][LANES] = {{0}}, count[LANES] = {0};
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE, filled = F(filled)(n);
        F(Tile) tile = F(tile)(c, row, first, n, highest, &room, slopes ? slopes + first : 0);
        REAL *keep = n == filled && powers ? powers + first : own;
        if (tile.lost)
            F(add_powers)(tile, room.lost, filled, grid, keep, part[0], part[1], count);
        else if (powers)
            F(add_powers)(tile, 0, filled, grid, keep, part[0], part[1], count);
        else
            F(add_powers)(tile, 0, filled, grid, 0, part[0], part[1], count);
        if (powers && keep == own)
            memcpy(powers + first, own, (size_t)n * sizeof *own);
#if !WIDE
        sum += F(total)(part[0]);
        peaks += F(total)(count);
        memset(part, 0, sizeof part);
        memset(count, 0, sizeof count);
#endif
        if (c->unl) {
            REAL away[LANES] = {0}, weight[LANES] = {0};
            F(add_away)(tile, prior + first, filled, away, weight);
            distance += F(total)(away);
            mass += F(total)(weight);
        }
    }
#if WIDE
    sum = F(total)(part[0]) + F(total)(part[1]);
    peaks = F(total)(count);
#else
    sum *= 0x1p-64;
#endif
    g->raw[r] = peak.highest;
    g->highest[r] = highest;
    g->rest[r] = fabs(highest) <= DBL_MAX ? sum + (peaks - 1) : NAN;
    g->distance[r] = mass == 0 ? 0 : distance / mass * 0x1p8;
    g->mass[r] = mass;
}

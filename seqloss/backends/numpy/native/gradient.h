/* The gradient of a row. Included after rows.h, for float and for double. */

/* How the exponentials of a row are taken for its gradient. In float they are those of the forward, unless the scale is
   so large that smaller ones count, or so small that it would lose digits. */
typedef struct {
    int is_usual;
    REAL scale;
    uint32_t shift;
    float lowest;
} F(Scale);

INLINE F(Scale) F(scale)(double scale)
{
#if WIDE
    return (F(Scale)){1, scale, 0, 0};
#else
    double size = fabs(scale);
    if (size >= 0x1p-62 && size < 0x1p60)
        return (F(Scale)){1, (float)(scale * 0x1p-64), SHIFT, LOWEST};
    if (size < 1)
        return (F(Scale)){0, (float)scale, 127, -87.5f};
    return (F(Scale)){0, (float)(scale * 0x1p-126), 127 + 126, -174.5f};
#endif
}

/* The exponentials of a tile, for a gradient. */
INLINE void F(powers)(F(Tile) tile, int64_t n, F(Scale) scale, REAL *out)
{
    const REAL *x = tile.x;
    REAL highest = tile.highest;
#if WIDE
    (void)scale;
    TILE_LOOP out[j] = power_f64(x[j] - highest);
#else
    const float *lost = tile.lost;
    if (lost)
        TILE_LOOP out[j] = power_f32(x[j], lost[j], scale.shift, scale.lowest);
    else
        TILE_LOOP out[j] = below_f32(x[j], highest, scale.shift, scale.lowest);
#endif
}

/* Numbers of a tile as entries of a gradient in this dtype. */
INLINE void F(write)(int64_t dtype, int zeroes_faint, REAL *out, int64_t n, void *row, int64_t first)
{
    if (zeroes_faint)
        TILE_LOOP out[j] = fabs((double)out[j]) < FLT_MIN ? 0 : out[j];
    switch (dtype) {
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

/* The entry of flow->place. */
INLINE double F(entry)(const Call *c, const Flow *flow, int64_t r, double raw)
{
    const REAL *prior = address(c->prior);
    double entry = flow->entry[r];
    if (flow->to_prior[r] != 0 && raw > -INFINITY)
        entry -= flow->to_prior[r] * prior[flow->place[r]];
    return c->softcap != 0 ? entry * F(slope)(c, raw) : entry;
}

/* `labels` are soft ones, or NULL; `powers` and `slopes` are what the forward kept, or NULL. The former may be where
   the gradient belongs. */
static void F(pull_row)(
    const Call *c, const Group *g, int64_t r, const Flow *flow, const void *labels, const REAL *powers,
    const float *slopes)
{
    const void *row = row_of(c, g->first + r);
    void *gradient = gradient_of(c, g->first + r);
    const REAL *prior = address(c->prior);
    F(Scale) scale = F(scale)(flow->scale[r]);
    F(Room) room;
    REAL own[TILE], beside[TILE], to_labels = (REAL)flow->to_labels[r], to_prior = (REAL)flow->to_prior[r];
    int recomputes = !powers || !scale.is_usual;
    double label = F(one_as)(c->dtype, row, flow->place[r]);
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        int is_in_place = c->dtype == (WIDE ? FLOAT64 : FLOAT32) && n % LANES == 0 && !is_over(c);
        REAL *out = is_in_place ? (REAL *)gradient + first : own;
        F(Tile) tile = {0, 0, 0};
        if (recomputes || to_prior != 0 || (c->softcap != 0 && (WIDE || !slopes)))
            tile = F(tile)(c, row, first, n, g->highest[r], &room, slopes ? 0 : room.slopes);
        if (recomputes)
            F(powers)(tile, F(filled)(n), scale, out);
        else if (powers + first != out)
            memcpy(out, powers + first, (size_t)n * sizeof *out);
        REAL factor = scale.scale;
        TILE_LOOP out[j] *= factor;
        if (labels) {
            const REAL *y = F(read_as)(c->labels_dtype, labels, first, n, beside, 0);
            TILE_LOOP out[j] -= to_labels * y[j];
        }
        if (to_prior != 0)
            TILE_LOOP out[j] -= tile.x[j] > -INFINITY ? to_prior * prior[first + j] : 0;
        if (c->softcap != 0) {
#if WIDE
            const REAL *raw = F(read)(c, row, first, n, room.x);
            double cap = c->softcap;
            TILE_LOOP out[j] *= cap_slope(raw[j], cap);
#else
            const float *slope = slopes ? slopes + first : room.slopes;
            /* In double, because a slope may be small where the scale is large. */
            TILE_LOOP out[j] = (float)(out[j] * (slope[j] * (1 / SLOPES)));
#endif
        }
        F(write)(c->dtype, c->exact, out, n, gradient, first);
    }
    REAL last = (REAL)F(entry)(c, flow, r, label);
    F(write)(c->dtype, c->exact, &last, 1, gradient, flow->place[r]);
}

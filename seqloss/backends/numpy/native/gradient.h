/* The gradient of a row. Included after rows.h, for float and for double. */

/* What flows back to a row. */
typedef struct {
    double highest;
    double scale;     /* Of the exponentials. */
    int64_t place;    /* A class whose entry is another one, */
    double entry;     /* this. */
    double to_labels; /* What of soft labels is taken away, */
    double to_prior;  /* and of the prior. */
} F(Flow);

INLINE void F(entries)(const REAL *x, const REAL *labels, const REAL *prior, int64_t n, const F(Flow) *flow, REAL *out)
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
    if (labels) {
        REAL part = (REAL)flow->to_labels;
        TILE_LOOP out[j] -= part * labels[j];
    }
    if (flow->to_prior != 0) {
        REAL part = (REAL)flow->to_prior;
        TILE_LOOP out[j] -= x[j] > -INFINITY ? part * prior[j] : 0;
    }
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

/* `labels` are soft ones, or NULL. */
static void F(pull_row)(const Call *c, const void *row, const void *labels, void *gradient, const F(Flow) *flow)
{
    const REAL *prior = address(c->prior);
    REAL room[TILE], own[TILE], beside[TILE];
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read_capped)(c, row, first, n, room);
        const REAL *y = labels ? F(read_as)(c->labels_dtype, labels, first, n, beside, 0) : 0;
        int in_place = c->dtype == (WIDE ? FLOAT64 : FLOAT32) && n % LANES == 0;
        REAL *out = in_place ? (REAL *)gradient + first : own;
        F(entries)(x, y, flow->to_prior != 0 ? prior + first : 0, F(filled)(n), flow, out);
#if WIDE
        if (c->softcap != 0) {
            const REAL *raw = F(read)(c, row, first, n, room);
            double cap = c->softcap;
            TILE_LOOP out[j] *= cap_slope(raw[j], cap);
        }
#endif
        F(write)(c->dtype, c->exact, out, n, gradient, first);
    }
    double raw = F(one)(c, row, flow->place), entry = flow->entry;
    if (flow->to_prior != 0 && raw > -INFINITY)
        entry -= flow->to_prior * prior[flow->place];
    if (c->softcap != 0)
        entry *= cap_slope(raw, c->softcap);
    REAL last = (REAL)entry;
    F(write)(c->dtype, c->exact, &last, 1, gradient, flow->place);
}

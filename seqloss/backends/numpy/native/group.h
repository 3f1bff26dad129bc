/* The numbers of up to GROUP rows, which are computed together: in float64, whatever the rows are computed in. */

typedef struct {
    int64_t first, count;    /* Rows first ... first + count - 1. */
    uint8_t active[GROUP];   /* The numbers of other rows may be anything. */
    double raw[GROUP];       /* The highest logit before the cap. */
    double highest[GROUP];
    double rest[GROUP];      /* The sum of exp(z_j - highest) over all classes but one that has the highest logit. */
    double distance[GROUP];  /* The sum of prior_j (highest - z_j), divided by the mass. */
    double mass[GROUP];
} Group;

/* What flows back to them. */
typedef struct {
    uint8_t used[GROUP];     /* Other rows get zeros. */
    double scale[GROUP];     /* Of the exponentials. */
    int64_t place[GROUP];    /* A class whose entry is another one, */
    double entry[GROUP];     /* this. */
    double to_labels[GROUP]; /* What of soft labels is taken away, */
    double to_prior[GROUP];  /* and of the prior. */
} Flow;

#define GROUP_LOOP for (int64_t r = 0; r < g->count; r++)

static inline void *address(int64_t number) { return (void *)(uintptr_t)number; }

static const int64_t size_of[] = {[FLOAT32] = 4, [FLOAT64] = 8, [BFLOAT16] = 2, [FLOAT16] = 2};

/* A statistic or cotangent of a token; where there is no array it is 0. */
static inline double get(const Call *c, int64_t place, int64_t i)
{
    if (!place)
        return 0;
    return c->tokens ? ((const double *)address(place))[i] : ((const float *)address(place))[i];
}

static inline void put(const Call *c, int64_t place, const Group *g, const double *x)
{
    if (!place)
        return;
    if (c->tokens)
        GROUP_LOOP ((double *)address(place))[g->first + r] = g->active[r] ? x[r] : 0;
    else
        GROUP_LOOP ((float *)address(place))[g->first + r] = g->active[r] ? (float)x[r] : 0;
}

/* As Python would read what was put. */
static inline double rounded(const Call *c, double x) { return c->tokens ? x : (float)x; }

/* The next rows, and which of them are active. */
static inline void next_group(const Call *c, int64_t first, Group *g)
{
    int64_t most = c->classes <= FEW ? GROUP : AT_A_TIME / c->classes, left = c->last - first;
    most = most < 1 ? 1 : most > GROUP ? GROUP : most;
    g->first = first;
    g->count = left < most ? left : most;
    const uint8_t *active = address(c->active);
    GROUP_LOOP g->active[r] = active ? active[first + r] != 0 : 1;
}

static inline const void *row_of(const Call *c, int64_t i) { return address(c->logits + i * c->stride); }

static inline void *gradient_of(const Call *c, int64_t i)
{
    return address(c->gradient + i * c->classes * size_of[c->dtype]);
}

/* The derivative of k lse**2 for the lse that was put; 0 where that is not finite. */
static inline double slope_of_square(const Call *c, int64_t i)
{
    double k = get(c, c->lse_square, i), lse = get(c, c->lse, i);
    return rounded(c, 2 * k * (fabs(lse) <= DBL_MAX ? lse : 0));
}

/* 1.5 times the power of 2 to whose multiples exponentials are rounded, if the largest is that of `second`. */
INLINE double grid_of(int digits, double highest, double second)
{
    double below = (second - highest) * LOG2E;
    below = below > -900 ? below : -901; /* not so fine that float64 has no more digits */
    int32_t whole = (int32_t)below;
    whole -= below < whole; /* the floor */
    whole = whole < -1 ? whole + 1 : 0;
    return double_of((uint64_t)(1023 + digits + whole) << 52 | (uint64_t)1 << 51);
}

static inline int digits_of(int64_t classes)
{
    int digits = 18;
    while (classes > (int64_t)1 << digits)
        digits += 1;
    return digits;
}

/* The kernels of soft labels. Included after gradient.h, for float and for double. */

/* The first class that has the highest logit of the row. */
static int64_t F(place)(const Call *c, const void *row, double highest)
{
    REAL room[TILE], wanted = (REAL)highest;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read)(c, row, first, n, room);
        int hits = 0;
        TILE_LOOP hits += x[j] == wanted;
        if (hits)
            TILE_LOOP if (x[j] == wanted) return first + j;
    }
    return 0;
}

/* The sum of y_j ((highest - z_j) + log), where 0 times infinity is 0. */
static double F(costs)(const Call *c, const void *row, const void *labels, double highest, double log)
{
    REAL room[TILE], beside[TILE], up = (REAL)highest, more = (REAL)log;
    double sum = 0;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read_capped)(c, row, first, n, room);
        const REAL *y = F(read_as)(c->labels_dtype, labels, first, n, beside, 0);
        REAL part[LANES] = {0};
        for (int64_t j = 0; j < n; j += LANES)
            for (int l = 0; l < LANES; l++) {
                REAL cost = ((up - x[j + l]) + more) * y[j + l];
                part[l] += y[j + l] != 0 ? cost : 0;
            }
        sum += F(total)(part);
    }
    return sum;
}

static void F(label_forward)(const Call *c)
{
    double *highest = address(c->highest), *rest = address(c->rest);
    int64_t *places = address(c->places);
    for (int64_t i = c->first; i < c->last; i++) {
        double nll = 0, lse = 0, unl = 0;
        F(Sums) sums = {0, 0, 0, 0, 0};
        places[i] = 0;
        if (is_active(c, i)) {
            const void *row = address(c->logits + i * c->stride);
            sums = F(sums)(c, row);
            places[i] = F(place)(c, row, sums.raw);
            double log = log_1_plus(sums.rest);
            nll = F(costs)(c, row, address(c->labels + i * c->labels_stride), sums.highest, log) + (log - log);
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

/* to_nll times ((highest - z_j) + log) */
static void F(pull_labels)(const Call *c, const void *row, void *gradient, double to_nll, double highest, double log)
{
    REAL room[TILE], out[TILE], up = (REAL)highest, more = (REAL)log, scale = (REAL)to_nll;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        const REAL *x = F(read_capped)(c, row, first, n, room);
        TILE_LOOP out[j] = ((up - x[j]) + more) * scale;
        F(write)(c->labels_dtype, WIDE && c->labels_dtype != FLOAT64, out, n, gradient, first);
    }
}

static void F(label_pullback)(const Call *c)
{
    const double *highest = address(c->highest), *rest = address(c->rest);
    const int64_t *places = address(c->places);
    int64_t length = c->classes * size_of[c->dtype], labels_length = c->classes * size_of[c->labels_dtype];
    for (int64_t i = c->first; i < c->last; i++) {
        double to_nll = get(c, c->nll, i), to_lse = get(c, c->lse, i), to_unl = get(c, c->unl, i);
        if (is_active(c, i) == 0)
            to_nll = to_lse = to_unl = 0;
        const void *row = address(c->logits + i * c->stride), *y = address(c->labels + i * c->labels_stride);
        void *gradient = address(c->gradient + i * length);
        if (c->labels_gradient) {
            void *to_labels = address(c->labels_gradient + i * labels_length);
            if (to_nll != 0)
                F(pull_labels)(c, row, to_labels, to_nll, highest[i], log_1_plus(rest[i]));
            else if (!c->is_clean)
                memset(to_labels, 0, (size_t)labels_length);
        }
        if (to_nll == 0 && to_lse == 0 && to_unl == 0) {
            if (!c->is_clean)
                memset(gradient, 0, (size_t)length);
            continue;
        }
        REAL room[LANES];
        double prior_mass = get(c, c->mass, i), mass = get(c, c->labels_mass, i), whole = 1 + rest[i];
        double own = F(read_as)(c->labels_dtype, y, places[i], 1, room, 0)[0];
        to_unl = prior_mass == 0 ? 0 : to_unl;
        /* Where most of the mass is at the highest logit, what both lack to it is small. */
        double left = 2 * fabs(own) > fabs(mass) ? (mass - own) - mass * (rest[i] / whole) : mass / whole - own;
        F(Flow) flow = {
            .highest = highest[i],
            .scale = (to_nll * mass + (to_lse + to_unl)) / whole,
            .place = places[i],
            .entry = to_nll * left + (to_lse + to_unl) / whole,
            .to_labels = to_nll,
            .to_prior = prior_mass == 0 ? 0 : to_unl / prior_mass,
        };
        F(pull_row)(c, row, to_nll != 0 ? y : 0, gradient, &flow);
    }
}

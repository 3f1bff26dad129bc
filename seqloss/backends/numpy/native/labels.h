/* The kernels of soft labels. Included after pull.h, for float and for double. */

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
    F(Room) room;
    REAL beside[TILE], more = (REAL)log;
    double sum = 0;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        F(Tile) tile = F(tile)(c, row, first, n, highest, &room, 0);
        const REAL *y = F(read_as)(c->labels_dtype, labels, first, n, beside, 0);
        REAL part[LANES] = {0};
        for (int64_t j = 0; j < n; j += LANES)
            for (int l = 0; l < LANES; l++) {
                REAL cost = ((tile.highest - tile.x[j + l]) + more) * y[j + l];
                part[l] += y[j + l] != 0 ? cost : 0;
            }
        sum += F(total)(part);
    }
    return sum;
}

/* The same of few classes, and the places. */
INLINE void F(few_costs)(const Call *c, const Group *g, F(Few) *few, const double *log, int64_t *places, double *costs)
{
    F(Turned) labels;
    REAL more[LANES] = {0}, *top = few->highest;
    double sum[LANES] = {0};
    F(turn)(c, g, c->labels_dtype, c->labels, c->labels_stride, labels);
    GROUP_LOOP more[r] = (REAL)log[r];
    for (int64_t first = 0; first < c->classes; first += 8) {
        int64_t last = first + 8 < c->classes ? first + 8 : c->classes;
        REAL part[LANES] = {0};
        for (int64_t j = first; j < last; j++) {
            const REAL *x = few->x[j], *y = labels[j];
            LANE_LOOP {
                REAL cost = ((top[l] - x[l]) + more[l]) * y[l];
                part[l] += y[l] != 0 ? cost : 0;
            }
        }
        LANE_LOOP sum[l] += part[l];
    }
    REAL at[LANES] = {0};
    for (int64_t j = c->classes - 1; j >= 0; j--) {
        const REAL *x = few->x[j];
        LANE_LOOP at[l] = x[l] == top[l] ? (REAL)j : at[l];
    }
    GROUP_LOOP {
        costs[r] = sum[r];
        places[r] = g->active[r] ? (int64_t)at[r] : 0;
        /* A cap may have made two logits equal. */
        if (c->softcap != 0 && g->active[r])
            places[r] = F(place)(c, row_of(c, g->first + r), g->raw[r]);
    }
}

static void F(label_forward)(const Call *c)
{
    double *highest = address(c->highest), *rest = address(c->rest), log[GROUP], nll[GROUP], lse[GROUP], unl[GROUP];
    int64_t *places = address(c->places);
    Group group, *g = &group;
    F(Few) few;
    for (int64_t first = c->first; first < c->last; first += g->count) {
        next_group(c, first, g);
        if (c->classes <= FEW)
            F(few_sums)(c, g, &few);
        GROUP_LOOP {
            if (!g->active[r])
                g->highest[r] = g->rest[r] = g->distance[r] = g->mass[r] = 0;
            else if (c->classes > FEW)
                F(row_sums)(c, g, r, 0, 0);
        }
        GROUP_LOOP log[r] = log_1_plus(g->rest[r]);
        if (c->classes <= FEW)
            F(few_costs)(c, g, &few, log, places + first, nll);
        else
            GROUP_LOOP {
                int64_t i = first + r;
                const void *row = row_of(c, i);
                places[i] = g->active[r] ? F(place)(c, row, g->raw[r]) : 0;
                nll[r] = 0;
                if (g->active[r])
                    nll[r] = F(costs)(c, row, address(c->labels + i * c->labels_stride), g->highest[r], log[r]);
            }
        GROUP_LOOP {
            nll[r] += log[r] - log[r];
            lse[r] = g->highest[r] + log[r];
            unl[r] = g->mass[r] == 0 ? log[r] - log[r] : g->distance[r] + log[r];
        }
        memcpy(highest + first, g->highest, (size_t)g->count * sizeof *highest);
        memcpy(rest + first, g->rest, (size_t)g->count * sizeof *rest);
        put(c, c->nll, g, nll);
        put(c, c->lse, g, lse);
        put(c, c->unl, g, unl);
        put(c, c->mass, g, g->mass);
    }
}

/* The gradient of labels: to_nll times ((highest - z_j) + log) */
static void F(pull_labels)(const Call *c, const void *row, void *gradient, double to_nll, double highest, double log)
{
    F(Room) room;
    REAL out[TILE], more = (REAL)log, scale = (REAL)to_nll;
    for (int64_t first = 0; first < c->classes; first += TILE) {
        int64_t n = c->classes - first < TILE ? c->classes - first : TILE;
        F(Tile) tile = F(tile)(c, row, first, n, highest, &room, 0);
        TILE_LOOP out[j] = ((tile.highest - tile.x[j]) + more) * scale;
        F(write)(c->labels_dtype, WIDE && c->labels_dtype != FLOAT64, out, n, gradient, first);
    }
}

/* That of few classes; then few has all for the gradient of logits. */
INLINE void F(few_pull_labels)(const Call *c, const Group *g, const F(Few) *few, const double *to_nll)
{
    F(Turned) out;
    REAL more[LANES] = {0}, scale[LANES] = {0};
    uint8_t used[GROUP];
    GROUP_LOOP {
        more[r] = (REAL)log_1_plus(g->rest[r]);
        scale[r] = (REAL)to_nll[r];
        used[r] = to_nll[r] != 0;
    }
    CLASS_LOOP {
        const REAL *x = few->x[j], *top = few->highest;
        LANE_LOOP out[j][l] = ((top[l] - x[l]) + more[l]) * scale[l];
    }
    F(turn_back)(c, g, used, c->labels_dtype, WIDE && c->labels_dtype != FLOAT64, c->labels_gradient, out);
}

static void F(label_pullback)(const Call *c)
{
    const double *highest = address(c->highest), *rest = address(c->rest);
    const int64_t *places = address(c->places);
    int64_t labels_length = c->classes * size_of[c->labels_dtype];
    double to_nll[GROUP];
    Group group, *g = &group;
    Flow flow;
    F(Few) few;
    F(Turned) labels;
    for (int64_t first = c->first; first < c->last; first += g->count) {
        next_group(c, first, g);
        GROUP_LOOP {
            int64_t i = first + r;
            double to_lse = get(c, c->to_lse, i), to_unl = get(c, c->to_unl, i), prior_mass = get(c, c->mass, i);
            to_nll[r] = g->active[r] ? get(c, c->to_nll, i) : 0;
            flow.used[r] = g->active[r] && (to_nll[r] != 0 || to_lse != 0 || to_unl != 0);
            g->highest[r] = highest[i];
            g->rest[r] = rest[i];
            double mass = get(c, c->labels_mass, i), whole = 1 + rest[i], own = 0;
            if (flow.used[r])
                own = F(one_as)(c->labels_dtype, address(c->labels + i * c->labels_stride), places[i]);
            to_unl = prior_mass == 0 ? 0 : to_unl;
            /* Where most of the mass is at the highest logit, what both lack to it is small. */
            double left = 2 * fabs(own) > fabs(mass) ? (mass - own) - mass * (rest[i] / whole) : mass / whole - own;
            flow.scale[r] = (to_nll[r] * mass + (to_lse + to_unl)) / whole;
            flow.place[r] = places[i];
            flow.entry[r] = to_nll[r] * left + (to_lse + to_unl) / whole;
            flow.to_labels[r] = to_nll[r];
            flow.to_prior[r] = prior_mass == 0 ? 0 : to_unl / prior_mass;
        }
        int is_turned = c->classes <= FEW;
        if (is_turned) {
            F(few_again)(c, g, &few);
            F(turn)(c, g, c->labels_dtype, c->labels, c->labels_stride, labels);
        }
        if (c->labels_gradient && is_turned)
            F(few_pull_labels)(c, g, &few, to_nll);
        else if (c->labels_gradient)
            GROUP_LOOP {
                int64_t i = first + r;
                void *to_labels = address(c->labels_gradient + i * labels_length);
                if (to_nll[r] != 0)
                    F(pull_labels)(c, row_of(c, i), to_labels, to_nll[r], highest[i], log_1_plus(rest[i]));
                else if (!c->is_clean)
                    memset(to_labels, 0, (size_t)labels_length);
            }
        F(group_pull)(c, g, &flow, &few, is_turned, labels);
    }
}

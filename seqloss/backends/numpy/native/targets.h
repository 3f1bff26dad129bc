/* The kernels of targets, one label a row. Included after pull.h, for float and for double. */

/* Find the statistics of a group. With `keeps` a pullback follows at once. */
INLINE void F(group_forward)(const Call *c, Group *g, F(Few) *few, int keeps)
{
    const int64_t *targets = address(c->targets);
    double *highest = address(c->highest), *rest = address(c->rest);
    double label[GROUP] = {0}, nll[GROUP], lse[GROUP], unl[GROUP];
    if (c->classes <= FEW)
        F(few_sums)(c, g, few);
    GROUP_LOOP {
        int64_t i = g->first + r;
        if (!g->active[r]) {
            g->highest[r] = g->rest[r] = g->distance[r] = g->mass[r] = 0;
            continue;
        }
        if (c->classes > FEW)
            F(row_sums)(c, g, r, keeps ? F(powers_room)(c, g, r) : 0, keeps ? F(slopes_room)(c, r) : 0);
        int is_legal = targets[i] >= 0 && targets[i] < c->classes;
        label[r] = is_legal ? F(one_as)(c->dtype, row_of(c, i), targets[i]) : NAN;
        if (!is_legal)
            g->rest[r] = NAN;
    }
    if (c->softcap != 0)
        GROUP_LOOP label[r] = F(cap)(c, label[r]);
    GROUP_LOOP {
        double log = log_1_plus(g->rest[r]);
        nll[r] = log - (label[r] - g->highest[r]);
        lse[r] = g->highest[r] + log;
        unl[r] = g->mass[r] == 0 ? log - log : g->distance[r] + log;
    }
    memcpy(highest + g->first, g->highest, (size_t)g->count * sizeof *highest);
    memcpy(rest + g->first, g->rest, (size_t)g->count * sizeof *rest);
    put(c, c->nll, g, nll);
    put(c, c->lse, g, lse);
    put(c, c->unl, g, unl);
    put(c, c->mass, g, g->mass);
}

static void F(forward)(const Call *c)
{
    Group group;
    F(Few) few;
    for (int64_t first = c->first; first < c->last; first += group.count) {
        next_group(c, first, &group);
        F(group_forward)(c, &group, &few, 0);
    }
}

/* Given highest, rest and mass of a group. */
INLINE void F(token_flow)(const Call *c, Group *g, Flow *flow)
{
    const int64_t *targets = address(c->targets);
    double gap[GROUP], to_nll[GROUP], to_powers[GROUP];
    GROUP_LOOP {
        int64_t i = g->first + r;
        double to_lse = get(c, c->to_lse, i), to_unl = get(c, c->to_unl, i);
        to_nll[r] = get(c, c->to_nll, i);
        if (c->lse_square) {
            double slope = slope_of_square(c, i);
            to_lse = c->to_lse ? rounded(c, to_lse + slope) : slope;
        }
        flow->used[r] = g->active[r] && (to_nll[r] != 0 || to_lse != 0 || to_unl != 0);
        int64_t label = targets[i] >= 0 && targets[i] < c->classes ? targets[i] : 0;
        gap[r] = flow->used[r] ? F(one_as)(c->dtype, row_of(c, i), label) : 0;
        to_unl = g->mass[r] == 0 ? 0 : to_unl;
        to_powers[r] = to_lse + to_unl;
        flow->place[r] = label;
        flow->to_labels[r] = 0;
        flow->to_prior[r] = g->mass[r] == 0 ? 0 : to_unl / g->mass[r];
    }
    if (c->softcap != 0)
        GROUP_LOOP gap[r] = F(cap)(c, gap[r]);
    GROUP_LOOP {
        double below = gap[r] - g->highest[r], rest = g->rest[r], whole = 1 + rest;
        flow->scale[r] = (to_nll[r] + to_powers[r]) / whole;
        flow->entry[r] = (to_powers[r] * power_f64(below) - to_nll[r] * (rest - power_less_1(below))) / whole;
    }
}

static void F(pullback)(const Call *c)
{
    const double *highest = address(c->highest), *rest = address(c->rest);
    Group group, *g = &group;
    Flow flow;
    F(Few) few;
    for (int64_t first = c->first; first < c->last; first += group.count) {
        next_group(c, first, g);
        GROUP_LOOP {
            g->highest[r] = highest[first + r];
            g->rest[r] = rest[first + r];
            g->mass[r] = get(c, c->mass, first + r);
        }
        F(token_flow)(c, g, &flow);
        F(group_pull)(c, g, &flow, &few, 0, 0);
    }
}

/* Forward and pullback in one, group by group. */
static void F(both)(const Call *c)
{
    Group group, *g = &group;
    Flow flow;
    F(Few) few;
    for (int64_t first = c->first; first < c->last; first += group.count) {
        next_group(c, first, g);
        F(group_forward)(c, g, &few, 1);
        GROUP_LOOP g->mass[r] = rounded(c, g->mass[r]);
        F(token_flow)(c, g, &flow);
        F(group_pull)(c, g, &flow, &few, 1, 0);
    }
}

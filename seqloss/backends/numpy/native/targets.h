/* The kernels of targets, one label a row. Included after gradient.h, for float and for double. */

static void F(forward)(const Call *c)
{
    const int64_t *targets = address(c->targets);
    double *highest = address(c->highest), *rest = address(c->rest);
    for (int64_t i = c->first; i < c->last; i++) {
        double nll = 0, lse = 0, unl = 0;
        F(Sums) sums = {0, 0, 0, 0, 0};
        if (is_active(c, i)) {
            const void *row = address(c->logits + i * c->stride);
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

static void F(pullback)(const Call *c)
{
    const int64_t *targets = address(c->targets);
    const double *highest = address(c->highest), *rest = address(c->rest);
    int64_t length = c->classes * size_of[c->dtype];
    for (int64_t i = c->first; i < c->last; i++) {
        void *gradient = address(c->gradient + i * length);
        double to_nll = get(c, c->nll, i), to_lse = get(c, c->lse, i), to_unl = get(c, c->unl, i);
        if ((to_nll == 0 && to_lse == 0 && to_unl == 0) || !is_active(c, i)) {
            if (!c->is_clean)
                memset(gradient, 0, (size_t)length);
            continue;
        }
        const void *row = address(c->logits + i * c->stride);
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
            .place = label,
            .entry = (to_powers * power_f64(gap) - to_nll * (rest[i] - power_less_1(gap))) / whole,
            .to_prior = mass == 0 ? 0 : to_unl / mass,
        };
        F(pull_row)(c, row, 0, gradient, &flow);
    }
}

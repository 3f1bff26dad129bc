/* The gradient of a group of rows. Included after few.h, for float and for double. */

/* The gradient of logits of a group, which is made of few->powers in their place. `labels` are soft ones, or NULL. */
static void F(few_pull)(const Call *c, const Group *g, const Flow *flow, F(Few) *few, REAL (*labels)[LANES])
{
    REAL scale[LANES] = {0}, to_labels[LANES] = {0}, to_prior[LANES] = {0};
    const REAL *prior = address(c->prior);
    int has_prior = 0;
    GROUP_LOOP {
        F(Scale) own = F(scale)(flow->scale[r]);
        scale[r] = own.scale;
        to_labels[r] = (REAL)flow->to_labels[r];
        to_prior[r] = (REAL)flow->to_prior[r];
        has_prior |= flow->used[r] && to_prior[r] != 0;
        if (!own.is_usual && flow->used[r])
            CLASS_LOOP {
                F(Tile) tile = {&few->x[j][r], 0, few->highest[r]};
#if !WIDE
                tile.lost = c->softcap != 0 ? &few->lost[j][r] : 0;
#endif
                F(powers)(tile, 1, own, &few->powers[j][r]);
            }
    }
    CLASS_LOOP {
        REAL *out = few->powers[j];
        const REAL *x = few->x[j], *slopes = few->slopes[j];
        LANE_LOOP out[l] *= scale[l];
        if (labels)
            LANE_LOOP out[l] -= to_labels[l] != 0 ? to_labels[l] * labels[j][l] : 0;
        if (has_prior) {
            REAL given = prior[j];
            LANE_LOOP out[l] -= x[l] > -INFINITY && to_prior[l] != 0 ? to_prior[l] * given : 0;
        }
#if WIDE
        if (c->softcap != 0)
            LANE_LOOP out[l] *= slopes[l];
#else
        if (c->softcap != 0)
            LANE_LOOP out[l] = (float)(out[l] * (slopes[l] * (1 / SLOPES)));
#endif
    }
    GROUP_LOOP if (flow->used[r])
    {
        int64_t place = flow->place[r];
        double raw = F(one_as)(c->dtype, row_of(c, g->first + r), place);
        few->powers[place][r] = (REAL)F(entry)(c, flow, r, raw);
    }
    F(turn_back)(c, g, flow->used, c->dtype, (int)c->exact, c->gradient, few->powers);
}

/* Room for the exponentials of row r of a group: where its gradient belongs, if that is free and of the same type. */
INLINE REAL *F(powers_room)(const Call *c, const Group *g, int64_t r)
{
    if (c->dtype == (WIDE ? FLOAT64 : FLOAT32) && !is_over(c))
        return gradient_of(c, g->first + r);
    return (REAL *)address(c->room) + r * F(filled)(c->classes);
}

/* That for the slopes of a cap, which are kept in float alone. */
INLINE float *F(slopes_room)(const Call *c, int64_t r)
{
    return WIDE || c->softcap == 0 ? 0 : (float *)address(c->room) + in_room(c->classes) + r * F(filled)(c->classes);
}

/* The gradient of logits of a group. `is_kept` where its forward has kept exponentials; `labels` are soft ones of few
   classes, turned. */
INLINE void F(group_pull)(const Call *c, Group *g, const Flow *flow, F(Few) *few, int is_kept, REAL (*labels)[LANES])
{
    if (c->classes <= FEW) {
        if (!is_kept)
            F(few_again)(c, g, few);
        F(few_pull)(c, g, flow, few, labels);
        return;
    }
    GROUP_LOOP {
        int64_t i = g->first + r;
        if (flow->used[r]) {
            const void *y = c->labels && flow->to_labels[r] != 0 ? address(c->labels + i * c->labels_stride) : 0;
            F(pull_row)(c, g, r, flow, y, is_kept ? F(powers_room)(c, g, r) : 0, is_kept ? F(slopes_room)(c, r) : 0);
        } else if (!c->is_clean || (is_kept && g->active[r]))
            memset(gradient_of(c, i), 0, (size_t)(c->classes * size_of[c->dtype]));
    }
}

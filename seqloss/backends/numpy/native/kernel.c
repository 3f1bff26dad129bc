/* The kernels, compiled once for each VERSION of the processor: the same operations in the same order. */

#include "call.h"
#include "numbers.h"

static const int64_t size_of[] = {[FLOAT32] = 4, [FLOAT64] = 8, [BFLOAT16] = 2, [FLOAT16] = 2};

static inline void *address(int64_t number) { return (void *)(uintptr_t)number; }

static inline int is_active(const Call *c, int64_t i)
{
    const uint8_t *active = address(c->active);
    return !active || active[i];
}

/* A statistic or cotangent of a token; where there is no array it is 0. */
static inline double get(const Call *c, int64_t place, int64_t i)
{
    if (!place)
        return 0;
    return c->tokens ? ((const double *)address(place))[i] : ((const float *)address(place))[i];
}

static inline void put(const Call *c, int64_t place, int64_t i, double x)
{
    if (!place)
        return;
    if (c->tokens)
        ((double *)address(place))[i] = x;
    else
        ((float *)address(place))[i] = (float)x;
}

#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)

#define REAL float
#define WIDE 0
#define F(name) JOIN(name, float)
#include "rows.h"
#include "gradient.h"
#include "targets.h"
#include "labels.h"
#undef REAL
#undef WIDE
#undef F

#define REAL double
#define WIDE 1
#define F(name) JOIN(name, double)
#include "rows.h"
#include "gradient.h"
#include "targets.h"
#include "labels.h"

void JOINED(forward, VERSION)(const Call *c)
{
    if (c->labels)
        c->wide ? label_forward_double(c) : label_forward_float(c);
    else
        c->wide ? forward_double(c) : forward_float(c);
}

void JOINED(pullback, VERSION)(const Call *c)
{
    if (c->labels)
        c->wide ? label_pullback_double(c) : label_pullback_float(c);
    else
        c->wide ? pullback_double(c) : pullback_float(c);
}

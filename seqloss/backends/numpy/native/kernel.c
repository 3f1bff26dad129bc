/* The kernels, compiled once for each VERSION of the processor: the same operations in the same order. */

#include "call.h"
#include "numbers.h"

static const size_t size_of[] = {[FLOAT32] = 4, [FLOAT64] = 8, [BFLOAT16] = 2, [FLOAT16] = 2};

/* A statistic or cotangent of a token; where there is no array it is 0. */
static inline double get(const Call *c, int64_t address, int64_t i)
{
    if (!address)
        return 0;
    return c->tokens ? ((const double *)(uintptr_t)address)[i] : ((const float *)(uintptr_t)address)[i];
}

static inline void put(const Call *c, int64_t address, int64_t i, double x)
{
    if (!address)
        return;
    if (c->tokens)
        ((double *)(uintptr_t)address)[i] = x;
    else
        ((float *)(uintptr_t)address)[i] = (float)x;
}

#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)

#define REAL float
#define WIDE 0
#define F(name) JOIN(name, float)
#include "rows.h"
#undef REAL
#undef WIDE
#undef F

#define REAL double
#define WIDE 1
#define F(name) JOIN(name, double)
#include "rows.h"

void JOINED(forward, VERSION)(const Call *c) { c->wide ? forward_double(c) : forward_float(c); }
void JOINED(pullback, VERSION)(const Call *c) { c->wide ? pullback_double(c) : pullback_float(c); }

/* The kernels, compiled once for each VERSION of the processor: the same operations in the same order. */

#include "call.h"
#include "numbers.h"
#include "group.h"

#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)

#define REAL float
#define WIDE 0
#define F(name) JOIN(name, float)
#include "rows.h"
#include "gradient.h"
#include "few.h"
#include "pull.h"
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
#include "few.h"
#include "pull.h"
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

void JOINED(both, VERSION)(const Call *c)
{
    c->wide ? both_double(c) : both_float(c);
}

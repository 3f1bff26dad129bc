/* What Python hands over: one record, of which every field has 8 bytes. It is packed in calls.py, in this order.

   Addresses are integers, so that those of rows can be computed whatever the sign of the stride. Python has checked
   that all of them are aligned and that what they point to is as long as is said here. */

#ifndef SEQLOSS_CALL_H
#define SEQLOSS_CALL_H

#include <float.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "a field of the record holds an address");
_Static_assert(FLT_EVAL_METHOD == 0, "every operation is rounded to its own type");

/* Changes with the record, so that a library from other sources is not called. */
#define LAYOUT 2

enum { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };

enum {
    LANES = 32, /* The partial sums of a row. All versions of the code have as many, and so the same bits. */
    TILE = 256, /* Numbers that are computed at a time, in the innermost cache. Lanes add up TILE / LANES of them. */
    FEW = 64,   /* Up to so many classes rows are turned in memory, so that rows and not classes lie in the lanes. */
    GROUP = LANES, /* The most rows whose numbers are computed together. */
    AT_A_TIME = 4096, /* The logits of a group of more than one row. */
};

typedef struct {
    int64_t first, last;     /* The rows to go through: first <= row < last. */
    int64_t classes;         /* At least 1. */
    int64_t stride;          /* From a row of the logits to the next, in bytes. */
    int64_t dtype;           /* Of the logits, and of their gradient. */
    int64_t wide;            /* 1 where the computation is in float64, else 0: float32. */
    int64_t exact;           /* 1 where what is too small for a normal float32 becomes 0. */
    int64_t tokens;          /* Of statistics and cotangents: 1 if they are in float64, 0 if in float32. */
    double softcap;          /* 0 where there is none. */
    int64_t logits;          /* Address of row 0, class 0. */
    int64_t targets;         /* int64, one a row. */
    int64_t active;          /* One byte a row, or 0. */
    int64_t prior;           /* In the dtype of the computation, with 0 up to a multiple of TILE; 0 without unl. */
    int64_t highest, rest;   /* float64, one a row: the forward writes what the pullback reads. */
    int64_t nll, lse, unl, mass; /* Statistics, one a row, or 0. A pullback reads the mass. */
    int64_t to_nll, to_lse, to_unl; /* Cotangents, one a row; 0: none. */
    int64_t lse_square;      /* Numbers k, one a row, of which 2 k lse is added to the cotangent of lse; or 0. */
    int64_t gradient;        /* Rows without gaps. May be the logits, row for row. */
    int64_t is_clean;        /* 1 where gradients are zero already. */
    int64_t room;            /* Where forward and pullback are one: so many bytes as seqloss_room says. */
    int64_t labels;          /* Soft ones, in place of targets: address of row 0, class 0; or 0. */
    int64_t labels_stride;   /* From a row of them to the next, in bytes. */
    int64_t labels_dtype;    /* Not wider than the computation. */
    int64_t places;          /* int64, one a row: where the highest logit is. The forward writes, the pullback reads. */
    int64_t labels_mass;     /* One a row, as statistics. */
    int64_t labels_gradient; /* Rows without gaps, in the dtype of the labels; or 0. */
} Call;

/* Whether a gradient is written over its logits, which then must not be until nobody reads them. */
static inline int is_over(const Call *c) { return c->gradient == c->logits; }

/* Numbers of the room of a group, and as many more for the slopes of a cap. */
static inline int64_t in_room(int64_t classes)
{
    return (classes > AT_A_TIME ? classes : AT_A_TIME) + GROUP * LANES;
}

#endif

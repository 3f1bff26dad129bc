/* What Python asks before it calls a kernel. */

#include "call.h"

int seqloss_layout(void) { return LAYOUT; }

int seqloss_tile(void) { return TILE; }

/* The bytes of room that a thread needs where forward and pullback are one. */
int64_t seqloss_room(int64_t classes) { return classes > FEW ? 2 * (int64_t)sizeof(double) * in_room(classes) : 0; }

/* Which version this processor runs best: a number that Python looks up in its list of versions. */
int seqloss_best_version(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2"))
        return 1;
#endif
    return 0;
}

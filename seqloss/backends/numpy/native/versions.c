/* Which version this processor runs best: a number that Python looks up in its list of versions. */

/* Changes with the record of call.h, so that a library from other sources is not called. */
int seqloss_layout(void) { return 1; }

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

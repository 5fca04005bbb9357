/* The choice of an ISA level, and every kernel of table.h called through the one that is in use. */
#include "lib/kernels/kernels.h"

#include "lib/kernels/sgemm.h"
#include "lib/kernels/table.h"

#include <assert.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

struct table {
    const char *name;
#define FIELD(type, name, params, args) type(*name) params;
    KR_ENTRIES(FIELD)
};

#define DECLARE(type, name, params, args) type KR_PASTE(name, LEVEL) params;
#define ENTRY(type, name, params, args) .name = KR_PASTE(name, LEVEL),
#define LEVEL plain
KR_ENTRIES(DECLARE)
static const struct table plain = {"plain", KR_ENTRIES(ENTRY)};
#undef LEVEL

#ifdef __x86_64__
#define LEVEL avx2
KR_ENTRIES(DECLARE)
static const struct table avx2 = {"avx2", KR_ENTRIES(ENTRY)};
#undef LEVEL

#define LEVEL avx512
KR_ENTRIES(DECLARE)
static const struct table avx512 = {"avx512", KR_ENTRIES(ENTRY)};
#undef LEVEL
#endif

#ifdef __aarch64__
#define LEVEL neon
KR_ENTRIES(DECLARE)
static const struct table neon = {"neon", KR_ENTRIES(ENTRY)};
#undef LEVEL
#endif

static const struct table *use; /* until kr_init: none */

static const struct table *chosen(void)
{
    assert(use && "kr_init comes before every kernel");
    return use;
}

/* Best first. */
static const struct table *const levels[] = {
#ifdef __x86_64__
    &avx512,
    &avx2,
#endif
#ifdef __aarch64__
    &neon,
#endif
    &plain,
};

#ifdef __x86_64__
/* Which the levels' flags let the compiler use, and clang 14 cannot be asked for by name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

static bool supported(const struct table *t)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (t == &avx2 || t == &avx512)
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
            return false;
    if (t == &avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    (void)t;
    return true;
}

const char *kr_init(void)
{
    const char *want = getenv("KR_ISA");
    bool known = !want || !*want;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        known = known || !strcmp(want, levels[i]->name);
        if (known && supported(levels[i])) {
            use = levels[i];
            kr_products_level(use->name);
            return want && *want && strcmp(want, use->name)
                       ? "KR_ISA: this processor lacks that level"
                       : NULL;
        }
    }
    return "KR_ISA: wanted plain, avx2, avx512 or neon, as the processor has";
}

const char *kr_level(void)
{
    return chosen()->name;
}

#define CALL(type, name, params, args)                                                             \
    type name params                                                                               \
    {                                                                                              \
        return chosen()->name args;                                                                \
    }
KR_ENTRIES(CALL)

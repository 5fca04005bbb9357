/* The choice of an ISA level, and every kernel of table.h called through the one that is in use. */
#include "lib/kernels/kernels.h"

#include "lib/kernels/sgemm.h"
#include "lib/kernels/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

struct table {
    const char *name;
#define FIELD(type, name, params, args) type(*name) params;
    KR_ENTRIES(FIELD)
};

/* Of products in bf16, for which some processors have instructions beside a level's. */
struct table_bf16 {
    const char *name;
    KR_ENTRIES_BF16(FIELD)
};

#define DECLARE(type, name, params, args) type KR_PASTE(name, LEVEL) params;
#define ENTRY(type, name, params, args) .name = KR_PASTE(name, LEVEL),
#define LEVEL plain
KR_ENTRIES(DECLARE)
KR_ENTRIES_BF16(DECLARE)
static const struct table plain = {"plain", KR_ENTRIES(ENTRY)};
static const struct table_bf16 plain_bf16 = {"plain", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL

#ifdef __x86_64__
#define LEVEL avx2
KR_ENTRIES(DECLARE)
KR_ENTRIES_BF16(DECLARE)
static const struct table avx2 = {"avx2", KR_ENTRIES(ENTRY)};
static const struct table_bf16 avx2_bf16 = {"avx2", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL

#define LEVEL avx512
KR_ENTRIES(DECLARE)
KR_ENTRIES_BF16(DECLARE)
static const struct table avx512 = {"avx512", KR_ENTRIES(ENTRY)};
static const struct table_bf16 avx512_bf16 = {"avx512", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL

#define LEVEL avx512bf16
KR_ENTRIES_BF16(DECLARE)
static const struct table_bf16 avx512bf16_bf16 = {"avx512bf16", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL

#define LEVEL amx
KR_ENTRIES_BF16(DECLARE)
static const struct table_bf16 amx_bf16 = {"amx", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL
#endif

#ifdef __aarch64__
#define LEVEL neon
KR_ENTRIES(DECLARE)
KR_ENTRIES_BF16(DECLARE)
static const struct table neon = {"neon", KR_ENTRIES(ENTRY)};
static const struct table_bf16 neon_bf16 = {"neon", KR_ENTRIES_BF16(ENTRY)};
#undef LEVEL
#endif

struct level {
    const struct table *table;
    const struct table_bf16 *bf16;
};

static struct level use; /* until kr_init: none */

static const struct table *chosen(void)
{
    assert(use.table && "kr_init comes before every kernel");
    return use.table;
}

static const struct table_bf16 *chosen_bf16(void)
{
    assert(use.bf16 && "kr_init comes before every kernel");
    return use.bf16;
}

/* Best first; a level is named after its products in bf16. */
static const struct level levels[] = {
#ifdef __x86_64__
    {&avx512, &amx_bf16},    {&avx512, &avx512bf16_bf16},
    {&avx512, &avx512_bf16}, {&avx2, &avx2_bf16},
#endif
#ifdef __aarch64__
    {&neon, &neon_bf16},
#endif
    {&plain, &plain_bf16},
};

#ifdef __x86_64__
/* Which the levels' flags let the compiler use, and clang 14 cannot be asked for by name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

#ifdef __x86_64__
static bool has_avx512bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1;
}

/* The kernel gives tiles, whose state is large, to processes that ask for them: here, as it is a
 * call that a process which has confined itself could not make. */
static bool has_amx(void)
{
    enum { REQUEST = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 22 & 1 && d >> 24 & 1 &&
           !syscall(SYS_arch_prctl, REQUEST, TILES);
}
#endif

static bool supported(const struct level *l)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (l->table == &avx2 || l->table == &avx512)
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
            return false;
    if (l->table == &avx512 &&
        !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return false;
    if (l->bf16 == &avx512bf16_bf16)
        return has_avx512bf16();
    if (l->bf16 == &amx_bf16)
        return has_avx512bf16() && has_amx();
#endif
    (void)l;
    return true;
}

const char *kr_init(void)
{
    const char *want = getenv("KR_ISA");
    bool known = !want || !*want;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        known = known || !strcmp(want, levels[i].bf16->name);
        if (known && supported(&levels[i])) {
            use = levels[i];
            kr_products_level(use.table->name);
            return want && *want && strcmp(want, use.bf16->name)
                       ? "KR_ISA: this processor lacks that level"
                       : NULL;
        }
    }
    return "KR_ISA: wanted plain, avx2, avx512, avx512bf16, amx or neon, as the processor has";
}

const char *kr_level(void)
{
    return chosen()->name;
}

const char *kr_level_bf16(void)
{
    return chosen_bf16()->name;
}

#define CALL(type, name, params, args)                                                             \
    type name params                                                                               \
    {                                                                                              \
        return chosen()->name args;                                                                \
    }
KR_ENTRIES(CALL)

#define CALL_BF16(type, name, params, args)                                                        \
    type name params                                                                               \
    {                                                                                              \
        return chosen_bf16()->name args;                                                           \
    }
KR_ENTRIES_BF16(CALL_BF16)

/* What jansson leaves to others stands here: how deep the text is nested, how much it would make of
 * it, and what happens when memory is short. (It goes on with half a token then, or aborts.) */
#include "formats/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

int json_fail(int code, char *why, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    for (char *c = why; size && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return code;
}

/* Whether the text asks for more than we give: the code, where, and what. Of what is no JSON it may
 * say anything. */
static int too_much(const char *text, size_t n, bool whole, size_t *at, const char **what)
{
    unsigned depth = 0, values = 0;
    bool inside = false; /* of a string */
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        *at = i;
        if (inside && c == '\\') {
            i++;
        } else if (c == '"') {
            inside = !inside;
        } else if (!inside) {
            bool opens = c == '{' || c == '[';
            if (c == '-' && whole)
                return *what = "a sign (wanted whole numbers)", JSON_CORRUPT;
            if (opens && ++depth > JSON_DEPTH)
                return *what = "nested too deep", JSON_UNSUPPORTED;
            if ((opens || c == ',') && ++values > JSON_VALUES)
                return *what = "too many values", JSON_UNSUPPORTED;
            depth -= depth && (c == '}' || c == ']');
        }
    }
    return 0;
}

/* --- memory: none of the library's calls for it returns without --------------------------------*/

static struct block {
    struct block *next, *before;
} all = {&all, &all}; /* the newest is next */

static jmp_buf memory_short;

static void *allocate(size_t n)
{
    struct block *b = malloc(sizeof *b + n);
    if (!b)
        longjmp(memory_short, 1);
    *b = (struct block){all.next, &all};
    b->next->before = all.next = b;
    return b + 1;
}

static void release(void *p)
{
    struct block *b = p ? (struct block *)p - 1 : NULL;
    if (!b)
        return;
    b->next->before = b->before;
    b->before->next = b->next;
    free(b);
}

/* For its hashes' seed the library would open /dev/urandom, which a confined process may not. */
static void set_up(void)
{
    static bool done;
    unsigned seed = 0;
    if (done)
        return;
    json_set_alloc_funcs(allocate, release);
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed)
        json_object_seed(seed | 1);
    done = true;
}

/* JSON_MEMORY, and nothing is left of the attempt. */
static int load(const char *text, size_t n, json_t **value, json_error_t *e)
{
    struct block *const old = all.next;
    set_up();
    if (setjmp(memory_short)) {
        while (all.next != old)
            release(all.next + 1);
        return JSON_MEMORY;
    }
    if ((*value = json_loadb(text, n, JSON_REJECT_DUPLICATES, e)))
        return 0;
    enum json_error_code c = json_error_code(e);
    return c == json_error_null_character || c == json_error_null_byte_in_key ? JSON_UNSUPPORTED
                                                                              : JSON_CORRUPT;
}

json_t *json_read(const char *name, const char *text, size_t n, bool whole, int *code, char *why,
                  size_t size)
{
    json_t *value = NULL;
    json_error_t e;
    const char *what;
    size_t at;
    if ((*code = too_much(text, n, whole, &at, &what))) {
        json_fail(*code, why, size, "%s: byte %zu: %s", name, at, what);
    } else if ((*code = load(text, n, &value, &e)) == JSON_MEMORY) {
        json_fail(*code, why, size, "%s: out of memory", name);
    } else if (*code) {
        json_fail(*code, why, size, "%s: byte %d: %s", name, e.position, e.text);
    }
    return value;
}

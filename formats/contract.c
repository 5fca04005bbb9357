#include "formats/contract.h"

#include <stdio.h>
#include <string.h>

static bool is_tool(const char *line, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(line, name, n) && (line[n] == ' ' || line[n] == 0);
}

static bool is_harmless(const char *line)
{
    static const char *const tools[] = {"nii2slices", "recode",  "pick", "mislabel",
                                        "epochs",     "augment", "infer"};
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
        if (is_tool(line, tools[i]))
            return true;
    return false;
}

/* Takes the last line off if it is a crop's. */
static bool uncrop(char *steps, size_t *len)
{
    size_t at = *len;
    while (at > 0 && (at == *len || steps[at - 1] != '\n'))
        at--;
    if (at == *len || !(is_tool(steps + at, "crop") || !strncmp(steps + at, "crop\n", 5)))
        return false;
    steps[ *len = at] = 0;
    return true;
}

int contract_steps(const struct tns_meta *header, char steps[CONTRACT_MAX])
{
    char key[TNS_MAX_KEY + 1];
    const char *line;
    size_t pos = 0, len = 0;
    int known = 0;
    *steps = 0;
    while (tns_each(header, &pos, key, &line)) {
        if (strcmp(key, "history"))
            continue;
        known = 1;
        if (is_harmless(line) || (!strcmp(line, "crop -u") && uncrop(steps, &len)))
            continue;
        size_t n = strlen(line);
        if (n + 2 > CONTRACT_MAX - len)
            return TNS_EINVALID;
        /* To have been forced past a refusal is no difference in itself. */
        const char *force = strstr(line, " -F");
        size_t head = force && (force[3] == ' ' || !force[3]) ? (size_t)(force - line) : n;
        memcpy(steps + len, line, head);
        len += head;
        if (head < n) {
            memcpy(steps + len, force + 3, n - head - 3);
            len += n - head - 3;
        }
        memcpy(steps + len, "\n", 2);
        len++;
    }
    return known;
}

static bool has_line(const char *steps, const char *line, size_t n)
{
    for (const char *p = steps; *p; p = strchr(p, '\n') + 1)
        if (!strncmp(p, line, n) && p[n] == '\n')
            return true;
    return false;
}

bool contract_differs(const char *wanted, const char *got, char *why, size_t size)
{
    const char *w = wanted, *g = got;
    while (*w || *g) {
        int nw = (int)strcspn(w, "\n"), ng = (int)strcspn(g, "\n");
        if (nw == ng && !memcmp(w, g, (size_t)nw)) {
            w += nw + 1;
            g += ng + 1;
            continue;
        }
        if (*w && *g && strcspn(w, " \n") == strcspn(g, " \n") && !strncmp(w, g, strcspn(w, " \n")))
            snprintf(why, size, "other options of %.*s (wanted '%.*s', got '%.*s')",
                     (int)strcspn(w, " \n"), w, nw, w, ng, g);
        else if (*w && !has_line(got, w, (size_t)nw))
            snprintf(why, size, "'%.*s' is missing", nw, w);
        else if (*g && !has_line(wanted, g, (size_t)ng))
            snprintf(why, size, "'%.*s' is one step too many", ng, g);
        else
            snprintf(why, size, "another order of steps (wanted '%.*s' here, got '%.*s')",
                     *w ? nw : 7, *w ? w : "nothing", *g ? ng : 7, *g ? g : "nothing");
        return true;
    }
    return false;
}

static int count_names(const char *list)
{
    int n = *list != 0;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

int contract_order(const char *wanted, const char *got, int *order, int max, char *why, size_t size)
{
    int n = count_names(wanted);
    if (n == 0 || n > max || n != count_names(got)) {
        snprintf(why, size, "wrong modalities (wanted %s, got %s)", wanted, got);
        return -1;
    }
    const char *w = wanted;
    for (int i = 0; i < n; i++, w += strcspn(w, ",") + 1) {
        const char *g = got;
        size_t len = strcspn(w, ",");
        order[i] = -1;
        for (int j = 0; j < n; j++, g += strcspn(g, ",") + 1)
            if (strcspn(g, ",") == len && !memcmp(g, w, len))
                order[i] = order[i] < 0 ? j : -2;
        if (order[i] < 0) {
            snprintf(why, size, "modality '%.*s' %s (wanted %s, got %s)", (int)len, w,
                     order[i] == -1 ? "is missing" : "is there twice", wanted, got);
            return -1;
        }
    }
    return n;
}

/* The steps are text, compared as text: a tool that is not known here changes what a network sees,
 * until somebody adds it to the list of those that do not. */
#include "formats/contract.h"
#include "lib/base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_tool(const char *line, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(line, name, n) && (line[n] == ' ' || line[n] == '\n' || line[n] == 0);
}

static bool is_harmless(const char *line)
{
    static const char *const tools[] = {"nii2slices", "recode", "pick", "mislabel", "epochs",
                                        "augment",    "infer",  "tidy", "pack"};
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
        if (is_tool(line, tools[i]))
            return true;
    return is_tool(line, "strip") && strstr(line, " -l "); /* it looks, and strips nothing */
}

/* Takes the last line off if it is a crop's. */
static bool uncrop(char *steps, size_t *len)
{
    size_t at = *len;
    while (at > 0 && (at == *len || steps[at - 1] != '\n'))
        at--;
    if (at == *len || !is_tool(steps + at, "crop"))
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

bool contract_has(const char *steps, const char *tool)
{
    for (const char *p = steps; *p; p += strcspn(p, "\n") + 1)
        if (is_tool(p, tool))
            return true;
    return false;
}

static bool has_line(const char *steps, const char *line, size_t n)
{
    for (const char *p = steps; *p; p = strchr(p, '\n') + 1)
        if (!strncmp(p, line, n) && p[n] == '\n')
            return true;
    return false;
}

/* Passes over lines of which the records' keys speak, and those that make_of reads. */
static const char *next_step(const char *p)
{
    while (is_tool(p, "znorm") || is_tool(p, "crop") || is_tool(p, "regrid") || is_tool(p, "strip"))
        p += strcspn(p, "\n") + 1;
    return p;
}

bool contract_is_made(const char *line)
{
    return (is_tool(line, "regrid") || is_tool(line, "strip")) && !is_harmless(line);
}

/* What regrid and strip made of scans. Where neither was at work nobody says: public sets of scans
 * have the same behind them. */
struct made {
    enum { UNSAID, ON, OFF } skull;
    enum { NOWHERE, FIELD, GRID } lies; /* in the scan's own field, or on one grid for all */
    const char *by;                     /* the line that says it of the skull */
};

static struct made make_of(const char *steps)
{
    struct made m = {UNSAID, NOWHERE, ""};
    for (const char *p = steps; *p; p += strcspn(p, "\n") + 1) {
        const char *end = p + strcspn(p, "\n"), *mask = strstr(p, " -k");
        if (is_tool(p, "regrid")) {
            m.skull = mask && mask < end ? OFF : ON;
            m.lies = strncmp(p, "regrid -g scan", 14) ? GRID : FIELD;
            m.by = p;
        } else if (is_tool(p, "strip")) {
            m.skull = OFF;
            m.by = p;
        }
    }
    return m;
}

bool contract_doubts(const char *wanted, const char *got, char *why, size_t size)
{
    const struct made w = make_of(wanted), g = make_of(got);
    if (w.skull == UNSAID && g.skull == ON)
        snprintf(why, size,
                 "nothing took the skull off after '%.*s', and the model does not say that it "
                 "learned from heads with theirs",
                 (int)strcspn(g.by, "\n"), g.by);
    else if (w.skull == ON && g.skull == UNSAID)
        snprintf(why, size,
                 "the model learned from heads with their skull, which nothing says "
                 "that these have");
    else if (w.lies == GRID && g.lies == FIELD)
        snprintf(why, size,
                 "it lies in the scan's own field, and the model learned from scans on an atlas");
    else
        return false;
    return true;
}

bool contract_differs(const char *wanted, const char *got, char *why, size_t size)
{
    const char *w = next_step(wanted), *g = next_step(got);
    const struct made want = make_of(wanted), have = make_of(got);
    if (want.skull && have.skull && want.skull != have.skull) {
        snprintf(why, size, "the skull is %s (wanted it %s, as '%.*s' leaves it, got '%.*s')",
                 have.skull == ON ? "on" : "off", want.skull == ON ? "on" : "off",
                 (int)strcspn(want.by, "\n"), want.by, (int)strcspn(have.by, "\n"), have.by);
        return true;
    }
    while (*w || *g) {
        int nw = (int)strcspn(w, "\n"), ng = (int)strcspn(g, "\n");
        if (nw == ng && !memcmp(w, g, (size_t)nw)) {
            w = next_step(w + nw + 1);
            g = next_step(g + ng + 1);
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

void contract_keys(const struct tns_meta *record, struct contract_keys *k)
{
    const char *norm = tns_get(record, "norm"), *cropped = tns_get(record, "cropped");
    if (!tns_get(record, "crop"))
        cropped = "none";
    snprintf(k->norm, sizeof k->norm, "%s", norm ? norm : "none");
    snprintf(k->cropped, sizeof k->cropped, "%s", cropped ? cropped : "unknown");
}

/* The options of the last step of that tool. */
static void last_options(const char *steps, const char *tool, const char *prefix, char *to,
                         size_t size)
{
    snprintf(to, size, "none");
    for (const char *p = steps, *end; *p; p = end + (*end == '\n')) {
        const char *options = p + strcspn(p, " \n");
        end = p + strcspn(p, "\n");
        if (!is_tool(p, tool))
            continue;
        options += *options == ' ';
        if (!strncmp(options, prefix, strlen(prefix)))
            options += strlen(prefix);
        snprintf(to, size, "%.*s", (int)(end - options), options);
    }
}

void contract_keys_of_steps(const char *steps, struct contract_keys *k)
{
    last_options(steps, "znorm", "-p ", k->norm, sizeof k->norm);
    last_options(steps, "crop", "", k->cropped, sizeof k->cropped);
}

bool contract_keys_differ(const struct contract_keys *wanted, const struct contract_keys *got,
                          char *why, size_t size)
{
    const char *const key[][3] = {{"norm", wanted->norm, got->norm},
                                  {"cropped", wanted->cropped, got->cropped}};
    for (int i = 0; i < 2; i++)
        if (strcmp(key[i][1], key[i][2])) {
            snprintf(why, size, "key '%s' differs (wanted %s, got %s)", key[i][0], key[i][1],
                     key[i][2]);
            return true;
        }
    return false;
}

void contract_spacing_add(struct contract_spacing *s, const double spacing[3])
{
    bool empty = !(s->greatest[0] > 0);
    for (int i = 0; i < 3; i++) {
        if (empty || spacing[i] < s->least[i])
            s->least[i] = spacing[i];
        if (empty || spacing[i] > s->greatest[i])
            s->greatest[i] = spacing[i];
    }
}

int contract_spacing_read(struct contract_spacing *s, const char *text)
{
    double *to[] = {s->least, s->greatest};
    for (int i = 0; i < 6; i++) {
        char *end;
        double v;
        text += *text == ' ';
        if (!number_read(text, &end, &v) || !(v > 0 && v < 1e6))
            return -1;
        to[i / 3][i % 3] = v;
        text = end;
    }
    return *text ? -1 : 0;
}

bool contract_spacing_near(const struct contract_spacing *s, const double spacing[3])
{
    for (int i = 0; i < 3; i++)
        if (!(spacing[i] >= 0.95 * s->least[i] && spacing[i] <= 1.05 * s->greatest[i]))
            return false;
    return true;
}

int contract_count(const char *list)
{
    int n = *list != 0;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

int contract_find(const char *names, const char *name, size_t n)
{
    for (int i = 0; *names; i++) {
        const size_t len = strcspn(names, ",");
        if (len == n && !memcmp(names, name, n))
            return i;
        names += len + (names[len] == ',');
    }
    return -1;
}

int contract_set(const char *modalities, const char *names, uint64_t *set)
{
    *set = 0;
    if (contract_count(modalities) > 64)
        return -1;
    for (const char *n = names; *n; n += *n == ',') {
        const size_t len = strcspn(n, ",");
        const int i = contract_find(modalities, n, len);
        if (i < 0)
            return -1;
        *set |= (uint64_t)1 << i;
        n += len;
    }
    return 0;
}

void contract_names(const char *modalities, uint64_t set, char *names, size_t size)
{
    size_t at = 0;
    *names = 0;
    for (const char *m = modalities; *m && set; set >>= 1) {
        int len = (int)strcspn(m, ",");
        if (set & 1 && at < size)
            at += (size_t)snprintf(names + at, size - at, "%s%.*s", at ? "," : "", len, m);
        m += len;
        m += *m == ',';
    }
}

int contract_order(const char *wanted, const char *got, int *order, int max, char *why, size_t size)
{
    int n = contract_count(wanted);
    if (n == 0 || n > max || n != contract_count(got)) {
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

#include "formats/layout.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "formats/nifti.h"
#include "formats/nifti_impl.h"

#define MAX_JSON (16 << 20)

const char *const lay_modality[LAY_MODALITIES] = {"flair", "t1", "t1gd", "t2"};

static const struct {
    const char *name;
    int modality;
} synonyms[] = {
    {"flair", 0},       {"fla", 0},   {"t2f", 0},   {"t2flair", 0}, {"t2-flair", 0},
    {"t2_flair", 0},    {"t1", 1},    {"t1n", 1},   {"t1w", 1},     {"t1-weighted", 1},
    {"t1gd", 2},        {"t1ce", 2},  {"t1c", 2},   {"t1wce", 2},   {"t1gad", 2},
    {"t1post", 2},      {"t1-gd", 2}, {"t1_ce", 2}, {"t2", 3},      {"t2w", 3},
    {"t2-weighted", 3},
};

enum { LABEL = LAY_MODALITIES, FILES };

int lay_find_modality(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strlen(synonyms[i].name) == n && !strncasecmp(synonyms[i].name, name, n))
            return synonyms[i].modality;
    return -1;
}

int lay_by_name(const char *name, enum layout *layout)
{
    static const char *const names[] = {"brats", "msd", "nnunet", "file"};

    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) {
            *layout = (enum layout)i;
            return 0;
        }
    return -1;
}

static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* --- names
 * ----------------------------------------------------------------------------------------- */

/* The length of a name without its NIfTI ending; 0 if it has none or is to be passed over. */
static size_t stem(const char *name)
{
    static const char *const endings[] = {".nii.gz", ".nii", ".hdr.gz", ".hdr"};
    size_t n = strlen(name);

    if (*name == '.' || *name == '_') /* what macOS leaves in archives */
        return 0;
    for (int i = 0; i < 4; i++) {
        size_t m = strlen(endings[i]);
        if (n > m && !strcasecmp(name + n - m, endings[i]))
            return n - m;
    }
    return 0;
}

/* What a file of a case folder is: a modality, LABEL, or -1. */
static int role(const char *name)
{
    size_t n = stem(name), at = n;

    if (!n)
        return -1;
    while (at > 0 && name[at - 1] != '_' && name[at - 1] != '-')
        at--;
    if ((n - at == 3 && !strncasecmp(name + at, "seg", 3)) ||
        (n - at == 4 && !strncasecmp(name + at, "segm", 4)))
        return LABEL;
    return lay_find_modality(name + at, n - at);
}

static int join(char out[LAY_PATH], const char *dir, const char *name, char *why)
{
    int n = snprintf(out, LAY_PATH, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] != '/' ? "/" : "",
                     name);
    return n >= LAY_PATH ? nii_fail(why, dir, "the path is too long") : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A name has to fit a line of text. */
static int check_name(const char *path, const char *name, char *why)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return nii_fail(why, path, "the case's name holds a control character");
    return *name ? 0 : nii_fail(why, path, "the case has no name");
}

/* --- dataset.json, which is YAML too
 * ---------------------------------------------------------------- */

struct dataset {
    char channel[LAY_MODALITIES][64];
    int n;
    char ending[16];
};

/* Keeps what is at the top: "modality" or "channel_names": {"0": NAME, ...}, and "file_ending". */
static int read_events(yaml_parser_t *p, struct dataset *d)
{
    int depth = 0, in = 0; /* in: the depth of the channels' mapping */
    bool is_key = true, done = false;
    char key[64] = "", sub[64] = "";

    while (!done) {
        yaml_event_t e;
        if (!yaml_parser_parse(p, &e))
            return -1;
        switch (e.type) {
        case YAML_MAPPING_START_EVENT:
        case YAML_SEQUENCE_START_EVENT:
            if (depth == 1 && e.type == YAML_MAPPING_START_EVENT &&
                (!strcmp(key, "modality") || !strcmp(key, "channel_names")))
                in = 2;
            depth++;
            is_key = true;
            break;
        case YAML_MAPPING_END_EVENT:
        case YAML_SEQUENCE_END_EVENT:
            if (depth == in)
                in = 0;
            depth--;
            is_key = true;
            break;
        case YAML_SCALAR_EVENT:
            if (depth == 1 || depth == in) {
                const char *v = (const char *)e.data.scalar.value;
                long i;
                char *end;
                if (is_key)
                    snprintf(depth == 1 ? key : sub, sizeof key, "%s", v);
                else if (depth == 1 && !strcmp(key, "file_ending"))
                    snprintf(d->ending, sizeof d->ending, "%s", v);
                else if (depth == in && (i = strtol(sub, &end, 10)) >= 0 && !*end && end != sub) {
                    d->n = i + 1 > d->n ? (int)(i < 1000 ? i + 1 : 1000) : d->n;
                    if (i < LAY_MODALITIES)
                        snprintf(d->channel[i], sizeof d->channel[i], "%s", v);
                }
                is_key = !is_key;
            }
            break;
        case YAML_STREAM_END_EVENT:
            done = true;
            break;
        default:
            break;
        }
        yaml_event_delete(&e);
        if (depth > 64)
            return -1;
    }
    return 0;
}

static int read_dataset(const char *path, struct dataset *d, char *why)
{
    yaml_parser_t p;
    struct stat st;
    FILE *f = fopen(path, "re");
    int e;

    memset(d, 0, sizeof *d);
    if (!f)
        return nii_fail(why, path, "%s (it says which channel is which)", strerror(errno));
    if (fstat(fileno(f), &st) || st.st_size > MAX_JSON || !yaml_parser_initialize(&p)) {
        fclose(f);
        return nii_fail(why, path, "too large");
    }
    yaml_parser_set_input_file(&p, f);
    e = read_events(&p, d);
    if (e)
        nii_fail(why, path, "line %zu: no valid JSON", p.problem_mark.line + 1);
    yaml_parser_delete(&p);
    fclose(f);
    return e;
}

static int order_channels(const struct dataset *d, const char *path, int channel[LAY_MODALITIES],
                          char *why)
{
    for (int m = 0; m < LAY_MODALITIES; m++)
        channel[m] = -1;
    for (int i = 0; i < d->n; i++) {
        int m = i < LAY_MODALITIES ? lay_find_modality(d->channel[i], strlen(d->channel[i])) : -1;
        if (m < 0)
            return nii_fail(why, path,
                            "channel %d: unknown modality '%.63s' (wanted flair, t1, t1gd, t2)", i,
                            i < LAY_MODALITIES ? d->channel[i] : "?");
        if (channel[m] >= 0)
            return nii_fail(why, path, "channels %d and %d are both %s", channel[m], i,
                            lay_modality[m]);
        channel[m] = i;
    }
    for (int m = 0; m < LAY_MODALITIES; m++)
        if (channel[m] < 0)
            return nii_fail(why, path, "no channel is %s", lay_modality[m]);
    return 0;
}

/* --- places
 * ---------------------------------------------------------------------------------------- */

static int add_name(struct lay_place *p, const char *name, size_t n, char *why)
{
    if (n >= LAY_NAME)
        return nii_fail(why, p->dir, "a name is too long");
    if (!(p->n & (p->n - 1))) {
        void *more = realloc(p->name, (p->n ? 2 * p->n : 1) * sizeof *p->name);
        if (!more)
            return nii_fail(why, p->dir, "out of memory");
        p->name = more;
    }
    memcpy(p->name[p->n], name, n);
    p->name[p->n][n] = 0;
    return check_name(p->dir, p->name[p->n++], why);
}

/* The length of the case's name in the name of an image file; 0 for another file. */
static size_t image_name(const struct lay_place *p, const char *file)
{
    size_t n = strlen(file), m = strlen(p->ending);

    if (*file == '.' || *file == '_' || n <= m || strcmp(file + n - m, p->ending))
        return 0;
    n -= m;
    if (p->layout == LAY_NNUNET)
        return n > 5 && !strncmp(file + n - 5, "_000", 4) && digits(file + n - 1) ? n - 5 : 0;
    return n;
}

static int list_images(struct lay_place *p, char *why)
{
    DIR *d = opendir(p->dir);
    struct dirent *e;
    size_t n, kept = 0;
    int bad = 0;

    if (!d)
        return nii_fail(why, p->dir, "%s", strerror(errno));
    while (!bad && (e = readdir(d)))
        if ((n = image_name(p, e->d_name)))
            bad = add_name(p, e->d_name, n, why);
    closedir(d);
    if (bad)
        return -1;
    if (!p->n)
        return nii_fail(why, p->dir, "no images here (names that end in %s%s)",
                        p->layout == LAY_NNUNET ? "_0000" : "", p->ending);
    qsort(p->name, p->n, sizeof *p->name, by_name);
    for (size_t i = 0; i < p->n; i++)
        if (!kept || strcmp(p->name[kept - 1], p->name[i]))
            memmove(p->name[kept++], p->name[i], sizeof *p->name);
    p->n = kept;
    return 0;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* ROOT, ROOT/imagesTr, or ROOT/imagesTr/CASE with or without an ending. */
static int open_dataset(const char *arg, struct lay_place *p, char *why)
{
    char root[LAY_PATH], path[LAY_PATH], one[LAY_NAME] = "";
    struct dataset d;
    size_t n;

    if (join(path, arg, "dataset.json", why))
        return -1;
    if (!access(path, F_OK)) {
        if (join(root, arg, "imagesTr", why))
            return -1;
    } else {
        const char *slash = strrchr(arg, '/');
        snprintf(root, sizeof root, "%s", arg);
        if (!is_dir(arg)) {
            snprintf(one, sizeof one, "%s", slash ? slash + 1 : arg);
            snprintf(root, sizeof root, "%.*s", slash ? (int)(slash - arg) : 1, slash ? arg : ".");
        }
        if (join(path, root, "../dataset.json", why))
            return -1;
    }
    if (read_dataset(path, &d, why) || order_channels(&d, path, p->channel, why))
        return -1;
    if (!(p->dir = strdup(root)) || !(p->ending = strdup(*d.ending ? d.ending : ".nii.gz")))
        return nii_fail(why, arg, "out of memory");
    if (!*one)
        return list_images(p, why);
    n = strlen(one);
    if (n > strlen(p->ending) && !strcmp(one + n - strlen(p->ending), p->ending))
        n -= strlen(p->ending);
    return add_name(p, one, n, why);
}

static int open_single(const char *arg, struct lay_place *p, char *why)
{
    const char *base;
    size_t n = strlen(arg);

    while (n > 1 && arg[n - 1] == '/')
        n--;
    if (!(p->dir = strndup(arg, n)))
        return nii_fail(why, arg, "out of memory");
    if (p->layout == LAY_FILE) {
        base = strrchr(p->dir, '/') ? strrchr(p->dir, '/') + 1 : p->dir;
        n = stem(base);
        return add_name(p, base, n ? n : strcspn(base, "."), why);
    }
    if (!is_dir(p->dir))
        return nii_fail(why, p->dir, "no such folder (wanted the folder of a case)");
    base = strrchr(p->dir, '/') ? strrchr(p->dir, '/') + 1 : p->dir;
    if (!strcmp(base, ".") || !strcmp(base, "..") || !*base) {
        char *real = realpath(p->dir, NULL);
        int e = real ? add_name(p, strrchr(real, '/') + 1, strlen(strrchr(real, '/') + 1), why)
                     : nii_fail(why, p->dir, "%s", strerror(errno));
        free(real);
        return e;
    }
    return add_name(p, base, strlen(base), why);
}

int lay_open(enum layout layout, const char *argument, struct lay_place *p, char *why)
{
    int e;

    memset(p, 0, sizeof *p);
    p->layout = layout;
    e = layout == LAY_MSD || layout == LAY_NNUNET ? open_dataset(argument, p, why)
                                                  : open_single(argument, p, why);
    if (e)
        lay_close(p);
    return e;
}

void lay_close(struct lay_place *p)
{
    free(p->dir);
    free(p->ending);
    free(p->name);
    memset(p, 0, sizeof *p);
}

/* --- cases
 * ----------------------------------------------------------------------------------------- */

static int need_file(const char *path, char *why)
{
    return access(path, R_OK) ? nii_fail(why, path, "%s", strerror(errno)) : 0;
}

/* labelsTr beside imagesTr, labelsTs beside imagesTs. */
static int find_label(const struct lay_place *p, struct lay_case *c, char *why)
{
    char dir[LAY_PATH], file[LAY_NAME + 16], *at;

    snprintf(dir, sizeof dir, "%s", p->dir);
    for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/'; n--)
        dir[n - 1] = 0;
    at = strrchr(dir, '/');
    at = at ? at + 1 : dir;
    if (strncmp(at, "images", 6))
        return 0;
    memcpy(at, "labels", 6);
    snprintf(file, sizeof file, "%s%s", c->name, p->ending);
    if (join(c->label, dir, file, why))
        return -1;
    if (access(c->label, F_OK))
        *c->label = 0;
    return 0;
}

static int dataset_case(const struct lay_place *p, struct lay_case *c, char *why)
{
    char file[LAY_NAME + 32];

    for (int m = 0; m < LAY_MODALITIES; m++) {
        if (p->layout == LAY_MSD) {
            snprintf(file, sizeof file, "%s%s", c->name, p->ending);
            c->channel[m] = p->channel[m];
        } else {
            snprintf(file, sizeof file, "%s_%04d%s", c->name, p->channel[m], p->ending);
        }
        if (join(c->file[m], p->dir, file, why))
            return -1;
        if (access(c->file[m], F_OK))
            return nii_fail(why, c->file[m], "no such file (case %s, %s)", c->name,
                            lay_modality[m]);
        if (need_file(c->file[m], why))
            return -1;
    }
    return find_label(p, c, why);
}

static const char *role_name(int r)
{
    return r == LABEL ? "seg" : lay_modality[r];
}

static int folder_case(const struct lay_place *p, struct lay_case *c, char *why)
{
    char found[FILES][LAY_NAME] = {{0}}, missing[64] = "";
    struct dirent *e;
    DIR *d = opendir(p->dir);
    int bad = 0;

    if (!d)
        return nii_fail(why, p->dir, "%s", strerror(errno));
    while (!bad && (e = readdir(d))) {
        int r = role(e->d_name);
        if (r < 0)
            continue;
        if (*found[r]) { /* named in one order, whatever the folder's */
            bool before = strcmp(e->d_name, found[r]) < 0;
            bad = nii_fail(why, p->dir, "two files for %s: %.200s and %.200s", role_name(r),
                           before ? e->d_name : found[r], before ? found[r] : e->d_name);
        }
        snprintf(found[r], sizeof found[r], "%s", e->d_name);
    }
    closedir(d);
    if (bad)
        return -1;
    for (int m = 0; m < LAY_MODALITIES; m++)
        if (!*found[m])
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "%s%s",
                     *missing ? ", " : "", lay_modality[m]);
    if (*missing)
        return nii_fail(why, p->dir, "no file for %s", missing);
    for (int m = 0; m < LAY_MODALITIES; m++)
        if (join(c->file[m], p->dir, found[m], why) || need_file(c->file[m], why))
            return -1;
    if (*found[LABEL] && (join(c->label, p->dir, found[LABEL], why) || need_file(c->label, why)))
        return -1;
    return 0;
}

int lay_case(const struct lay_place *p, size_t i, struct lay_case *c, char *why)
{
    memset(c->channel, 0, sizeof c->channel);
    *c->label = 0;
    c->modalities = LAY_MODALITIES;
    snprintf(c->name, sizeof c->name, "%s", p->name[i]);
    if (p->layout == LAY_BRATS)
        return folder_case(p, c, why);
    if (p->layout != LAY_FILE)
        return dataset_case(p, c, why);
    c->modalities = 1;
    snprintf(c->file[0], sizeof c->file[0], "%s", p->dir);
    return need_file(c->file[0], why);
}

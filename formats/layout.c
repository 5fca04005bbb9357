/* It is one thing: names, places and cases of all layouts share the names of files. */
#include "formats/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/layout_impl.h"
#include "formats/nifti.h"
#include "formats/nifti_impl.h"
#include "lib/base/session.h"

const char *const lay_modality[LAY_MODALITIES] = {"flair", "t1", "t1gd", "t2"};
const char *const lay_map[LAY_MAPS] = {"entropy", "disagreement"};

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

enum { LABEL = LAY_MODALITIES };

/* The index of a modality by any of its names, or -1. */
static int find_modality(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strlen(synonyms[i].name) == n && !strncasecmp(synonyms[i].name, name, n))
            return synonyms[i].modality;
    return -1;
}

int lay_by_name(const char *name, enum layout *layout)
{
    static const char *const names[] = {"brats", "msd", "nnunet", "file", "slices2nii", "bids"};

    for (int i = 0; i < 6; i++)
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

/* --- names ------------------------------------------------------------------------------------ */

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

static bool is_label(const char *word, size_t n)
{
    return (n == 3 && !strncasecmp(word, "seg", 3)) || (n == 4 && !strncasecmp(word, "segm", 4)) ||
           (n == 4 && !strncasecmp(word, "dseg", 4));
}

static const char *role_name(int r)
{
    return r == LABEL ? "seg" : lay_modality[r];
}

static int usual_role(const char *name)
{
    size_t n = stem(name), at = n;
    int m;

    while (at > 0 && name[at - 1] != '_' && name[at - 1] != '-')
        at--;
    m = find_modality(name + at, n - at);
    if (m == 1 && strcasestr(name, "_ce-")) /* BIDS: _ce-gadolinium_T1w */
        m = 2;
    return is_label(name + at, n - at) ? LABEL : m;
}

/* What a file of a case folder is: a modality, LABEL, or -1; -2 if it is two things. */
static int role(const struct lay_place *p, const char *name, char *why)
{
    int found = -1;

    for (int r = 0; r < LAY_FILES; r++)
        if (p->pattern[r] && !fnmatch(p->pattern[r], name, FNM_CASEFOLD)) {
            if (found >= 0) {
                nii_fail(why, p->dir, "%.200s is both %s and %s by the patterns given", name,
                         role_name(found), role_name(r));
                return -2;
            }
            found = r;
        }
    if (found < 0 && (found = usual_role(name)) >= 0 && p->pattern[found])
        found = -1;
    return found;
}

int lay_set_names(char *text, const char *pattern[LAY_FILES], char *why)
{
    char *next;

    for (; text; text = next) {
        char *value = strchr(text, '=');
        size_t n = value ? (size_t)(value - text) : 0;
        int r = !value ? -1 : is_label(text, n) ? LABEL : find_modality(text, n);
        if ((next = strchr(text, ',')))
            *next++ = 0;
        if (r < 0 || !value[1]) {
            snprintf(why, NII_WHY,
                     "(wanted NAME=PATTERN, NAME one of flair, t1, t1gd, t2, seg; got '%.200s')",
                     text);
            return -1;
        }
        if (pattern[r]) {
            snprintf(why, NII_WHY, "%s is named twice", role_name(r));
            return -1;
        }
        pattern[r] = value + 1;
    }
    return 0;
}

int lay_set(const char *text, unsigned *set, char *why)
{
    if (!strcmp(text, "any")) {
        *set = (1u << LAY_MODALITIES) - 1;
        return 0;
    }
    for (*set = 0;; text++) {
        size_t n = strcspn(text, ",");
        int m = find_modality(text, n);
        if (m < 0) {
            snprintf(why, NII_WHY, "(wanted flair, t1, t1gd, t2 or any, got '%.*s')",
                     n < 200 ? (int)n : 200, text);
            return -1;
        }
        *set |= 1u << m;
        if (!*(text += n))
            return 0;
    }
}

int lay_join(char out[LAY_PATH], const char *dir, const char *name, char *why)
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

/* --- dataset.json ----------------------------------------------------------------------------- */

static int order_channels(const struct lay_dataset *d, const char *path,
                          int channel[LAY_MODALITIES], char *why)
{
    for (int m = 0; m < LAY_MODALITIES; m++)
        channel[m] = -1;
    for (int i = 0; i < d->n; i++) {
        int m = i < LAY_MODALITIES ? find_modality(d->channel[i], strlen(d->channel[i])) : -1;
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

/* --- places ----------------------------------------------------------------------------------- */

int lay_add_name(struct lay_place *p, const char *name, size_t n, char *why)
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

/* Of a name without its ending, the length without the tensor that slices2nii puts behind it. */
static size_t without_tensor(const char *name, size_t n)
{
    static const char *const tensors[] = {"_image", "_pred", "_entropy", "_disagreement", "_prob"};

    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        size_t m = strlen(tensors[i]);
        if (n > m && !strncmp(name + n - m, tensors[i], m))
            return n - m;
    }
    return n;
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
    return p->layout == LAY_WRITTEN ? without_tensor(file, n) : n;
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
            bad = lay_add_name(p, e->d_name, n, why);
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

bool lay_is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* ROOT, ROOT/imagesTr, or ROOT/imagesTr/CASE with or without an ending. */
static int open_dataset(const char *arg, struct lay_place *p, char *why)
{
    char root[LAY_PATH], path[LAY_PATH], one[LAY_NAME] = "";
    struct lay_dataset d;
    size_t n;

    if (lay_join(path, arg, "dataset.json", why))
        return -1;
    if (!access(path, F_OK)) {
        if (lay_join(root, arg, "imagesTr", why))
            return -1;
    } else {
        const char *slash = strrchr(arg, '/');
        snprintf(root, sizeof root, "%s", arg);
        if (!lay_is_dir(arg)) {
            snprintf(one, sizeof one, "%s", slash ? slash + 1 : arg);
            snprintf(root, sizeof root, "%.*s", slash ? (int)(slash - arg) : 1, slash ? arg : ".");
        }
        if (lay_join(path, root, "../dataset.json", why))
            return -1;
    }
    if (lay_read_dataset(path, &d, why) || order_channels(&d, path, p->channel, why))
        return -1;
    if (!(p->dir = strdup(root)) || !(p->ending = strdup(*d.ending ? d.ending : ".nii.gz")) ||
        (d.labels && !(p->labels = lay_say_labels(&d))))
        return nii_fail(why, arg, "out of memory");
    if (!*one)
        return list_images(p, why);
    n = strlen(one);
    if (n > strlen(p->ending) && !strcmp(one + n - strlen(p->ending), p->ending))
        n -= strlen(p->ending);
    return lay_add_name(p, one, n, why);
}

/* A folder, or DIR/CASE, with an ending or without, of one in it. */
static int open_written(const char *arg, struct lay_place *p, char *why)
{
    const char *slash = strrchr(arg, '/'), *one = slash ? slash + 1 : arg;
    size_t n;

    if (!(p->ending = strdup(".nii.gz")) ||
        !(p->dir = lay_is_dir(arg) ? strdup(arg)
                   : slash         ? strndup(arg, slash == arg ? 1 : (size_t)(slash - arg))
                                   : strdup(".")))
        return nii_fail(why, arg, "out of memory");
    if (lay_is_dir(arg))
        return list_images(p, why);
    n = image_name(p, one);
    return lay_add_name(p, one, n ? n : strlen(one), why);
}

/* The name of the case in a folder: the folder's, and where that only says when, those above it
 * before it, until one says who: Patient-001_week-000. `anat` of BIDS says neither. */
static int folder_name(const char *path, char name[LAY_NAME], char *why)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char above[LAY_PATH];
    bool anat = !strcasecmp(base, "anat");
    int n;

    if (!*base || !strcmp(base, ".") || !strcmp(base, "..")) {
        char *real = realpath(path, NULL);
        int e = !real                ? nii_fail(why, path, "%s", strerror(errno))
                : !strcmp(real, "/") ? (*name = 0)
                                     : folder_name(real, name, why);
        free(real);
        return e;
    }
    *name = 0;
    if (anat || names_session(base)) {
        n = snprintf(above, sizeof above, "%.*s", slash ? (int)(slash - path) : 1,
                     slash > path ? path
                     : slash      ? "/"
                                  : ".");
        if (n >= LAY_PATH)
            return nii_fail(why, path, "the path is too long");
        if (folder_name(above, name, why))
            return -1;
    }
    if (anat && *name)
        return 0;
    n = (int)strlen(name);
    if (n + (int)strlen(base) + 2 > LAY_NAME)
        return nii_fail(why, path, "a name is too long");
    sprintf(name + n, "%s%s", n ? "_" : "", base);
    return 0;
}

static int open_single(const char *arg, struct lay_place *p, char *why)
{
    const char *base;
    char name[LAY_NAME];
    size_t n = strlen(arg);

    while (n > 1 && arg[n - 1] == '/')
        n--;
    if (!(p->dir = strndup(arg, n)))
        return nii_fail(why, arg, "out of memory");
    if (p->layout == LAY_FILE) {
        base = strrchr(p->dir, '/') ? strrchr(p->dir, '/') + 1 : p->dir;
        n = stem(base);
        return lay_add_name(p, base, n ? n : strcspn(base, "."), why);
    }
    if (!lay_is_dir(p->dir))
        return nii_fail(why, p->dir, "no such folder (wanted the folder of a case)");
    return folder_name(p->dir, name, why) ? -1 : lay_add_name(p, name, strlen(name), why);
}

int lay_open(enum layout layout, const char *argument, const char *const pattern[LAY_FILES],
             struct lay_place *p, char *why)
{
    int e;

    memset(p, 0, sizeof *p);
    p->layout = layout;
    p->pattern = pattern;
    e = layout == LAY_MSD || layout == LAY_NNUNET ? open_dataset(argument, p, why)
        : layout == LAY_BIDS                      ? lay_open_bids(argument, p, why)
        : layout == LAY_WRITTEN                   ? open_written(argument, p, why)
                                                  : open_single(argument, p, why);
    if (e)
        lay_close(p);
    return e;
}

void lay_close(struct lay_place *p)
{
    free(p->dir);
    free(p->ending);
    free(p->labels);
    free(p->name);
    memset(p, 0, sizeof *p);
}

/* --- cases ------------------------------------------------------------------------------------ */

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
    if (lay_join(c->label, dir, file, why))
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
        if (lay_join(c->file[m], p->dir, file, why))
            return -1;
        if (access(c->file[m], F_OK))
            return nii_fail(why, c->file[m], "no such file (case %s, %s)", c->name,
                            lay_modality[m]);
        if (need_file(c->file[m], why))
            return -1;
    }
    return find_label(p, c, why);
}

static int is_nifti(const struct dirent *e)
{
    return stem(e->d_name) > 0;
}

static int by_entry(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Adds to a list in words, which ends in "..." when it is full. */
static void say(char *list, size_t size, const char *before, const char *name)
{
    size_t n = strlen(list);

    if (n >= 5 && !strcmp(list + n - 5, ", ..."))
        return;
    if (n + strlen(before) + strlen(name) + 8 < size)
        sprintf(list + n, "%s%s%s", n ? ", " : "", before, name);
    else
        strcpy(list + n, ", ...");
}

/* Which files are what; `found` holds indices of e. */
static int sort_files(const struct lay_place *p, struct lay_case *c, struct dirent **e, int n,
                      int found[LAY_FILES], char *why)
{
    static const char *const usual[LAY_FILES] = {"flair", "t1", "t1ce", "t2", "seg"};
    char missing[64] = "", wanted[300] = "", all[400] = "";
    unsigned have = 0;

    for (int r = 0; r < LAY_FILES; r++)
        found[r] = -1;
    for (int i = 0; i < n; i++) {
        int r = role(p, e[i]->d_name, why);
        if (r < -1)
            return -1;
        if (r >= 0 && found[r] >= 0)
            return nii_fail(why, p->dir, "two files for %s: %.200s and %.200s", role_name(r),
                            e[found[r]]->d_name, e[i]->d_name);
        if (r >= 0)
            found[r] = i;
        else
            say(c->others, sizeof c->others, "", e[i]->d_name);
        say(all, sizeof all, "", e[i]->d_name);
    }
    for (int r = 0; r < LABEL; r++)
        have |= (found[r] >= 0 ? 1u : 0u) << r;
    for (int r = 0; r < LAY_FILES; r++) {
        if (found[r] >= 0 || (r == LABEL && !p->pattern[r]) || (have && p->may_lack >> r & 1))
            continue;
        say(missing, sizeof missing, "", role_name(r));
        if (p->pattern[r])
            say(wanted, sizeof wanted, "", p->pattern[r]);
        else
            say(wanted, sizeof wanted, "*_", usual[r]);
    }
    if (*missing)
        return nii_fail(why, p->dir, "no file for %s (wanted %s; found %s)", missing, wanted,
                        *all ? all : "no NIfTI file");
    return 0;
}

int lay_folder_case(const struct lay_place *p, struct lay_case *c, char *why)
{
    struct dirent **e = NULL;
    int found[LAY_FILES], n = scandir(p->dir, &e, is_nifti, by_entry), bad;

    if (n < 0)
        return nii_fail(why, p->dir, "%s", strerror(errno));
    bad = sort_files(p, c, e, n, found, why);
    for (int r = 0; r < LAY_FILES && !bad; r++) {
        char *path = r == LABEL ? c->label : c->file[r];
        *path = 0;
        if (found[r] >= 0)
            bad = lay_join(path, p->dir, e[found[r]]->d_name, why) || need_file(path, why);
        else if (r != LABEL)
            snprintf(c->lacks + strlen(c->lacks), sizeof c->lacks - strlen(c->lacks), "%s%s",
                     *c->lacks ? "," : "", lay_modality[r]);
    }
    while (n--)
        free(e[n]);
    free(e);
    return bad ? -1 : 0;
}

/* DIR/NAME and the ending where there is such a file; 0 and "" where there is none. */
static int find_volume(char path[LAY_PATH], const char *dir, const char *name, const char *ending,
                       char *why)
{
    char file[LAY_NAME + 32];

    snprintf(file, sizeof file, "%s%s.nii.gz", name, ending);
    if (lay_join(path, dir, file, why))
        return -1;
    if (access(path, F_OK)) {
        *path = 0;
        return 0;
    }
    return need_file(path, why);
}

static int written_case(const struct lay_place *p, struct lay_case *c, char *why)
{
    char prob[LAY_PATH];

    c->modalities = 0;
    if (find_volume(c->file[0], p->dir, c->name, "_image", why) ||
        find_volume(c->label, p->dir, c->name, "", why) ||
        find_volume(c->pred, p->dir, c->name, "_pred", why) ||
        find_volume(c->map[0], p->dir, c->name, "_entropy", why) ||
        find_volume(c->map[1], p->dir, c->name, "_disagreement", why) ||
        find_volume(prob, p->dir, c->name, "_prob", why))
        return -1;
    if (!*c->file[0] && !*c->label && !*c->pred && !*c->map[0] && !*c->map[1])
        return nii_fail(why, p->dir,
                        "no volumes of case %s (wanted %s.nii.gz or one of _image, _pred, "
                        "_entropy, _disagreement)",
                        c->name, c->name);
    if (*prob)
        snprintf(c->others, sizeof c->others, "%s_prob.nii.gz", c->name);
    return 0;
}

int lay_pred(const char *dir, struct lay_case *c, char *why)
{
    if (find_volume(c->pred, dir, c->name, "_pred", why) ||
        (!*c->pred && find_volume(c->pred, dir, c->name, "", why)))
        return -1;
    return *c->pred ? 0
                    : nii_fail(why, dir, "no prediction of %s (wanted %s_pred.nii.gz or %s.nii.gz)",
                               c->name, c->name, c->name);
}

int lay_case(const struct lay_place *p, size_t i, struct lay_case *c, char *why)
{
    memset(c->channel, 0, sizeof c->channel);
    *c->label = *c->others = *c->lacks = *c->pred = 0;
    for (int m = 0; m < LAY_MAPS; m++)
        *c->map[m] = 0;
    c->labels = p->labels;
    c->modalities = LAY_MODALITIES;
    snprintf(c->name, sizeof c->name, "%s", p->name[i]);
    if (p->layout == LAY_BRATS)
        return lay_folder_case(p, c, why);
    if (p->layout == LAY_BIDS)
        return lay_bids_case(p, c, why);
    if (p->layout == LAY_WRITTEN)
        return written_case(p, c, why);
    if (p->layout != LAY_FILE)
        return dataset_case(p, c, why);
    c->modalities = 1;
    snprintf(c->file[0], sizeof c->file[0], "%s", p->dir);
    return need_file(c->file[0], why);
}

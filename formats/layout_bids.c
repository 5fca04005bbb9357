/* layout_bids.c - cases where BIDS lays them: subjects, sessions, labels in others' derivatives. */
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/layout_impl.h"
#include "formats/nifti_impl.h"

enum { LABEL = LAY_MODALITIES };

/* sub-LABEL or ses-LABEL; a label has no _, which parts the entities of a name. */
static bool is_entity(const char *name, const char *kind)
{
    return !strncmp(name, kind, 4) && name[4] && !strpbrk(name, "_/");
}

static int is_session(const struct dirent *e)
{
    return is_entity(e->d_name, "ses-");
}

static int is_subject(const struct dirent *e)
{
    return is_entity(e->d_name, "sub-");
}

static int is_shown(const struct dirent *e)
{
    return *e->d_name != '.';
}

static int by_entry(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* What a folder holds, sorted; nothing where there is none. */
static int list(const char *dir, int (*wanted)(const struct dirent *), struct dirent ***e)
{
    int n = scandir(dir, e, wanted, by_entry);
    return n < 0 ? 0 : n;
}

static void forget(struct dirent **e, int n)
{
    while (n-- > 0)
        free(e[n]);
    free(e);
}

/* One session, NULL for a subject without, if it has scans. */
static int add(struct lay_place *p, const char *subject, const char *session, char *why)
{
    char path[LAY_PATH], name[2 * LAY_NAME];
    int n = snprintf(name, sizeof name, "%s%s%s/anat", subject, session ? "/" : "",
                     session ? session : "");

    if (n >= (int)sizeof name)
        return nii_fail(why, p->dir, "a name is too long");
    if (lay_join(path, p->dir, name, why))
        return -1;
    if (!lay_is_dir(path))
        return 0;
    n = snprintf(name, sizeof name, "%s%s%s", subject, session ? "_" : "", session ? session : "");
    return lay_add_name(p, name, (size_t)n, why);
}

static int add_subject(struct lay_place *p, const char *subject, char *why)
{
    char path[LAY_PATH];
    struct dirent **e = NULL;
    int n, bad;

    if (add(p, subject, NULL, why) || lay_join(path, p->dir, subject, why))
        return -1;
    n = list(path, is_session, &e);
    bad = 0;
    for (int i = 0; i < n && !bad; i++)
        bad = add(p, subject, e[i]->d_name, why);
    forget(e, n);
    return bad;
}

static int add_all(struct lay_place *p, char *why)
{
    struct dirent **e = NULL;
    int n = list(p->dir, is_subject, &e), bad = 0;

    for (int i = 0; i < n && !bad; i++)
        bad = add_subject(p, e[i]->d_name, why);
    forget(e, n);
    return bad;
}

/* Takes the last part off a path: where it begins. */
static char *last_part(char *path)
{
    size_t n = strlen(path);
    char *slash;

    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void leave(char *path, const char *part)
{
    size_t n = (size_t)(part - path);

    if (!n)
        strcpy(path, ".");
    else
        path[n > 1 ? n - 1 : 1] = 0;
}

int lay_open_bids(const char *argument, struct lay_place *p, char *why)
{
    char *path = realpath(argument, NULL), *part;
    char subject[LAY_NAME] = "", session[LAY_NAME] = "";
    int bad;

    if (!path)
        return nii_fail(why, argument, "%s", strerror(errno));
    p->dir = path;
    if (!strcmp(part = last_part(path), "anat"))
        leave(path, part);
    if (is_entity(part = last_part(path), "ses-") && strlen(part) < sizeof session) {
        strcpy(session, part);
        leave(path, part);
    }
    if (is_entity(part = last_part(path), "sub-") && strlen(part) < sizeof subject) {
        strcpy(subject, part);
        leave(path, part);
    }
    bad = *session && !*subject ? 0
          : *session            ? add(p, subject, session, why)
          : *subject            ? add_subject(p, subject, why)
                                : add_all(p, why);
    if (!bad && !p->n)
        bad = nii_fail(why, argument,
                       "no scans here as BIDS lays them (wanted sub-*/anat or sub-*/ses-*/anat)");
    return bad;
}

/* A label that lies in the derivatives of somebody else than us: the only one, or the only one that
 * the pattern takes. */
static int find_derived(const struct lay_place *p, const char *below, struct lay_case *c, char *why)
{
    const char *pattern = p->pattern[LABEL] ? p->pattern[LABEL] : "*_dseg.nii*";
    char all[LAY_PATH], dir[LAY_PATH], one[3 * LAY_NAME];
    struct dirent **who = NULL, **e;
    int n, bad = 0;

    if (lay_join(all, p->dir, "derivatives", why))
        return -1;
    n = list(all, is_shown, &who);
    for (int i = 0; i < n && !bad; i++) {
        if (!strcmp(who[i]->d_name, "gliopipe"))
            continue;
        snprintf(one, sizeof one, "%s/%s", who[i]->d_name, below);
        if ((bad = lay_join(dir, all, one, why)))
            break;
        e = NULL;
        int files = list(dir, is_shown, &e);
        for (int k = 0; k < files && !bad; k++) {
            if (fnmatch(pattern, e[k]->d_name, FNM_CASEFOLD))
                continue;
            if (*c->label)
                bad = nii_fail(why, dir,
                               "%.200s is a second label of %.200s, beside %.300s (option "
                               "-m seg=PATTERN chooses)",
                               e[k]->d_name, c->name, c->label);
            else
                bad = lay_join(c->label, dir, e[k]->d_name, why);
        }
        forget(e, files);
    }
    forget(who, n);
    return bad;
}

int lay_bids_case(const struct lay_place *p, struct lay_case *c, char *why)
{
    const char *pattern[LAY_FILES];
    struct lay_place anat = *p;
    char path[LAY_PATH], below[LAY_NAME + 8];
    char *session;

    snprintf(below, sizeof below, "%s/anat", c->name);
    if ((session = strstr(below, "_ses-")))
        *session = '/';
    if (lay_join(path, p->dir, below, why))
        return -1;
    memcpy(pattern, p->pattern, sizeof pattern);
    pattern[LABEL] = NULL;
    anat.dir = path;
    anat.pattern = pattern;
    if (lay_folder_case(&anat, c, why))
        return -1;
    if (*c->label && !p->pattern[LABEL])
        return 0;
    *c->label = 0;
    return find_derived(p, below, c, why);
}

/* Files that appear whole or not at all: flushes, names, links, sweeps. */
#include "formats/atomic.h"
#include "tests/lib/tap.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

static char why[256];

/* Stands in for the system's, which the library under test calls: counts, and fails if asked to. */
static int flushed[2], failing[2]; /* of files, of directories */

int fsync(int fd)
{
    struct stat st;
    int dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    flushed[dir]++;
    errno = failing[dir];
    return failing[dir] ? -1 : 0;
}

static int names(void) /* how many files the directory holds, dot files too */
{
    DIR *d = opendir(".");
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static int holds(const char *path, const char *text)
{
    char b[64];
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    size_t n = fread(b, 1, sizeof b, f);
    fclose(f);
    return n == strlen(text) && !memcmp(b, text, n);
}

static int put(const char *path, const char *text)
{
    struct afile f;
    if (afile_open(&f, path, why, sizeof why) < 0)
        return -1;
    if (afile_write(&f, text, strlen(text), why, sizeof why) < 0) {
        afile_abort(&f);
        return -1;
    }
    return afile_commit(&f, why, sizeof why);
}

int main(void)
{
    char dir[] = "/tmp/atomic.XXXXXX";
    struct afile f;
    if (!mkdtemp(dir) || chdir(dir) < 0)
        return 1;

    ok(put("a", "one") == 0 && holds("a", "one") && names() == 1, "a new file, and nothing else");
    ok(put("a", "second") == 0 && holds("a", "second") && names() == 1, "a file replaced");

    flushed[0] = flushed[1] = 0;
    ok(put("a", "second") == 0 && flushed[0] == 1 && flushed[1] == 1,
       "the file is flushed to the disk, and so is its name");
    static const int none[] = {EINVAL, ENOSYS, ENOTSUP, EOPNOTSUPP};
    int fine = 0;
    for (int i = 0; i < 8; i++) {
        failing[i % 2] = none[i / 2];
        fine += put("a", i % 4 ? "other" : "second") == 0;
        failing[i % 2] = 0;
    }
    ok(fine == 8 && holds("a", "other") && names() == 1,
       "a file system that cannot flush is no error (%d of 8)", fine);
    failing[0] = EIO;
    ok(put("a", "third") < 0 && holds("a", "other") && names() == 1, "a flush that fails is: %s",
       why);
    failing[0] = 0;
    failing[1] = EIO;
    ok(put("a", "second") < 0 && strstr(why, "directory"), "for a name too: %s", why);
    failing[1] = 0;

    char planted[64];
    snprintf(planted, sizeof planted, ".b.%ld-0.tmp", (long)getpid());
    ok(symlink("a", planted) == 0 && put("b", "mine") == 0 && holds("a", "second") &&
           holds("b", "mine"),
       "a link under a temporary name is not written through");
    unlink(planted);
    unlink("b");

    struct afile g;
    ok(afile_open(&f, "a", why, sizeof why) == 0 && afile_open(&g, "b", why, sizeof why) == 0 &&
           afile_seal(&g, why, sizeof why) == 0 && names() == 3,
       "two files on their way");
    afile_sweep();
    ok(names() == 1 && holds("a", "second"), "a sweep takes what is open and what is sealed");
    afile_abort(&f);
    afile_abort(&g);
    ok(put(".a.12-3.tmp", "x") == 0 && put(".a.1x.tmp", "x") == 0 && put(".ab.1-2.tmp", "x") == 0 &&
           names() == 4,
       "a killed process's file and two that only look so");
    afile_sweep_target("a");
    ok(names() == 3 && access(".a.12-3.tmp", F_OK) < 0, "of its target alone is swept");
    unlink(".a.1x.tmp");
    unlink(".ab.1-2.tmp");

    ok(afile_open(&f, "a", why, sizeof why) == 0 && strstr(f.temp, "/.a.") &&
           afile_write(&f, "xx", 2, why, sizeof why) == 0 && holds("a", "second") && names() == 2,
       "before the commit the old file stands");
    afile_abort(&f);
    ok(holds("a", "second") && names() == 1 && f.fd < 0, "after an abort too, alone");
    afile_abort(&f);

    ok(mkdir("d", 0777) == 0 && symlink("../a", "d/link") == 0 && put("d/link", "third") == 0 &&
           holds("a", "third"),
       "a link is followed");
    struct stat st;
    ok(lstat("d/link", &st) == 0 && S_ISLNK(st.st_mode), "and stays a link");

    ok(put("/dev/null", "x") < 0 && strstr(why, "not a regular file"), "a device is refused: %s",
       why);
    ok(put("d", "x") < 0 && strstr(why, "not a regular file"), "a directory is refused: %s", why);
    ok(put("none/a", "x") < 0 && strstr(why, "No such file"), "no such directory: %s", why);
    ok(put("a/b", "x") < 0 && strstr(why, "Not a directory"), "a file as a directory: %s", why);
    ok(symlink("nowhere", "dangling") == 0 && put("dangling", "x") < 0, "a link to nothing: %s",
       why);
    ok(put("", "x") < 0, "an empty name: %s", why);

    int before = names();
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){2, RLIM_INFINITY});
    int r = put("a", "too long");
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    ok(r < 0 && holds("a", "third") && names() == before,
       "no room: the old file stands, nothing is left: %s", why);

    unlink("a");
    unlink("d/link");
    unlink("dangling");
    rmdir("d");
    ok(chdir("/") == 0 && rmdir(dir) == 0, "the directory empties");
    return done_testing();
}

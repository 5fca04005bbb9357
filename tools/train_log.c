/* The log of train, MODEL.tsv: a line for each epoch. */
#include "tools/train.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *table;
static double pass_began;

#define LOG_HEAD "epoch\tstep\trate\ttrain_loss\tval_loss\tscore"

/* What is there under the log's name may be written over only if it is one. */
static void check_log(const char *path, nlink_t links)
{
    char line[sizeof LOG_HEAD] = "";
    if (links > 1)
        tool_die("%s: has another name too (train writes its log there, in place)", path);
    if (fgets(line, sizeof line, table) && strcmp(line, LOG_HEAD))
        tool_die("%s: is no log of a training (wanted another -o)", path);
    rewind(table);
}

int log_open(const char *path)
{
    struct stat st;
    /* It is written in place: a link would lead to somebody else's file. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if ((fd < 0 && errno == ELOOP) || (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)))
        tool_die("%s: is no regular file (train writes its log there)", path);
    if (fd < 0 || !(table = fdopen(fd, "r+")))
        tool_die("%s: %s", path, strerror(errno));
    check_log(path, st.st_nlink);
    pass_began = tool_now();
    return fd;
}

static void log_failed(void)
{
    if (fflush(table) || ferror(table))
        tool_die("the log: %s", strerror(errno));
}

static int logged; /* labels that have columns */

/* The next part that has a column, from k on; of the background the soft Dice alone. */
static int part_from(int k, bool soft)
{
    if (k == MET_BACKGROUND && !soft)
        k++;
    return k >= logged && k < MET_WT ? MET_WT : k;
}

void log_keep(long epoch, int classes)
{
    char line[4096];
    long keep = 0;
    logged = classes;
    rewind(table);
    while (fgets(line, sizeof line, table)) {
        char *end;
        long e = strtol(line, &end, 10);
        if (end != line && e >= epoch)
            break;
        keep = ftell(table);
    }
    clearerr(table);
    if (epoch == 0)
        keep = 0;
    if (ftruncate(fileno(table), keep) || fseek(table, keep, SEEK_SET))
        log_failed();
    if (keep == 0) {
        fputs(LOG_HEAD, table);
        for (int soft = 0; soft < 2; soft++)
            for (int k = part_from(0, soft); k < MET_PARTS; k = part_from(k + 1, soft))
                fprintf(table, "\t%s_%s", soft ? "soft" : "dice", met_parts[k].name);
        fputs("\tseconds\n", table);
    }
    log_failed();
}

static void column(double v)
{
    if (isnan(v))
        fputs("\tNA", table);
    else
        fprintf(table, "\t%.6g", v);
}

void log_epoch(long epoch, uint64_t steps, double rate, double loss, const struct scores *s)
{
    double now = tool_now();
    fprintf(table, "%ld\t%llu", epoch, (unsigned long long)steps);
    column(rate);
    column(loss);
    column(s ? s->loss : NAN);
    column(s ? s->score : NAN);
    for (int soft = 0; soft < 2; soft++)
        for (int k = part_from(0, soft); k < MET_PARTS; k = part_from(k + 1, soft))
            column(!s ? NAN : soft ? s->soft[k] : s->dice[k]);
    fprintf(table, "\t%.1f\n", now - pass_began);
    pass_began = now;
    log_failed();
}

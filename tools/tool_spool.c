/* Records wait in a file without a name, which nobody has to remove, until what comes behind them
 * is known. */
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    int fd;
    const char *dir;
    struct tns_writer *writer;
    struct tns_reader *reader; /* of tool_spool_at */
    uint64_t *offset;
    size_t count, room; /* records, offsets that there is room for */
} spool;

const char *tool_tmpdir(void)
{
    const char *dir = getenv("TMPDIR");
    return dir && *dir ? dir : "/tmp";
}

int tool_nameless(const char *dir)
{
    char path[4096];
    int fd;
    dir = dir ? dir : tool_tmpdir();
    if ((size_t)snprintf(path, sizeof path, "%s/.%s.XXXXXX", dir, tool_name()) >= sizeof path)
        tool_die("%s: the path is too long", dir);
    if ((fd = mkostemp(path, O_CLOEXEC)) < 0 || unlink(path))
        tool_die("%s: temporary file: %s", dir, strerror(errno));
    return fd;
}

static void transfer(int fd, const char *dir, bool put, char *buf, size_t n, uint64_t at)
{
    while (n) {
        ssize_t r = put ? pwrite(fd, buf, n, (off_t)at) : pread(fd, buf, n, (off_t)at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            tool_die("%s: temporary file: %s", dir, r ? strerror(errno) : "too short");
        buf += r;
        at += (uint64_t)r;
        n -= (size_t)r;
    }
}

void tool_get_at(int fd, const char *dir, void *buf, size_t n, uint64_t at)
{
    transfer(fd, dir, false, buf, n, at);
}

void tool_put_at(int fd, const char *dir, const void *buf, size_t n, uint64_t at)
{
    transfer(fd, dir, true, (char *)buf, n, at);
}

void tool_spool_open(void)
{
    spool.dir = tool_tmpdir();
    spool.fd = tool_nameless(NULL);
}

void tool_spool(struct tns_record *rec)
{
    static const struct tns_meta nothing;
    if (!spool.writer) {
        tns_reader_free(spool.reader);
        spool.reader = NULL;
        spool.count = 0;
        if (lseek(spool.fd, 0, SEEK_SET) || ftruncate(spool.fd, 0))
            tool_die("%s: %s", spool.dir, strerror(errno));
        if (!(spool.writer = tns_writer_new(spool.fd)))
            tool_die("out of memory");
        if (tns_write_header(spool.writer, &nothing))
            tool_die("%s: %s", spool.dir, tns_writer_why(spool.writer));
    }
    tool_write_to(spool.writer, spool.dir, rec);
    spool.count++;
}

/* Of what was put by, from its beginning. */
static struct tns_reader *read_spool(void)
{
    struct tns_reader *r;
    if (spool.writer && tns_finish(spool.writer))
        tool_die("%s: %s", spool.dir, tns_writer_why(spool.writer));
    tns_writer_free(spool.writer);
    spool.writer = NULL;
    if (lseek(spool.fd, 0, SEEK_SET))
        tool_die("%s: %s", spool.dir, strerror(errno));
    if (!(r = tns_reader_new(spool.fd)))
        tool_die("out of memory");
    return r;
}

void tool_spool_each(const char *uses, void (*each)(struct tns_record *))
{
    struct tns_record rec = {0};
    struct tns_reader *r = read_spool();
    int e;
    while ((e = tns_next(r, &rec)) == 1 && !(e = tns_take(r, &rec, uses)))
        each(&rec);
    if (e < 0)
        tool_die("%s: %s", spool.dir, tns_why(r));
    tns_release(&rec);
    tns_reader_free(r);
}

/* Where each record begins. */
static void index_spool(void)
{
    struct tns_record rec = {0};
    size_t n = 0;
    int e;
    if (spool.count > spool.room) {
        free(spool.offset);
        spool.room = spool.count;
        spool.offset = tool_alloc(spool.room * sizeof *spool.offset);
    }
    spool.reader = read_spool();
    while (n < spool.count && (e = tns_hop(spool.reader, &rec, &spool.offset[n])) == 1)
        n++;
    if (n < spool.count)
        tool_die("%s: %s", spool.dir, tns_why(spool.reader));
    tns_release(&rec);
}

void tool_spool_at(size_t i, struct tns_record *rec, const char *names)
{
    if (!spool.reader)
        index_spool();
    if (tns_read_at(spool.reader, rec, spool.offset[i], names) < 0)
        tool_die("%s: %s", spool.dir, tns_why(spool.reader));
}

void tool_spool_cases(const char *uses, void (*add)(struct tns_record *), void (*finish)(void))
{
    struct tns_record rec = {0};
    int segment = 0;
    tool_uses(uses);
    tool_read_ahead();
    while (tool_read(&rec)) {
        if (tool_segment() > segment) {
            finish();
            segment = tool_segment();
            tool_write_segment(tool_header());
        }
        if (!tns_is_mark(&rec)) {
            add(&rec);
            continue;
        }
        finish();
        tool_write(&rec);
    }
    finish();
    if (tool_segment() > segment)
        tool_write_segment(tool_header());
    tns_release(&rec);
}

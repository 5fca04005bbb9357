/* tool.h - the frame that every tool stands on: usage, streams, messages, the end.
 *
 * A filter's main is
 *
 *     tool_start(argc, argv, usage);
 *     while ((c = tool_getopt("-m --model=")) != -1)
 *         switch (c) { case 'm': ...; default: tool_usage(); }
 *     tool_no_operands();
 *     tool_open("-m %d", opt.m);
 *     while (tool_read(&rec)) { change(&rec); tool_write(&rec); }
 *     return tool_finish();
 *
 * Everything that goes wrong ends in tool_die: one line on standard error, exit 1, and no end
 * record, so that every reader downstream fails too. Wrong usage exits 2. tool_getopt knows -h, -V,
 * -v, -H by itself. */
#ifndef TOOL_H
#define TOOL_H

#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>

#include "formats/tns.h"
#include "lib/base/names.h"
#include "lib/metric/metric.h"

/* usage is the SYNOPSIS line of the man page without the name: "[-i] -s SCHEME". */
void tool_start(int argc, char **argv, const char *usage);
/* For a tool with OpenMP, right after tool_start: threads that wait for each other sleep instead of
 * spinning, unless OMP_WAIT_POLICY says otherwise. A tool in a pipeline never has the processors to
 * itself: beside augment on two cores, train was measured at 5 times the speed. And their stacks
 * are of 1 MiB: where the kernel makes pages of 2 MiB by itself, a larger one begins with such a
 * page. The library reads the variables when it is loaded, so the program starts itself once
 * more. */
void tool_share_cores(void);
/* Threads if nobody asks, 1 to `most`: OMP_NUM_THREADS, else the cores that the process may run on
 * (those of a Slurm task, of taskset). */
int tool_cores(int most);
/* The next option's letter, or -1; optarg and optind as getopt(3) has them. `options` are a letter
 * and a name each, "-p --per= -w --whole": '=' where it takes an argument. A letter of before,
 * which nobody is to be told of, has the name "-". */
int tool_getopt(const char *options);
_Noreturn void tool_usage(void); /* prints the usage line to standard error, exits 2 */
_Noreturn void tool_misuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tool_no_operands(void);
const char *tool_name(void);
/* What messages begin with from now on; for ever the tool's. */
void tool_call_itself(const char *);
/* Asked before death, which is silent where it says so. */
void tool_ask_to_die(bool (*silent)(void));
extern bool tool_verbose;

/* The ending of a noun that so many are told of: "3 thread%s". */
static inline const char *tool_s(unsigned long long n)
{
    return n == 1 ? "" : "s";
}

/* A number from an option's argument, or wrong usage: the whole text, within lo..hi. */
long tool_int(char letter, const char *text, long lo, long hi);
double tool_double(char letter, const char *text, double lo, double hi);
/* The next label, 0 to 255, of a list such as 1,3, of which *at is the rest: NULL behind the
 * last. */
int tool_label(char letter, const char *text, const char **at);
/* Bytes: a number with an optional K, M, G or T (powers of 1024). */
unsigned long long tool_size(char letter, const char *text);

/* Messages: "name: " and the text, one line. tool_die exits 1. The _at forms name the record: its
 * number in the input, case and slice. */
_Noreturn void tool_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void tool_die_at(const struct tns_record *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void tool_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tool_warn_at(const struct tns_record *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void tool_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tool_note(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* only with -v */

/* A tool that calls this shows its own progress instead of the count of records: one line, on a
 * terminal only, twice a second at most, replaced each time. tool_progress(NULL) takes it away. */
void tool_own_progress(void);
void tool_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Memory, or death; a copy of a text, or death; the number of a text in a set (names_add), or
 * death; a thread, with a stack of 256 KiB, or death. */
void *tool_alloc(size_t bytes);
char *tool_copy(const char *);
uint32_t tool_add_name(struct names *, const char *);
pthread_t tool_thread(void *(*)(void *));

/* Seconds since some moment. */
double tool_now(void);

/* The file is about to be mapped: should it be cut while it is in use, the tool ends as after any
 * other error, and not by a signal. One file at a time; or several, at most TOOL_MAPS, each of
 * which is told where it lies before the next. */
#define TOOL_MAPS 32
void tool_maps(const char *path);
void tool_mapped(const void *from, size_t bytes);

/* Least privilege, where the kernel has seccomp and Landlock (tool_confine.c). From tool_confine on
 * the process reads and writes what is open and makes threads; it opens no other file, has no
 * sockets, starts no process and no program. What it will still open is named before: a file, or a
 * directory and all beneath it, to read; a directory in which files are made, written, renamed and
 * removed; a file that is written anew, beside itself first, wherever a link of that name leads. A
 * second call, with names of its own, gives up more; none gives back. Before threads are started,
 * and before anything that others wrote is read.
 *
 * A filter need not care: tool_open and its kin end with tool_confine. */
void tool_may_read(const char *path);
void tool_may_write(const char *dir);
void tool_may_replace(const char *path);
/* As tool_may_read, for this call of tool_confine and each later one. */
void tool_keeps_reading(const char *path);
/* To talk over connections that are open, as MPI does; none can be opened. */
void tool_may_talk(void);
void tool_confine(void);

/* Of tool_start: what a confined process does at its end is the tool's alone, no library's. */
void tool_leave_as_confined(void);

/* Standard output will be a stream: its first bytes go out, so that a tool that dies from here on
 * leaves a stream that is cut, even behind the whole one of a tool before it. tool_open and
 * tool_open_out do it; a tool that looks at any other input before those calls it first. */
void tool_promise(void);

/* Standard input as a stream, standard output as one. tool_open opens both; the text, formatted, is
 * what follows the tool's name in the history line (tool_open("") for none). Tools that only read
 * call tool_open_in; tools that begin a stream call tool_open_out, which writes a header. Each
 * refuses a terminal, and confines the process. */
void tool_open(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tool_open_in(void);
void tool_open_out(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As tool_open_in, from files, which are its own from then on. */
void tool_open_files(struct tns_files *);

/* Operands that are streams, or folders of them (formats/tns.h), or death; what is none, and no
 * regular file, is wrong usage, with `else_wanted` behind the name, unless that is NULL. Before the
 * process is confined. On standard input a folder is a stream by itself, for every tool. */
struct tns_files *tool_files(char *const *path, int n, const char *else_wanted);

/* What the header's digest takes of this step, where that is less than its line of history: of what
 * changes no record, such as how often they come, the digest must not tell. Before the header is
 * written; the text stays the caller's. */
void tool_signs(const char *step);

/* Records come out of it as they went in: no line of history, and no step for the digest. */
void tool_changes_nothing(void);
/* The stream out is encoded where that is shorter, at this level of zstd; 0: not. Behind
 * tool_open. */
void tool_packs(int level);

/* The header of the segment being read; of tool_open_out's stream before its first tool_write. */
struct tns_meta *tool_header(void);

/* Segments begun so far. */
int tool_segment(void);

/* The next record, or false after the end of the stream. Epoch marks are passed on unseen where the
 * tool writes a stream, and returned like any record where it does not. A new segment in gives a
 * new segment out. */
bool tool_read(struct tns_record *);
/* What the tool looks at or changes in a record: names of tensors with blanks between, "" for none.
 * tool_read then takes payloads into memory as far as the last of them; those behind have data ==
 * NULL, and tool_write passes them on in small pieces. So what a tool has no use for takes no
 * memory, unless it stands before what it uses. A tool that writes no stream never sees what it
 * does not name. At first: all. tool_front and tool_take are the two steps of tool_read. */
void tool_uses(const char *names);
bool tool_front(struct tns_record *);
void tool_take(struct tns_record *, const char *names);
/* As tool_read for a tool that needs no payloads: tensors have shapes, data is NULL and
 * unchecked. */
bool tool_hop(struct tns_record *);
void tool_write(struct tns_record *);

/* For a tool that reads further than it has written, maybe in another thread: from this call on
 * tool_read writes nothing by itself. It returns marks too, and for each segment (tool_segment has
 * changed) the tool calls tool_write_segment with the header, or a copy of it, when all before it
 * is written. */
void tool_read_ahead(void);
void tool_write_segment(struct tns_meta *header);

/* As tool_write, to another writer, whose name is for messages. */
void tool_write_to(struct tns_writer *, const char *name, struct tns_record *);

/* A file without a name, which nobody has to remove, or death: in `dir`, or TMPDIR (NULL), of which
 * tool_tmpdir is the name for messages. Opened before the process is confined, unless it may write
 * there. n bytes at a place of it, or death. */
int tool_nameless(const char *dir);
const char *tool_tmpdir(void);
void tool_get_at(int fd, const char *dir, void *, size_t n, uint64_t at);
void tool_put_at(int fd, const char *dir, const void *, size_t n, uint64_t at);

/* A volume in such a file, of which only what is looked at lies in memory (tool_volume.c). It is in
 * bricks, so that a plane through it touches few, however it lies: voxel i,j,k is number
 * at[0][i] + at[1][j] + at[2][k].
 *
 * tool_volume_new, tool_volume_put for each plane of the last axis, tool_volume_show: from then on
 * `voxels` can be read, by several threads. tool_volume_forget lets go what was touched so far,
 * while no thread reads. One volume of a file at a time. */
struct tool_volume {
    const void *voxels;
    size_t *at[3];
    int fd;
    const char *dir;
    uint32_t grid[3], next;
    size_t voxel, room, bytes; /* of a voxel, of a layer of bricks, of all */
    char *layer;
};
struct tool_volume *tool_volume_new(int fd, const char *dir, const uint32_t grid[3], size_t voxel);
void tool_volume_put(struct tool_volume *, const void *plane);
void tool_volume_show(struct tool_volume *);
void tool_volume_forget(struct tool_volume *);
void tool_volume_free(struct tool_volume *);

/* Records that wait until what comes behind them is known, in a file in TMPDIR (tool_spool.c),
 * which is opened before the process is confined. tool_spool_each gives all of them in turn, with
 * payloads as far as those it names, as often as it is called, tool_spool_at the i-th, with those
 * it names alone (NULL: all); the next record that is put by begins anew. */
void tool_spool_open(void);
void tool_spool(struct tns_record *);
void tool_spool_each(const char *uses, void (*)(struct tns_record *));
void tool_spool_at(size_t i, struct tns_record *, const char *names);
/* A filter of cases: each record to `add`, which puts it by; `finish`, which writes what there is,
 * before a mark, a segment and the end. */
void tool_spool_cases(const char *uses, void (*add)(struct tns_record *), void (*finish)(void));

/* What the tool needs, or death with the record's place: a tensor of that rank (and dtype, unless
 * DT_COUNT), a key. */
struct tensor *tool_need(struct tns_record *, const char *name, enum dtype, int rank);
/* The image, of rank 3: every value within TOOL_MOST of 0, which no NaN is. What is larger has a
 * square that is no float: a network, or a mean, makes nonsense of all that it meets. */
#define TOOL_MOST 1e18f
struct tensor *tool_need_image(struct tns_record *, enum dtype);
/* Where the first value of an image that is not so lies, and what it is; false if there is none. */
bool tool_odd_value(const struct tensor *, char why[128]);
const char *tool_need_key(struct tns_record *, const char *key);
long tool_need_int(struct tns_record *, const char *key, long lo, long hi);
void tool_need_numbers(struct tns_record *, const char *key, int n, double *out);

/* Where a record's tensor of rank 2 lies in its case: a rectangle in the full slice, which the key
 * `crop` tells, in which slice of how many, with what mm between voxels along z, y and x. Death if
 * the keys make no sense. */
struct tool_place {
    long y, x;
    size_t h, w, H, W, slice, slices;
    double spacing[3];
};
struct tool_place tool_place(struct tns_record *, const struct tensor *);
/* The rectangle into a full slice, and out of it; what lies beyond the slice was padding, and stays
 * out of it and as it is. */
void tool_paste(const struct tool_place *, const uint8_t *from, uint8_t *slice);
void tool_lift(const struct tool_place *, const uint8_t *slice, uint8_t *to);

/* The key `spacing`, as mm along z, y and x; death if no head can have it. */
void tool_spacing(struct tns_record *, double mm[3]);

/* Dies where a label of the tensor, bytes of rank 2, is not below `classes`. */
void tool_values(struct tns_record *, const struct tensor *, int classes);

/* Dies unless the record's labels are canonical. */
void tool_canonical(struct tns_record *);

/* The case whose slices come; name is NULL while there is none. */
struct tool_case {
    char *name, *patient; /* without a key `patient`, the case's name */
    struct met_grid grid;
    uint8_t *pred, *label; /* the full grid; what no record covers is background */
    uint8_t *seen;         /* of each slice, whether it came */
    size_t slices;         /* that came */
};

/* Begins the record's case, which is not among `finished` (NULL: it may be) and is put there; dies
 * where it is, or is too large. No label is kept unless asked. */
void tool_case_begin(struct tool_case *, struct tns_record *, const struct met_grid *,
                     struct names *finished, bool label);
/* Notes that a slice came; dies if it has come before, or the grid is another. */
void tool_case_slice(struct tool_case *, struct tns_record *, const struct met_grid *,
                     size_t slice);
/* Forgets it. Names that somebody else keeps have been taken out. */
void tool_case_end(struct tool_case *);

/* The key `fingerprint`, or NULL; death if it is none (tns.md, section 8). A warning, once, where
 * an image comes without, or what infer made of one: patients are compared by name alone then. */
const char *tool_fingerprint(struct tns_record *);

/* "DIR/CASE" and the suffix (printf), for a file of the record's case; dies if the case's name is
 * no plain file name. The text lives until the next call. */
const char *tool_case_path(struct tns_record *, const char *dir, const char *suffix, ...)
    __attribute__((format(printf, 3, 4)));

/* Sets a key or adds a tensor, or dies. */
void tool_set(struct tns_record *, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void tool_set_numbers(struct tns_record *, const char *key, int n, const double *);
struct tensor *tool_add(struct tns_record *, const char *name, enum dtype, int rank,
                        const uint32_t *dim);

/* A value of a table on standard output, plain or as JSON: text of a stream, which is UTF-8 without
 * line ends, as it is but for control characters; a number, or nan (null). */
void tool_put_text(const char *, bool json);
void tool_put_number(double, bool json);
/* Rows of such values: before each its name, which JSON has in every row, an object, and TSV in a
 * line before the first, which is the caller's; behind each row and behind the last. */
void tool_put_cell(const char *name, bool first, bool json);
void tool_put_row_end(bool json);
void tool_put_rows_end(bool json);

/* Ends the output stream, checks and closes standard output, returns 0. */
int tool_finish(void);

#endif

/* tns.h - reads and writes the tensor stream of formats/tns.md, which is the normative text.
 *
 * Ownership: a record owns the memory of what was read into it, until it is read into again; it may
 * be changed in place. A tensor's data may be pointed at the caller's own memory, which then has to
 * live until tns_write returns.
 *
 * Errors: functions return a negative TNS_E code; tns_why gives one line of text that starts with
 * the place ("record 1217 (BraTS20_017 slice 63): ..."), ready to follow the name of the input. */
#ifndef TNS_H
#define TNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/tensor.h"

#define TNS_MAX_TENSORS 64
#define TNS_MAX_META 65536u
#define TNS_MAX_HEADER 1048576u
#define TNS_MAX_LINES 4096
#define TNS_MAX_VALUE 32768u
#define TNS_MAX_KEY 63
#define TNS_MAX_DIM 16777216u
#define TNS_MAX_RECORD (1ull << 30)

enum tns_error {
    TNS_EFORMAT = -2,      /* not a tensor stream */
    TNS_ECORRUPT = -3,     /* a rule of the format is broken */
    TNS_EUNSUPPORTED = -4, /* sound, but newer than this reader */
    TNS_ECUT = -5,         /* the input ended before the end record */
    TNS_EIO = -6,          /* the operating system said no */
    TNS_ENOMEM = -7,
    TNS_EINVALID = -8 /* the caller asked for what the format cannot hold */
};

/* Metadata of a record or header: "key=value" texts, each with a final NUL, one after the other. */
struct tns_meta {
    char *text;
    size_t len, room;
};

struct tns_reader;

struct tns_record {
    struct tns_meta meta;
    int ntensors;
    struct tensor tensor[TNS_MAX_TENSORS];
    struct tns_reader *from; /* what tensors without data have theirs from */
    void *memory;            /* of payloads that were taken; body is where they begin */
    unsigned char *body;
    size_t body_room;
    void *spare[TNS_MAX_TENSORS]; /* memory of tns_add, kept for the next record */
    size_t spare_room[TNS_MAX_TENSORS];
    int nspare;
};

/* --- metadata -------------------------------------------------------------------------------- */

/* The value of a key (the first, for a repeated one), or NULL. */
const char *tns_get(const struct tns_meta *, const char *key);

/* Sets or replaces a key; 0 or TNS_EINVALID, TNS_ENOMEM. tns_setf formats the value (printf). */
int tns_set(struct tns_meta *, const char *key, const char *value)
    __attribute__((warn_unused_result));
int tns_setf(struct tns_meta *, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));

/* Whether these bytes may be a value (tns.md, 4.1). */
bool tns_value_ok(const char *value, size_t len);

/* Adds a line even if the key is there already (history). */
int tns_append(struct tns_meta *, const char *key, const char *value)
    __attribute__((warn_unused_result));

void tns_unset(struct tns_meta *, const char *key);

/* Makes one the copy of another, in its own memory. */
int tns_copy(struct tns_meta *to, const struct tns_meta *from) __attribute__((warn_unused_result));

/* A header's digest, if it has one, becomes that of what a step makes of the records. */
int tns_sign(struct tns_meta *, const char *step) __attribute__((warn_unused_result));

/* Whether a text is a value of the key `fingerprint`. */
bool tns_is_fingerprint(const char *);
#define TNS_FINGERPRINT "wanted 16 digits of 0-9 and a-f for each modality, with commas between"

/* Walks over all lines: start with pos = 0; false at the end. The key is copied, the value is
 * not. */
bool tns_each(const struct tns_meta *, size_t *pos, char key[TNS_MAX_KEY + 1], const char **value);

/* A whole number within lo..hi, or n numbers separated by blanks, in the C locale: true if the key
 * is there and reads so to its end. */
bool tns_get_int(const struct tns_meta *, const char *key, long lo, long hi, long *out);
bool tns_get_numbers(const struct tns_meta *, const char *key, int n, double *out);

/* Shortest text that reads back to the same double (section 4.7); NaN and infinity never occur. */
#define TNS_NUMBER 32
const char *tns_number(double, char out[TNS_NUMBER]);
int tns_set_numbers(struct tns_meta *, const char *key, int n, const double *)
    __attribute__((warn_unused_result));

/* --- records --------------------------------------------------------------------------------- */

struct tensor *tns_tensor(struct tns_record *, const char *name); /* or NULL */

/* Does it end an epoch (section 4.6), instead of showing a slice? */
bool tns_is_mark(const struct tns_record *);

/* Adds a tensor, or gives the one of that name this dtype and shape; its data is new memory of the
 * record, not cleared, good until the record is read into again, and so is what it had before.
 * NULL if the format cannot hold it, memory is short, or it is called more than TNS_MAX_TENSORS
 * times between two reads. */
struct tensor *tns_add(struct tns_record *, const char *name, enum dtype, int rank,
                       const uint32_t *dim);
void tns_remove(struct tns_record *, const char *name);

/* Removes all tensors but those named, with blanks between. */
void tns_keep(struct tns_record *, const char *names);

/* Empties a record (metadata, tensors), keeping its memory; frees that memory. A zeroed struct is
 * an empty record. */
void tns_clear(struct tns_record *);
void tns_release(struct tns_record *);

/* --- reading --------------------------------------------------------------------------------- */

/* Streams in files: those of a list, one after the other, as cat would join them. A folder stands
 * for the files in it whose names end in .tns, in the order of the bytes of their names. At most
 * TNS_OPEN are open at once, the first ones from the start; one that is opened later has to be the
 * file that it was. tns_files_add: 0; TNS_EINVALID for what is no regular file; TNS_EIO,
 * TNS_ENOMEM; with a line in `why`. */
#define TNS_OPEN 512
#define TNS_FILES (UINT32_C(1) << 20)
struct tns_files;
struct tns_files *tns_files_new(void); /* NULL if memory is short */
void tns_files_free(struct tns_files *);
int tns_files_add(struct tns_files *, const char *path, char *why, size_t size)
    __attribute__((warn_unused_result));
uint32_t tns_files_count(const struct tns_files *);
const char *tns_files_name(const struct tns_files *, uint32_t);

/* Reads from a descriptor that it does not close. NULL if memory is short. */
struct tns_reader *tns_reader_new(int fd);
/* Reads files from their start; they have to live on, may have several readers in one thread, and
 * what tns_why says begins with the name of one. */
struct tns_reader *tns_reader_files(struct tns_files *);
void tns_reader_free(struct tns_reader *);

/* The next data record: 1; the end of the stream, proven by its end record: 0; else an error. When
 * a header record is met (at the start, and at each later segment) tns_header changes and
 * tns_segment counts up. The first call may return TNS_EFORMAT.
 *
 * A record is read in two steps. tns_next reads its front: its tensors have shapes, and data ==
 * NULL. tns_take, once for a record, takes payloads into its memory, as far as the last tensor that
 * is named (names with blanks between; NULL: all) and is there. Those behind it have data == NULL
 * still: tns_write passes them on from the input in pieces, descriptors as they came, and checks
 * them on the way. What is neither taken nor written goes by, checked, at the next read. */
int tns_next(struct tns_reader *, struct tns_record *) __attribute__((warn_unused_result));
int tns_take(struct tns_reader *, struct tns_record *, const char *names)
    __attribute__((warn_unused_result));

/* Reads the first header without a record; 0 or an error. tns_next does it by itself otherwise. */
int tns_begin(struct tns_reader *) __attribute__((warn_unused_result));

/* Like tns_next, but leaves the payloads unread where the input can seek (and reads past them where
 * it cannot): tensors have shapes and data == NULL. *offset is where the record starts in the
 * input: a multiple of 64, which above bit TNS_FILE_SHIFT tells the file. */
#define TNS_FILE_SHIFT 44
int tns_hop(struct tns_reader *, struct tns_record *, uint64_t *offset)
    __attribute__((warn_unused_result));

/* Reads the one data record that starts at an offset that tns_hop gave, with the tensors that are
 * named alone (NULL: all), and no byte of others; the input must seek. The order of records is not
 * checked then. */
int tns_read_at(struct tns_reader *, struct tns_record *, uint64_t offset, const char *names)
    __attribute__((warn_unused_result));

/* So many bytes from that offset on will be wanted soon. */
void tns_advise(struct tns_reader *, uint64_t offset, uint64_t bytes);
/* Bytes of the file in which that offset lies. */
uint64_t tns_size_at(struct tns_reader *, uint64_t offset);

/* The number, in its file, of the record that came last; *name is that of the file, or NULL. */
uint64_t tns_number_in_file(const struct tns_reader *, const char **name);

struct tns_meta *tns_header(struct tns_reader *);
int tns_segment(const struct tns_reader *);     /* 0 before the first header, then 1, 2, ... */
uint64_t tns_count(const struct tns_reader *);  /* data records so far, all segments */
const char *tns_why(const struct tns_reader *); /* the last error in words */
/* Of the data records so far: their metadata, their tensors' shapes and the checks of their
 * payloads, so that a hop sees what a reader sees. Equal streams have equal digests, encoded or
 * not. */
uint64_t tns_digest(const struct tns_reader *);

/* --- writing --------------------------------------------------------------------------------- */

struct tns_writer;

/* Writes to a descriptor that it does not close. */
struct tns_writer *tns_writer_new(int fd);
void tns_writer_free(struct tns_writer *); /* never writes an end record */

/* From now on payloads that are in memory go out encoded (section 6.4) where that is shorter, by
 * zstd at this level, 1 to TNS_MAX_LEVEL; 0: as they are, as at first. */
#define TNS_MAX_LEVEL 19
int tns_writer_pack(struct tns_writer *, int level) __attribute__((warn_unused_result));

/* Before anything else, if at all: the first bytes of the header to come. Whatever stands before
 * them in the output, it is a cut stream until the rest has followed (section 2.5). */
int tns_promise(struct tns_writer *) __attribute__((warn_unused_result));

/* Begins a segment (after ending the one before, if any, by saying that more follows; both in one
 * write), adds a data record, ends the stream. 0 or an error; of tns_write also one of reading,
 * where payloads are passed on, and then tns_why has the words. */
int tns_write_header(struct tns_writer *, const struct tns_meta *)
    __attribute__((warn_unused_result));
int tns_write(struct tns_writer *, const struct tns_record *) __attribute__((warn_unused_result));
int tns_finish(struct tns_writer *) __attribute__((warn_unused_result));
const char *tns_writer_why(const struct tns_writer *);

#endif

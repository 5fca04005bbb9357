/* tns_impl.h - what the reading and the writing half of the codec share; for tns*.c alone. */
#ifndef TNS_IMPL_H
#define TNS_IMPL_H

#include <stdarg.h>
#include <string.h>

#include "formats/tns.h"

#define TNS_FIXED 64u
#define TNS_DESCRIPTOR 128u
#define TNS_ALIGN 64u
#define TNS_VERSION 1

enum { TNS_CHECK_XXH3 = 1, TNS_CHECK_CRC32 = 2 };

/* What an encoding is made of (section 6.4); those with zstd are. */
enum { TNS_ZSTD = 1, TNS_PLANES = 2, TNS_HALF = 4, TNS_ENCODINGS = 8 };

extern const unsigned char tns_magic[8];

static inline uint64_t tns_padded(uint64_t n)
{
    return (n + TNS_ALIGN - 1) / TNS_ALIGN * TNS_ALIGN;
}

static inline void put16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

static inline void put32(unsigned char *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

static inline void put64(unsigned char *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t get16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const unsigned char *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const unsigned char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

uint32_t tns_crc32(uint32_t before, const void *, size_t); /* before: of the bytes so far, or 0 */
uint64_t tns_xxh3(const void *, size_t);

/* Of a descriptor: the bytes of its payload as they stand in the stream. */
static inline uint64_t tns_stored(const unsigned char *d)
{
    return get64(d + (d[67] ? 112 : 104));
}

/* For the reader: `stored` has the bytes as they came; to the tensor's own. 0, TNS_ECORRUPT or
 * TNS_ENOMEM. */
struct tns_unpacker {
    void *zstd;
    unsigned char *stored, *parts;
    size_t stored_room, parts_room;
};
int tns_unpack(struct tns_unpacker *, const struct tensor *, int how, size_t stored, void *to);
void tns_unpacker_free(struct tns_unpacker *);

/* For the writer: the tensor in the encoding that is the shortest, which is given; 0 where none is
 * shorter than the payload; TNS_ENOMEM. What is stored is there until the next call. */
struct tns_packer;
struct tns_packer *tns_packer_new(int level);
void tns_packer_free(struct tns_packer *);
int tns_pack(struct tns_packer *, const struct tensor *, const void **stored, size_t *bytes);

/* A descriptor of a file of the list, good until the next call, or an error. */
int tns_files_open(struct tns_files *, uint32_t, char *why, size_t size);
uint64_t tns_files_size(const struct tns_files *, uint32_t);

/* Is it a key of section 4.1, a tensor name of section 5? */
bool tns_key_ok(const char *key, size_t len);
bool tns_name_ok(const char *name);

/* For the writer, of a tensor whose payload is still to come: its descriptor, or NULL if there is
 * no such; the payload, in pieces. Those before it go by. */
const unsigned char *tns_coming(const struct tns_reader *, const char *name);
int tns_pass(struct tns_reader *, const char *name, int (*put)(void *ctx, void *bytes, size_t n),
             void *ctx);

/* Whether a name stands among names with blanks between, or names is NULL: all. */
bool tns_named(const char *names, const char *name);

/* Makes room for at least this many bytes of text; 0 or TNS_ENOMEM. */
int tns_meta_room(struct tns_meta *, size_t bytes);

#endif

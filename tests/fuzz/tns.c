/* The stream: any bytes are read to an end or an error; what was read is written and read again the
 * same; hopping sees what reading sees. The mutator repairs the checks, so that mutations reach
 * what lies behind them. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/tns.h"
#include "formats/tns_impl.h"

size_t LLVMFuzzerCustomMutator(uint8_t *b, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(b, size, max);
    if (seed % 8 == 0) /* now and then leave the checks wrong */
        return size;
    for (size_t at = 0; at + TNS_FIXED <= size;) {
        uint8_t *p = b + at;
        uint64_t meta = tns_padded(get32(p + 12)), n = get32(p + 16), rest = get64(p + 24);
        uint64_t front = meta + n * TNS_DESCRIPTOR, left = size - at - TNS_FIXED;
        if (seed % 3)
            memcpy(p, tns_magic, sizeof tns_magic);
        if (meta > left || n > 64 || front > left)
            front = 0, n = 0;
        uint64_t body = at + TNS_FIXED + front;
        for (uint64_t i = 0; i < n; i++) {
            uint8_t *d = p + TNS_FIXED + meta + i * TNS_DESCRIPTOR;
            uint64_t bytes = tns_stored(d);
            if (bytes > size - body)
                break;
            if (d[67])
                put32(d + 68, tns_crc32(0, b + body, bytes));
            else if (d[66] == TNS_CHECK_XXH3)
                put64(d + 120, tns_xxh3(b + body, bytes));
            else
                put64(d + 120, tns_crc32(0, b + body, bytes));
            body += tns_padded(bytes) < size - body ? tns_padded(bytes) : size - body;
        }
        put32(p + 20, tns_crc32(0, p + TNS_FIXED, front));
        put32(p + 60, tns_crc32(0, p, 60));
        if (rest > left)
            break;
        at += TNS_FIXED + rest;
    }
    return size;
}

static void same(struct tns_record *a, struct tns_record *b, bool payloads)
{
    FUZZ_HOLDS(a->meta.len == b->meta.len && !memcmp(a->meta.text, b->meta.text, a->meta.len));
    FUZZ_HOLDS(a->ntensors == b->ntensors);
    for (int i = 0; i < a->ntensors; i++) {
        FUZZ_HOLDS(!strcmp(a->tensor[i].name, b->tensor[i].name));
        FUZZ_HOLDS(tensor_bytes(&a->tensor[i]) == tensor_bytes(&b->tensor[i]));
        if (payloads)
            FUZZ_HOLDS(!memcmp(a->tensor[i].data, b->tensor[i].data, tensor_bytes(&a->tensor[i])));
    }
}

/* A whole record, as tns_next says. */
static int read_record(struct tns_reader *r, struct tns_record *rec)
{
    int e = tns_next(r, rec), taken = e == 1 ? tns_take(r, rec, NULL) : 0;
    return taken ? taken : e;
}

/* Reads to the end or the first error; the number of records in *count. */
static int outcome(int fd, uint64_t *count)
{
    struct tns_record rec = {0};
    struct tns_reader *r;
    int e;
    FUZZ_HOLDS(lseek(fd, 0, SEEK_SET) == 0);
    FUZZ_HOLDS((r = tns_reader_new(fd)) != NULL);
    while ((e = read_record(r, &rec)) == 1)
        ;
    *count = tns_count(r);
    tns_reader_free(r);
    tns_release(&rec);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int in = fuzz_file(data, size), copy = fuzz_file(NULL, 0), hop = fuzz_file(data, size), e,
        segment = 0;
    struct tns_reader *r = tns_reader_new(in), *h = tns_reader_new(hop);
    struct tns_writer *w = tns_writer_new(copy);
    struct tns_record rec = {0}, seen = {0}, again = {0};
    FUZZ_HOLDS(r && h && w && tns_writer_pack(w, size % 2) == 0);
    while ((e = read_record(r, &rec)) == 1) {
        uint64_t offset;
        for (; segment < tns_segment(r); segment++)
            FUZZ_HOLDS(tns_write_header(w, tns_header(r)) == 0);
        FUZZ_HOLDS(tns_write(w, &rec) == 0);
        FUZZ_HOLDS(tns_hop(h, &seen, &offset) == 1);
        same(&rec, &seen, false);
        FUZZ_HOLDS(tns_read_at(h, &again, offset, NULL) == 0);
        same(&rec, &again, true);
    }
    FUZZ_HOLDS(e <= 0 && (e == 0) == !*tns_why(r));
    if (e == 0) {
        uint64_t count = tns_count(r), n;
        FUZZ_HOLDS(tns_finish(w) == 0);
        off_t end = lseek(copy, 0, SEEK_END),
              part = end / 64 ? data[size / 2] % (end / 64) * 64 : 0;
        FUZZ_HOLDS(!count || (outcome(copy, &n) == 0 && n == count));
        FUZZ_HOLDS(ftruncate(copy, part) == 0 && outcome(copy, &n) == TNS_ECUT);
    }
    tns_release(&rec);
    tns_release(&seen);
    tns_release(&again);
    tns_reader_free(r);
    tns_reader_free(h);
    tns_writer_free(w);
    close(in);
    close(copy);
    close(hop);
    return 0;
}

/* slices2nii - put slices together to NIfTI volumes on the grid they came from
 *
 * reads   label, or the tensor of -n; nifti; case, slice, slices, crop, scheme
 * writes  NIfTI files
 *
 * It is one thing: a case's slices wait in a file without a name until they are all there, and go
 * from it into the files that are asked for. */
#include "formats/contract.h"
#include "formats/nifti_write.h"
#include "formats/origin.h"
#include "lib/image/resample.h"
#include "lib/image/scheme.h"
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] = "[-cpv] [-g SCAN] [-n TENSOR] [-s SCHEME] -o DIR < STREAM";
static const char options[] =
    "-c --cases -g --grid= -n --tensor= -o --output= -p --plain -s --scheme=";

#define OPEN_CASES 16
#define MAX_CASE 200 /* of a name, so that its file's name is short enough everywhere */

static struct {
    const char *dir, *tensor, *scan;
    bool folder, plain;
    const struct img_scheme *scheme;
    uint8_t map[256];
} opt = {.tensor = "label"};

/* A case whose slices are coming in: they wait in a nameless file, canonical slice after slice,
 * since they may come in any order and the original grid may store them in another. */
struct open_case {
    char name[MAX_CASE + 1];
    int spool;
    uint8_t *header;
    size_t header_bytes;
    uint8_t *made; /* the same, with the steps of the history, where it tells of scans */
    size_t made_bytes;
    struct nii_header head;
    enum dtype type; /* in the file */
    uint32_t volumes, have;
    char *missing;    /* channels without a scan, which get none */
    char *names;      /* of the channels, where each has a file */
    uint8_t *scan;    /* of -g: the header of the scan, */
    struct affine to; /* and its file's index to that of the slices */
    uint8_t *seen;
    uint64_t used; /* record at which it was last met */
};

static struct {
    struct open_case open[OPEN_CASES];
    struct names done;    /* cases that are whole, */
    struct nii_out **out; /* and their files, which get their names when the stream is whole, too */
    size_t outs;
    uint64_t records;
    uint8_t *slice;
    size_t slice_room;
} state;

static void abandon(void)
{
    for (size_t i = 0; i < state.outs; i++)
        nii_abort(state.out[i]);
}

/* --- spool ------------------------------------------------------------------------------------ */

static size_t slice_bytes(const struct open_case *c)
{
    return (size_t)c->head.grid[0] * c->head.grid[1] * dtype_size(c->type);
}

static int make_spool(uint64_t bytes)
{
    int fd = tool_nameless(opt.dir);

    if (ftruncate(fd, (off_t)bytes))
        tool_die("%s: temporary file: %s", opt.dir, strerror(errno));
    return fd;
}

static uint8_t *slice_room(size_t n)
{
    if (n > state.slice_room) {
        free(state.slice);
        state.slice = tool_alloc(n);
        state.slice_room = n;
    }
    return state.slice;
}

/* --- a case leaves ---------------------------------------------------------------------------- */

static void swap_bytes(uint8_t *p, size_t n, size_t size)
{
    for (; n--; p += size)
        for (size_t i = 0; i < size / 2; i++) {
            uint8_t t = p[i];
            p[i] = p[size - 1 - i];
            p[size - 1 - i] = t;
        }
}

/* Gathers plane k of volume v, as the file stores it, from the canonical slices. */
static void gather_plane(const struct open_case *c, uint32_t v, uint32_t k, uint8_t *plane)
{
    const struct nii_header *h = &c->head;
    size_t e = dtype_size(c->type), slice = slice_bytes(c), row = h->grid[0] * e;
    int along = h->axis[0] == 2   ? 0
                : h->axis[1] == 2 ? 1
                                  : 2; /* canonical axis that k goes along */
    uint32_t at = h->flip[along] ? h->grid[along] - 1 - k : k;
    uint32_t lo[3] = {0, 0, 0}, hi[3] = {h->grid[0], h->grid[1], h->grid[2]};
    int64_t stride[3], base = 0, file[3] = {1, h->dim[0], 0};
    uint8_t *buf = slice_room(slice);

    for (int a = 0; a < 3; a++) {
        stride[a] = h->flip[a] ? -file[h->axis[a]] : file[h->axis[a]];
        base += h->flip[a] ? (int64_t)(h->grid[a] - 1) * file[h->axis[a]] : 0;
    }
    lo[along] = at;
    hi[along] = at + 1;
    for (uint32_t z = lo[2]; z < hi[2]; z++) {
        uint64_t from = ((uint64_t)v * h->grid[2] + z) * slice;
        tool_get_at(c->spool, opt.dir, buf, (hi[1] - lo[1]) * row, from + lo[1] * row);
        for (uint32_t y = lo[1]; y < hi[1]; y++) {
            const uint8_t *line = buf + (y - lo[1]) * row;
            uint8_t *to = plane + (int64_t)e * (base + y * stride[1] + z * stride[2]);
            if (stride[0] == 1)
                memcpy(to, line, row);
            else
                for (uint32_t x = lo[0]; x < hi[0]; x++)
                    memcpy(to + (int64_t)e * x * stride[0], line + x * e, e);
        }
    }
    if (h->swapped)
        swap_bytes(plane, (size_t)h->dim[0] * h->dim[1], e);
}

/* The volume v, for the scan of -g to look at from any side. */
static struct tool_volume *whole_volume(const struct open_case *c, uint32_t v, int bricks)
{
    struct tool_volume *volume =
        tool_volume_new(bricks, opt.dir, c->head.grid, dtype_size(c->type));
    const size_t slice = slice_bytes(c);
    uint8_t *buf = slice_room(slice);

    for (uint32_t z = 0; z < c->head.grid[2]; z++) {
        tool_get_at(c->spool, opt.dir, buf, slice, ((uint64_t)v * c->head.grid[2] + z) * slice);
        tool_volume_put(volume, buf);
    }
    tool_volume_show(volume);
    return volume;
}

static void carry_plane(const struct open_case *c, const struct nii_header *h,
                        struct tool_volume *from, uint32_t k, uint8_t *plane)
{
    const struct img_volume v = {.grid = {from->grid[0], from->grid[1], from->grid[2]},
                                 .voxels = from->voxels,
                                 .at = {from->at[0], from->at[1], from->at[2]}};
    const size_t e = dtype_size(c->type);

    for (uint32_t y = 0; y < h->dim[1]; y++)
        img_resample_nearest(&v, e, &c->to, k, y, h->dim[0], plane + y * h->dim[0] * e);
    tool_volume_forget(from);
    if (h->swapped)
        swap_bytes(plane, (size_t)h->dim[0] * h->dim[1], e);
}

/* Where a file of a case that leaves is kept. */
static struct nii_out **remember(void)
{
    size_t n = state.outs;
    if (!(n & (n - 1))) {
        void *more = realloc(state.out, (n ? 2 * n : 1) * sizeof *state.out);
        if (!more)
            tool_die("out of memory");
        state.out = more;
    }
    state.out[n] = NULL;
    state.outs++;
    return &state.out[n];
}

/* The name of a channel, which ends before a comma. */
static const char *channel(const struct open_case *c, uint32_t v)
{
    const char *name = c->names;

    for (; v; v--)
        name += strcspn(name, ",") + 1;
    return name;
}

static bool is_missing(const struct open_case *c, uint32_t v)
{
    if (!c->names || !c->missing)
        return false;
    const char *name = channel(c, v);
    return contract_find(c->missing, name, strcspn(name, ",")) >= 0;
}

/* "DIR/CASE.nii.gz" and its kin; volume v of n, or all of them. */
static void name_file(const struct open_case *c, uint32_t v, char path[4352])
{
    const char *what = opt.tensor, *under = "", *of = "", *name = c->names ? channel(c, v) : NULL;
    int n = (int)strlen(what), r;

    if (opt.folder) {
        under = "/";
        of = c->name;
        if (name) {
            what = name;
            n = (int)strcspn(name, ",");
        } else if (!strcmp(what, "label")) {
            what = "seg";
            n = 3;
        }
    } else if (opt.plain || !strcmp(what, "label")) {
        n = 0;
    }
    r = snprintf(path, 4352, "%s/%s%s%s%s%.*s.nii.gz", opt.dir, c->name, under, of, n ? "_" : "", n,
                 what);
    if (r >= 4352)
        tool_die("%s: the path is too long", opt.dir);
}

static void write_file(const struct open_case *c, uint32_t first, uint32_t volumes)
{
    char path[4352], why[NII_WHY];
    struct nii_header scan;
    const struct nii_header *h = &c->head;
    const uint8_t *from = c->scan ? c->scan : c->made ? c->made : c->header;
    size_t bytes = c->scan ? NII_HEADER : c->made ? c->made_bytes : c->header_bytes;
    uint8_t *header = tool_alloc(bytes + 4), *plane;
    struct tool_volume *volume = NULL;
    size_t n = nii_remake_header(from, bytes, volumes, c->type, header), plane_bytes;
    struct nii_out *out;
    int bricks = c->scan ? tool_nameless(opt.dir) : -1;

    if (c->scan) {
        if (nii_parse(c->scan, opt.scan, &scan, why))
            tool_die("%s", why);
        h = &scan;
    }
    plane_bytes = (size_t)h->dim[0] * h->dim[1] * dtype_size(c->type);
    plane = tool_alloc(plane_bytes);
    name_file(c, first, path);
    if (!(out = *remember() = nii_create(path, header, n, why)))
        tool_die("%s", why);
    for (uint32_t v = first; v < first + volumes; v++) {
        volume = c->scan ? whole_volume(c, v, bricks) : NULL;
        for (uint32_t k = 0; k < h->dim[2]; k++) {
            if (c->scan)
                carry_plane(c, h, volume, k, plane);
            else
                gather_plane(c, v, k, plane);
            if (nii_put(out, plane, plane_bytes, why))
                tool_die("%s", why);
        }
        tool_volume_free(volume);
    }
    if (bricks >= 0)
        close(bricks);
    if (nii_seal(out, why))
        tool_die("%s", why);
    tool_note("%s: %u slices", path, c->have);
    free(plane);
    free(header);
}

static void finish_case(struct open_case *c)
{
    if (opt.folder) {
        char path[4352];
        if (snprintf(path, sizeof path, "%s/%s", opt.dir, c->name) >= (int)sizeof path)
            tool_die("%s: the path is too long", opt.dir);
        if (mkdir(path, 0777) && errno != EEXIST)
            tool_die("%s: %s", path, strerror(errno));
    }
    tool_add_name(&state.done, c->name);
    for (uint32_t v = 0; opt.folder && v < c->volumes; v++)
        if (!is_missing(c, v))
            write_file(c, v, 1);
    if (!opt.folder)
        write_file(c, 0, c->volumes);
    if (c->have < c->head.grid[2])
        tool_warn("%s: %u of %u slices are missing and become background", c->name,
                  c->head.grid[2] - c->have, c->head.grid[2]);
    close(c->spool);
    free(c->header);
    free(c->made);
    free(c->names);
    free(c->missing);
    free(c->scan);
    free(c->seen);
    memset(c, 0, sizeof *c);
}

/* --- a record comes --------------------------------------------------------------------------- */

static void check_name(const struct tns_record *rec, const char *name)
{
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > MAX_CASE)
        tool_die_at(rec,
                    "case: no fit name for a file (wanted no slash, no leading dot, 1 to %d bytes)",
                    MAX_CASE);
}

static enum dtype file_type(enum dtype t)
{
    return t == DT_F16 || t == DT_BF16 ? DT_F32 : t;
}

/* Of -g: where the scan lies from which regrid(1) made the slices. */
static void find_scan(struct tns_record *rec, struct open_case *c)
{
    struct origin *o = tool_alloc(sizeof *o);
    const struct origin_scan *s;
    struct nii_header h;
    struct affine place = nii_place(&c->head), index, back;
    char why[NII_WHY];
    int found = origin_read(c->header, c->header_bytes, o, why);

    if (found < 0)
        tool_die_at(rec, "%s", why);
    if (!found)
        tool_die_at(rec,
                    "-g: nothing tells of an original scan (wanted slices that regrid made, or "
                    "of files that were made of them)");
    if (!(s = origin_find(o, opt.scan)))
        tool_die_at(rec, "-g: no scan '%s' (wanted one of those that regrid had)", opt.scan);
    c->scan = tool_alloc(NII_HEADER);
    memcpy(c->scan, s->header, NII_HEADER);
    if (nii_parse(c->scan, opt.scan, &h, why))
        tool_die_at(rec, "%s", why);
    memcpy(c->to.m, h.affine, sizeof c->to.m);
    if (!affine_inverse(&s->map, &back) || !affine_inverse(&place, &index))
        tool_die_at(rec, "-g: the way back is singular");
    c->to = affine_then(&c->to, &back);
    c->to = affine_then(&c->to, &index);
    free(o);
}

/* What was done to the scans, which a file of what came of them tells on. Extensions that somebody
 * kept beside it stay as they are. */
static void add_steps(struct open_case *c)
{
    struct origin *o = tool_alloc(sizeof *o);
    char why[NII_WHY], key[TNS_MAX_KEY + 1];
    const char *line;
    size_t bytes = 0, pos = 0;
    const int found = origin_read(c->header, c->header_bytes, o, why);

    free(found == 1 ? origin_bare(c->header, c->header_bytes, &bytes, why) : NULL);
    if (bytes == c->header_bytes) {
        while (tns_each(tool_header(), &pos, key, &line))
            if (!strcmp(key, "history"))
                origin_add_step(o, line);
        if (!(c->made = origin_write(o, c->header, &c->made_bytes)))
            tool_die("out of memory");
    }
    free(o);
}

/* Of -c: a name for the file of each channel. */
static void find_names(struct tns_record *rec, struct open_case *c, const struct tensor *t)
{
    uint32_t n = 1;
    const char *list = tool_need_key(rec, "modalities");

    for (const char *p = list; *p; p++)
        n += *p == ',';
    if (n != c->volumes || strchr(list, '/') || strstr(list, ",,") || *list == ',' || *list == 0 ||
        list[strlen(list) - 1] == ',')
        tool_die_at(rec,
                    "-c: the channels of '%s' have no names (wanted %u in key 'modalities', got "
                    "'%s')",
                    t->name, c->volumes, list);
    c->names = tool_copy(list);
    if (tns_get(&rec->meta, "missing"))
        c->missing = tool_copy(tns_get(&rec->meta, "missing"));
}

static void open_case(struct tns_record *rec, struct open_case *c, const char *name,
                      const struct tensor *t)
{
    const struct tensor *header = tool_need(rec, "nifti", DT_U8, 1);
    char why[NII_WHY];
    uint64_t bytes;

    check_name(rec, name);
    if (names_find(&state.done, name) != NAMES_NONE)
        tool_die_at(rec, "the case was written already (its slices are too scattered, or it comes "
                         "twice)");
    memset(c, 0, sizeof *c);
    strcpy(c->name, name);
    if (header->dim[0] < NII_HEADER)
        tool_die_at(rec, "tensor 'nifti': too short for a header (wanted %u bytes, got %u)",
                    NII_HEADER, header->dim[0]);
    if (nii_parse(header->data, "tensor 'nifti'", &c->head, why))
        tool_die_at(rec, "%s", why);
    c->header_bytes = header->dim[0];
    c->header = tool_alloc(c->header_bytes);
    memcpy(c->header, header->data, c->header_bytes);
    c->type = file_type(t->dtype);
    c->volumes = t->rank == 3 ? t->dim[0] : 1;
    if (c->volumes > 32767)
        tool_die_at(rec, "tensor '%s': too many channels (wanted at most 32767, got %u)", t->name,
                    c->volumes);
    if (__builtin_mul_overflow((uint64_t)slice_bytes(c) * c->head.grid[2], c->volumes, &bytes) ||
        bytes > (uint64_t)1 << 46)
        tool_die_at(rec, "tensor '%s': too large a volume", t->name);
    if (opt.scan)
        find_scan(rec, c);
    else
        add_steps(c);
    if (opt.folder && t->rank == 3)
        find_names(rec, c, t);
    c->seen = tool_alloc(c->head.grid[2]);
    memset(c->seen, 0, c->head.grid[2]);
    c->spool = make_spool(bytes);
}

/* The case's place; where all are taken, the one that was met longest ago is ended. */
static struct open_case *find_case(struct tns_record *rec, const struct tensor *t)
{
    const char *name = tool_need_key(rec, "case");
    const struct tensor *header = tool_need(rec, "nifti", DT_U8, 1);
    struct open_case *c = NULL, *oldest = &state.open[0];

    for (int i = 0; i < OPEN_CASES && !c; i++) {
        if (!strcmp(state.open[i].name, name) && *name)
            c = &state.open[i];
        if (state.open[i].used < oldest->used)
            oldest = &state.open[i];
    }
    if (!c) {
        c = oldest;
        if (c->used)
            finish_case(c);
        open_case(rec, c, name, t);
    } else if (header->dim[0] != c->header_bytes ||
               memcmp(header->data, c->header, c->header_bytes)) {
        tool_die_at(rec, "tensor 'nifti' differs from the one in the case's other records");
    }
    if (c->type != file_type(t->dtype) || c->volumes != (t->rank == 3 ? t->dim[0] : 1))
        tool_die_at(rec, "tensor '%s': type or shape differs from the case's other records",
                    t->name);
    c->used = ++state.records;
    return c;
}

/* Where the tensor lies in the uncropped slice; y and x may be negative, where zeros were added. */
static void find_place(struct tns_record *rec, const struct open_case *c, const struct tensor *t,
                       long place[2])
{
    uint32_t h = t->dim[t->rank - 2], w = t->dim[t->rank - 1];
    double v[6];

    place[0] = place[1] = 0;
    if (!tns_get(&rec->meta, "crop")) {
        if (h != c->head.grid[1] || w != c->head.grid[0])
            tool_die_at(rec, "tensor '%s': not the size of the grid (wanted %ux%u, got %ux%u)",
                        t->name, c->head.grid[1], c->head.grid[0], h, w);
        return;
    }
    tool_need_numbers(rec, "crop", 6, v);
    for (int i = 0; i < 2; i++)
        if (!(v[i] >= -1e6 && v[i] <= 1e6) || v[i] != (double)(place[i] = (long)v[i]))
            tool_die_at(rec, "key 'crop': y and x are no whole numbers");
    if (v[2] != h || v[3] != w)
        tool_die_at(rec, "tensor '%s': not the size of the crop (wanted %gx%g, got %ux%u)", t->name,
                    v[2], v[3], h, w);
    if (v[4] != c->head.grid[1] || v[5] != c->head.grid[0])
        tool_die_at(rec, "key 'crop': not from this grid (wanted %ux%u, got %gx%g)",
                    c->head.grid[1], c->head.grid[0], v[4], v[5]);
}

static void to_scheme(struct tns_record *rec, struct tensor *t)
{
    const char *have;
    size_t n, bad;

    if (!opt.scheme)
        return;
    tool_need(rec, t->name, DT_U8, 2);
    have = tool_need_key(rec, "scheme");
    if (!strcmp(have, opt.scheme->name))
        return;
    if (strcmp(have, "canonical"))
        tool_die_at(rec, "labels cannot be written as %s (wanted scheme=canonical, got scheme=%s)",
                    opt.scheme->name, have);
    n = tensor_count(t);
    if ((bad = img_recode(t->data, n, opt.map)) < n)
        tool_die_at(rec, "%s: value outside canonical (got %u)", t->name,
                    ((const uint8_t *)t->data)[bad]);
}

static void put_slice(struct tns_record *rec, struct open_case *c, const struct tensor *t,
                      uint32_t z)
{
    uint32_t h = t->dim[t->rank - 2], w = t->dim[t->rank - 1], H = c->head.grid[1],
             W = c->head.grid[0];
    size_t e = dtype_size(t->dtype), out = dtype_size(c->type), slice = slice_bytes(c);
    long place[2], x0, x1;
    uint8_t *buf;

    find_place(rec, c, t, place);
    buf = slice_room(slice);
    x0 = place[1] < 0 ? -place[1] : 0;
    x1 = (long)W - place[1] < (long)w ? (long)W - place[1] : (long)w;
    for (uint32_t v = 0; v < c->volumes; v++) {
        memset(buf, 0, slice);
        for (uint32_t y = 0; y < h; y++) {
            long to = place[0] + (long)y;
            size_t from = ((size_t)v * h + y) * w + (size_t)x0;
            if (to < 0 || to >= (long)H || x0 >= x1)
                continue;
            to = to * (long)W + place[1] + x0;
            if (e == out)
                memcpy(buf + (size_t)to * out, (const char *)t->data + from * e,
                       (size_t)(x1 - x0) * e);
            else
                tensor_to_f32(t, from, (size_t)(x1 - x0), (float *)buf + to);
        }
        tool_put_at(c->spool, opt.dir, buf, slice, ((uint64_t)v * c->head.grid[2] + z) * slice);
    }
}

static void take(struct tns_record *rec)
{
    struct tensor *t = tns_tensor(rec, opt.tensor);
    struct open_case *c;
    long z;

    if (tns_is_mark(rec))
        return;
    if (!t || (t->rank != 2 && t->rank != 3))
        t = tool_need(rec, opt.tensor, DT_COUNT, 2);
    c = find_case(rec, t);
    tool_need_int(rec, "slices", c->head.grid[2], c->head.grid[2]);
    z = tool_need_int(rec, "slice", 0, (long)c->head.grid[2] - 1);
    if (c->seen[z])
        tool_die_at(rec, "slice %ld comes twice", z);
    to_scheme(rec, t);
    put_slice(rec, c, t, (uint32_t)z);
    c->seen[z] = 1;
    if (++c->have == c->head.grid[2])
        finish_case(c);
}

int main(int argc, char **argv)
{
    static struct tns_record rec;
    char why[NII_WHY], *uses;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'c':
            opt.folder = true;
            break;
        case 'g':
            opt.scan = optarg;
            break;
        case 'n':
            opt.tensor = optarg;
            break;
        case 'o':
            opt.dir = optarg;
            break;
        case 'p':
            opt.plain = true;
            break;
        case 's':
            if (!(opt.scheme = img_scheme(optarg)))
                tool_misuse("-s: unknown scheme '%s' (recode(1) lists them)", optarg);
            break;
        }
    tool_no_operands();
    if (!opt.dir)
        tool_usage();
    if (strchr(opt.tensor, '/') || !*opt.tensor)
        tool_misuse("-n: (wanted the name of a tensor, got '%s')", opt.tensor);
    if (opt.scheme)
        img_scheme_inverse(opt.scheme, opt.map);
    if (mkdir(opt.dir, 0777) && errno != EEXIST)
        tool_die("%s: %s", opt.dir, strerror(errno));
    tool_may_write(opt.dir);
    tool_open_in();
    if (asprintf(&uses, "nifti %s", opt.tensor) < 0)
        tool_die("out of memory");
    tool_uses(uses);
    atexit(abandon);

    while (tool_read(&rec))
        take(&rec);
    for (int i = 0; i < OPEN_CASES; i++)
        if (state.open[i].used)
            finish_case(&state.open[i]);
    for (size_t i = 0; i < state.outs; i++) {
        struct nii_out *out = state.out[i];
        state.out[i] = NULL;
        if (nii_commit(out, why))
            tool_die("%s", why);
    }
    names_free(&state.done);
    state.outs = 0;
    free(state.out);
    free(state.slice);
    free(uses);
    tns_release(&rec);
    return tool_finish();
}

/* NIfTI, plain or gzip: header, extensions, both passes over the voxels. The first byte of the
 * input chooses: bit 0 the suffix .nii.gz, bit 1 labels. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "formats/nifti.h"

/* Larger grids are refused before memory is asked for; a fuzzer should not spend its time on
 * them. */
#define MOST (1u << 22)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], why[NII_WHY];
    if (size < 1)
        return 0;
    bool label = data[0] & 2;
    snprintf(path, sizeof path, "/dev/shm/fuzz%d.nii%s", (int)getpid(), data[0] & 1 ? ".gz" : "");
    FILE *out = fopen(path, "wb");
    FUZZ_HOLDS(out && fwrite(data + 1, 1, size - 1, out) == size - 1 && fclose(out) == 0);
    struct nii_file *f = nii_open(path, why);
    if (f) {
        const struct nii_header *h = nii_head(f);
        uint64_t plane = (uint64_t)h->grid[0] * h->grid[1];
        if (plane <= MOST && plane * h->grid[2] <= 8 * MOST && h->channels <= 8) {
            struct nii_channel *c = calloc(h->channels, sizeof *c);
            struct nii_reader **r = calloc(h->channels, sizeof *r);
            uint8_t *used = calloc(h->grid[2], 1);
            void *v = malloc(plane * 4 + 1);
            FUZZ_HOLDS(c && r && used && v);
            bool good = nii_scan(f, label, c, used, 0, r, why) == 0;
            for (uint32_t k = 0; k < h->channels; k++) {
                for (uint32_t z = 0; good && z < h->grid[2]; z++)
                    good = nii_slice(r[k], z, label ? DT_U8 : DT_F32, v, why) == 0;
                nii_reader_free(r[k]);
            }
            free(v);
            free(r);
            free(c);
            free(used);
        }
        nii_close(f);
    }
    unlink(path);
    return 0;
}

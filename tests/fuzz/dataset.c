/* dataset.json: what it says of channels and labels. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/layout_impl.h"
#include "formats/nifti.h"
#include "formats/tns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lay_dataset d;
    static struct tns_record rec;
    char path[64], why[NII_WHY];
    snprintf(path, sizeof path, "/dev/shm/fuzz%d.json", (int)getpid());
    FILE *out = fopen(path, "wb");
    FUZZ_HOLDS(out && fwrite(data, 1, size, out) == size && fclose(out) == 0);
    if (lay_read_dataset(path, &d, why) == 0) {
        char *labels = lay_say_labels(&d);
        FUZZ_HOLDS(labels && d.n >= 0 && d.labels <= LAY_LABELS);
        FUZZ_HOLDS(tns_set(&rec.meta, "labels", labels) == 0);
        free(labels);
    } else {
        FUZZ_HOLDS(!strchr(why, '\n'));
    }
    unlink(path);
    return 0;
}

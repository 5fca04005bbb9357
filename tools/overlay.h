/* overlay.h - between the parts of overlay: sheets of slices, and the planes of a volume. */
#ifndef OVERLAY_H
#define OVERLAY_H

#include "lib/image/sheet.h"
#include "tools/tool.h"

struct overlay_options {
    const char *dir, *heat;
    char *modality[IMG_SHEET_SCANS];
    int nmodality, zoom;
};

/* Index of a modality in a record's image; copies of its tensors. Or death. */
uint32_t overlay_channel(struct tns_record *, const char *wanted, uint32_t channels);
const uint8_t *overlay_labels(struct tns_record *, const char *name, uint32_t h, uint32_t w);
const uint8_t *overlay_heat(struct tns_record *, const char *name, uint32_t h, uint32_t w);
void overlay_save(const char *path, struct img_picture *, int drawn);

/* Of -p: a slice; the case is drawn when the next one begins, or at the end. */
void planes_take(const struct overlay_options *, struct tns_record *);
void planes_end(const struct overlay_options *);

#endif

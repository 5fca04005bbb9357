/* session.h - words in names that say when a scan was made, and not of whom. */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>

/* ses-02 (BIDS), week-000 (LUMIERE), Timepoint_1 (MU-Glioma-Post), in capitals or not, whatever
 * follows. */
bool names_session(const char *word);

#endif

/* The list of words is short on purpose: a name that is no session keeps two patients apart. */
#include "lib/base/session.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

bool names_session(const char *word)
{
    static const char *const first[] = {"ses-", "week-", "timepoint_", "timepoint-"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (!strncasecmp(word, first[i], strlen(first[i])))
            return true;
    return false;
}

/* known.c - the descriptions that come with the program, by name. */
#include "lib/nn/known.h"

#include "lib/nn/nn.h"

#include <string.h>

const char *nn_known(const char *name, size_t *length)
{
    for (int i = 0; nn_names[i]; i++)
        if (!strcmp(name, nn_names[i])) {
            *length = strlen(nn_texts[i]);
            return nn_texts[i];
        }
    return NULL;
}

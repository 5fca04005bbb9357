/* known.h - the descriptions that come with the program. The Makefile makes this table of
 * pipelines/networks, so that each text exists once. */
#ifndef NN_KNOWN_H
#define NN_KNOWN_H

#include "lib/nn/nn.h"

extern const char *const nn_texts[]; /* beside nn_names */

#endif

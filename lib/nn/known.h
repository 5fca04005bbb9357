/* known.h - the descriptions that come with the program. The Makefile makes these tables of
 * pipelines/networks, so that each text exists once. */
#ifndef NN_KNOWN_H
#define NN_KNOWN_H

extern const char *const nn_names[]; /* ended by NULL */
extern const char *const nn_texts[]; /* beside them */

#endif

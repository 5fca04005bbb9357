/* events.h - a YAML text as libyaml's events, with the line of everything that is wrong.
 *
 * What all our YAML is: one document without anchors, aliases and tags, its scalars without NUL. */
#ifndef EVENTS_H
#define EVENTS_H

#include <stddef.h>
#include <yaml.h>

struct events {
    const char *name; /* of the text, for messages */
    char *why;
    size_t size;
    size_t line; /* of the last event, from 1 */
    const char *text;
    size_t length;
    yaml_parser_t parser;
    yaml_event_t event; /* the last; its texts live until the next */
};

/* Writes "NAME:LINE: what" into why, one line whatever the text's names hold; returns -1. */
int events_fail(const struct events *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Begins a text; name, why and size have been set. 0 or -1; events_close in any case. */
int events_open(struct events *, const char *text, size_t length);
void events_close(struct events *);

/* The next event; 0, or -1 with why. */
int events_next(struct events *);

#endif

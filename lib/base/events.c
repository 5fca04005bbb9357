/* libyaml knows more than we read: what no file of ours has is refused here, once for all. */
#include "lib/base/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int events_fail(const struct events *r, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(r->why, r->size, "%s:%zu: ", r->name, r->line);
    if (n < 0 || (size_t)n >= r->size)
        return -1;
    va_start(ap, fmt);
    vsnprintf(r->why + n, r->size - (size_t)n, fmt, ap);
    va_end(ap);
    for (char *p = r->why; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return -1;
}

int events_open(struct events *r, const char *text, size_t length)
{
    r->line = 1;
    r->text = text;
    r->length = length;
    memset(&r->event, 0, sizeof r->event);
    memset(&r->parser, 0, sizeof r->parser);
    if (!yaml_parser_initialize(&r->parser))
        return events_fail(r, "out of memory");
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, length);
    return 0;
}

void events_close(struct events *r)
{
    yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
}

/* What every event may carry: an anchor, a tag, a text. */
static int check(const struct events *r)
{
    const yaml_event_t *e = &r->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
        if (strlen((char *)e->data.scalar.value) != e->data.scalar.length)
            return events_fail(r, "'%.40s': holds a NUL", (char *)e->data.scalar.value);
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
        break;
    case YAML_ALIAS_EVENT:
        anchor = e->data.alias.anchor;
        break;
    default:
        break;
    }
    return anchor || tag ? events_fail(r, "anchors, aliases and tags have no place here") : 0;
}

/* libyaml tells the place of a character that has no place in YAML by its offset alone. */
static size_t problem_line(const struct events *r)
{
    if (r->parser.error != YAML_READER_ERROR)
        return r->parser.problem_mark.line + 1;
    size_t line = 1;
    for (size_t i = 0; i < r->parser.problem_offset && i < r->length; i++)
        line += r->text[i] == '\n';
    return line;
}

int events_next(struct events *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        r->line = problem_line(r);
        return events_fail(r, "not YAML: %s", r->parser.problem ? r->parser.problem : "unreadable");
    }
    r->line = r->event.start_mark.line + 1;
    return check(r);
}

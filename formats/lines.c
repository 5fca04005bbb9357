/* Whatever is no plain text ends the reading, so that nobody splits or compares what he cannot
 * see. */
#include "formats/lines.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int lines_seek(char **field, int n, const char *name)
{
    int i = n - 1;
    while (i >= 0 && strcmp(field[i], name))
        i--;
    return i;
}

int lines_fail(struct lines *l, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(l->why, sizeof l->why, "%.100s: line %lu: ", l->name, l->number);
    va_start(ap, fmt);
    vsnprintf(l->why + n, sizeof l->why - (size_t)n, fmt, ap);
    va_end(ap);
    return -1;
}

int lines_next(struct lines *l)
{
    size_t n = 0;
    int c;
    if (l->number == LINES_MAX)
        return lines_fail(l, "too many lines (wanted at most %lu)", LINES_MAX);
    l->number++;
    while ((c = getc(l->file)) != EOF && c != '\n') {
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return lines_fail(l, "byte %zu is a control character (0x%02x)", n + 1, c);
        if (n == LINES_MAX_LENGTH)
            return lines_fail(l, "too long (wanted at most %d bytes)", LINES_MAX_LENGTH);
        l->text[n++] = (char)c;
    }
    l->text[n] = 0;
    if (c == EOF && ferror(l->file))
        return lines_fail(l, "%s", strerror(errno));
    if (c == EOF && n)
        return lines_fail(l, "not ended by a line feed (is the file cut?)");
    return c == '\n';
}

int lines_split(struct lines *l, const char *at, int runs, char **field, int max)
{
    int n = 0;
    char *p = l->text;
    for (;;) {
        if (runs)
            p += strspn(p, at);
        if (runs && !*p)
            return n;
        if (n == max)
            return max + 1;
        field[n++] = p;
        p += strcspn(p, at);
        if (!*p)
            return n;
        *p++ = 0;
    }
}

/* Values of tables, as TSV and as JSON have them. */
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>

#include <utf8proc.h>

void tool_put_number(double v, bool json)
{
    if (json && !isfinite(v))
        fputs("null", stdout);
    else
        printf(isnan(v) ? "nan" : "%.8g", v);
}

/* A name need not be UTF-8, but JSON must be. */
static int put_beyond_ascii(const char *s)
{
    utf8proc_int32_t code;
    const int n = (int)utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &code);
    if (n > 0)
        printf("%.*s", n, s);
    else
        fputs("\\ufffd", stdout);
    return n > 0 ? n : 1;
}

void tool_put_text(const char *s, bool json)
{
    if (json)
        putchar('"');
    while (*s)
        if (json && *s & 0x80) {
            s += put_beyond_ascii(s);
        } else {
            if ((unsigned char)*s < ' ' || *s == 0x7f)
                printf(json ? "\\u%04x" : "?", (unsigned char)*s);
            else if (json && (*s == '"' || *s == '\\'))
                printf("\\%c", *s);
            else
                putchar(*s);
            s++;
        }
    if (json)
        putchar('"');
}

static bool begun;

void tool_put_cell(const char *name, bool first, bool json)
{
    if (!json) {
        if (!first)
            putchar('\t');
        return;
    }
    fputs(!first ? ", " : begun ? ",\n {" : "[{", stdout);
    begun = true;
    tool_put_text(name, true);
    fputs(": ", stdout);
}

void tool_put_row_end(bool json)
{
    putchar(json ? '}' : '\n');
}

void tool_put_rows_end(bool json)
{
    if (json)
        puts(begun ? "]" : "[]");
}

/* lines.h - strict reading of small text files, line by line, field by field. */
#ifndef LINES_H
#define LINES_H

#include <stdio.h>

#define LINES_MAX_LENGTH 4096
#define LINES_MAX 16777216ul

struct lines {
    FILE *file;
    const char *name;     /* for messages */
    unsigned long number; /* of the line read last, from 1 */
    char why[256];        /* "NAME: line 12: ..." after an error */
    char text[LINES_MAX_LENGTH + 2];
};

/* The next line without its line feed, in l->text: 1; 0 at the end of the file; -1 and l->why for
 * a line that is too long, holds a control character other than the tab, or is not ended. */
int lines_next(struct lines *) __attribute__((warn_unused_result));

/* Splits l->text in place at each of the characters of `at`, runs of them counting once if `runs`;
 * returns the number of fields, or max + 1 if there are more than max. */
int lines_split(struct lines *, const char *at, int runs, char **field, int max);

/* Which of the fields is this, the last of equals, or -1. */
int lines_seek(char **field, int n, const char *name);

/* Fills l->why; returns -1. */
int lines_fail(struct lines *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

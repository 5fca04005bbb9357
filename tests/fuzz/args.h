/* args.h - runs the main of a tool over arguments up to where it would open its streams. The
 * harness includes this, then the tool's source, and defines LLVMFuzzerTestOneInput by
 * ARGUMENTS(). */
#ifndef ARGS_H
#define ARGS_H

#include "tests/fuzz/fuzz.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf over;
static FILE *said;
static char saying[1 << 16];

static _Noreturn void leave(int status)
{
    longjmp(over, status + 1);
}

#define exit leave
#undef stderr
#define stderr said
#define printf(...) ((void)0)
#define main tool_main
#define cut tool_cut /* a tool's own function may have that name */
#include "tools/tool.c"
#undef cut
#define tool_start fuzz_start
#define tool_open fuzz_open

void tool_confine(void)
{
}

void tool_leave_as_confined(void)
{
}

void tool_keeps_reading(const char *path)
{
    (void)path;
}

static char history[2048];

static void fuzz_start(int argc, char **argv, const char *usage)
{
    tool.name = "tool";
    tool.usage = usage;
    tool.argc = argc;
    tool.argv = argv;
    optind = 0; /* getopt begins anew */
    opterr = 0;
}

/* What is left out is what a stream would be needed for. */
static _Noreturn void fuzz_open(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(history, sizeof history, fmt, ap);
    va_end(ap);
    FUZZ_HOLDS(n >= 0 && (size_t)n < sizeof tool.history - 100);
    longjmp(over, 100);
}

static int tool_main(int argc, char **argv);

static char copy[4096], *arguments[66] = {"tool"};
static int count;

/* Arguments are separated by line feeds. */
static int split_arguments(const char *text, size_t size)
{
    if (size >= sizeof copy || memchr(text, 0, size))
        return -1;
    memcpy(copy, text, size);
    copy[size] = 0;
    count = 1;
    for (char *p = size ? copy : NULL; p && count < 65; count++) {
        arguments[count] = p;
        if ((p = strchr(p, '\n')))
            *p++ = 0;
    }
    arguments[count] = NULL;
    return 0;
}

/* Returns 0 if they are taken, else what a caller need not tell apart. */
static int run_arguments(const char *text, size_t size)
{
    if (split_arguments(text, size))
        return -1;
    memset(saying, 0, sizeof saying);
    if (!said)
        said = fmemopen(saying, sizeof saying, "w");
    rewind(said);
    int status = setjmp(over);
    if (!status)
        status = tool_main(count, arguments) + 1;
    fflush(said);
    if (status == 100)
        return 0;
    /* Help and version print and end with 0; all else is wrong usage, told in one line of text. */
    FUZZ_HOLDS(status == 1 || status == 3);
    if (status == 3) {
        char *end = strchr(saying, '\n');
        FUZZ_HOLDS(end && (!end[1] || !strncmp(saying, "usage:", 6)));
        for (char *p = saying; p < end; p++)
            FUZZ_HOLDS((unsigned char)*p >= ' ' || !strncmp(saying, "usage:", 6));
    }
    return -1;
}

#endif

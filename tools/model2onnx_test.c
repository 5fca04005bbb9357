/* model2onnx_test.c - the program that compares a graph with infer: model2onnx.py, as ONNX Runtime
 * is most often Python's. */
#include "tools/model2onnx.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The Makefile makes them of model2onnx.py and formats/gliopipe.py. */
extern const char model2onnx_script[], model2onnx_codec[];

/* infer stands beside this program, under a name with the same prefix. */
static void find(char self[4096], char infer[4200])
{
    static const char name[] = "model2onnx";
    const ssize_t n = readlink("/proc/self/exe", self, 4095);
    self[n > 0 ? n : 0] = 0;
    const size_t end = strlen(self), own = sizeof name - 1;
    if (end < own || strcmp(self + end - own, name))
        tool_die("-t: no program infer beside this one (got '%.200s')", self);
    snprintf(infer, 4200, "%.*sinfer", (int)(end - own), self);
}

void test_run(const char *path)
{
    char self[4096], infer[4200];
    find(self, infer);
    execlp("python3", "python3", "-c", model2onnx_script, self, infer, path, model2onnx_codec,
           (char *)NULL);
    tool_die("-t: python3: %s", strerror(errno));
}

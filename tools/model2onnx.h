/* model2onnx.h - what the parts of model2onnx share. */
#ifndef MODEL2ONNX_H
#define MODEL2ONNX_H

#include "formats/model.h"
#include "formats/onnx.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

extern struct options {
    const char *path;
    const char
        *weights; /* what the graph calls the file of the weights; NULL: they are within it */
} opt;

extern struct model model;
extern struct nn_about about;
extern struct nn_outline outline;

/* Spatial axes of a value: of volumes three, else two. */
static inline int axes(void)
{
    return about.volume ? 3 : 2;
}

/* The model's tensor for a parameter, of the same shape, or death; where it lies in the file. */
const struct tensor *parameter(const struct tensor *wanted);
static inline size_t offset(const struct tensor *t)
{
    return (size_t)((const unsigned char *)t->data - model.file.bytes);
}

/* model2onnx_graph.c: the GraphProto; dies where it cannot. */
void graph_write(struct onnx_out *);

/* model2onnx_test.c: becomes the program that compares; dies where there is none. */
_Noreturn void test_run(const char *path);

#endif

/* onnx.h - ONNX graphs as they lie in a file.
 *
 * A file is one message of Protocol Buffers' wire format
 * (https://protobuf.dev/programming-guides/encoding): fields, each a number and a kind, and then a
 * varint, four bytes, or a length and so many bytes, which may be a message again. Which field is
 * what, ONNX' own description says (onnx/onnx.proto of https://github.com/onnx/onnx, version 8 of
 * its intermediate representation, operators of version 17); the numbers below are those of what a
 * network needs.
 *
 * Writing: messages grow in a buffer. A failure is short memory, and shows in `failed` alone. */
#ifndef ONNX_H
#define ONNX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ONNX_IR 8
#define ONNX_OPSET 17

/* ModelProto */
enum {
    ONNX_MODEL_IR = 1,
    ONNX_MODEL_PRODUCER = 2,
    ONNX_MODEL_PRODUCER_VERSION = 3,
    ONNX_MODEL_DOC = 6,
    ONNX_MODEL_GRAPH = 7,
    ONNX_MODEL_OPSET = 8,    /* OperatorSetIdProto: domain 1, version 2 */
    ONNX_MODEL_METADATA = 14 /* a pair */
};
enum { ONNX_OPSET_DOMAIN = 1, ONNX_OPSET_VERSION = 2 };
/* StringStringEntryProto */
enum { ONNX_PAIR_KEY = 1, ONNX_PAIR_VALUE = 2 };
/* GraphProto */
enum {
    ONNX_GRAPH_NODE = 1,
    ONNX_GRAPH_NAME = 2,
    ONNX_GRAPH_INITIALIZER = 5,
    ONNX_GRAPH_INPUT = 11,
    ONNX_GRAPH_OUTPUT = 12
};
/* NodeProto */
enum {
    ONNX_NODE_INPUT = 1,
    ONNX_NODE_OUTPUT = 2,
    ONNX_NODE_NAME = 3,
    ONNX_NODE_TYPE = 4,
    ONNX_NODE_ATTRIBUTE = 5
};
/* AttributeProto, and its types */
enum {
    ONNX_ATTRIBUTE_NAME = 1,
    ONNX_ATTRIBUTE_F = 2,
    ONNX_ATTRIBUTE_I = 3,
    ONNX_ATTRIBUTE_S = 4,
    ONNX_ATTRIBUTE_INTS = 8,
    ONNX_ATTRIBUTE_TYPE = 20
};
enum { ONNX_IS_FLOAT = 1, ONNX_IS_INT = 2, ONNX_IS_STRING = 3, ONNX_IS_INTS = 7 };
/* TensorProto, and types of its numbers */
enum {
    ONNX_TENSOR_DIMS = 1,
    ONNX_TENSOR_TYPE = 2,
    ONNX_TENSOR_NAME = 8,
    ONNX_TENSOR_RAW = 9,
    ONNX_TENSOR_DOC = 12,
    ONNX_TENSOR_EXTERNAL = 13, /* a pair */
    ONNX_TENSOR_LOCATION = 14
};
enum { ONNX_EXTERNAL = 1 }; /* as a location */
enum { ONNX_F32 = 1, ONNX_I64 = 7, ONNX_F16 = 10, ONNX_F64 = 11, ONNX_BF16 = 16 };
/* ValueInfoProto; TypeProto; its Tensor; TensorShapeProto; its Dimension */
enum { ONNX_VALUE_NAME = 1, ONNX_VALUE_TYPE = 2 };
enum { ONNX_TYPE_TENSOR = 1 };
enum { ONNX_TENSOR_ELEMENTS = 1, ONNX_TENSOR_SHAPE = 2 };
enum { ONNX_SHAPE_DIM = 1 };
enum { ONNX_DIM_VALUE = 1, ONNX_DIM_NAME = 2 };

struct onnx_out {
    unsigned char *data; /* the caller's to free */
    size_t size, room;
    bool failed;
};

void onnx_int(struct onnx_out *, int field, int64_t);
void onnx_float(struct onnx_out *, int field, float);
void onnx_bytes(struct onnx_out *, int field, const void *, size_t);
void onnx_text(struct onnx_out *, int field, const char *);
void onnx_pair(struct onnx_out *, int field, const char *key, const char *value);

/* What is written between the two is a message, the field's. */
size_t onnx_begin(struct onnx_out *, int field);
void onnx_end(struct onnx_out *, size_t begun);

/* Fields that lie in another buffer, as they are. */
void onnx_append(struct onnx_out *, const struct onnx_out *);

#endif

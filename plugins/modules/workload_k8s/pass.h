/* SPDX-License-Identifier: Apache-2.0
 *
 * Passing over JSON that nobody wants, 64 bytes at a time. Only what decides where a value ends is looked at:
 * where texts begin and end, and that brackets match (docs/decisions/0011-own-json-scanner.md).
 */
#ifndef CS_MODULES_WORKLOAD_K8S_PASS_H
#define CS_MODULES_WORKLOAD_K8S_PASS_H

#include "base/buf.h"

/* No list of an API server is nested deeper: Go's encoding/json stops at 10,000, with which it reads what it
 * is sent. metadata.managedFields of a pod, which its author may send, can be nearly that deep. */
#define K8S_NEST_MAX (157 * 64)

/* The objects and arrays around a place. */
struct k8s_nest {
    unsigned depth;
    uint64_t objects[K8S_NEST_MAX / 64]; /* bit n: what is at depth n + 1 is an object, not an array */
};
static inline bool k8s_nest_object(const struct k8s_nest *n) /* the innermost, of which there must be one */
{
    return (n->objects[(n->depth - 1) / 64] >> ((n->depth - 1) % 64) & 1) != 0;
}
bool k8s_nest_open(struct k8s_nest *n, bool object);  /* false: too deep */
bool k8s_nest_close(struct k8s_nest *n, bool object); /* false: the other bracket, or none, is open */

/* Where we are within the value that is passed over. */
struct k8s_pass {
    unsigned outside; /* the depth around the value */
    bool in_text;
    bool escaped; /* the next byte of the text */
};

enum k8s_passed {
    K8S_PASS_MORE, /* the value goes on in the next piece */
    K8S_PASS_END,
    K8S_PASS_DEEP, /* nested too deep */
    K8S_PASS_BAD,  /* not JSON: a bracket that closes another, or a backslash outside of texts */
};

/* The first byte of a text is behind `in` already: its quote, or the bracket, which is in *n, too. Leaves
 * `in` behind the value, or at what is wrong. */
enum k8s_passed k8s_pass_over(struct k8s_pass *p, struct k8s_nest *n, struct cs_rd *in);

/* The first quote, backslash or control character, or `end`. */
const uint8_t *k8s_plain_end(const uint8_t *at, const uint8_t *end);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON (RFC 8259) in pieces of any size: each thing of it is told as it comes, and the caller says what it
 * does not want to be told of. What it is told of is checked by the letter; what it is not, only as far as
 * pass.h says (docs/decisions/0011-own-json-scanner.md).
 */
#ifndef CS_MODULES_WORKLOAD_K8S_SCAN_H
#define CS_MODULES_WORKLOAD_K8S_SCAN_H

#include "base/buf.h"

#define K8S_SCAN_TEXT_MAX ((size_t)64 << 10) /* bytes of a key or text that is told, as it is sent */
#define K8S_SCAN_WORD_MAX 64                 /* bytes of a number */

enum k8s_scan_event {
    K8S_SCAN_NULL,
    K8S_SCAN_WORD, /* true, false or a number */
    K8S_SCAN_TEXT,
    K8S_SCAN_LONG_TEXT, /* one of more than K8S_SCAN_TEXT_MAX, which is not kept */
    K8S_SCAN_KEY,
    K8S_SCAN_LONG_KEY,
    K8S_SCAN_OBJECT, /* it begins */
    K8S_SCAN_ARRAY,
    K8S_SCAN_END, /* of an object or array that was told of, and not passed over */
};

/* `text`: of a KEY or TEXT, without its escapes, gone with the return. It may have NULs and be no good UTF-8;
 * half of a surrogate pair has become U+FFFD. *pass is false; true after a KEY of any length passes over its
 * value, after an OBJECT or ARRAY over the rest of that. Any code but CS_OK ends it all. */
typedef cs_code k8s_scan_fn(void *arg, enum k8s_scan_event what, struct cs_slice text, bool *pass,
                            struct cs_err *e);

/* One thread. */
struct k8s_scan;
CS_CHECKED cs_code k8s_scan_new(k8s_scan_fn *tell, void *arg, struct k8s_scan **out, struct cs_err *e);
/* CS_INVALID: not JSON, and where; CS_EXHAUSTED: nested deeper than K8S_NEST_MAX. No call may follow an error
 * but k8s_scan_free. */
CS_CHECKED cs_code k8s_scan_add(struct k8s_scan *s, struct cs_slice piece, struct cs_err *e);
CS_CHECKED cs_code k8s_scan_end(struct k8s_scan *s, struct cs_err *e); /* there is no more */
void k8s_scan_free(struct k8s_scan *s);                                /* NULL is fine */
static inline void k8s_scan_drop(struct k8s_scan **s)
{
    k8s_scan_free(*s);
    *s = NULL;
}

#endif

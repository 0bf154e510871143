/* SPDX-License-Identifier: Apache-2.0
 *
 * The one error value of the project: a code, and a text naming the thing at fault.
 *
 * Every function that can fail returns `cs_code` (CS_OK is 0), is marked CS_CHECKED so that the
 * compiler refuses an ignored result, and takes a `struct cs_err *` as its last parameter, which
 * may be NULL when the caller does not want the text. On any code but CS_OK all out-parameters
 * are left NULL/zero unless the function says otherwise. Texts never contain a secret.
 */
#ifndef CS_BASE_ERR_H
#define CS_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define CS_CHECKED __attribute__((warn_unused_result))
#define CS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Codes are numerically the canonical gRPC status codes (gRPC doc/statuscodes.md), so a handler's
 * result is its status without any mapping. */
typedef enum cs_code {
    CS_OK = 0,
    CS_CANCELLED = 1,
    CS_UNKNOWN = 2,
    CS_INVALID = 3,  /* InvalidArgument: the input is at fault */
    CS_DEADLINE = 4, /* DeadlineExceeded */
    CS_NOT_FOUND = 5,
    CS_EXISTS = 6,       /* AlreadyExists */
    CS_DENIED = 7,       /* PermissionDenied */
    CS_EXHAUSTED = 8,    /* ResourceExhausted: a limit or quota was met */
    CS_PRECONDITION = 9, /* FailedPrecondition */
    CS_ABORTED = 10,
    CS_OUT_OF_RANGE = 11,
    CS_UNIMPLEMENTED = 12,
    CS_INTERNAL = 13,    /* a bug, a broken invariant, or no memory */
    CS_UNAVAILABLE = 14, /* try again: peer away, shutting down */
    CS_DATA_LOSS = 15,
    CS_UNAUTHENTICATED = 16,
} cs_code;

#define CS_ERR_TEXT_MAX 512

/* Caller-owned, never allocates; safe to copy. Text is always NUL-terminated. */
struct cs_err {
    cs_code code;
    char text[CS_ERR_TEXT_MAX];
};

/* Set *e (if not NULL) and return `code`, so that `return cs_fail(e, CS_INVALID, "...")` reads well. */
CS_PRINTF(3, 4) cs_code cs_fail(struct cs_err *e, cs_code code, const char *fmt, ...);

/* Put "prefix: " in front of the text already in *e; returns e->code (CS_INTERNAL when e is NULL
 * or holds CS_OK). */
CS_PRINTF(2, 3) cs_code cs_wrap(struct cs_err *e, const char *fmt, ...);

/* As cs_fail, with ": " and the system's text of errnum appended as Go words it ("no such file or
 * directory": lower case, any thread). */
CS_PRINTF(4, 5) cs_code cs_fail_errno(struct cs_err *e, cs_code code, int errnum, const char *fmt, ...);

/* "no memory" error; returns CS_INTERNAL. */
cs_code cs_nomem(struct cs_err *e);

/* gRPC's name of a code as grpc-go prints it ("InvalidArgument"); "Code(99)" style names are not
 * made here: unknown codes give "Unknown". Static string. */
const char *cs_code_name(cs_code code);

/* True when the same call may succeed later without anybody changing anything. */
bool cs_code_retryable(cs_code code);

/* Pass an error up: evaluates `call` once. The only macro of the project that hides a return. */
#define CS_TRY(call)                                                                                         \
    do {                                                                                                     \
        cs_code try_code_ = (call);                                                                          \
        if (try_code_ != CS_OK)                                                                              \
            return try_code_;                                                                                \
    } while (0)

/* Scoped ownership: CS_AUTO(cs_bundle) b = ...; calls cs_bundle_drop(&b) at scope end.
 * A type T offers `static inline void T_drop(struct T **p)`. CS_MOVE gives ownership away. */
#define CS_AUTO(T) __attribute__((cleanup(T##_drop))) struct T *
#define CS_CLEANUP(fn) __attribute__((cleanup(fn)))
#define CS_MOVE(p)                                                                                           \
    __extension__({                                                                                          \
        __typeof__(p) moved_ = (p);                                                                          \
        (p) = NULL;                                                                                          \
        moved_;                                                                                              \
    })

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Copies a formatted text of `n` characters (as snprintf counts) into e. A text that was cut loses
 * its last broken UTF-8 character too, so that it stays fit for logs and grpc-message. */
static void set_text(struct cs_err *e, const char *text, int n)
{
    size_t len = n < 0 ? 0 : (size_t)n;

    if (len >= CS_ERR_TEXT_MAX) {
        len = CS_ERR_TEXT_MAX - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(e->text, text, len);
    e->text[len] = '\0';
}

/* The texts are made aside, for callers pass e->text itself as an argument. One byte more than fits
 * shows whether a cut falls inside a character. */
#define SCRATCH (CS_ERR_TEXT_MAX + 1)

cs_code cs_fail(struct cs_err *e, cs_code code, const char *fmt, ...)
{
    if (e == NULL)
        return code;
    char scratch[SCRATCH];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(scratch, sizeof scratch, fmt, ap);
    va_end(ap);
    set_text(e, scratch, n);
    e->code = code;
    return code;
}

cs_code cs_wrap(struct cs_err *e, const char *fmt, ...)
{
    if (e == NULL)
        return CS_INTERNAL;
    char scratch[SCRATCH];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(scratch, sizeof scratch, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < (int)sizeof scratch) {
        int m = snprintf(scratch + n, sizeof scratch - (size_t)n, ": %s", e->text);
        n = m < 0 ? n : n + m;
    }
    set_text(e, scratch, n);
    if (e->code == CS_OK)
        e->code = CS_INTERNAL;
    return e->code;
}

cs_code cs_fail_errno(struct cs_err *e, cs_code code, int errnum, const char *fmt, ...)
{
    if (e == NULL)
        return code;
    char scratch[SCRATCH];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(scratch, sizeof scratch, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < (int)sizeof scratch) {
        const char *desc = strerrordesc_np(errnum);
        char *at = scratch + n;
        size_t room = sizeof scratch - (size_t)n;
        int m = desc != NULL ? snprintf(at, room, ": %s", desc) : snprintf(at, room, ": errno %d", errnum);
        /* "No such file" but not "RFS specific error" */
        if (desc != NULL && room > 4 && islower((unsigned char)at[3]))
            at[2] = (char)tolower((unsigned char)at[2]);
        n = m < 0 ? n : n + m;
    }
    set_text(e, scratch, n);
    e->code = code;
    return code;
}

cs_code cs_nomem(struct cs_err *e)
{
    return cs_fail(e, CS_INTERNAL, "out of memory");
}

const char *cs_code_name(cs_code code)
{
    static const char *const names[] = {
        [CS_OK] = "OK",
        [CS_CANCELLED] = "Canceled",
        [CS_UNKNOWN] = "Unknown",
        [CS_INVALID] = "InvalidArgument",
        [CS_DEADLINE] = "DeadlineExceeded",
        [CS_NOT_FOUND] = "NotFound",
        [CS_EXISTS] = "AlreadyExists",
        [CS_DENIED] = "PermissionDenied",
        [CS_EXHAUSTED] = "ResourceExhausted",
        [CS_PRECONDITION] = "FailedPrecondition",
        [CS_ABORTED] = "Aborted",
        [CS_OUT_OF_RANGE] = "OutOfRange",
        [CS_UNIMPLEMENTED] = "Unimplemented",
        [CS_INTERNAL] = "Internal",
        [CS_UNAVAILABLE] = "Unavailable",
        [CS_DATA_LOSS] = "DataLoss",
        [CS_UNAUTHENTICATED] = "Unauthenticated",
    };
    if ((unsigned)code >= sizeof names / sizeof names[0])
        return names[CS_UNKNOWN];
    return names[code];
}

bool cs_code_retryable(cs_code code)
{
    return code == CS_UNAVAILABLE || code == CS_DEADLINE || code == CS_ABORTED || code == CS_EXHAUSTED;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Templates of SCONE sessions: text with placeholders, `<\svid>` and so on, as the sconecas_sessionmanager
 * plugin of UFCG's SPIRE knows them. A template is read and checked once; making a session of it is one pass
 * over the template, so that what is put in is never looked at again.
 */
#ifndef CS_MODULES_SCONECAS_TEMPLATE_H
#define CS_MODULES_SCONECAS_TEMPLATE_H

#include "base/buf.h"

/* The three kinds of session; each knows its own placeholders and <\predecessor>. */
enum scone_kind { SCONE_SVID, SCONE_BUNDLE, SCONE_FEDERATED };
#define SCONE_KINDS 3

enum scone_placeholder {
    SCONE_PREDECESSOR,
    SCONE_LEAF,           /* <\svid> */
    SCONE_INTERMEDIATES,  /* <\svid-intermediates> */
    SCONE_KEY,            /* <\svid-key> */
    SCONE_SESSION_NAME,   /* <\session-name-selector> */
    SCONE_SESSION_HASH,   /* <\session-hash-selector> */
    SCONE_BUNDLE_NAME,    /* <\trust-bundle-session-name> */
    SCONE_BUNDLE_PEM,     /* <\trust-bundle> */
    SCONE_FEDERATED_NAME, /* <\fed-bundles-session-name> */
    SCONE_FEDERATED_PEM,  /* <\federated-bundles> */
    SCONE_PLACEHOLDERS
};
/* What is put in, by placeholder; those that are not set put in nothing. PEM is indented: eight blanks after
 * each line end, whatever column the placeholder stands in. */
struct scone_values {
    struct cs_slice at[SCONE_PLACEHOLDERS];
};

#define SCONE_TEMPLATE_MAX ((size_t)256 * 1024)

/* Immutable; any thread. */
struct scone_template;

/* Reads a template; the text is copied. CS_INVALID `line 7: unknown placeholder "<\svid-keys>"`,
 * `cannot find session name in template` (no line begins with "name:"), CS_EXHAUSTED past
 * SCONE_TEMPLATE_MAX. Placeholders in lines that are comments are not looked at. */
CS_CHECKED cs_code scone_template_parse(enum scone_kind kind, struct cs_slice text,
                                        struct scone_template **out, struct cs_err *e);
void scone_template_free(struct scone_template *t); /* NULL is fine */
static inline void scone_template_drop(struct scone_template **t)
{
    scone_template_free(*t);
    *t = NULL;
}

/* What cannot be right but need not be wrong, in words: `line 9: ...`. Borrowed; NULL past the last. */
const char *scone_template_warning(const struct scone_template *t, size_t i);

/* Whether the text has the placeholder. */
bool scone_template_has(const struct scone_template *t, enum scone_placeholder p);

/* Appends the session; *out keeps no copy behind when it grows, so it may hold a key. */
CS_CHECKED cs_code scone_template_render(const struct scone_template *t, const struct scone_values *v,
                                         struct cs_buf *out, struct cs_err *e);

/* Appends the session's name: that of the template, with the name that the kind's selector gives. */
CS_CHECKED cs_code scone_template_name(const struct scone_template *t, const struct scone_values *v,
                                       struct cs_buf *out, struct cs_err *e);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the credentials: what the environment and the files say becomes a plan, which then is carried
 * out.
 */
#ifndef CS_MODULES_AWS_CREDENTIALS_INTERNAL_H
#define CS_MODULES_AWS_CREDENTIALS_INTERNAL_H

#include "plugins/modules/aws/credentials/credentials.h"

/* --- text.c --- */

const char *aws_env(const char *name); /* NULL when not set or empty */
/* Frees after overwriting; for CS_CLEANUP on a char * too. */
void aws_wipe_text(char **s);
/* A copy with an end of its own; NULL: no memory. */
char *aws_copy(struct cs_slice s);
/* Takes over the texts of `from`, which are used in headers: CS_INTERNAL when there are none, or when they
 * have something in them that is no printable character. `expires` as RFC 3339; NULL: never. */
CS_CHECKED cs_code aws_credentials_take(struct aws_credentials *from, const char *expires,
                                        struct aws_credentials *out, struct cs_err *e);

/* --- ini.c: the shared files ("Shared config and credentials files" of the reference guide) --- */

enum aws_key {
    AWS_KEY_ID,
    AWS_KEY_SECRET,
    AWS_KEY_TOKEN,
    AWS_KEY_ROLE,
    AWS_KEY_SOURCE_PROFILE,
    AWS_KEY_CREDENTIAL_SOURCE,
    AWS_KEY_EXTERNAL_ID,
    AWS_KEY_MFA,
    AWS_KEY_SESSION_NAME,
    AWS_KEY_DURATION,
    AWS_KEY_WEB_IDENTITY,
    AWS_KEY_PROCESS,
    AWS_KEY_LOGIN,
    AWS_KEY_SSO_SESSION, /* the four of SSO follow it */
    AWS_KEY_SSO_REGION,
    AWS_KEY_SSO_URL,
    AWS_KEY_SSO_ACCOUNT,
    AWS_KEY_SSO_ROLE,
    AWS_KEY_METADATA,
    AWS_KEY_METADATA_MODE,
    AWS_KEY_COUNT,
};
extern const char *const aws_key_names[AWS_KEY_COUNT];

struct aws_profile {
    char *name;
    char *at[AWS_KEY_COUNT]; /* NULL: not there */
    bool half;               /* one of the two keys is missing in the file that counts */
};
/* Single owner; wiped when freed. Zero-initialise. */
struct aws_profiles {
    struct aws_profile *at;
    size_t count, cap;
};
#define AWS_FILE_MAX ((size_t)1 << 20)
#define AWS_VALUE_MAX ((size_t)16384)
#define AWS_PROFILES_MAX 4096
void aws_profiles_free(struct aws_profiles *p);
enum aws_file { AWS_FILE_CONFIG, AWS_FILE_CREDENTIALS };
/* The profiles of one file. Lines that mean nothing are passed over, as in the SDK. CS_EXHAUSTED past the
 * limits, CS_INVALID for a NUL byte. */
CS_CHECKED cs_code aws_profiles_parse(struct cs_slice text, enum aws_file kind, struct aws_profiles *out,
                                      struct cs_err *e);
/* Puts those of the file of credentials over those of the other one, and empties `from`. */
CS_CHECKED cs_code aws_profiles_merge(struct aws_profiles *into, struct aws_profiles *from, struct cs_err *e);
/* NULL: none of this name. */
const struct aws_profile *aws_profiles_find(const struct aws_profiles *p, const char *name);

/* --- plan.c and profile.c: where credentials come from --- */

enum aws_source { AWS_SOURCE_FIXED, AWS_SOURCE_WEB_IDENTITY, AWS_SOURCE_CONTAINER, AWS_SOURCE_INSTANCE };
struct aws_role {
    char *arn, *session, *external_id; /* the latter two may be NULL */
    int64_t seconds;
};
#define AWS_ROLES_MAX 8
#define AWS_ROLE_SECONDS 900 /* the least that AWS gives, which is what its SDK asks for */
/* Single owner; wiped when freed. Zero-initialise. */
struct aws_plan {
    enum aws_source source;
    struct aws_credentials fixed;
    char *token_file;    /* of web identity */
    struct aws_role web; /* and its role */
    char *url, *host;    /* of the container's endpoint; host NULL: the URL's */
    char *auth, *auth_file;
    char *metadata; /* of the instance, without a slash at its end */
    /* Assumed one after the other, each with the credentials of the one before. */
    struct aws_role roles[AWS_ROLES_MAX];
    size_t role_count;
    char *config_file, *credentials_file; /* that were looked at; NULL: not */
};
void aws_plan_free(struct aws_plan *p);
CS_CHECKED cs_code aws_plan_make(const char *id, const char *secret, const struct cs_log *log,
                                 struct aws_plan *out, struct cs_err *e);
/* Of the profile `name`; `needed`: it must be there. Adds to a plan that is empty but for the names of its
 * files. */
CS_CHECKED cs_code aws_plan_profile(const struct aws_profiles *p, const char *name, bool needed,
                                    struct aws_plan *out, struct cs_err *e);
/* container.c: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI; CS_NOT_FOUND: neither. */
CS_CHECKED cs_code aws_plan_container(struct aws_plan *out, struct cs_err *e);
/* The SDK's rule for _FULL_URI: https, or a host that is this one or a container agent's. *url is what to
 * ask, with the host as a number, *host what its header says (NULL: as the URL). */
CS_CHECKED cs_code aws_container_url(const char *full, char **url, char **host, struct cs_err *e);

/* --- Carrying it out --- */

struct aws_chain {
    char *region, *id, *secret;
    struct http_client *http, *near; /* near: on this machine, no proxy */
    const struct crypto_stop *stop;
    const struct cs_clock *clock;
    const struct cs_log *log;
    struct aws_plan plan;
    struct aws_stamp {
        int64_t mtime_ns, ctime_ns;
        uint64_t device, inode, size;
    } seen[4];                    /* of the files, as they were before they were read */
    struct aws_credentials found; /* id NULL: none yet */
    int64_t again_ns;             /* monotonic: not before that after a failure */
};
#define AWS_NEAR_NS (5 * CS_NS_PER_S) /* for what is near or not there */
#define AWS_TOKEN_MAX ((size_t)65536)
CS_CHECKED cs_code aws_ask_container(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e);
CS_CHECKED cs_code aws_ask_instance(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e);
CS_CHECKED cs_code aws_ask_web_identity(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e);
CS_CHECKED cs_code aws_ask_role(struct aws_chain *c, const struct aws_role *r,
                                const struct aws_credentials *with, struct aws_credentials *out,
                                struct cs_err *e);
/* sts.c: what STS answered; the text is that of AWS's SDK for Go. */
CS_CHECKED cs_code aws_sts_read(int status, struct cs_slice xml, struct aws_credentials *out,
                                struct cs_err *e);
/* json.c: what the container's and the instance's endpoint answer; `coded`: it says "Code": "Success", or why
 * not. */
CS_CHECKED cs_code aws_json_credentials(struct cs_slice text, bool coded, struct aws_credentials *out,
                                        struct cs_err *e);

/* --- xml.c --- */

#define AWS_XML_DEPTH 16
#define AWS_XML_TEXT_MAX ((size_t)16384)
struct aws_xml_text {
    const char *name;
    char *text; /* single owner, wiped by aws_xml_free; NULL: no such element */
};
/* Texts of the first elements of these names, at any depth, entities resolved. CS_INVALID: no XML, elements
 * within a wanted one, a document type; CS_EXHAUSTED past the limits. Nothing is left on failure. */
CS_CHECKED cs_code aws_xml_texts(struct cs_slice xml, struct aws_xml_text *want, size_t count,
                                 struct cs_err *e);
void aws_xml_free(struct aws_xml_text *want, size_t count);

#endif

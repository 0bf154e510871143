/* SPDX-License-Identifier: Apache-2.0
 *
 * Plugins for SPIRE servers and agents, written in C. A program that fills in a struct cspire_plugin and
 * hands it to cspire_plugin_main is an external plugin (plugin_cmd) of cspire and of SPIRE alike: it speaks
 * go-plugin protocol 1 and version 1 of SPIRE's plugin services.
 *
 *     static enum cspire_code attest(void *self, struct cspire_call *call, int32_t pid)
 *     {
 *         (void)self;
 *         return cspire_reply_selector(call, "pid:%d", (int)pid);
 *     }
 *     static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = attest};
 *     static const struct cspire_plugin plugin = {
 *         .size = sizeof plugin, .kind = CSPIRE_WORKLOAD_ATTESTOR, .ops = {.workload_attestor = &ops}};
 *     int main(int argc, char **argv)
 *     {
 *         return cspire_plugin_main(argc, argv, &plugin);
 *     }
 *
 * This header needs nothing but C11 (or C++11) and its standard headers.
 *
 * Binary interface. Structs that begin with `size` may get members at their end in later versions: who fills
 * one in sets `size` to the sizeof it was compiled with, who reads one does not look past `size`. Members
 * that are not set are zero. All other structs, numbers and functions stay as they are as long as the library
 * is libcspire-plugin.so.0.
 *
 * Threads. Operations are called on worker threads, several at once and each for as long as it takes, unless
 * the plugin asks for CSPIRE_SERIAL. A call (struct cspire_call) is used by one thread at a time. Functions
 * that take a struct cspire_env may be called from any thread, also threads of the plugin's own.
 *
 * Memory. What an operation is given is borrowed until it returns. What it answers goes through
 * cspire_reply_* functions, which copy. cspire_alloc gives memory that ends with the call. Text is UTF-8 and
 * ends with NUL; text that is given is never NULL unless it says so.
 *
 * Signals. SIGTERM ends the program in good order and SIGINT is passed over (a terminal sends it to all
 * programs in it); both are blocked in all threads, and in programs that the plugin starts until they
 * unblock them. SIGPIPE is ignored.
 */
#ifndef CSPIRE_PLUGIN_H
#define CSPIRE_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CSPIRE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CSPIRE_PRINTF(fmt, args)
#endif

/* --- Basics --- */

/* How an operation ended: the numbers of gRPC's status codes. */
enum cspire_code {
    CSPIRE_OK = 0,
    CSPIRE_CANCELLED = 1,
    CSPIRE_UNKNOWN = 2,
    CSPIRE_INVALID_ARGUMENT = 3,
    CSPIRE_DEADLINE_EXCEEDED = 4,
    CSPIRE_NOT_FOUND = 5,
    CSPIRE_ALREADY_EXISTS = 6,
    CSPIRE_PERMISSION_DENIED = 7,
    CSPIRE_RESOURCE_EXHAUSTED = 8,
    CSPIRE_FAILED_PRECONDITION = 9,
    CSPIRE_ABORTED = 10,
    CSPIRE_OUT_OF_RANGE = 11,
    CSPIRE_UNIMPLEMENTED = 12,
    CSPIRE_INTERNAL = 13,
    CSPIRE_UNAVAILABLE = 14,
    CSPIRE_DATA_LOSS = 15,
    CSPIRE_UNAUTHENTICATED = 16
};

struct cspire_bytes {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};
struct cspire_texts {
    const char *const *at;
    size_t count;
};

/* The plugin as long as it is loaded: from create to destroy. */
struct cspire_env;
/* One call of the host, or one of the plugin's own (cspire_call_new). */
struct cspire_call;
/* The text of plugin_data, as configure and validate see it. */
struct cspire_config;

/* --- One call --- */

struct cspire_env *cspire_call_env(const struct cspire_call *call);

/* Ends the operation with an error: `return cspire_fail(call, CSPIRE_NOT_FOUND, "no key %s", id);`. Returns
 * `code`. The text goes to the host and into its log: never put a secret into it. At most 511 bytes. An
 * operation that returns a code without having said a text is given one by the kit. */
enum cspire_code cspire_fail(struct cspire_call *call, enum cspire_code code, const char *fmt, ...)
    CSPIRE_PRINTF(3, 4);

/* Has the host lost interest (call cancelled, connection gone, plugin about to end)? To be asked in long
 * work. */
bool cspire_cancelled(const struct cspire_call *call);
/* Nanoseconds until the deadline of the call, 0 when it has passed, INT64_MAX when it has none. */
int64_t cspire_time_left(const struct cspire_call *call);

/* n bytes of zeroes, aligned for any type, freed when the call ends. NULL when memory (64 MiB for a call) is
 * out: return cspire_fail(call, CSPIRE_INTERNAL, "no memory"). */
void *cspire_alloc(struct cspire_call *call, size_t n);
/* printf into such memory; NULL as above. */
char *cspire_text(struct cspire_call *call, const char *fmt, ...) CSPIRE_PRINTF(2, 3);

/* A call of the plugin's own, for threads of its own: memory, error text and host services without a call of
 * the host. Released with cspire_call_free before destroy returns. NULL when memory is out. */
struct cspire_call *cspire_call_new(struct cspire_env *env);
void cspire_call_free(struct cspire_call *call); /* NULL is fine */
/* Text of the last failure in this call; "" when there was none. */
const char *cspire_call_error(const struct cspire_call *call);

/* --- Logging: lines in the log of the host, with its fields plugin_name and so on --- */

enum cspire_level {
    CSPIRE_TRACE = 1, /* hosts show it as debug */
    CSPIRE_DEBUG = 2,
    CSPIRE_INFO = 3,
    CSPIRE_WARN = 4,
    CSPIRE_ERROR = 5
};
struct cspire_field {
    const char *key;
    const char *value; /* NULL is shown as "" */
};
void cspire_log(struct cspire_env *env, enum cspire_level level, const char *message,
                const struct cspire_field *fields, size_t count);
/* The same without fields. */
void cspire_logf(struct cspire_env *env, enum cspire_level level, const char *fmt, ...) CSPIRE_PRINTF(3, 4);

/* --- Configuration --- */

/* The text itself, HCL or JSON; "" when none was given. */
const char *cspire_config_text(const struct cspire_config *config);
/* "example.org" */
const char *cspire_config_trust_domain(const struct cspire_config *config);

/* One top-level option each. Without it, *out is left as it was: set the default first.
 * CSPIRE_INVALID_ARGUMENT with a text that names the place when the configuration is not HCL or the value of
 * another kind. What *out points to lives as long as the call. */
enum cspire_code cspire_config_string(struct cspire_call *call, const struct cspire_config *config,
                                      const char *name, const char **out);
enum cspire_code cspire_config_bool(struct cspire_call *call, const struct cspire_config *config,
                                    const char *name, bool *out);
enum cspire_code cspire_config_int(struct cspire_call *call, const struct cspire_config *config,
                                   const char *name, int64_t *out);
/* A duration as Go writes it ("1h30m"), in nanoseconds. */
enum cspire_code cspire_config_duration(struct cspire_call *call, const struct cspire_config *config,
                                        const char *name, int64_t *out);
enum cspire_code cspire_config_strings(struct cspire_call *call, const struct cspire_config *config,
                                       const char *name, struct cspire_texts *out);
/* CSPIRE_INVALID_ARGUMENT `unknown option "x"` when there is an option that is not among `names`. */
enum cspire_code cspire_config_only(struct cspire_call *call, const struct cspire_config *config,
                                    const char *const *names, size_t count);

/* validate: a fault to show to whoever runs `spire-server validate`. With one note or more the configuration
 * is reported as not valid. */
enum cspire_code cspire_reply_note(struct cspire_call *call, const char *fmt, ...) CSPIRE_PRINTF(2, 3);

/* --- Services of the host --- */

enum cspire_host_service {
    CSPIRE_HOST_IDENTITY_PROVIDER = 1, /* servers */
    CSPIRE_HOST_AGENT_STORE = 2,       /* servers */
    CSPIRE_HOST_METRICS = 3            /* servers and agents */
};
/* Does this host say that it offers it (to this kind of plugin)? */
bool cspire_host_offers(const struct cspire_env *env, enum cspire_host_service service);

struct cspire_authority {
    struct cspire_bytes der; /* certificate */
    bool tainted;            /* about to be withdrawn: do not rely on it */
};
struct cspire_jwt_key {
    struct cspire_bytes pkix; /* DER SubjectPublicKeyInfo */
    const char *key_id;
    int64_t expires_at; /* unix seconds; 0: not said */
    bool tainted;
};
/* The trust bundle of a trust domain. */
struct cspire_bundle {
    size_t size;
    const char *trust_domain; /* "example.org" */
    const struct cspire_authority *x509_authorities;
    size_t x509_authority_count;
    const struct cspire_jwt_key *jwt_authorities;
    size_t jwt_authority_count;
    int64_t refresh_hint; /* seconds; 0: not said */
    uint64_t sequence_number;
};
/* The X509-SVID of the server. */
struct cspire_identity {
    size_t size;
    const struct cspire_bytes *chain; /* DER, leaf first */
    size_t chain_count;
    struct cspire_bytes private_key; /* PKCS #8 DER; wiped when the call ends */
    const struct cspire_bundle *bundle;
};
/* All of them block until the host has answered, at most 30 s or the call's time. *out lives as long as the
 * call. CSPIRE_UNIMPLEMENTED when the host does not offer the service; the host's own code and text
 * otherwise: CSPIRE_UNAVAILABLE in particular while the server has no identity yet. */
enum cspire_code cspire_host_identity(struct cspire_call *call, const struct cspire_identity **out);
/* CSPIRE_OK: the server knows this agent ("spiffe://example.org/spire/agent/..."); CSPIRE_NOT_FOUND: not. */
enum cspire_code cspire_host_agent_known(struct cspire_call *call, const char *agent_id);

enum cspire_metric_kind {
    CSPIRE_METRIC_GAUGE = 1,
    CSPIRE_METRIC_KEY = 2, /* takes no labels */
    CSPIRE_METRIC_COUNTER = 3,
    CSPIRE_METRIC_SAMPLE = 4,
    CSPIRE_METRIC_SINCE = 5 /* time since start_ns */
};
struct cspire_metric {
    size_t size;
    enum cspire_metric_kind kind;
    struct cspire_texts key;
    const struct cspire_field *labels;
    size_t label_count;
    float value;
    int64_t start_ns; /* unix nanoseconds, CSPIRE_METRIC_SINCE only */
};
enum cspire_code cspire_host_metric(struct cspire_call *call, const struct cspire_metric *metric);

/* --- The kinds of plugins: one table of operations each ---
 * self is what create made. An operation that is NULL answers CSPIRE_UNIMPLEMENTED; those that may well be
 * are said to be optional. */

/* KeyManager, of servers and of agents (the same operations): private keys by id. */
enum cspire_key_type {
    CSPIRE_KEY_EC_P256 = 1,
    CSPIRE_KEY_EC_P384 = 2,
    CSPIRE_KEY_RSA_2048 = 3,
    CSPIRE_KEY_RSA_4096 = 4
};
enum cspire_hash {
    CSPIRE_HASH_SHA224 = 4,
    CSPIRE_HASH_SHA256 = 5,
    CSPIRE_HASH_SHA384 = 6,
    CSPIRE_HASH_SHA512 = 7,
    CSPIRE_HASH_SHA3_224 = 10,
    CSPIRE_HASH_SHA3_256 = 11,
    CSPIRE_HASH_SHA3_384 = 12,
    CSPIRE_HASH_SHA3_512 = 13,
    CSPIRE_HASH_SHA512_224 = 14,
    CSPIRE_HASH_SHA512_256 = 15
};
struct cspire_sign_request {
    size_t size;
    const char *key_id;
    struct cspire_bytes digest; /* made with `hash` */
    enum cspire_hash hash;
    bool pss;            /* RSA: RSASSA-PSS, otherwise PKCS #1 v1.5 */
    int32_t salt_length; /* PSS: bytes; 0: as long as fits, -1: as long as the hash (Go's numbers) */
};
struct cspire_key_manager_ops {
    size_t size;
    /* Make a key, taking the place of an older one with this id only when the new one is kept.
     * Answer: cspire_reply_key. */
    enum cspire_code (*generate_key)(void *self, struct cspire_call *call, const char *id,
                                     enum cspire_key_type type);
    /* Answer: cspire_reply_key, or none when there is no such key. */
    enum cspire_code (*get_key)(void *self, struct cspire_call *call, const char *id);
    /* Answer: cspire_reply_key for each key. */
    enum cspire_code (*get_keys)(void *self, struct cspire_call *call);
    /* Answer: cspire_reply_signature. */
    enum cspire_code (*sign)(void *self, struct cspire_call *call, const struct cspire_sign_request *request);
};
/* pkix: the public key, DER SubjectPublicKeyInfo. */
enum cspire_code cspire_reply_key(struct cspire_call *call, const char *id, enum cspire_key_type type,
                                  struct cspire_bytes pkix);
/* signature: ASN.1 for EC, the plain number for RSA. pkix: of the key that signed; the host makes sure that
 * it is the key it believes in. */
enum cspire_code cspire_reply_signature(struct cspire_call *call, struct cspire_bytes signature,
                                        struct cspire_bytes pkix);

/* NodeAttestor of servers: is the agent who it says it is? */
struct cspire_attest_request {
    size_t size;
    struct cspire_bytes payload; /* never empty */
    const char *forwarded_host;  /* name by which the agent reached the server, as far as the host says */
    const char *client_ip;       /* address of the agent, as far as the host says; otherwise "" */
};
struct cspire_server_node_attestor_ops {
    size_t size;
    /* First message of an attestation. Answer one of: cspire_reply_agent, with cspire_reply_selector for
     * each selector (the agent is attested), or cspire_reply_challenge (its response is handed to respond).
     * A refusal is CSPIRE_PERMISSION_DENIED. *session is the plugin's, NULL at first. */
    enum cspire_code (*start)(void *self, struct cspire_call *call,
                              const struct cspire_attest_request *request, void **session);
    /* Optional for attestors without challenges. Answers as those of start. */
    enum cspire_code (*respond)(void *self, struct cspire_call *call, void *session,
                                struct cspire_bytes response);
    /* The attestation is over, however it went. Once after each start that set a session. Optional. */
    void (*end)(void *self, void *session);
};
/* agent_id: "spiffe://TRUST-DOMAIN/spire/agent/NAME/...", NAME being that of the plugin in the configuration.
 * can_reattest: may attest again while it is known already. */
enum cspire_code cspire_reply_agent(struct cspire_call *call, const char *agent_id, bool can_reattest);
enum cspire_code cspire_reply_challenge(struct cspire_call *call, struct cspire_bytes challenge);

/* NodeAttestor of agents: the other end of it. */
struct cspire_agent_node_attestor_ops {
    size_t size;
    /* Answer: cspire_reply_payload. *session as above. */
    enum cspire_code (*start)(void *self, struct cspire_call *call, void **session);
    /* Optional. The server's challenge; answer: cspire_reply_payload with the response. */
    enum cspire_code (*respond)(void *self, struct cspire_call *call, void *session,
                                struct cspire_bytes challenge);
    void (*end)(void *self, void *session); /* as above */
};
enum cspire_code cspire_reply_payload(struct cspire_call *call, struct cspire_bytes payload);

/* WorkloadAttestor of agents: what kind of process is this? */
struct cspire_reference {
    size_t size;
    const char *type_url; /* of the message in value, "type.googleapis.com/..." */
    struct cspire_bytes value;
};
struct cspire_workload_attestor_ops {
    size_t size;
    /* Answer: cspire_reply_selector for each selector; none at all is fine. The host holds on to the
     * process meanwhile, as far as it can; read what belongs together in one go all the same. */
    enum cspire_code (*attest)(void *self, struct cspire_call *call, int32_t pid);
    /* Optional: a workload known by something else than its process. */
    enum cspire_code (*attest_reference)(void *self, struct cspire_call *call,
                                         const struct cspire_reference *reference);
};
/* A selector without its type, which is the plugin's name in the configuration: "sha256:0a1b...". */
enum cspire_code cspire_reply_selector(struct cspire_call *call, const char *fmt, ...) CSPIRE_PRINTF(2, 3);

/* UpstreamAuthority of servers: a CA above the server's. */
struct cspire_upstream_authority_ops {
    size_t size;
    /* Sign the request (DER PKCS #10) of a new CA. ttl_s is a wish, 0: none. Answer: cspire_reply_certificate
     * for the new CA and then each intermediate, cspire_reply_authority for each root. Later changes:
     * cspire_push_authorities. */
    enum cspire_code (*mint_x509_ca)(void *self, struct cspire_call *call, struct cspire_bytes csr,
                                     int64_t ttl_s);
    /* Optional: publish a JWT key above. Answer: cspire_reply_jwt_key for each that is known there now. Later
     * changes: cspire_push_jwt_keys. */
    enum cspire_code (*publish_jwt_key)(void *self, struct cspire_call *call,
                                        const struct cspire_jwt_key *key);
    /* Optional: what is trusted above, without publishing anything. Answers: cspire_reply_authority and
     * cspire_reply_jwt_key. Later changes: both pushes. */
    enum cspire_code (*get_bundle)(void *self, struct cspire_call *call);
};
enum cspire_code cspire_reply_certificate(struct cspire_call *call, struct cspire_bytes der);
enum cspire_code cspire_reply_authority(struct cspire_call *call, const struct cspire_authority *authority);
enum cspire_code cspire_reply_jwt_key(struct cspire_call *call, const struct cspire_jwt_key *key);
/* All roots, or all JWT keys, as they are from now on, to whoever of the host listens. Copied; does not
 * block. CSPIRE_UNAVAILABLE: nobody listens. CSPIRE_INTERNAL: no memory. */
enum cspire_code cspire_push_authorities(struct cspire_env *env, const struct cspire_authority *authorities,
                                         size_t count);
enum cspire_code cspire_push_jwt_keys(struct cspire_env *env, const struct cspire_jwt_key *keys,
                                      size_t count);

/* Notifier of servers: told about changes of the bundle. */
struct cspire_notifier_ops {
    size_t size;
    /* Optional. What it returns changes nothing but the log. */
    enum cspire_code (*bundle_updated)(void *self, struct cspire_call *call,
                                       const struct cspire_bundle *bundle);
    /* Optional. At the start of the server, which ends when this fails. */
    enum cspire_code (*bundle_loaded)(void *self, struct cspire_call *call,
                                      const struct cspire_bundle *bundle);
};

/* BundlePublisher of servers: bring the bundle to where others read it. */
struct cspire_bundle_publisher_ops {
    size_t size;
    enum cspire_code (*publish)(void *self, struct cspire_call *call, const struct cspire_bundle *bundle);
};

/* CredentialComposer of servers: change certificates and tokens before they are signed. */
struct cspire_extension {
    const char *oid;           /* "1.2.3.4" */
    struct cspire_bytes value; /* content of extnValue */
    bool critical;
};
struct cspire_name_attribute {
    const char *oid, *value;
};
struct cspire_name {
    struct cspire_texts country, organization, organizational_unit, locality, province, street_address,
        postal_code;
    const char *serial_number, *common_name;
    const struct cspire_name_attribute *extra;
    size_t extra_count;
};
/* Change in place, with memory of the call (cspire_alloc, cspire_text, cspire_texts_add) or constants. */
struct cspire_x509_attributes {
    size_t size;
    struct cspire_name subject;
    struct cspire_texts dns_sans;           /* SVIDs only */
    struct cspire_texts policy_identifiers; /* CAs only: OIDs */
    const struct cspire_extension *extensions;
    size_t extension_count;
};
/* All optional. spiffe_id: whose certificate it is; public_key: DER SubjectPublicKeyInfo of it. */
struct cspire_credential_composer_ops {
    size_t size;
    enum cspire_code (*server_x509_ca)(void *self, struct cspire_call *call,
                                       struct cspire_x509_attributes *attributes);
    enum cspire_code (*server_x509_svid)(void *self, struct cspire_call *call,
                                         struct cspire_x509_attributes *attributes);
    enum cspire_code (*agent_x509_svid)(void *self, struct cspire_call *call, const char *spiffe_id,
                                        struct cspire_bytes public_key,
                                        struct cspire_x509_attributes *attributes);
    enum cspire_code (*workload_x509_svid)(void *self, struct cspire_call *call, const char *spiffe_id,
                                           struct cspire_bytes public_key,
                                           struct cspire_x509_attributes *attributes);
    /* claims: a JSON object. To change them: cspire_reply_claims with all of them. */
    enum cspire_code (*workload_jwt_svid)(void *self, struct cspire_call *call, const char *spiffe_id,
                                          const char *claims);
};
/* CSPIRE_INVALID_ARGUMENT when it is no JSON object. */
enum cspire_code cspire_reply_claims(struct cspire_call *call, const char *claims);
/* A text more, at the end of a copy of the list. */
enum cspire_code cspire_texts_add(struct cspire_call *call, struct cspire_texts *texts, const char *fmt, ...)
    CSPIRE_PRINTF(3, 4);

/* SVIDStore of agents: put SVIDs where workloads without an agent read them. */
struct cspire_federated_bundle {
    const char *trust_domain;
    struct cspire_bytes bundle; /* DER certificates, one after another */
};
struct cspire_svid {
    size_t size;
    const char *spiffe_id;
    const struct cspire_bytes *chain; /* DER, leaf first */
    size_t chain_count;
    struct cspire_bytes private_key;   /* PKCS #8 DER; wiped when the operation returns */
    const struct cspire_bytes *bundle; /* DER each */
    size_t bundle_count;
    const struct cspire_federated_bundle *federated;
    size_t federated_count;
    int64_t expires_at; /* unix seconds */
};
struct cspire_svid_store_ops {
    size_t size;
    /* metadata: the selectors of the entry that are of this plugin's type, "secretname:web" for instance.
     * Putting again replaces. */
    enum cspire_code (*put)(void *self, struct cspire_call *call, const struct cspire_svid *svid,
                            struct cspire_texts metadata);
    /* What is not there any more is no failure. */
    enum cspire_code (*remove)(void *self, struct cspire_call *call, struct cspire_texts metadata);
};

/* --- The plugin --- */

enum cspire_kind {
    CSPIRE_SERVER_KEY_MANAGER = 1,
    CSPIRE_SERVER_NODE_ATTESTOR = 2,
    CSPIRE_UPSTREAM_AUTHORITY = 3,
    CSPIRE_NOTIFIER = 4,
    CSPIRE_BUNDLE_PUBLISHER = 5,
    CSPIRE_CREDENTIAL_COMPOSER = 6,
    CSPIRE_AGENT_KEY_MANAGER = 7,
    CSPIRE_AGENT_NODE_ATTESTOR = 8,
    CSPIRE_WORKLOAD_ATTESTOR = 9,
    CSPIRE_SVID_STORE = 10
};
/* Flag: operations, configure and end included, are called one at a time. */
#define CSPIRE_SERIAL UINT32_C(1)

union cspire_ops {
    const struct cspire_key_manager_ops *key_manager; /* of servers and agents */
    const struct cspire_server_node_attestor_ops *server_node_attestor;
    const struct cspire_upstream_authority_ops *upstream_authority;
    const struct cspire_notifier_ops *notifier;
    const struct cspire_bundle_publisher_ops *bundle_publisher;
    const struct cspire_credential_composer_ops *credential_composer;
    const struct cspire_agent_node_attestor_ops *agent_node_attestor;
    const struct cspire_workload_attestor_ops *workload_attestor;
    const struct cspire_svid_store_ops *svid_store;
};

struct cspire_plugin {
    size_t size;
    enum cspire_kind kind;
    uint32_t flags;
    union cspire_ops ops; /* the member for the kind */

    /* All optional. create: once, before anything else; *self is handed to all operations (NULL without
     * create). Host services can be called. destroy: once, when no operation runs any more. */
    enum cspire_code (*create)(struct cspire_call *call, void **self);
    void (*destroy)(void *self);

    /* Called after create, before any operation, and again when plugin_data_file changed; then operations may
     * be running: change what they read under a lock, or all at once. After a failure the older configuration
     * is still to be used. A plugin without it is refused when somebody gives it plugin_data. */
    enum cspire_code (*configure)(void *self, struct cspire_call *call, const struct cspire_config *config);
    /* Look at a configuration without taking it: cspire_reply_note for each fault. Needs configure. Without
     * it the host is told that nothing was looked at (CSPIRE_UNIMPLEMENTED). */
    enum cspire_code (*validate)(void *self, struct cspire_call *call, const struct cspire_config *config);
};

/* Serves the plugin until the host says that it is over or has gone itself; the program's exit status, to be
 * returned from main. Call it once, from main, before threads are started. Arguments of the program
 * (plugin_args) are the plugin's own. A program that was not started by a host is told so on standard error,
 * and the result is 1. After the start, what is printed to standard output shows up in the host's log like
 * what is printed to standard error: as lines of level debug. */
int cspire_plugin_main(int argc, char **argv, const struct cspire_plugin *plugin);

/* Version of the library, "0.1.0". */
const char *cspire_plugin_version(void);

#ifdef __cplusplus
}
#endif

#endif

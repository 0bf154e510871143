/* SPDX-License-Identifier: Apache-2.0
 *
 * Where credentials are found, and what their files say.
 */
#include "base/file.h"
#include "crypto/jose.h"
#include "plugins/modules/gcp/gcp.h"
#include "plugins/modules/gcp/secret.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define UNIVERSE "googleapis.com"
#define WELL_KNOWN "/.config/gcloud/application_default_credentials.json"
#define METADATA_IP "169.254.169.254"
#define PRODUCT_FILE "/sys/class/dmi/id/product_name"
#define PROBE_NS (3 * CS_NS_PER_S)
#define NOT_FOUND                                                                                            \
    "credentials: could not find default credentials. See "                                                  \
    "https://cloud.google.com/docs/authentication/external/set-up-adc for more information"

void gcp_json_wipe(json_t **j)
{
    const char *name;
    json_t *value;
    json_object_foreach(*j, name, value)
    {
        if (json_is_string(value))
            cs_wipe((void *)(uintptr_t)json_string_value(value), json_string_length(value));
    }
    gcp_json_drop(j);
}

void gcp_form_add(struct cs_buf *out, const char *name, struct cs_slice value)
{
    if (out->len > 0)
        cs_buf_add_byte(out, '&');
    cs_buf_printf(out, "%s=", name);
    http_escape(out, value);
}

void gcp_credentials_free(struct gcp_credentials *c)
{
    if (c == NULL)
        return;
    crypto_signer_unref(c->signer);
    cs_secret_free(c->client_secret);
    cs_secret_free(c->refresh_token);
    cs_free(c->token_uri);
    cs_free(c->email);
    cs_free(c->key_id);
    cs_free(c->client_id);
    cs_free(c->quota_project);
    cs_free(c);
}

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* --- Addresses --- */

static bool is_here(const char *host, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    if ((len == 9 && memcmp(host, "localhost", 9) == 0) || (len == 5 && memcmp(host, "[::1]", 5) == 0))
        return true;
    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

cs_code gcp_url_check(const char *url, struct cs_err *e)
{
    const bool tls = strncmp(url, "https://", 8) == 0;
    if (!tls && strncmp(url, "http://", 7) != 0)
        return cs_fail(e, CS_INVALID, "\"%.256s\" is no https:// URL", url);
    const char *authority = url + (tls ? 8 : 7);
    const size_t len = strcspn(authority, "/");
    const size_t host = *authority == '[' ? strcspn(authority, "]") + 1 : strcspn(authority, ":/");
    if (len == 0 || memchr(authority, '@', len) != NULL || strpbrk(url, "?#\\ \t\r\n") != NULL)
        return cs_fail(e, CS_INVALID, "\"%.256s\" is no URL of a server", url);
    const bool whole = host == len || (host < len && authority[host] == ':');
    if (!tls && (!whole || !is_here(authority, host)))
        return cs_fail(e, CS_INVALID, "\"%.256s\": http:// is for this machine only", url);
    return CS_OK;
}

cs_code gcp_metadata_url(struct cs_buf *out, struct cs_err *e)
{
    const char *host = env("GCE_METADATA_HOST");
    if (host != NULL && strpbrk(host, "/?#@ \t\r\n\\") != NULL)
        return cs_fail(e, CS_INVALID, "GCE_METADATA_HOST \"%.256s\" is no host", host);
    cs_buf_printf(out, "http://%s/", host != NULL ? host : METADATA_IP);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* --- Files --- */

/* Text of a member; *out stays NULL when it is not there, or "". */
static cs_code text_of(const json_t *j, const char *name, const char **out, struct cs_err *e)
{
    const json_t *value = json_object_get(j, name);
    *out = NULL;
    if (value == NULL || json_is_null(value))
        return CS_OK;
    if (!json_is_string(value))
        return cs_fail(e, CS_INVALID, "credentials: %s is no string", name);
    if (json_string_length(value) > 0)
        *out = json_string_value(value);
    return CS_OK;
}

static cs_code copy_of(const json_t *j, const char *name, char **out, struct cs_err *e)
{
    const char *text;
    CS_TRY(text_of(j, name, &text, e));
    if (text == NULL)
        return CS_OK;
    *out = cs_strdup(text);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static cs_code secret_of(const json_t *j, const char *name, struct cs_secret **out, struct cs_err *e)
{
    const char *text;
    CS_TRY(text_of(j, name, &text, e));
    return text == NULL ? CS_OK : cs_secret_copy(text, strlen(text), out, e);
}

static cs_code read_key(const json_t *j, struct gcp_credentials *c, struct cs_err *e)
{
    const char *pem;
    CS_AUTO(crypto_key) key = NULL;
    CS_TRY(text_of(j, "private_key", &pem, e));
    if (pem == NULL)
        return cs_fail(e, CS_INVALID, "credentials: private_key is missing");
    if (crypto_key_parse_pem(cs_slice_str(pem), &key, e) != CS_OK)
        return cs_wrap(e, "credentials: could not parse key");
    if (jose_alg_for_key(crypto_key_type_of(key)) != JOSE_RS256)
        return cs_fail(e, CS_INVALID, "credentials: private_key is no RSA key of at least 2048 bits");
    return crypto_signer_of_key(key, &c->signer, e);
}

static cs_code read_service_account(const json_t *j, struct gcp_credentials *c, struct cs_err *e)
{
    c->kind = GCP_SERVICE_ACCOUNT;
    CS_TRY(copy_of(j, "client_email", &c->email, e));
    CS_TRY(copy_of(j, "private_key_id", &c->key_id, e));
    if (c->email == NULL)
        return cs_fail(e, CS_INVALID, "credentials: client_email is missing");
    return read_key(j, c, e);
}

static cs_code read_user(const json_t *j, struct gcp_credentials *c, struct cs_err *e)
{
    c->kind = GCP_AUTHORIZED_USER;
    CS_TRY(copy_of(j, "client_id", &c->client_id, e));
    CS_TRY(secret_of(j, "client_secret", &c->client_secret, e));
    CS_TRY(secret_of(j, "refresh_token", &c->refresh_token, e));
    if (c->client_id == NULL)
        return cs_fail(e, CS_INVALID, "auth: client ID must be provided");
    if (c->client_secret == NULL)
        return cs_fail(e, CS_INVALID, "auth: client secret must be provided");
    if (c->refresh_token == NULL)
        return cs_fail(e, CS_INVALID, "auth: refresh token must be provided");
    return CS_OK;
}

/* In other universes (Google's word for its sovereign clouds) tokens are not had from a token endpoint. */
static cs_code check_universe(const char *name, const char *universe, struct cs_err *e)
{
    if (universe == NULL || strcmp(universe, UNIVERSE) == 0)
        return CS_OK;
    return cs_fail(e, CS_UNIMPLEMENTED, "credentials: %s \"%.128s\" is not supported", name, universe);
}

static cs_code read_type(const json_t *j, struct gcp_credentials *c, struct cs_err *e)
{
    static const char *const others[] = {"external_account", "external_account_authorized_user",
                                         "impersonated_service_account", "gdch_service_account"};
    const char *type;
    CS_TRY(text_of(j, "type", &type, e));
    if (type == NULL)
        return cs_fail(e, CS_INVALID, "credentials: unsupported unidentified file type");
    if (strcmp(type, "service_account") == 0)
        return read_service_account(j, c, e);
    if (strcmp(type, "authorized_user") == 0)
        return read_user(j, c, e);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(type, others[i]) == 0)
            return cs_fail(e, CS_UNIMPLEMENTED, "credentials: type \"%s\" is not supported", type);
    return cs_fail(e, CS_INVALID, "credentials: unsupported filetype \"%.64s\"", type);
}

static cs_code read_common(const json_t *j, struct gcp_credentials *c, struct cs_err *e)
{
    const char *universe;
    CS_TRY(text_of(j, "universe_domain", &universe, e));
    CS_TRY(check_universe("universe_domain", universe, e));
    CS_TRY(copy_of(j, "quota_project_id", &c->quota_project, e));
    if (c->quota_project != NULL && !gcp_project_ok(c->quota_project))
        return cs_fail(e, CS_INVALID, "credentials: quota_project_id cannot be that of a project");
    CS_TRY(copy_of(j, "token_uri", &c->token_uri, e));
    if (c->token_uri == NULL && (c->token_uri = cs_strdup(TOKEN_URI)) == NULL)
        return cs_nomem(e);
    if (gcp_url_check(c->token_uri, e) != CS_OK)
        return cs_wrap(e, "credentials: token_uri");
    return CS_OK;
}

cs_code gcp_credentials_parse(struct cs_slice text, struct gcp_credentials **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(gcp_json_wipe)
    json_t *j = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(j)) /* jansson's text could quote the key */
        return cs_fail(e, CS_INVALID, "credentials: the file is no JSON object");
    CS_AUTO(gcp_credentials) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(read_type(j, c, e));
    CS_TRY(read_common(j, c, e));
    *out = CS_MOVE(c);
    return CS_OK;
}

/* *read: the file was, so that an error is about what it says. */
static cs_code from_file(const char *path, bool *read, struct gcp_credentials **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    *read = false;
    if (!cs_buf_reserve(&text, GCP_FILE_MAX + 1)) /* growing would leave keys behind */
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, GCP_FILE_MAX, &text, e));
    *read = true;
    return gcp_credentials_parse(cs_buf_slice(&text), out, e);
}

/* --- Application Default Credentials --- */

/* Home of the user, from the environment or the user database; owned; NULL: none. */
static char *home(void)
{
    char text[4096];
    struct passwd entry, *found = NULL;
    const char *given = env("HOME");
    if (given != NULL)
        return cs_strdup(given);
    if (getpwuid_r(getuid(), &entry, text, sizeof text, &found) != 0 || found == NULL)
        return NULL;
    return cs_strdup(entry.pw_dir);
}

/* gcloud's file; one that cannot be read is as good as none, as it is to Google's library. */
static cs_code from_gcloud(struct gcp_credentials **out, bool *found, struct cs_err *e)
{
    *found = false;
    CS_CLEANUP(cs_freep) char *folder = home();
    if (folder == NULL)
        return CS_OK;
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s" WELL_KNOWN, folder);
    if (path == NULL)
        return cs_nomem(e);
    cs_code rc = from_file(path, found, out, e);
    return *found ? rc : CS_OK;
}

/* Google's machines say what they are; containers elsewhere in its clouds are found by asking. */
static bool is_google(void)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf name = {0};
    if (cs_file_read(PRODUCT_FILE, GCP_FILE_MAX, &name, NULL) != CS_OK) /* "has" a page, says the kernel */
        return false;
    const char *text = cs_buf_cstr(&name);
    return strncmp(text, "Google", 6) == 0;
}

static bool has_metadata(struct http_client *client, const struct crypto_stop *stop)
{
    static const struct http_header flavor = {"Metadata-Flavor", "Google"};
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    const char *off = env("NO_GCE_CHECK");
    struct cs_slice said;
    if (env("GCE_METADATA_HOST") != NULL)
        return true;
    if (off != NULL && strcmp(off, "true") == 0)
        return false;
    if (is_google())
        return true;
    if (gcp_metadata_url(&url, NULL) != CS_OK)
        return false;
    const struct http_request q = {.method = "GET",
                                   .url = cs_buf_cstr(&url),
                                   .headers = &flavor,
                                   .header_count = 1,
                                   .timeout_ns = PROBE_NS,
                                   .max_body = 65536,
                                   .stop = stop};
    return http_call(client, &q, &r, NULL) == CS_OK && http_response_header(&r, "metadata-flavor", &said) &&
           cs_slice_is(said, "Google");
}

static cs_code from_metadata(struct http_client *client, const struct crypto_stop *stop,
                             struct gcp_credentials **out, struct cs_err *e)
{
    if (!has_metadata(client, stop))
        return cs_fail(e, CS_INVALID, NOT_FOUND);
    struct gcp_credentials *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    c->kind = GCP_METADATA;
    *out = c;
    return CS_OK;
}

static cs_code find(const char *file, struct http_client *metadata, const struct crypto_stop *stop,
                    struct gcp_credentials **out, struct cs_err *e)
{
    bool found;
    if (*file == '\0')
        file = env("GOOGLE_APPLICATION_CREDENTIALS");
    if (file != NULL)
        return from_file(file, &found, out, e);
    CS_TRY(from_gcloud(out, &found, e));
    return found ? CS_OK : from_metadata(metadata, stop, out, e);
}

cs_code gcp_credentials_find(const char *file, struct http_client *metadata, const struct crypto_stop *stop,
                             struct gcp_credentials **out, struct cs_err *e)
{
    CS_AUTO(gcp_credentials) c = NULL;
    *out = NULL;
    CS_TRY(check_universe("GOOGLE_CLOUD_UNIVERSE_DOMAIN", env("GOOGLE_CLOUD_UNIVERSE_DOMAIN"), e));
    CS_TRY(find(file, metadata, stop, &c, e));
    const char *quota = env("GOOGLE_CLOUD_QUOTA_PROJECT");
    if (quota != NULL && !gcp_project_ok(quota))
        return cs_fail(e, CS_INVALID, "GOOGLE_CLOUD_QUOTA_PROJECT cannot be that of a project");
    if (quota != NULL) { /* outranks the file */
        cs_free(c->quota_project);
        c->quota_project = cs_strdup(quota);
        if (c->quota_project == NULL)
            return cs_nomem(e);
    }
    *out = CS_MOVE(c);
    return CS_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The SVIDStore service over fake stores that answer, fail or hang as a test says.
 */
#include "agent/store.h"

#include "base/mem.h"
#include "crypto/x509_issue.h"
#include "plugin/svidstore.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CALLS_MAX 64
#define LIMIT_S 20
#define RETRY_NS (20 * CS_NS_PER_MS)

/* --- A store --- */

struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char calls[CALLS_MAX][200]; /* "put ID META,META roots fed=NAME:ROOTS" or "delete META,META" */
    size_t count;
    unsigned fail;         /* so many calls from now on fail */
    cs_code how;           /* with this */
    bool hang;             /* calls wait until it is false */
    unsigned waiting;      /* in a call that hangs */
    unsigned inside, most; /* calls at the same time; the most there were */
    struct catalog_plugin plugin;
};

static cs_code called(struct fake *f, const char *text, struct cs_err *e)
{
    cs_code rc = CS_OK;
    pthread_mutex_lock(&f->lock);
    assert_true(f->count < CALLS_MAX);
    (void)snprintf(f->calls[f->count++], sizeof f->calls[0], "%s", text);
    const unsigned hung = f->hang;
    f->waiting += hung;
    f->inside++;
    f->most = f->inside > f->most ? f->inside : f->most;
    pthread_cond_broadcast(&f->changed);
    while (f->hang)
        pthread_cond_wait(&f->changed, &f->lock);
    f->waiting -= hung;
    f->inside--;
    if (f->fail > 0) {
        f->fail--;
        rc = cs_fail(e, f->how, "no");
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static void add_texts(struct cs_buf *b, const char *const *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cs_buf_printf(b, "%s%s", i > 0 ? "," : " ", at[i]);
}

static cs_code fake_put(void *self, const struct svidstore_svid *svid, const char *const *metadata,
                        size_t count, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct x509_cert *leaf;
    struct crypto_key *key;
    struct crypto_pub *pub;
    /* What is given must fit together. */
    assert_int_equal(svid->chain_count, 1);
    assert_int_equal(x509_cert_parse(svid->chain[0], &leaf, NULL), CS_OK);
    assert_int_equal(crypto_key_parse_der(svid->key, &key, NULL), CS_OK);
    assert_int_equal(x509_cert_pub(leaf, &pub, NULL), CS_OK);
    assert_true(crypto_pub_equal(pub, crypto_key_pub(key)));
    assert_int_equal(leaf->not_after, svid->expires_at);
    x509_cert_unref(leaf);
    crypto_key_unref(key);
    cs_buf_printf(&text, "put %s", strrchr(svid->spiffe_id, '/'));
    add_texts(&text, metadata, count);
    cs_buf_printf(&text, " roots=%zu", svid->bundle_count);
    for (size_t i = 0; i < svid->federated_count; i++)
        cs_buf_printf(&text, " %s=%zu", svid->federated[i].trust_domain, svid->federated[i].root_count);
    return called(self, cs_buf_cstr(&text), e);
}

static cs_code fake_remove(void *self, const char *const *metadata, size_t count, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    cs_buf_add_str(&text, "delete");
    add_texts(&text, metadata, count);
    return called(self, cs_buf_cstr(&text), e);
}

static const struct svidstore_ops fake_ops = {.put = fake_put, .remove = fake_remove};
#define CLOUD_CALLS 4
static const struct svidstore_ops cloud_ops = {
    .put = fake_put, .remove = fake_remove, .calls_max = CLOUD_CALLS};

static void fake_init(struct fake *f, const char *name, const struct svidstore_ops *ops)
{
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->changed, NULL);
    f->plugin = (struct catalog_plugin){.type = "SVIDStore", .name = name, .ops = ops, .self = f};
}

static bool wait_change(struct fake *f)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_S;
    return pthread_cond_timedwait(&f->changed, &f->lock, &until) != ETIMEDOUT;
}

/* Nothing fails while the lock is held: failing jumps to the teardown, which takes it. */

/* The n-th call (from 0), waited for. */
static void expect_call(struct fake *f, size_t n, const char *text)
{
    char call[sizeof f->calls[0]] = "";
    pthread_mutex_lock(&f->lock);
    while (f->count <= n && wait_change(f))
        ;
    const bool there = f->count > n;
    if (there)
        memcpy(call, f->calls[n], sizeof call);
    pthread_mutex_unlock(&f->lock);
    if (!there)
        fail_msg("no call %zu of %s, which was to be \"%s\"", n, f->plugin.name, text);
    if (strcmp(call, text) != 0)
        fail_msg("call %zu of %s is \"%s\" and not \"%s\"", n, f->plugin.name, call, text);
}

static void await_hanging_calls(struct fake *f, unsigned calls)
{
    pthread_mutex_lock(&f->lock);
    while (f->waiting < calls && wait_change(f))
        ;
    const unsigned waiting = f->waiting;
    pthread_mutex_unlock(&f->lock);
    if (waiting < calls)
        fail_msg("%u calls of %s hang, and not %u", waiting, f->plugin.name, calls);
}

static void await_hanging(struct fake *f)
{
    await_hanging_calls(f, 1);
}

/* So many calls have been made and are over. Returns how many there were at the same time. */
static unsigned await_ended(struct fake *f, size_t calls)
{
    pthread_mutex_lock(&f->lock);
    while ((f->count < calls || f->inside > 0) && wait_change(f))
        ;
    const size_t count = f->count;
    const unsigned inside = f->inside;
    const unsigned most = f->most;
    pthread_mutex_unlock(&f->lock);
    assert_int_equal(inside, 0);
    assert_int_equal(count, calls);
    return most;
}

static size_t calls_like(struct fake *f, const char *text)
{
    size_t n = 0;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->count; i++)
        n += strncmp(f->calls[i], text, strlen(text)) == 0;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void set_hang(struct fake *f, bool hang)
{
    pthread_mutex_lock(&f->lock);
    f->hang = hang;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void set_fail(struct fake *f, unsigned times, cs_code how)
{
    pthread_mutex_lock(&f->lock);
    f->fail = times;
    f->how = how;
    pthread_mutex_unlock(&f->lock);
}

static size_t calls_of(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    size_t n = f->count;
    pthread_mutex_unlock(&f->lock);
    return n;
}

/* --- The service --- */

struct fixture {
    struct cs_clock clock; /* first; monotonic time is the machine's */
    atomic_llong wall;     /* ns */
    struct fake disk, cloud;
    struct agent_store *store;
    struct cs_log_sink *sink;
    char log[64], state[80]; /* state: "" for none */
    struct crypto_key *key;
};

static int64_t wall_now(const struct cs_clock *c)
{
    return atomic_load(&((const struct fixture *)(const void *)c)->wall);
}

static int64_t mono_now(const struct cs_clock *c)
{
    (void)c;
    return cs_mono_ns(&cs_clock_system);
}

static struct spiffe_bundle *bundle_of(const char *td, unsigned roots)
{
    struct spiffe_bundle_builder *b;
    struct spiffe_bundle *out;
    assert_int_equal(spiffe_bundle_builder_new(cs_slice_str(td), &b, NULL), CS_OK);
    for (unsigned i = 0; i < roots; i++) {
        CS_AUTO(crypto_key) key = NULL;
        CS_AUTO(crypto_signer) signer = NULL;
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        const struct x509_issue_params p = {.not_before = 1, .not_after = 1000000000};
        assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, NULL), CS_OK);
        assert_int_equal(crypto_signer_of_key(key, &signer, NULL), CS_OK);
        assert_int_equal(x509_issue_self_signed(signer, &p, &der, NULL), CS_OK);
        assert_int_equal(spiffe_bundle_add_x509_der(b, cs_buf_slice(&der), false, NULL), CS_OK);
    }
    assert_int_equal(spiffe_bundle_build(b, &out, NULL), CS_OK);
    spiffe_bundle_builder_free(b);
    return out;
}

/* All bundles there are from now on: of the own trust domain, and of far.test unless 0. */
static void set_bundles(struct fixture *f, unsigned own, unsigned far)
{
    CS_AUTO(spiffe_bundle) one = bundle_of("example.org", own);
    CS_AUTO(spiffe_bundle) two = bundle_of("far.test", far);
    const struct spiffe_bundle *all[] = {one, two};
    const struct agent_cache_delta d = {.bundles = all, .bundle_count = far > 0 ? 2 : 1};
    assert_int_equal(agent_store_apply(f->store, &d, NULL), CS_OK);
    agent_store_settle(f->store);
}

static void make_store(struct fixture *f)
{
    const struct catalog_plugin *plugins[] = {&f->disk.plugin, &f->cloud.plugin};
    const struct cs_log log = {.sink = f->sink};
    const struct agent_store_config cfg = {
        .log = cs_log_sub(log, "svid_store_service"),
        .cache_log = cs_log_sub(log, "svid_store_cache"),
        .clock = &f->clock,
        .trust_domain = "example.org",
        .plugins = plugins,
        .plugin_count = 2,
        .retry_ns = RETRY_NS,
        .state_path = f->state[0] != '\0' ? f->state : NULL,
    };
    assert_int_equal(agent_store_new(&cfg, &f->store, NULL), CS_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->clock = (struct cs_clock){wall_now, mono_now};
    atomic_init(&f->wall, 1000000 * CS_NS_PER_S);
    fake_init(&f->disk, "disk", &fake_ops);
    fake_init(&f->cloud, "cloud", &cloud_ops);
    (void)snprintf(f->log, sizeof f->log, "/tmp/cs-store-XXXXXX");
    int fd = mkstemp(f->log);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cs_log_sink_open(f->log, CS_LOG_TEXT, CS_LOG_DEBUG, &f->sink, NULL), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &f->key, NULL), CS_OK);
    make_store(f);
    set_bundles(f, 1, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->disk, false);
    set_hang(&f->cloud, false);
    agent_store_free(f->store);
    cs_log_sink_free(f->sink);
    crypto_key_unref(f->key);
    (void)unlink(f->log);
    if (f->state[0] != '\0')
        (void)unlink(f->state);
    free(f);
    return 0;
}

/* Is there such a piece in one line of the log? All writers that matter have returned. */
static bool logged(struct fixture *f, const char *msg, const char *field)
{
    FILE *in = fopen(f->log, "r");
    char line[1024];
    bool found = false;
    assert_non_null(in);
    while (!found && fgets(line, sizeof line, in) != NULL)
        found = strstr(line, msg) != NULL && strstr(line, field) != NULL;
    (void)fclose(in);
    return found;
}

static void await_logged(struct fixture *f, const char *msg, const char *field)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; i < LIMIT_S * 200; i++) {
        if (logged(f, msg, field))
            return;
        (void)nanosleep(&pause, NULL);
    }
    fail_msg("not in the log: %s %s", msg, field);
}

/* --- Entries and SVIDs --- */

struct spec {
    const char *id;
    const char *selectors[4]; /* "type:value" */
    int64_t revision;
    const char *federates;
    bool plain; /* not to be stored */
};

static struct agent_entry *entry_of(const struct spec *s)
{
    Types__Entry e = TYPES__ENTRY__INIT;
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    Types__Selector sel[4];
    Types__Selector *ptr[4];
    char types[4][16];
    char path[32];
    char *fed[] = {(char *)(uintptr_t)s->federates};
    size_t n = 0;
    for (; n < 4 && s->selectors[n] != NULL; n++) {
        types__selector__init(&sel[n]);
        (void)snprintf(types[n], sizeof types[n], "%.*s", (int)strcspn(s->selectors[n], ":"),
                       s->selectors[n]);
        sel[n].type = types[n];
        sel[n].value = strchr((char *)(uintptr_t)s->selectors[n], ':') + 1;
        ptr[n] = &sel[n];
    }
    (void)snprintf(path, sizeof path, "/%s", s->id);
    id.trust_domain = (char *)(uintptr_t) "example.org";
    id.path = path;
    e.id = (char *)(uintptr_t)s->id;
    e.spiffe_id = &id;
    e.selectors = ptr;
    e.n_selectors = n;
    e.revision_number = s->revision;
    e.federates_with = fed;
    e.n_federates_with = s->federates != NULL;
    e.store_svid = !s->plain;
    struct agent_entry *out;
    assert_int_equal(agent_entry_new(&e, &out, NULL), CS_OK);
    return out;
}

static void apply(struct fixture *f, const struct spec *s)
{
    struct agent_entry *en = entry_of(s);
    const struct agent_cache_delta d = {.changed = &en, .changed_count = 1};
    assert_int_equal(agent_store_apply(f->store, &d, NULL), CS_OK);
    agent_entry_unref(en);
}

static void drop(struct fixture *f, const char *id)
{
    const struct agent_cache_delta d = {.removed = &id, .removed_count = 1};
    assert_int_equal(agent_store_apply(f->store, &d, NULL), CS_OK);
    agent_store_settle(f->store);
}

static void give(struct fixture *f, const char *id, int64_t lifetime_s)
{
    CS_AUTO(crypto_signer) signer = NULL;
    CS_AUTO(x509_cert) leaf = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    int64_t now = cs_now_s(&f->clock);
    const struct x509_issue_params p = {.not_before = now, .not_after = now + lifetime_s};
    assert_int_equal(crypto_signer_of_key(f->key, &signer, NULL), CS_OK);
    assert_int_equal(x509_issue_self_signed(signer, &p, &der, NULL), CS_OK);
    assert_int_equal(x509_cert_parse(cs_buf_slice(&der), &leaf, NULL), CS_OK);
    struct x509_cert *at[] = {leaf};
    const struct x509_chain chain = {.at = at, .count = 1};
    struct agent_svid *svid;
    assert_int_equal(agent_svid_new(&chain, f->key, 0, &svid, NULL), CS_OK);
    const struct agent_new_svid fresh = {.entry_id = id, .svid = svid};
    agent_store_put_svids(f->store, &fresh, 1);
    agent_svid_unref(svid);
}

/* A round of the manager: SVIDs for all that wants one. Returns how many did. */
static size_t round_of(struct fixture *f)
{
    struct agent_stale stale[CALLS_MAX];
    size_t want = agent_store_tick(f->store);
    size_t n = agent_store_stale(f->store, stale, CALLS_MAX);
    assert_int_equal(n, want);
    for (size_t i = 0; i < n; i++) {
        give(f, stale[i].entry->id, 3600);
        agent_entry_unref(stale[i].entry);
    }
    agent_store_settle(f->store);
    return n;
}

static void store_new(struct fixture *f, const struct spec *s)
{
    apply(f, s);
    assert_int_equal(round_of(f), 1);
}

/* --- Tests --- */

static void test_put_once_and_with_each_rotation(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:db", "disk:mode:0600"}});
    expect_call(&f->disk, 0, "put /a name:db,mode:0600 roots=1");
    await_logged(f, "SVID stored successfully",
                 "entry=a revision_number=2 spiffe_id=\"spiffe://example.org/a\" "
                 "subsystem_name=svid_store_service svid_store=disk");
    assert_int_equal(round_of(f), 0);
    assert_true(agent_store_next_rotation(f->store) > cs_now_ns(&f->clock));
    atomic_fetch_add(&f->wall, 3000 * CS_NS_PER_S);
    assert_int_equal(round_of(f), 1);
    expect_call(&f->disk, 1, "put /a name:db,mode:0600 roots=1");
    assert_int_equal(calls_of(&f->cloud), 0);
}

static void test_left_out(void **state)
{
    struct fixture *f = *state;
    apply(f, &(struct spec){.id = "a", .selectors = {"unix:uid:0"}, .plain = true});
    apply(f, &(struct spec){.id = "b", .selectors = {"disk:name:x", "cloud:name:y"}});
    apply(f, &(struct spec){.id = "c", .selectors = {"vault:name:x"}});
    assert_int_equal(agent_store_count(f->store), 0);
    assert_int_equal(round_of(f), 0); /* no keys and certificates that nobody will have */
    assert_true(
        logged(f, "Invalid store name in selectors", "entry=b error=\"selector contains multiple types\""));
    assert_true(logged(f, "Error storing SVID: SVIDStore not found", "entry=c"));
    assert_true(logged(f, "Error storing SVID: SVIDStore not found", "svid_store=vault"));
    /* The next revision is looked at anew. */
    store_new(f, &(struct spec){.id = "c", .selectors = {"cloud:name:x"}, .revision = 1});
    expect_call(&f->cloud, 0, "put /c name:x roots=1");
}

static void test_bundles(void **state)
{
    struct fixture *f = *state;
    set_bundles(f, 1, 2);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}, .federates = "far.test"});
    expect_call(&f->disk, 0, "put /a name:a roots=1 spiffe://far.test=2");
    store_new(f, &(struct spec){.id = "b", .selectors = {"cloud:name:b"}});
    expect_call(&f->cloud, 0, "put /b name:b roots=1");
    /* Both change, so does each entry. */
    set_bundles(f, 2, 3);
    expect_call(&f->disk, 1, "put /a name:a roots=2 spiffe://far.test=3");
    expect_call(&f->cloud, 1, "put /b name:b roots=2");
}

static void test_federated_bundle_goes(void **state)
{
    struct fixture *f = *state;
    CS_AUTO(spiffe_bundle) own = bundle_of("example.org", 1);
    CS_AUTO(spiffe_bundle) far = bundle_of("far.test", 1);
    const struct spiffe_bundle *all[] = {own, far};
    const struct agent_cache_delta both = {.bundles = all, .bundle_count = 2};
    const struct agent_cache_delta one = {.bundles = all, .bundle_count = 1};
    assert_int_equal(agent_store_apply(f->store, &both, NULL), CS_OK);
    apply(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}, .federates = "far.test"});
    apply(f, &(struct spec){.id = "b", .selectors = {"cloud:name:b"}});
    assert_int_equal(round_of(f), 2);
    expect_call(&f->disk, 0, "put /a name:a roots=1 spiffe://far.test=1");
    expect_call(&f->cloud, 0, "put /b name:b roots=1");
    assert_int_equal(agent_store_apply(f->store, &both, NULL), CS_OK); /* the same again */
    assert_int_equal(agent_store_apply(f->store, &one, NULL), CS_OK);
    agent_store_settle(f->store);
    expect_call(&f->disk, 1, "put /a name:a roots=1");
    assert_true(logged(f, "Bundle removed", "trust_domain_id=far.test"));
    assert_int_equal(calls_of(&f->cloud), 1); /* no concern of its own */
}

static void test_removed_is_deleted(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a", "disk:x:1"}});
    expect_call(&f->disk, 0, "put /a name:a,x:1 roots=1");
    set_fail(&f->disk, 2, CS_UNAVAILABLE);
    drop(f, "a");
    expect_call(&f->disk, 1, "delete name:a,x:1");
    expect_call(&f->disk, 2, "delete name:a,x:1");
    expect_call(&f->disk, 3, "delete name:a,x:1");
    await_logged(f, "Failed to delete SVID",
                 "error=\"rpc error: code = Unavailable desc = svidstore(disk): no\"");
    await_logged(f, "SVID deleted successfully", "entry=a");
    await_logged(f, "Entry removed", "entry=a");
    assert_int_equal(agent_store_count(f->store), 0);
    /* Malformed metadata will not get better. */
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:bad"}});
    expect_call(&f->disk, 4, "put /b bad roots=1");
    set_fail(&f->disk, 1, CS_INVALID);
    drop(f, "b");
    expect_call(&f->disk, 5, "delete bad");
    await_logged(f, "Failed to delete SVID because of malformed selectors", "entry=b");
    await_logged(f, "Entry removed", "entry=b");
    assert_int_equal(calls_of(&f->disk), 6);
}

static void test_no_longer_to_be_stored(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    apply(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}, .revision = 1, .plain = true});
    assert_int_equal(round_of(f), 0);
    expect_call(&f->disk, 1, "delete name:a");
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:b"}});
    expect_call(&f->disk, 2, "put /b name:b roots=1");
    apply(f, &(struct spec){.id = "b", .selectors = {"nowhere:name:b"}, .revision = 1});
    assert_int_equal(round_of(f), 0);
    expect_call(&f->disk, 3, "delete name:b");
}

static void test_other_selectors_are_another_place(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a", "disk:x:1"}});
    expect_call(&f->disk, 0, "put /a name:a,x:1 roots=1");
    /* Another order is the same place, another revision a new SVID. */
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:x:1", "disk:name:a"}, .revision = 1});
    expect_call(&f->disk, 1, "put /a x:1,name:a roots=1");
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:b"}, .revision = 2});
    expect_call(&f->disk, 2, "delete x:1,name:a");
    expect_call(&f->disk, 3, "put /a name:b roots=1");
    store_new(f, &(struct spec){.id = "a", .selectors = {"cloud:name:b"}, .revision = 3});
    expect_call(&f->disk, 4, "delete name:b");
    expect_call(&f->cloud, 0, "put /a name:b roots=1");
    assert_false(logged(f, "Entry removed", "entry=a"));
}

/* The old place cannot be cleaned: the new one is written all the same, and once more when the deletion
 * succeeded at last, in case that both are one thing to the store. */
static void test_failing_deletion_holds_up_no_put(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a", "disk:x:1"}});
    expect_call(&f->disk, 0, "put /a name:a,x:1 roots=1");
    set_fail(&f->disk, 1, CS_INTERNAL);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a", "disk:x:2"}, .revision = 1});
    expect_call(&f->disk, 1, "delete name:a,x:1");
    expect_call(&f->disk, 2, "put /a name:a,x:2 roots=1");
    expect_call(&f->disk, 3, "delete name:a,x:1");
    expect_call(&f->disk, 4, "put /a name:a,x:2 roots=1");
}

/* What failed to be deleted and is wanted again at the same place is not deleted any more. */
static void test_back_at_the_same_place(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    set_hang(&f->disk, true);
    drop(f, "a");
    await_hanging(&f->disk);
    set_fail(&f->disk, 1, CS_INTERNAL);
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:a"}});
    store_new(f, &(struct spec){.id = "c", .selectors = {"disk:name:c"}});
    set_hang(&f->disk, false);
    expect_call(&f->disk, 1, "delete name:a");
    expect_call(&f->disk, 2, "put /b name:a roots=1");
    expect_call(&f->disk, 3, "put /c name:c roots=1");
    /* Time for the retry that must not come. */
    const struct timespec pause = {.tv_nsec = 4 * RETRY_NS};
    (void)nanosleep(&pause, NULL);
    assert_int_equal(calls_of(&f->disk), 4);
}

static void test_failing_put_comes_again(void **state)
{
    struct fixture *f = *state;
    set_fail(&f->disk, 3, CS_UNKNOWN);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    for (size_t i = 0; i < 4; i++)
        expect_call(&f->disk, i, "put /a name:a roots=1");
    await_logged(f, "SVID stored successfully", "entry=a");
    assert_true(logged(f, "Failed to put X509-SVID",
                       "error=\"rpc error: code = Unknown desc = svidstore(disk): no\""));
}

/* One that fails lets the others go before it. */
static void test_failure_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->disk, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    await_hanging(&f->disk);
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:b"}});
    set_fail(&f->disk, 1, CS_UNKNOWN);
    set_hang(&f->disk, false);
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    expect_call(&f->disk, 1, "put /b name:b roots=1");
    expect_call(&f->disk, 2, "put /a name:a roots=1");
}

/* A store that hangs holds up neither the other one nor the manager. */
static void test_hanging_store_is_alone(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->disk, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    await_hanging(&f->disk);
    store_new(f, &(struct spec){.id = "b", .selectors = {"cloud:name:b"}});
    expect_call(&f->cloud, 0, "put /b name:b roots=1");
    set_bundles(f, 2, 0);
    expect_call(&f->cloud, 1, "put /b name:b roots=2");
    drop(f, "b");
    expect_call(&f->cloud, 2, "delete name:b");
    assert_int_equal(calls_of(&f->disk), 1);
    /* What changed under the call is put after it, once. */
    set_hang(&f->disk, false);
    expect_call(&f->disk, 1, "put /a name:a roots=2");
}

/* As many calls at a time as the plugin takes, and no more, however much there is to do. */
static void test_calls_at_a_time(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->disk, true);
    set_hang(&f->cloud, true);
    for (int i = 0; i < 12; i++) {
        char id[8];
        char place[24];
        (void)snprintf(id, sizeof id, "e%d", i);
        (void)snprintf(place, sizeof place, "%s:name:e%d", i % 2 == 0 ? "cloud" : "disk", i);
        store_new(f, &(struct spec){.id = id, .selectors = {place}});
    }
    await_hanging_calls(&f->cloud, CLOUD_CALLS);
    await_hanging_calls(&f->disk, 1);
    set_hang(&f->disk, false);
    set_hang(&f->cloud, false);
    assert_int_equal(await_ended(&f->cloud, 6), CLOUD_CALLS);
    assert_int_equal(await_ended(&f->disk, 6), 1);
}

/* A plugin never has two calls for one entry, nor for one place. */
static void test_calls_of_an_entry_follow_each_other(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->cloud, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"cloud:name:a"}});
    await_hanging(&f->cloud);
    set_bundles(f, 2, 0); /* a is to be put again */
    store_new(f, &(struct spec){.id = "same", .selectors = {"cloud:name:a"}});
    store_new(f, &(struct spec){.id = "b", .selectors = {"cloud:name:b"}});
    await_hanging_calls(&f->cloud, 2);
    assert_int_equal(calls_like(&f->cloud, "put /a"), 1);
    assert_int_equal(calls_like(&f->cloud, "put /b"), 1);
    set_hang(&f->cloud, false);
    assert_int_equal(await_ended(&f->cloud, 4), 2);
    assert_int_equal(calls_like(&f->cloud, "put /a name:a roots=2"), 1);
    assert_int_equal(calls_like(&f->cloud, "put /same name:a roots=2"), 1);
}

static void test_a_deletion_waits_for_the_put_under_way(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "b", .selectors = {"cloud:name:b"}});
    assert_int_equal(await_ended(&f->cloud, 1), 1);
    set_hang(&f->cloud, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"cloud:name:a"}});
    await_hanging(&f->cloud);
    drop(f, "a");
    drop(f, "b");
    await_hanging_calls(&f->cloud, 2);
    assert_int_equal(calls_like(&f->cloud, "delete name:b"), 1);
    assert_int_equal(calls_like(&f->cloud, "delete name:a"), 0);
    set_hang(&f->cloud, false);
    expect_call(&f->cloud, 3, "delete name:a");
    assert_int_equal(await_ended(&f->cloud, 4), 2);
}

/* Other selectors may name the same secret: it would be gone after it was put. */
static void test_no_put_begins_beside_a_deletion(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"cloud:name:x"}});
    assert_int_equal(await_ended(&f->cloud, 1), 1);
    set_hang(&f->cloud, true);
    drop(f, "a");
    await_hanging(&f->cloud);
    store_new(f, &(struct spec){.id = "b", .selectors = {"cloud:name:x", "cloud:key:k"}});
    store_new(f, &(struct spec){.id = "c", .selectors = {"disk:name:c"}});
    expect_call(&f->disk, 0, "put /c name:c roots=1");
    assert_int_equal(calls_of(&f->cloud), 2);
    set_hang(&f->cloud, false);
    expect_call(&f->cloud, 2, "put /b name:x,key:k roots=1");
    assert_int_equal(await_ended(&f->cloud, 3), 1);
}

/* The entry goes while it is being put, and comes back. */
static void test_removed_under_the_call(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->disk, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    await_hanging(&f->disk);
    drop(f, "a");
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    set_hang(&f->disk, false);
    expect_call(&f->disk, 1, "delete name:a");
    expect_call(&f->disk, 2, "put /a name:a roots=1");
}

static bool always(void *arg, const struct agent_svid *svid)
{
    (void)arg;
    return svid->not_after > 0;
}

static void test_tainted(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    set_hang(&f->disk, true);
    set_fail(&f->disk, 1, CS_UNKNOWN);
    set_bundles(f, 2, 0);
    await_hanging(&f->disk);
    assert_int_equal(agent_store_drop_tainted(f->store, always, NULL), 1);
    set_hang(&f->disk, false); /* the put fails, and there is nothing to put again */
    await_logged(f, "Failed to put X509-SVID", "entry=a");
    assert_int_equal(round_of(f), 1);
    expect_call(&f->disk, 2, "put /a name:a roots=2");
}

/* An update that comes with a new SVID is put once, not first with the old one. */
static void test_new_revision_waits_for_its_svid(void **state)
{
    struct fixture *f = *state;
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    apply(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}, .revision = 1});
    assert_int_equal(calls_of(&f->disk), 1);
    assert_int_equal(round_of(f), 1);
    expect_call(&f->disk, 1, "put /a name:a roots=1");
    assert_int_equal(calls_of(&f->disk), 2);
    /* When none can be had, the entry's new place still gets the old one. */
    apply(f, &(struct spec){.id = "a", .selectors = {"disk:name:z"}, .revision = 2});
    agent_store_settle(f->store);
    expect_call(&f->disk, 2, "delete name:a");
    expect_call(&f->disk, 3, "put /a name:z roots=1");
    assert_int_equal(agent_store_tick(f->store), 1);
}

static void test_no_memory(void **state)
{
    struct fixture *f = *state;
    CS_AUTO(spiffe_bundle) own = bundle_of("example.org", 2);
    CS_AUTO(spiffe_bundle) far = bundle_of("far.test", 1);
    const struct spiffe_bundle *all[] = {own, far};
    struct agent_entry *en[] = {
        entry_of(&(struct spec){.id = "a", .selectors = {"disk:name:a"}, .federates = "far.test"}),
        entry_of(&(struct spec){.id = "b", .selectors = {"cloud:name:b"}}),
    };
    const struct agent_cache_delta d = {.bundles = all, .bundle_count = 2, .changed = en, .changed_count = 2};
    const char *ids[] = {"a", "b"};
    const struct agent_cache_delta gone = {.removed = ids, .removed_count = 2};
    cs_code rc = CS_INTERNAL;
    size_t n = 0;
    while (rc != CS_OK) {
        agent_store_free(f->store);
        make_store(f);
        (void)cs_mem_fail_at(++n, false);
        rc = agent_store_apply(f->store, &d, NULL);
        (void)cs_mem_fail_at(0, false);
        /* Nothing is lost when it is applied again. */
        assert_int_equal(agent_store_apply(f->store, &d, NULL), CS_OK);
        assert_int_equal(agent_store_count(f->store), 2);
        assert_int_equal(agent_store_tick(f->store), 2);
        agent_store_settle(f->store);
    }
    assert_true(n > 4); /* it failed at several places */
    assert_int_equal(round_of(f), 2);
    expect_call(&f->disk, 0, "put /a name:a roots=2 spiffe://far.test=1");
    expect_call(&f->cloud, 0, "put /b name:b roots=2");
    (void)cs_mem_fail_at(2, false);
    assert_int_equal(agent_store_apply(f->store, &gone, NULL), CS_INTERNAL);
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(agent_store_apply(f->store, &gone, NULL), CS_OK);
    agent_store_settle(f->store);
    assert_int_equal(agent_store_count(f->store), 0);
    agent_entry_unref(en[0]);
    agent_entry_unref(en[1]);
}

/* --- Over restarts --- */

/* With the first plugin under a name, which nobody reads between the two stores. */
static void restart_as(struct fixture *f, const char *name)
{
    agent_store_free(f->store);
    f->store = NULL;
    f->disk.plugin.name = name;
    make_store(f);
}

static void restart(struct fixture *f)
{
    restart_as(f, "disk");
}

static void remember(struct fixture *f)
{
    (void)snprintf(f->state, sizeof f->state, "%s.json", f->log);
    restart(f);
    set_bundles(f, 1, 0);
}

/* The first sync of a process: all entries at once. */
static void first_sync(struct fixture *f, const struct spec *specs, size_t count)
{
    CS_AUTO(spiffe_bundle) own = bundle_of("example.org", 1);
    const struct spiffe_bundle *all[] = {own};
    struct agent_entry *en[4];
    for (size_t i = 0; i < count; i++)
        en[i] = entry_of(&specs[i]);
    const struct agent_cache_delta d = {
        .bundles = all, .bundle_count = 1, .changed = en, .changed_count = count};
    assert_int_equal(agent_store_apply(f->store, &d, NULL), CS_OK);
    for (size_t i = 0; i < count; i++)
        agent_entry_unref(en[i]);
    (void)round_of(f);
}

static void test_what_went_while_down_is_deleted(void **state)
{
    struct fixture *f = *state;
    remember(f);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a", "disk:x:1"}});
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:b"}});
    store_new(f, &(struct spec){.id = "c", .selectors = {"disk:name:c"}});
    expect_call(&f->disk, 2, "put /c name:c roots=1");
    /* a stays, b is elsewhere, c is gone */
    const struct spec now[] = {{.id = "a", .selectors = {"disk:x:1", "disk:name:a"}},
                               {.id = "b", .selectors = {"cloud:name:b"}, .revision = 1}};
    restart(f);
    first_sync(f, now, 2);
    expect_call(&f->cloud, 0, "put /b name:b roots=1");
    pthread_mutex_lock(&f->disk.lock);
    while (f->disk.count < 6 && wait_change(&f->disk)) {
    }
    size_t deletions = 0, puts = 0;
    for (size_t i = 3; i < f->disk.count; i++) {
        const char *call = f->disk.calls[i];
        deletions += strcmp(call, "delete name:b") == 0 || strcmp(call, "delete name:c") == 0;
        puts += strcmp(call, "put /a x:1,name:a roots=1") == 0;
    }
    pthread_mutex_unlock(&f->disk.lock);
    assert_int_equal(deletions, 2);
    assert_int_equal(puts, 1);
    await_logged(f, "Entry removed", "entry=c");
    agent_store_settle(f->store);
    /* nothing is deleted twice */
    restart(f);
    first_sync(f, now, 2);
    expect_call(&f->disk, 6, "put /a x:1,name:a roots=1");
    expect_call(&f->cloud, 1, "put /b name:b roots=1");
    assert_int_equal(calls_of(&f->disk), 7);
}

/* A place that another entry has now is not deleted, and one that is to be deleted still is not forgotten. */
static void test_deletions_outlive_a_restart(void **state)
{
    struct fixture *f = *state;
    remember(f);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:b"}});
    expect_call(&f->disk, 1, "put /b name:b roots=1");
    set_fail(&f->disk, 1000, CS_UNAVAILABLE);
    drop(f, "a");
    expect_call(&f->disk, 2, "delete name:a");
    set_fail(&f->disk, 0, CS_OK);
    restart(f);
    size_t before = calls_of(&f->disk);
    first_sync(f, &(struct spec){.id = "b2", .selectors = {"disk:name:b"}}, 1);
    expect_call(&f->disk, before, "delete name:a");
    expect_call(&f->disk, before + 1, "put /b2 name:b roots=1");
}

static void test_a_plugin_that_is_not_there_is_waited_for(void **state)
{
    struct fixture *f = *state;
    remember(f);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    restart_as(f, "other");
    first_sync(f, NULL, 0);
    assert_true(logged(f, "What an SVIDStore holds stays: the plugin is not configured any more", "entry=a"));
    store_new(f, &(struct spec){.id = "z", .selectors = {"cloud:name:z"}}); /* the file is written again */
    expect_call(&f->cloud, 0, "put /z name:z roots=1");
    restart(f);
    first_sync(f, NULL, 0);
    expect_call(&f->disk, 1, "delete name:a");
    expect_call(&f->cloud, 1, "delete name:z");
}

static void test_a_damaged_file_is_no_reason_to_fail(void **state)
{
    static const char *const texts[] = {
        "", "{", "{}", "{\"stored\":[{\"entry\":\"a\"}]}", "{\"stored\":[7]}", "{\"stored\":7}"};
    struct fixture *f = *state;
    remember(f);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        FILE *out = fopen(f->state, "w");
        assert_non_null(out);
        assert_true(fputs(texts[i], out) >= 0);
        assert_int_equal(fclose(out), 0);
        restart(f);
        assert_true(logged(f, "Could not read what stores hold", "it is not what was written"));
    }
    first_sync(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}}, 1);
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    /* nor is a folder that cannot be written */
    (void)unlink(f->state);
    (void)snprintf(f->state, sizeof f->state, "/proc/nowhere/state");
    restart(f);
    first_sync(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}}, 1);
    expect_call(&f->disk, 1, "put /a name:a roots=1");
    assert_true(logged(f, "Could not write down what stores hold", "/proc/nowhere"));
}

static void test_restart_without_memory(void **state)
{
    struct fixture *f = *state;
    remember(f);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    expect_call(&f->disk, 0, "put /a name:a roots=1");
    cs_code rc = CS_INTERNAL;
    restart(f);
    for (size_t n = 1; rc != CS_OK; n++) {
        const struct agent_cache_delta none = {0};
        (void)cs_mem_fail_at(n, false);
        rc = agent_store_apply(f->store, &none, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true(n < 50);
    }
    expect_call(&f->disk, 1, "delete name:a");
}

/* Stopping while a call hangs: over as soon as the call is. */
static void *let_go(void *arg)
{
    struct fake *f = arg;
    await_hanging(f);
    set_hang(f, false);
    return NULL;
}

static void test_stop_in_a_call(void **state)
{
    struct fixture *f = *state;
    pthread_t other;
    set_hang(&f->disk, true);
    store_new(f, &(struct spec){.id = "a", .selectors = {"disk:name:a"}});
    store_new(f, &(struct spec){.id = "b", .selectors = {"disk:name:b"}});
    await_hanging(&f->disk);
    agent_store_stop(f->store);
    assert_int_equal(pthread_create(&other, NULL, let_go, &f->disk), 0);
    agent_store_free(f->store);
    f->store = NULL;
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(calls_of(&f->disk), 1);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_put_once_and_with_each_rotation),
        T(test_left_out),
        T(test_bundles),
        T(test_federated_bundle_goes),
        T(test_removed_is_deleted),
        T(test_no_longer_to_be_stored),
        T(test_other_selectors_are_another_place),
        T(test_failing_deletion_holds_up_no_put),
        T(test_back_at_the_same_place),
        T(test_failing_put_comes_again),
        T(test_failure_holds_up_nobody),
        T(test_hanging_store_is_alone),
        T(test_calls_at_a_time),
        T(test_calls_of_an_entry_follow_each_other),
        T(test_a_deletion_waits_for_the_put_under_way),
        T(test_no_put_begins_beside_a_deletion),
        T(test_removed_under_the_call),
        T(test_tainted),
        T(test_new_revision_waits_for_its_svid),
        T(test_no_memory),
        T(test_what_went_while_down_is_deleted),
        T(test_deletions_outlive_a_restart),
        T(test_a_plugin_that_is_not_there_is_waited_for),
        T(test_a_damaged_file_is_no_reason_to_fail),
        T(test_restart_without_memory),
        T(test_stop_in_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

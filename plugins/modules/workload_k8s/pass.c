/* SPDX-License-Identifier: Apache-2.0
 *
 * Of each block of 64 bytes one bit for each byte says whether it is a quote, a backslash, a bracket. With
 * these in hand, what is in a text and what is not is a matter of a few operations for all 64.
 */
#include "plugins/modules/workload_k8s/pass.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64

bool k8s_nest_open(struct k8s_nest *n, bool object)
{
    if (n->depth == K8S_NEST_MAX)
        return false;
    const uint64_t bit = UINT64_C(1) << (n->depth % 64);
    uint64_t *word = &n->objects[n->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    n->depth++;
    return true;
}

bool k8s_nest_close(struct k8s_nest *n, bool object)
{
    if (n->depth == 0 || k8s_nest_object(n) != object)
        return false;
    n->depth--;
    return true;
}

/* --- Blocks --- */

/* Bit i is of byte i. */
struct marks {
    uint64_t quotes, backslashes;
    uint64_t opening, closing; /* brackets */
    uint64_t braces; /* those bytes that have the bit by which '{' and '}' differ from '[' and ']' */
};

#define BRACE_BIT 0x20

#ifdef __SSE2__
static uint64_t bits_of(__m128i v) /* the highest of each byte */
{
    return (uint64_t)(unsigned)_mm_movemask_epi8(v);
}

static struct marks marks_of(const uint8_t *at)
{
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const __m128i open = _mm_set1_epi8('{'), close = _mm_set1_epi8('}'), brace = _mm_set1_epi8(BRACE_BIT);
    struct marks m = {0};
#pragma GCC unroll 4
    for (unsigned i = 0; i < BLOCK; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(at + i));
        const __m128i b = _mm_or_si128(v, brace);
        m.quotes |= bits_of(_mm_cmpeq_epi8(v, quote)) << i;
        m.backslashes |= bits_of(_mm_cmpeq_epi8(v, backslash)) << i;
        m.opening |= bits_of(_mm_cmpeq_epi8(b, open)) << i;
        m.closing |= bits_of(_mm_cmpeq_epi8(b, close)) << i;
        m.braces |= bits_of(_mm_slli_epi16(v, 2)) << i; /* BRACE_BIT is the highest then */
    }
    return m;
}
#else
static struct marks marks_of(const uint8_t *at)
{
    struct marks m = {0};
    for (unsigned i = 0; i < BLOCK; i++) {
        const uint8_t b = at[i] | BRACE_BIT;
        m.quotes |= (uint64_t)(at[i] == '"') << i;
        m.backslashes |= (uint64_t)(at[i] == '\\') << i;
        m.opening |= (uint64_t)(b == '{') << i;
        m.closing |= (uint64_t)(b == '}') << i;
        m.braces |= (uint64_t)((at[i] & BRACE_BIT) != 0) << i;
    }
    return m;
}
#endif

/* Which bytes follow a backslash that is not escaped itself. *carry: whether the first one does, and then
 * whether the first of the next block does. */
static uint64_t escaped_of(uint64_t backslashes, bool *carry)
{
    uint64_t escaped = *carry ? 1 : 0, last = 0;
    backslashes &= ~escaped;
    while (backslashes != 0) {
        last = backslashes & -backslashes;
        escaped |= last << 1;
        backslashes &= ~(last | last << 1);
    }
    *carry = last >> 63 != 0;
    return escaped;
}

/* Which bytes are in texts, the opening quotes included: those with an odd number of quotes up to there. */
static uint64_t texts_of(uint64_t quotes, bool in_text)
{
    uint64_t odd = quotes;
    for (unsigned shift = 1; shift < BLOCK; shift *= 2)
        odd ^= odd << shift;
    return in_text ? ~odd : odd;
}

/* The brackets that are left to be looked at, of those bytes. What is empty, as most objects of a list of
 * pods are, is not, but where it could be too deep. */
static uint64_t brackets_of(const struct marks *m, uint64_t bytes, unsigned depth)
{
    const uint64_t opening = m->opening & bytes, closing = m->closing & bytes;
    uint64_t empty = 0;
    if (depth <= K8S_NEST_MAX - BLOCK)
        empty = opening & closing >> 1 & ~(m->braces ^ m->braces >> 1);
    return (opening | closing) & ~(empty | empty << 1);
}

/* *used: how much of the block, if the value ends there or is bad. */
static enum k8s_passed pass_brackets(struct k8s_pass *p, struct k8s_nest *n, const struct marks *m,
                                     uint64_t brackets, unsigned *used)
{
    for (; brackets != 0; brackets &= brackets - 1) {
        const unsigned i = (unsigned)__builtin_ctzll(brackets);
        const bool object = (m->braces >> i & 1) != 0;
        *used = i;
        if ((m->opening >> i & 1) != 0) {
            if (!k8s_nest_open(n, object))
                return K8S_PASS_DEEP;
        } else if (!k8s_nest_close(n, object)) {
            return K8S_PASS_BAD;
        } else if (n->depth == p->outside) {
            *used = i + 1;
            return K8S_PASS_END;
        }
    }
    return K8S_PASS_MORE;
}

/* The bytes in front of the first of these. */
static uint64_t in_front_of(uint64_t bits)
{
    return bits != 0 ? (bits & -bits) - 1 : ~UINT64_C(0);
}

static enum k8s_passed pass_block(struct k8s_pass *p, struct k8s_nest *n, const uint8_t *at, unsigned *used)
{
    const struct marks m = marks_of(at);
    const uint64_t quotes = m.quotes & ~escaped_of(m.backslashes, &p->escaped);
    if (n->depth == p->outside) { /* the value is a text */
        *used = quotes != 0 ? (unsigned)__builtin_ctzll(quotes) + 1 : BLOCK;
        return quotes != 0 ? K8S_PASS_END : K8S_PASS_MORE;
    }
    const uint64_t texts = texts_of(quotes, p->in_text);
    const uint64_t stray = m.backslashes & ~texts;
    const uint64_t brackets = brackets_of(&m, ~texts & in_front_of(stray), n->depth);
    p->in_text = texts >> 63 != 0;
    enum k8s_passed r = pass_brackets(p, n, &m, brackets, used);
    if (r == K8S_PASS_MORE) {
        *used = stray != 0 ? (unsigned)__builtin_ctzll(stray) : BLOCK;
        r = stray != 0 ? K8S_PASS_BAD : K8S_PASS_MORE;
    }
    return r;
}

/* --- Bytes --- */

static enum k8s_passed pass_byte(struct k8s_pass *p, struct k8s_nest *n, uint8_t c)
{
    const bool object = (c & BRACE_BIT) != 0;
    if (p->escaped) {
        p->escaped = false;
        return K8S_PASS_MORE;
    }
    if (c == '"') {
        p->in_text = !p->in_text;
        return !p->in_text && n->depth == p->outside ? K8S_PASS_END : K8S_PASS_MORE;
    }
    if (c == '\\') {
        p->escaped = p->in_text;
        return p->in_text ? K8S_PASS_MORE : K8S_PASS_BAD;
    }
    if (p->in_text)
        return K8S_PASS_MORE;
    if ((c | BRACE_BIT) == '{')
        return k8s_nest_open(n, object) ? K8S_PASS_MORE : K8S_PASS_DEEP;
    if ((c | BRACE_BIT) != '}')
        return K8S_PASS_MORE;
    if (!k8s_nest_close(n, object))
        return K8S_PASS_BAD;
    return n->depth == p->outside ? K8S_PASS_END : K8S_PASS_MORE;
}

enum k8s_passed k8s_pass_over(struct k8s_pass *p, struct k8s_nest *n, struct cs_rd *in)
{
    enum k8s_passed r = K8S_PASS_MORE;
    while (r == K8S_PASS_MORE && cs_rd_left(in) >= BLOCK) {
        unsigned used;
        r = pass_block(p, n, in->p, &used);
        in->p += used;
    }
    while (r == K8S_PASS_MORE && in->p < in->end) {
        r = pass_byte(p, n, *in->p);
        in->p += r != K8S_PASS_BAD && r != K8S_PASS_DEEP;
    }
    return r;
}

/* --- Texts that are wanted --- */

const uint8_t *k8s_plain_end(const uint8_t *at, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    for (; end - at >= 16; at += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        const __m128i mark = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash));
        const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, control), v);
        const unsigned bits = (unsigned)_mm_movemask_epi8(_mm_or_si128(mark, low));
        if (bits != 0)
            return at + __builtin_ctz(bits);
    }
#endif
    while (at < end && *at != '"' && *at != '\\' && *at >= ' ')
        at++;
    return at;
}

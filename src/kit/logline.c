/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines: JSON on standard error.
 */
#include "kit/logline.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

static const char *level_name(enum cspire_level level)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error"};
    unsigned n = (unsigned)level - CSPIRE_TRACE;
    return n < sizeof names / sizeof names[0] ? names[n] : "info";
}

/* The text, quoted, in at most `room` bytes; cut at a character. */
static void add_text(struct cs_buf *out, const char *text, size_t room)
{
    struct cs_slice all = cs_slice_str(text != NULL ? text : ""), s = all;
    size_t start = out->len;
    if (s.len > room)
        s.len = room;
    for (;;) {
        while (s.len > 0 && s.len < all.len && (s.data[s.len] & 0xc0) == 0x80)
            s.len--;
        cs_quote_json(out, s);
        if (out->failed || out->len - start <= room || s.len == 0)
            return;
        out->len = start; /* escapes made it longer: once more with less */
        s.len /= 2;
    }
}

/* hclog's own keys begin with @, and a host takes them for what they say. */
static void add_key(struct cs_buf *out, const char *key)
{
    char text[128] = "";
    size_t n = strnlen(key, sizeof text - 2);
    memcpy(text, key, n);
    if (text[0] == '@')
        text[0] = '_';
    cs_quote_json(out, cs_slice_str(text));
}

void kit_log_format(struct cs_buf *out, int64_t wall_ns, enum cspire_level level, const char *message,
                    const struct cspire_field *fields, size_t count)
{
    size_t start = out->len;
    time_t s = (time_t)(wall_ns / CS_NS_PER_S);
    struct tm tm = {0};
    (void)gmtime_r(&s, &tm);
    cs_buf_printf(out, "{\"@level\":\"%s\",\"@message\":", level_name(level));
    add_text(out, message, KIT_LOG_LINE_MAX / 2);
    cs_buf_printf(out, ",\"@timestamp\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"", tm.tm_year + 1900,
                  tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                  (int)(wall_ns % CS_NS_PER_S / 1000));
    for (size_t i = 0; i < count && i < KIT_LOG_FIELDS_MAX; i++) {
        size_t used = out->len - start + 1024; /* a key and the end */
        if (fields[i].key == NULL || used >= KIT_LOG_LINE_MAX)
            continue;
        cs_buf_add_byte(out, ',');
        add_key(out, fields[i].key);
        cs_buf_add_byte(out, ':');
        add_text(out, fields[i].value, KIT_LOG_LINE_MAX - used);
    }
    cs_buf_add_str(out, "}\n");
}

void kit_log_write(struct kit_log *log, enum cspire_level level, const char *message,
                   const struct cspire_field *fields, size_t count)
{
    uint8_t mem[1024];
    struct cs_buf line CS_CLEANUP(cs_buf_free) = cs_buf_on(mem, sizeof mem);
    kit_log_format(&line, cs_now_ns(&cs_clock_system), level, message != NULL ? message : "", fields, count);
    if (!cs_buf_ok(&line))
        return;
    pthread_mutex_lock(&log->lock);
    for (size_t done = 0; done < line.len;) {
        ssize_t n = write(log->fd, line.data + done, line.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    pthread_mutex_unlock(&log->lock);
}

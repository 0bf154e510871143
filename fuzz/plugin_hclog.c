/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard error of a plugin, cut at arbitrary points: lines come out as from one piece, and nothing of them
 * reaches our log that could be taken for a line of ours.
 */
#include "base/mem.h"
#include "plugin/hclog.h"
#include "plugin/lines.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see(void *arg, struct cs_slice line)
{
    cs_buf_add_slice(arg, line);
    cs_buf_add_byte(arg, '\n');
}

static void feed(struct cs_slice in, size_t step, struct cs_buf *out)
{
    struct plugin_lines l = {.max = 64};
    for (size_t at = 0; at < in.len; at += step) {
        size_t n = in.len - at < step ? in.len - at : step;
        plugin_lines_feed(&l, cs_slice_of(in.data + at, n), see, out);
        if (l.held.len > l.max)
            abort();
    }
    plugin_lines_end(&l, see, out);
}

/* A log that is looked at: one line, without control characters. */
static void check_log(const struct cs_log *log, struct cs_slice line, int fd)
{
    static uint8_t text[512 * 1024];
    struct plugin_hclog h = {.log = log, .subsystem = "x.program"};
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    plugin_hclog_line(&h, line);
    ssize_t n = pread(fd, text, sizeof text, 0);
    for (ssize_t i = 0; i < n; i++)
        if ((text[i] == '\n' && i != n - 1) || (text[i] < ' ' && text[i] != '\n') || text[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cs_log_sink *sink;
    static int fd = -1;
    static char path[] = "/tmp/fuzz-hclog-XXXXXX";
    if (size < 1)
        return 0;
    if (fd < 0) {
        fd = mkstemp(path);
        if (fd < 0 || cs_log_sink_open(path, CS_LOG_TEXT, CS_LOG_DEBUG, &sink, NULL) != CS_OK)
            abort();
        (void)unlink(path);
    }
    const struct cs_log log = {.sink = sink};
    struct cs_slice in = cs_slice_of(data + 1, size - 1);
    struct cs_buf whole = {0}, cut = {0};
    feed(in, in.len + 1, &whole);
    feed(in, 1 + data[0] % 80, &cut);
    if (!cs_slice_eq(cs_buf_slice(&whole), cs_buf_slice(&cut)))
        abort();
    cs_buf_free(&whole);
    cs_buf_free(&cut);
    check_log(&log, in, fd);
    return 0;
}

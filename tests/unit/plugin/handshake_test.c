/* SPDX-License-Identifier: Apache-2.0
 *
 * The line a plugin begins with: what is taken, and go-plugin's words for what is not.
 */
#include "plugin/handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static cs_code parse(const char *line, struct plugin_handshake *h, struct cs_err *e)
{
    *e = (struct cs_err){0};
    return plugin_handshake_parse(cs_slice_str(line), h, e);
}

static void takes(void **state)
{
    (void)state;
    static const struct {
        const char *line, *address;
        bool tcp;
    } cases[] = {
        {"1|1|unix|/tmp/plugin1|grpc", "/tmp/plugin1", false},
        {"1|1|unix|/tmp/plugin1|grpc|", "/tmp/plugin1", false},
        {"1|1|unix|/tmp/plugin1|grpc||true", "/tmp/plugin1", false},
        {" \t1|1|unix|/tmp/plugin1|grpc|certificate|more|and more\r\n", "/tmp/plugin1", false},
        {"1|1|tcp|127.0.0.1:10000|grpc", "127.0.0.1:10000", true},
        {"1|1|tcp|[::1]:10000|grpc", "[::1]:10000", true},
        {"+1|01|unix|@abstract|grpc", "@abstract", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plugin_handshake h;
        struct cs_err e;
        if (parse(cases[i].line, &h, &e) != CS_OK)
            fail_msg("%s: %s", cases[i].line, e.text);
        assert_string_equal(h.address, cases[i].address);
        assert_int_equal(h.tcp, cases[i].tcp);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"", "Unrecognized remote plugin message: "},
        {"hello, I am no plugin", "Unrecognized remote plugin message: hello, I am no plugin"},
        {"1|1|unix", "Unrecognized remote plugin message: 1|1|unix"},
        {"\x1b[31mred", "Unrecognized remote plugin message: \\x1b[31mred"},
        {"2|1|unix|/x|grpc", "incompatible core API version with plugin. Plugin version: 2, Core version: 1"},
        {"x|1|unix|/x|grpc", "error parsing core protocol version: \"x\""},
        {"1|2|unix|/x|grpc", "incompatible API version with plugin. Plugin version: 2, Client versions: [1]"},
        {"1|one|unix|/x|grpc", "Error parsing protocol version \"one\""},
        {"1|99999999999999999999|unix|/x|grpc", "Error parsing protocol version \"99999999999999999999\""},
        {"1|1|udp|1.2.3.4:1|grpc", "unknown address type: 1.2.3.4:1"},
        {"1|1|unix|/x|netrpc", "unsupported plugin protocol \"netrpc\". Supported: [grpc]"},
        {"1|1|unix|/x", "unsupported plugin protocol \"netrpc\". Supported: [grpc]"},
        {"1|1|unix||grpc", "plugin address is empty or too long"},
        {"1|1|tcp|10.0.0.1:80|grpc", "plugin listens on 10.0.0.1:80, which is not on the loopback"},
        {"1|1|tcp|localhost.evil.example:80|grpc",
         "plugin listens on localhost.evil.example:80, which is not on the loopback"},
        {"1|1|tcp|127.evil.example:80|grpc",
         "plugin listens on 127.evil.example:80, which is not on the loopback"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plugin_handshake h;
        struct cs_err e;
        assert_int_equal(parse(cases[i].line, &h, &e), CS_INVALID);
        assert_string_equal(e.text, cases[i].text);
        assert_string_equal(h.address, "");
    }
}

static void is_bounded(void **state)
{
    (void)state;
    static char line[PLUGIN_HANDSHAKE_MAX + 100];
    struct plugin_handshake h;
    struct cs_err e;
    memset(line, 'x', sizeof line - 1);
    assert_int_equal(parse(line, &h, &e), CS_INVALID);
    assert_true(strlen(e.text) < 300);
    memcpy(line, "1|1|unix|", 9);
    line[PLUGIN_ADDRESS_MAX + 9] = '|';
    memcpy(line + PLUGIN_ADDRESS_MAX + 10, "grpc|", 6);
    assert_int_equal(parse(line, &h, &e), CS_INVALID);
    assert_string_equal(e.text, "plugin address is empty or too long");
    assert_int_equal(plugin_handshake_parse(cs_slice_of("1|1|unix|/x\0y|grpc", 18), &h, &e), CS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

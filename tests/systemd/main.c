/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for systemd on a bus of the test's own ($DBUS_SYSTEM_BUS_ADDRESS): every process is of one unit.
 * Usage: test-systemd ID FRAGMENT_PATH good|unknown|number. Prints a line once it is there; ends with
 * its standard input.
 */
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <poll.h>

#define UNIT "/org/freedesktop/systemd1/unit/web_2eservice"

struct unit {
    const char *id, *fragment, *mode;
};

static int on_get_unit(sd_bus_message *m, void *arg, sd_bus_error *fault)
{
    const struct unit *u = arg;
    uint32_t pid = 0;
    int rc = sd_bus_message_read(m, "u", &pid);
    if (rc < 0)
        return rc;
    if (strcmp(u->mode, "unknown") == 0)
        return sd_bus_error_setf(fault, "org.freedesktop.systemd1.NoUnitForPID",
                                 "PID %u does not belong to any loaded unit.", pid);
    return sd_bus_reply_method_return(m, "o", UNIT);
}

static int on_get_property(sd_bus_message *m, void *arg, sd_bus_error *fault)
{
    const struct unit *u = arg;
    const char *interface, *name;
    (void)fault;
    int rc = sd_bus_message_read(m, "ss", &interface, &name);
    if (rc < 0)
        return rc;
    if (strcmp(u->mode, "number") == 0)
        return sd_bus_reply_method_return(m, "v", "u", 7);
    return sd_bus_reply_method_return(m, "v", "s", strcmp(name, "Id") == 0 ? u->id : u->fragment);
}

static const sd_bus_vtable manager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("GetUnitByPID", "u", "o", on_get_unit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static int on_message(sd_bus_message *m, void *arg, sd_bus_error *fault)
{
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get") > 0)
        return on_get_property(m, arg, fault);
    return 0;
}

static int serve(sd_bus *bus)
{
    for (;;) {
        int rc = sd_bus_process(bus, NULL);
        if (rc < 0)
            return 1;
        if (rc > 0)
            continue;
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = sd_bus_get_fd(bus), .events = (short)sd_bus_get_events(bus)}};
        if (poll(fds, 2, -1) < 0)
            return 1;
        if (fds[0].revents != 0)
            return 0;
    }
}

int main(int argc, char **argv)
{
    sd_bus *bus = NULL;
    if (argc != 4)
        return 2;
    struct unit u = {argv[1], argv[2], argv[3]};
    if (sd_bus_open_system(&bus) < 0 ||
        sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                 manager, &u) < 0 ||
        sd_bus_add_object(bus, NULL, UNIT, on_message, &u) < 0 ||
        sd_bus_request_name(bus, "org.freedesktop.systemd1", 0) < 0)
        return 1;
    (void)puts("ready");
    (void)fflush(stdout);
    int rc = serve(bus);
    sd_bus_flush_close_unref(bus);
    return rc;
}

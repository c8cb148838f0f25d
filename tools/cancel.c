/*
 * cancel.c - sluicectl cancel: ends a request by its id. A client may cancel its own requests
 * alone, and sluicectl is another client, so this goes to the operator's socket, which stands
 * beside the client's ipc path. Called by sluicectl's dispatcher; runs once.
 */
#include "tools/cancel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "tools/options.h"
#include "tools/talk.h"
#include "wire/client.h"

#define COMMAND "sluicectl cancel"

enum { CONNECT_MS = 5000, REPLY_MS = 5000 };

/* ipc://PATH becomes ipc://PATH.admin; anything else stays. False when it is too long. */
static bool admin_endpoint(const char *endpoint, char out[LIMIT_PATH_BYTES_MAX])
{
    static const char scheme[] = "ipc://", suffix[] = ".admin";
    const size_t count = strlen(endpoint);
    const bool beside =
        strncmp(endpoint, scheme, sizeof scheme - 1) == 0 &&
        (count < sizeof suffix || strcmp(endpoint + count - (sizeof suffix - 1), suffix) != 0);
    const int wanted = snprintf(out, LIMIT_PATH_BYTES_MAX, "%s%s", endpoint, beside ? suffix : "");

    return wanted < LIMIT_PATH_BYTES_MAX;
}

static int report(struct client *client, const struct client_reply *reply)
{
    struct wire_failure failure;
    char error[TALK_ERROR_BYTES_MAX];

    if (reply->command == WIRE_RESULT) {
        return EXIT_STATUS_DONE;
    }
    if (reply->command == WIRE_ERROR &&
        codec_decode_error(client_codec(client), reply->body, &failure) == 0) {
        talk_explain(&failure, error);
        (void)fprintf(stderr, "sluicectl: %s\n", error);
    } else {
        (void)fputs("sluicectl: the agent sent what protocol v1 does not know\n", stderr);
    }
    return EXIT_STATUS_FAILED;
}

static int cancel(struct client *client, const char *text)
{
    struct wire_id id = {.count = (uint8_t)strlen(text)};
    struct client_reply reply;
    int status;

    memcpy(id.bytes, text, id.count);
    status = client_send(client, WIRE_CANCEL, &id, codec_encode_empty(client_codec(client)));
    status = status ? status : client_receive(client, REPLY_MS, &reply);
    if (status != 0) {
        (void)fputs("sluicectl: the agent has stopped answering\n", stderr);
        return EXIT_STATUS_FAILED;
    }
    return report(client, &reply);
}

int cancel_main(int argc, char **argv)
{
    const char *endpoint = OPTIONS_ENDPOINT_DEFAULT, *id = NULL;
    const struct options_row rows[] = {
        {"endpoint", OPTIONS_TEXT, 0, &endpoint, "E", "default " OPTIONS_ENDPOINT_DEFAULT},
        {"id", OPTIONS_TEXT, 0, &id, "ID", "of the request, as its client gave it"},
    };
    const struct options options = {COMMAND, "Ends every running request with this id.", rows,
                                    sizeof rows / sizeof rows[0]};
    char admin[LIMIT_PATH_BYTES_MAX], error[CLIENT_ERROR_BYTES_MAX];
    struct client *client;
    uint32_t flags;
    int status;

    if (!options_parse(&options, argc, argv, &flags, &status)) {
        return status;
    }
    if (!id || id[0] == '\0' || strlen(id) > LIMIT_REQUEST_ID_BYTES_MAX) {
        return options_wrong(COMMAND, "--id needs 1 to 64 bytes");
    }
    if (!admin_endpoint(endpoint, admin)) {
        return options_wrong(COMMAND, "--endpoint is too long");
    }
    if (client_open(&client, admin, CONNECT_MS, error) != 0) {
        (void)fprintf(stderr, "sluicectl: %s\n", error);
        return EXIT_STATUS_FAILED;
    }
    status = cancel(client, id);
    client_close(client);
    return status;
}

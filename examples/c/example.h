/* What the examples share: an error ends the program. */
#include <dragonfly.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dragonfly_error *error;

static inline void check(dragonfly_status status) {
    if (status == DRAGONFLY_OK) return;
    fprintf(stderr, "%s: %s\n", dragonfly_kind_name(status), dragonfly_error_message(error));
    exit(1);
}

static inline dragonfly_request request_of(const char *url) {
    dragonfly_request request = {0};
    request.size = sizeof request;
    request.url = url;
    return request;
}

/* A node; it listens on loopback if it is to be a member, and joins with a token if there is one. */
static inline dragonfly_node *start_node(int member, const char *token) {
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    dragonfly_node_options options = {0};
    options.size = sizeof options;
    options.token = token;
    if (member) options.listen = listen, options.listen_length = 1, options.allow_loopback_origins = true;
    dragonfly_node *node = NULL;
    check(dragonfly_node_start(&options, -1, NULL, &node, &error));
    return node;
}

static inline dragonfly_peer *start_peer(dragonfly_node *node) {
    dragonfly_peer *peer = NULL;
    check(dragonfly_peer_start(node, -1, NULL, &peer, &error));
    return peer;
}

static inline void stop(dragonfly_node *node, dragonfly_peer *peer) {
    check(dragonfly_peer_shutdown(peer, -1, NULL, &error));
    check(dragonfly_node_shutdown(node, -1, NULL, &error));
    dragonfly_peer_free(peer);
    dragonfly_node_free(node);
}

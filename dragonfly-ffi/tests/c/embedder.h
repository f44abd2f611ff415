/* The operations of the suite in which the program brings something of its own: identity, source, policy, eyes, ears.
 * A part of suite.c. */
#ifndef EMBEDDER_H
#define EMBEDDER_H

#include "common.h"

#include <pthread.h>

/* What a callback's context is: a lock, and what was seen. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *looked_for;
    char refused[DRAGONFLY_PEER_ROOM], other[DRAGONFLY_PEER_ROOM];
    uint64_t length;
    unsigned opened, closed, served, not_fetched, up, down, heard, dropped;
    const char *unfetched;
};

#define SEEN {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, "", "", "", 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL}

static void count(struct seen *seen, unsigned *what) {
    pthread_mutex_lock(&seen->lock);
    ++*what;
    pthread_cond_signal(&seen->changed);
    pthread_mutex_unlock(&seen->lock);
}

/* Waits until something was counted so often. */
static void await_count(struct seen *seen, const unsigned *what, unsigned times) {
    pthread_mutex_lock(&seen->lock);
    while (*what < times) pthread_cond_wait(&seen->changed, &seen->lock);
    CHECK(*what == times);
    pthread_mutex_unlock(&seen->lock);
}

static void seen_drop(void *ctx) {
    struct seen *seen = ctx;
    count(seen, &seen->dropped);
}

static void identity_of(unsigned char *room, int byte) { memset(room, byte, DRAGONFLY_IDENTITY_LENGTH); }

static dragonfly_status run_identity(const struct row *row, dragonfly_error **error) {
    dragonfly_node *n = NULL;
    dragonfly_text *id = NULL;
    dragonfly_node_options options = {0};
    unsigned char identity[DRAGONFLY_IDENTITY_LENGTH];
    identity_of(identity, atoi(get(row, "byte")));
    options.size = sizeof options;
    options.identity = identity;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, &n, error));
    TRY(dragonfly_node_peer_id(n, &id, error));
    CHECK(strcmp(dragonfly_text_get(id), get(row, "peer")) == 0);
    dragonfly_text_free(id);
    dragonfly_node_free(n);
    return DRAGONFLY_OK;
}

/* The origin that README.md describes. */
static dragonfly_status own_open(void *ctx, const dragonfly_source_request *request, dragonfly_source_content *content,
                                 dragonfly_source_failure *failure) {
    struct seen *seen = ctx;
    CHECK(request->size == sizeof *request && content->size == sizeof *content && failure->size == sizeof *failure);
    CHECK(strncmp(request->url, "suite://any/", 12) == 0 && request->range_start < request->range_end);
    pthread_mutex_lock(&seen->lock);
    int first = seen->opened++ % 2 == 0;
    pthread_mutex_unlock(&seen->lock);
    const char *path = request->url + 11;
    strcpy(failure->message, "as the test wants it");
    if (strcmp(path, "/missing") == 0) return DRAGONFLY_NOT_FOUND;
    if (strcmp(path, "/refused") == 0) return DRAGONFLY_FORBIDDEN;
    if (strcmp(path, "/flaky") == 0 && first) {
        failure->temporary = true;
        return DRAGONFLY_NETWORK;
    }
    uint64_t *at = malloc(sizeof *at);
    CHECK(at != NULL);
    *at = request->range_start;
    content->body = at;
    content->has_length = true, content->length = seen->length;
    content->offset = *at;
    content->ranges = true;
    strcpy(content->version, "1");
    return DRAGONFLY_OK;
}

static dragonfly_status own_read(void *ctx, void *body, uint8_t *buffer, size_t room, size_t *read,
                                 dragonfly_source_failure *failure) {
    const struct seen *seen = ctx;
    uint64_t *at = body;
    (void)failure;
    for (; *read < room && *at < seen->length; ++*read) buffer[*read] = (uint8_t)((*at)++ % 251);
    return DRAGONFLY_OK;
}

static void own_close(void *ctx, void *body) {
    struct seen *seen = ctx;
    free(body);
    count(seen, &seen->closed);
}

static dragonfly_status run_source(const struct row *row, dragonfly_error **error) {
    struct seen seen = SEEN;
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_receipt receipt;
    dragonfly_source source = {0};
    const dragonfly_source *sources[] = {&source};
    dragonfly_node_options options = {0};
    struct wanted *wanted = wanted_of(row);
    seen.length = get(row, "length") ? strtoull(get(row, "length"), NULL, 10) : 0;
    source.size = sizeof source;
    source.scheme = "suite";
    source.open = own_open, source.read = own_read, source.close = own_close;
    source.ctx = &seen, source.drop = seen_drop;
    options.size = sizeof options;
    options.sources = sources, options.sources_length = 1;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, &n, error));
    TRY(dragonfly_peer_start(n, FOREVER, NULL, &p, error));
    wanted->request.output = wanted->output;
    dragonfly_status status = fetch(p, &wanted->request, &receipt, error);
    if (status == DRAGONFLY_OK) {
        CHECK(receipt.length == seen.length);
        check_crc(row, wanted->output);
        wanted->request.output = NULL;
        status = read_all(row, p, &wanted->request, 10000, error);
    }
    if (status == DRAGONFLY_OK) status = stop(n, p, error);
    else stop(n, p, NULL);
    await_count(&seen, &seen.dropped, 1);
    CHECK(seen.opened > 0 && (status != DRAGONFLY_OK || seen.closed > 0));
    return status;
}

static bool admit_peer(void *ctx, const dragonfly_member *member) {
    const struct seen *seen = ctx;
    CHECK(member->size == sizeof *member && strstr(member->roles, "peer") != NULL && member->tenant != NULL);
    return strcmp(member->peer, seen->refused) != 0;
}

static bool admit_request(void *ctx, const dragonfly_peer_request *request) {
    struct seen *seen = ctx;
    CHECK(request->size == sizeof *request && strlen(request->task) == 66);
    if (request->type == DRAGONFLY_REQUEST_SERVE && strstr(request->label, seen->looked_for) != NULL) {
        pthread_mutex_lock(&seen->lock);
        strcpy(seen->other, request->peer);
        pthread_mutex_unlock(&seen->lock);
        count(seen, &seen->served);
    }
    if (request->type == DRAGONFLY_REQUEST_FETCH && strstr(request->label, seen->unfetched) != NULL) {
        CHECK(request->peer[0] == 0);
        count(seen, &seen->not_fetched);
        return false;
    }
    return true;
}

/* Starts a member that is who `byte` says. */
static dragonfly_status start_as(int byte, const char *with_token, dragonfly_node **n, dragonfly_peer **p,
                                 dragonfly_error **error) {
    unsigned char identity[DRAGONFLY_IDENTITY_LENGTH];
    dragonfly_node_options options = {0};
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    identity_of(identity, byte);
    options.size = sizeof options;
    options.listen = listen, options.listen_length = 1;
    options.token = with_token;
    options.identity = identity;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, n, error));
    return dragonfly_peer_start(*n, FOREVER, NULL, p, error);
}

static void id_of(dragonfly_node *n, char *room) {
    dragonfly_text *id = NULL;
    CHECK(dragonfly_node_peer_id(n, &id, NULL) == DRAGONFLY_OK);
    CHECK(dragonfly_text_length(id) < DRAGONFLY_PEER_ROOM);
    strcpy(room, dragonfly_text_get(id));
    dragonfly_text_free(id);
}

/* A network of one's own: a first node with scheduler and seed, and its token. */
struct network {
    dragonfly_node *first;
    dragonfly_scheduler *scheduler;
    dragonfly_seed *seed;
    dragonfly_text *token;
};

static dragonfly_status found(struct network *network, const dragonfly_policy *policy, dragonfly_error **error) {
    memset(network, 0, sizeof *network);
    TRY(start_seed(NULL, policy, &network->first, &network->scheduler, &network->seed, error));
    return dragonfly_node_token(network->first, NULL, &network->token, error);
}

static dragonfly_status dissolve(struct network *network, dragonfly_error **error) {
    dragonfly_text_free(network->token);
    TRY(dragonfly_seed_shutdown(network->seed, FOREVER, NULL, error));
    TRY(dragonfly_scheduler_shutdown(network->scheduler, FOREVER, NULL, error));
    dragonfly_seed_free(network->seed);
    dragonfly_scheduler_free(network->scheduler);
    TRY(dragonfly_node_shutdown(network->first, FOREVER, NULL, error));
    dragonfly_node_free(network->first);
    return DRAGONFLY_OK;
}

static dragonfly_status run_policy(const struct row *row, dragonfly_error **error) {
    struct seen seen = SEEN;
    struct network network;
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_receipt receipt;
    dragonfly_policy policy = {0};
    char id[DRAGONFLY_PEER_ROOM];
    struct wanted *wanted = wanted_of(row);
    /* Who is refused is known before it comes. */
    TRY(start_as(2, NULL, &n, &p, error));
    id_of(n, seen.refused);
    TRY(stop(n, p, error));
    seen.looked_for = get(row, "path"), seen.unfetched = get(row, "unfetched");
    policy.size = sizeof policy;
    policy.admit_peer = admit_peer, policy.admit_request = admit_request;
    policy.ctx = &seen, policy.drop = seen_drop;
    TRY(found(&network, &policy, error));

    TRY(start_as(3, dragonfly_text_get(network.token), &n, &p, error));
    wanted->request.output = wanted->output;
    TRY(fetch(p, &wanted->request, &receipt, error));
    check_crc(row, wanted->output);
    CHECK(receipt.bytes_from_peers == receipt.length);
    snprintf(wanted->url, sizeof wanted->url, "%s%s", origin, seen.unfetched);
    wanted->request.output = NULL;
    TRY(fetch(p, &wanted->request, &receipt, error));
    CHECK(receipt.bytes_from_origin == receipt.length);
    id_of(n, id);
    TRY(stop(n, p, error));
    pthread_mutex_lock(&seen.lock);
    CHECK(seen.served > 0 && seen.not_fetched > 0 && strcmp(seen.other, id) == 0);
    pthread_mutex_unlock(&seen.lock);

    TRY(start_as(2, dragonfly_text_get(network.token), &n, &p, error));
    snprintf(wanted->url, sizeof wanted->url, "%s%s", origin, get(row, "refused"));
    TRY(fetch(p, &wanted->request, &receipt, error));
    CHECK(receipt.bytes_from_origin == receipt.length);
    dragonfly_text *peers = NULL;
    TRY(dragonfly_node_peers(network.first, &peers, error));
    CHECK(strstr(dragonfly_text_get(peers), seen.refused) == NULL);
    dragonfly_text_free(peers);
    TRY(stop(n, p, error));
    TRY(dissolve(&network, error));
    await_count(&seen, &seen.dropped, 1);
    return DRAGONFLY_OK;
}

static void on_node_event(void *ctx, const dragonfly_node_event *event) {
    struct seen *seen = ctx;
    CHECK(event->size == sizeof *event);
    count(seen, event->type == DRAGONFLY_NODE_EVENT_PEER_UP ? &seen->up : &seen->down);
}

static dragonfly_status run_events(const struct row *row, dragonfly_error **error) {
    struct seen seen = SEEN;
    struct network network;
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_receipt receipt;
    dragonfly_node_events *events = NULL;
    dragonfly_node_event event = {0};
    dragonfly_node_watcher watcher = {0};
    char id[DRAGONFLY_PEER_ROOM];
    event.size = sizeof event;
    watcher.size = sizeof watcher;
    watcher.on_event = on_node_event, watcher.ctx = &seen, watcher.drop = seen_drop;
    TRY(found(&network, NULL, error));
    TRY(dragonfly_node_events_open(network.first, &events, error));
    TRY(dragonfly_node_watch(network.first, &watcher, error));
    CHECK(dragonfly_node_events_next(events, 0, NULL, &event, NULL) == DRAGONFLY_TIMEOUT);
    TRY(start(dragonfly_text_get(network.token), &n, &p, error));
    TRY(fetch(p, &wanted_of(row)->request, &receipt, error));
    TRY(dragonfly_node_events_next(events, FOREVER, NULL, &event, error));
    id_of(n, id);
    CHECK(event.type == DRAGONFLY_NODE_EVENT_PEER_UP && strcmp(event.peer, id) == 0);
    TRY(stop(n, p, error));
    TRY(dragonfly_node_events_next(events, FOREVER, NULL, &event, error));
    CHECK(event.type == DRAGONFLY_NODE_EVENT_PEER_DOWN && strcmp(event.peer, id) == 0);
    await_count(&seen, &seen.up, 1);
    await_count(&seen, &seen.down, 1);
    TRY(dissolve(&network, error));
    TRY(dragonfly_node_events_next(events, FOREVER, NULL, &event, error));
    CHECK(event.type == DRAGONFLY_NODE_EVENT_END);
    dragonfly_node_events_free(events);
    await_count(&seen, &seen.dropped, 1);
    return DRAGONFLY_OK;
}

static void on_record(void *ctx, const dragonfly_log_record *record) {
    struct seen *seen = ctx;
    CHECK(record->size == sizeof *record && record->level >= DRAGONFLY_LOG_ERROR);
    CHECK(record->level <= DRAGONFLY_LOG_TRACE);
    if (strncmp(record->target, "dragonfly", 9) == 0 && record->message[0] != 0) count(seen, &seen->heard);
}

static dragonfly_status run_log(const struct row *row, dragonfly_error **error) {
    struct seen seen = SEEN;
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_receipt receipt;
    dragonfly_log sink = {0};
    sink.size = sizeof sink;
    CHECK(strcmp(get(row, "level"), "trace") == 0);
    sink.level = DRAGONFLY_LOG_TRACE;
    sink.on_record = on_record, sink.ctx = &seen, sink.drop = seen_drop;
    TRY(dragonfly_log_set(&sink, error));
    TRY(start(NULL, &n, &p, error));
    TRY(fetch(p, &wanted_of(row)->request, &receipt, error));
    TRY(stop(n, p, error));
    TRY(dragonfly_log_set(NULL, error));
    await_count(&seen, &seen.dropped, 1);
    CHECK(seen.heard > 0);
    return DRAGONFLY_OK;
}

#endif

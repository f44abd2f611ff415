/* Each pointer NULL, one at a time and with everything else right: it is an error, or means what the header says. What
 * is wrong writes no result. And every kind of handle freed twice, and used after that.
 *
 * Arguments: an origin that serves /piece (1 MiB), a token (not used). */
#include "common.h"

/* What a place for a result has in it before: nothing that fails may write there. */
#define UNTOUCHED(type) ((type *)(void *)&untouched)
static char untouched;

#define WRONG(call) FAILS(DRAGONFLY_INVALID_INPUT, call)

static dragonfly_error *error;

static struct engines {
    dragonfly_node *node;
    dragonfly_scheduler *scheduler;
    dragonfly_seed *seed;
    dragonfly_peer *peer;
    dragonfly_download *download;
    dragonfly_reader *reader;
    dragonfly_node_events *events;
    dragonfly_tasks *tasks;
    char task[DRAGONFLY_ID_ROOM], generation[DRAGONFLY_ID_ROOM];
} it;

static void start(const dragonfly_request *request) {
    dragonfly_node_options options = {0};
    dragonfly_receipt receipt = {0};
    dragonfly_task_info info = {0};
    options.size = sizeof options, receipt.size = sizeof receipt, info.size = sizeof info;
    options.allow_loopback_origins = true;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &it.node, &error));
    OK(dragonfly_node_events_open(it.node, &it.events, &error));
    OK(dragonfly_scheduler_start(it.node, FOREVER, NULL, &it.scheduler, &error));
    OK(dragonfly_seed_start(it.node, FOREVER, NULL, &it.seed, &error));
    OK(dragonfly_seed_peer(it.seed, &it.peer, &error));
    OK(dragonfly_peer_fetch(it.peer, request, &it.download, &error));
    OK(dragonfly_download_wait(it.download, FOREVER, NULL, &receipt, &error));
    OK(dragonfly_peer_open(it.peer, request, FOREVER, NULL, &it.reader, &error));
    OK(dragonfly_peer_stat(it.peer, receipt.task, FOREVER, NULL, &it.tasks, &error));
    OK(dragonfly_tasks_get(it.tasks, 0, &info, &error));
    strcpy(it.task, info.task), strcpy(it.generation, info.generation);
}

static void test_nodes(const dragonfly_request *request) {
    dragonfly_cancel *cancel = UNTOUCHED(dragonfly_cancel);
    dragonfly_runtime *runtime = UNTOUCHED(dragonfly_runtime);
    dragonfly_node *node = UNTOUCHED(dragonfly_node);
    dragonfly_text *text = UNTOUCHED(dragonfly_text);
    dragonfly_node_events *events = UNTOUCHED(dragonfly_node_events);
    dragonfly_scheduler *scheduler = UNTOUCHED(dragonfly_scheduler);
    dragonfly_seed *seed = UNTOUCHED(dragonfly_seed);
    dragonfly_peer *peer = UNTOUCHED(dragonfly_peer);
    dragonfly_node_options options = {0};
    dragonfly_token_options of_token = {0};
    dragonfly_node_event event = {0};
    dragonfly_node_watcher watcher = {0};
    options.size = sizeof options, of_token.size = sizeof of_token, event.size = sizeof event;
    watcher.size = sizeof watcher;
    WRONG(dragonfly_cancel_new(NULL, &error));
    WRONG(dragonfly_cancel_fire(NULL, &error));
    WRONG(dragonfly_runtime_new(1, NULL, &error));
    WRONG(dragonfly_node_start(NULL, FOREVER, NULL, &node, &error));
    WRONG(dragonfly_node_start(&options, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_peer_fetch_once(NULL, request, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_peer_fetch_once(&options, NULL, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_node_peer_id(NULL, &text, &error));
    WRONG(dragonfly_node_peer_id(it.node, NULL, &error));
    WRONG(dragonfly_node_listeners(NULL, &text, &error));
    WRONG(dragonfly_node_listeners(it.node, NULL, &error));
    WRONG(dragonfly_node_peers(NULL, &text, &error));
    WRONG(dragonfly_node_peers(it.node, NULL, &error));
    WRONG(dragonfly_node_token(NULL, &of_token, &text, &error));
    WRONG(dragonfly_node_token(it.node, &of_token, NULL, &error));
    WRONG(dragonfly_node_metrics(NULL, &text, &error));
    WRONG(dragonfly_node_metrics(it.node, NULL, &error));
    WRONG(dragonfly_node_events_open(NULL, &events, &error));
    WRONG(dragonfly_node_events_open(it.node, NULL, &error));
    WRONG(dragonfly_node_events_next(NULL, 0, NULL, &event, &error));
    WRONG(dragonfly_node_events_next(it.events, 0, NULL, NULL, &error));
    WRONG(dragonfly_node_watch(NULL, &watcher, &error));
    WRONG(dragonfly_node_watch(it.node, NULL, &error));
    WRONG(dragonfly_node_shutdown(NULL, FOREVER, NULL, &error));
    WRONG(dragonfly_peer_start(NULL, FOREVER, NULL, &peer, &error));
    WRONG(dragonfly_peer_start(it.node, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_seed_start(NULL, FOREVER, NULL, &seed, &error));
    WRONG(dragonfly_seed_start(it.node, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_scheduler_start(NULL, FOREVER, NULL, &scheduler, &error));
    WRONG(dragonfly_scheduler_start(it.node, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_scheduler_snapshot(NULL, FOREVER, NULL, &text, &error));
    WRONG(dragonfly_scheduler_snapshot(it.scheduler, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_scheduler_shutdown(NULL, FOREVER, NULL, &error));
    CHECK(cancel == UNTOUCHED(dragonfly_cancel) && runtime == UNTOUCHED(dragonfly_runtime));
    CHECK(node == UNTOUCHED(dragonfly_node) && text == UNTOUCHED(dragonfly_text));
    CHECK(events == UNTOUCHED(dragonfly_node_events) && scheduler == UNTOUCHED(dragonfly_scheduler));
    CHECK(seed == UNTOUCHED(dragonfly_seed) && peer == UNTOUCHED(dragonfly_peer));
    /* What may be NULL. */
    OK(dragonfly_node_token(it.node, NULL, &text, &error));
    dragonfly_text_free(text);
    OK(dragonfly_log_set(NULL, &error));
    CHECK(dragonfly_node_metrics(NULL, &text, NULL) == DRAGONFLY_INVALID_INPUT);
}

static void test_peers(const dragonfly_request *request) {
    dragonfly_download *download = UNTOUCHED(dragonfly_download);
    dragonfly_reader *reader = UNTOUCHED(dragonfly_reader);
    dragonfly_peer *peer = UNTOUCHED(dragonfly_peer);
    dragonfly_tasks *found = UNTOUCHED(dragonfly_tasks);
    dragonfly_text *text = UNTOUCHED(dragonfly_text);
    uint64_t freed = 7;
    WRONG(dragonfly_peer_fetch(NULL, request, &download, &error));
    WRONG(dragonfly_peer_fetch(it.peer, NULL, &download, &error));
    WRONG(dragonfly_peer_fetch(it.peer, request, NULL, &error));
    WRONG(dragonfly_peer_fetch_to_fd(NULL, request, 1, &download, &error));
    WRONG(dragonfly_peer_fetch_to_fd(it.peer, NULL, 1, &download, &error));
    WRONG(dragonfly_peer_fetch_to_fd(it.peer, request, 1, NULL, &error));
    WRONG(dragonfly_peer_open(NULL, request, FOREVER, NULL, &reader, &error));
    WRONG(dragonfly_peer_open(it.peer, NULL, FOREVER, NULL, &reader, &error));
    WRONG(dragonfly_peer_open(it.peer, request, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_peer_task_id(NULL, request, &text, &error));
    WRONG(dragonfly_peer_task_id(it.peer, NULL, &text, &error));
    WRONG(dragonfly_peer_task_id(it.peer, request, NULL, &error));
    WRONG(dragonfly_peer_stat(NULL, it.task, FOREVER, NULL, &found, &error));
    WRONG(dragonfly_peer_stat(it.peer, NULL, FOREVER, NULL, &found, &error));
    WRONG(dragonfly_peer_stat(it.peer, it.task, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_peer_list(NULL, NULL, NULL, 1, FOREVER, NULL, &found, &error));
    WRONG(dragonfly_peer_list(it.peer, it.task, NULL, 1, FOREVER, NULL, &found, &error));
    WRONG(dragonfly_peer_list(it.peer, NULL, it.generation, 1, FOREVER, NULL, &found, &error));
    WRONG(dragonfly_peer_list(it.peer, NULL, NULL, 1, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_peer_remove(NULL, it.task, FOREVER, NULL, &freed, &error));
    WRONG(dragonfly_peer_remove(it.peer, NULL, FOREVER, NULL, &freed, &error));
    WRONG(dragonfly_peer_pin(NULL, it.task, true, FOREVER, NULL, &error));
    WRONG(dragonfly_peer_pin(it.peer, NULL, true, FOREVER, NULL, &error));
    WRONG(dragonfly_peer_shutdown(NULL, FOREVER, NULL, &error));
    WRONG(dragonfly_seed_preheat(NULL, request, &download, &error));
    WRONG(dragonfly_seed_preheat(it.seed, NULL, &download, &error));
    WRONG(dragonfly_seed_preheat(it.seed, request, NULL, &error));
    WRONG(dragonfly_seed_peer(NULL, &peer, &error));
    WRONG(dragonfly_seed_peer(it.seed, NULL, &error));
    WRONG(dragonfly_seed_shutdown(NULL, FOREVER, NULL, &error));
    CHECK(download == UNTOUCHED(dragonfly_download) && reader == UNTOUCHED(dragonfly_reader) && freed == 7);
    CHECK(peer == UNTOUCHED(dragonfly_peer) && found == UNTOUCHED(dragonfly_tasks));
    CHECK(text == UNTOUCHED(dragonfly_text));
    OK(dragonfly_peer_list(it.peer, it.task, it.generation, 1, FOREVER, NULL, &found, &error));
    CHECK(dragonfly_tasks_length(found) == 0);
    dragonfly_tasks_free(found);
}

static void test_content(void) {
    dragonfly_receipt receipt = {0};
    dragonfly_event event = {0};
    dragonfly_watch watch = {0};
    dragonfly_task_info info = {0};
    dragonfly_text *text = UNTOUCHED(dragonfly_text);
    unsigned char byte = 7;
    size_t read = 7;
    uint64_t position = 7;
    receipt.size = sizeof receipt, event.size = sizeof event, watch.size = sizeof watch, info.size = sizeof info;
    WRONG(dragonfly_download_wait(NULL, FOREVER, NULL, &receipt, &error));
    WRONG(dragonfly_download_next_event(NULL, FOREVER, NULL, &event, &error));
    WRONG(dragonfly_download_next_event(it.download, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_download_watch(NULL, &watch, &error));
    WRONG(dragonfly_download_watch(it.download, NULL, &error));
    WRONG(dragonfly_download_cancel(NULL, &error));
    WRONG(dragonfly_reader_task(NULL, &text, &error));
    WRONG(dragonfly_reader_task(it.reader, NULL, &error));
    WRONG(dragonfly_reader_read(NULL, &byte, 1, FOREVER, NULL, &read, &error));
    WRONG(dragonfly_reader_read(it.reader, NULL, 1, FOREVER, NULL, &read, &error));
    WRONG(dragonfly_reader_read(it.reader, &byte, 1, FOREVER, NULL, NULL, &error));
    WRONG(dragonfly_reader_seek(NULL, 0, DRAGONFLY_SEEK_SET, &position, &error));
    WRONG(dragonfly_reader_receipt(NULL, FOREVER, NULL, &receipt, &error));
    WRONG(dragonfly_reader_close(NULL, &error));
    WRONG(dragonfly_tasks_get(NULL, 0, &info, &error));
    WRONG(dragonfly_tasks_get(it.tasks, 0, NULL, &error));
    CHECK(byte == 7 && read == 7 && position == 7 && receipt.length == 0 && info.length == 0 && event.length == 0);
    CHECK(text == UNTOUCHED(dragonfly_text));
    /* What may be NULL. */
    OK(dragonfly_download_wait(it.download, FOREVER, NULL, NULL, &error));
    OK(dragonfly_reader_receipt(it.reader, FOREVER, NULL, NULL, &error));
    OK(dragonfly_reader_seek(it.reader, 0, DRAGONFLY_SEEK_SET, NULL, &error));
    OK(dragonfly_reader_read(it.reader, NULL, 0, FOREVER, NULL, &read, &error));
    CHECK(read == 0);
    /* What has no way to answer but its value. */
    CHECK(dragonfly_reader_length(NULL) == 0 && dragonfly_tasks_length(NULL) == 0);
    CHECK(dragonfly_text_length(NULL) == 0 && dragonfly_text_get(NULL)[0] == 0);
    CHECK(dragonfly_error_kind(NULL) == DRAGONFLY_OK && !dragonfly_error_is_temporary(NULL));
    CHECK(dragonfly_error_message(NULL)[0] == 0);
    dragonfly_cancel_free(NULL), dragonfly_runtime_free(NULL), dragonfly_node_free(NULL), dragonfly_peer_free(NULL);
    dragonfly_seed_free(NULL), dragonfly_scheduler_free(NULL), dragonfly_download_free(NULL);
    dragonfly_reader_free(NULL), dragonfly_tasks_free(NULL), dragonfly_text_free(NULL), dragonfly_error_free(NULL);
    dragonfly_node_events_free(NULL);
}

/* Frees a handle three times, of which one counts. */
#define FREED(free, handle)                                \
    do {                                                   \
        size_t live_ = dragonfly_live_handles();           \
        free(handle), free(handle), free(handle);          \
        CHECK(dragonfly_live_handles() == live_ - 1);      \
    } while (0)

static void test_freed(const dragonfly_request *request) {
    dragonfly_cancel *cancel = NULL;
    dragonfly_runtime *runtime = NULL;
    dragonfly_text *text = NULL;
    dragonfly_error *kept = NULL;
    dragonfly_task_info info = {0};
    dragonfly_node_event event = {0};
    uint64_t length = dragonfly_reader_length(it.reader);
    size_t read = 0;
    info.size = sizeof info, event.size = sizeof event;
    OK(dragonfly_cancel_new(&cancel, &error));
    OK(dragonfly_runtime_new(1, &runtime, &error));
    OK(dragonfly_node_metrics(it.node, &text, &error));
    CHECK(length == 1u << 20 && dragonfly_peer_fetch(NULL, request, &it.download, &kept) == DRAGONFLY_INVALID_INPUT);
    FREED(dragonfly_cancel_free, cancel);
    WRONG(dragonfly_cancel_fire(cancel, &error));
    WRONG(dragonfly_node_shutdown(it.node, FOREVER, cancel, &error));
    FREED(dragonfly_runtime_free, runtime);
    FREED(dragonfly_text_free, text);
    CHECK(dragonfly_text_get(text)[0] == 0 && dragonfly_text_length(text) == 0);
    FREED(dragonfly_error_free, kept);
    CHECK(dragonfly_error_kind(kept) == DRAGONFLY_INVALID_INPUT && dragonfly_error_message(kept)[0] == 0);
    FREED(dragonfly_tasks_free, it.tasks);
    CHECK(dragonfly_tasks_length(it.tasks) == 0);
    WRONG(dragonfly_tasks_get(it.tasks, 0, &info, &error));
    FREED(dragonfly_reader_free, it.reader);
    CHECK(dragonfly_reader_length(it.reader) == 0);
    WRONG(dragonfly_reader_read(it.reader, NULL, 0, FOREVER, NULL, &read, &error));
    FREED(dragonfly_download_free, it.download);
    WRONG(dragonfly_download_wait(it.download, FOREVER, NULL, NULL, &error));
    FREED(dragonfly_node_events_free, it.events);
    WRONG(dragonfly_node_events_next(it.events, 0, NULL, &event, &error));
    FREED(dragonfly_peer_free, it.peer);
    WRONG(dragonfly_peer_shutdown(it.peer, FOREVER, NULL, &error));
    FREED(dragonfly_seed_free, it.seed);
    WRONG(dragonfly_seed_shutdown(it.seed, FOREVER, NULL, &error));
    FREED(dragonfly_scheduler_free, it.scheduler);
    WRONG(dragonfly_scheduler_shutdown(it.scheduler, FOREVER, NULL, &error));
    FREED(dragonfly_node_free, it.node);
    WRONG(dragonfly_node_shutdown(it.node, FOREVER, NULL, &error));
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    char url[512];
    url_of(url, sizeof url, argv[1], "/piece");
    dragonfly_request request = request_of(url);
    start(&request);
    test_nodes(&request);
    test_peers(&request);
    test_content();
    test_freed(&request);
    CHECK(dragonfly_live_handles() == 0);
    puts("null: ok");
    return 0;
}

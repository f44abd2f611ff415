/* What must not be done, done: everything is answered, nothing is touched that should not be.
 *
 * Arguments: an origin that serves /piece (1 MiB), /slow (4 MiB, slowly) and /stalled (which stops early), a token. */
#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static const char *origin;

/* Handles that were freed, are of another type, or never were any. */
static void test_handles(dragonfly_node *node, dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    dragonfly_text *text = NULL;
    OK(dragonfly_node_peer_id(node, &text, &error));
    CHECK(strncmp(dragonfly_text_get(text), "12D3Koo", 7) == 0);
    CHECK(strlen(dragonfly_text_get(text)) == dragonfly_text_length(text));
    size_t live = dragonfly_live_handles();
    dragonfly_text_free(text);
    CHECK(dragonfly_live_handles() == live - 1);
    dragonfly_text_free(text);
    dragonfly_text_free(text);
    CHECK(dragonfly_live_handles() == live - 1);
    CHECK(dragonfly_text_get(text)[0] == 0);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_metrics((dragonfly_node *)(void *)peer, &text, &error));
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_metrics((dragonfly_node *)(void *)&live, &text, &error));
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_shutdown((dragonfly_peer *)(void *)node, FOREVER, NULL, &error));
    dragonfly_peer_free((dragonfly_peer *)(void *)node);
    OK(dragonfly_node_metrics(node, &text, &error));
    dragonfly_text_free(text);
}

/* Text that is none, structs of other sizes. */
static void test_arguments(dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    dragonfly_download *download = NULL;
    dragonfly_request request = request_of(NULL);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.url = "http://127.0.0.1/\xff\xfe";
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.url = "http://127.0.0.1/";
    request.size = 0;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.size = (size_t)-1;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.size = sizeof request;
    const char *odd[] = {"accept"};
    request.headers = odd, request.headers_length = 1;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.headers = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.headers_length = 0;
    request.digest = "sha256:12";
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch(peer, &request, &download, &error));
    request.digest = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_to_fd(peer, &request, -1, &download, &error));
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_to_fd(peer, &request, 999999, &download, &error));
    CHECK(download == NULL);
    /* A program of tomorrow: fields that this library does not know are fine as long as they are zero. */
    struct { dragonfly_request known; uint64_t unknown; } newer;
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    newer.known.url = "http://127.0.0.1/";
    dragonfly_text *task = NULL;
    OK(dragonfly_peer_task_id(peer, &newer.known, &task, &error));
    CHECK(dragonfly_text_length(task) == 66);
    dragonfly_text_free(task);
    newer.unknown = 1;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_task_id(peer, &newer.known, &task, &error));
    dragonfly_tasks *tasks = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_stat(peer, "zz", FOREVER, NULL, &tasks, &error));
    OK(dragonfly_peer_list(peer, NULL, NULL, 10, FOREVER, NULL, &tasks, &error));
    dragonfly_task_info info = {0};
    info.size = sizeof info;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_tasks_get(tasks, 10, &info, &error));
    dragonfly_tasks_free(tasks);
}

/* Cancel before, during and after; time-outs; a download that outlives its handle. */
static void test_cancel(dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    dragonfly_cancel *cancel = NULL;
    char url[512];
    url_of(url, sizeof url, origin, "/stalled");
    dragonfly_request request = request_of(url);
    OK(dragonfly_cancel_new(&cancel, &error));
    dragonfly_download *download = NULL;
    OK(dragonfly_peer_fetch(peer, &request, &download, &error));
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_download_wait(download, 0, NULL, NULL, &error));
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_download_wait(download, 20, cancel, NULL, &error));
    OK(dragonfly_cancel_fire(cancel, &error));
    OK(dragonfly_cancel_fire(cancel, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_download_wait(download, FOREVER, cancel, NULL, &error));
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_download_wait(download, 0, NULL, NULL, &error));
    OK(dragonfly_download_cancel(download, &error));
    OK(dragonfly_download_cancel(download, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_download_wait(download, FOREVER, NULL, NULL, &error));
    dragonfly_event event = {0};
    event.size = sizeof event;
    do OK(dragonfly_download_next_event(download, FOREVER, NULL, &event, &error));
    while (event.type != DRAGONFLY_EVENT_END);
    dragonfly_download_free(download);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_download_cancel(download, &error));

    dragonfly_reader *reader = NULL;
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_open(peer, &request, FOREVER, cancel, &reader, &error));
    OK(dragonfly_peer_open(peer, &request, FOREVER, NULL, &reader, &error));
    size_t read = 7;
    unsigned char byte;
    uint64_t position = 0;
    OK(dragonfly_reader_seek(reader, -1, DRAGONFLY_SEEK_END, &position, &error));
    CHECK(position == dragonfly_reader_length(reader) - 1);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_reader_seek(reader, -1, DRAGONFLY_SEEK_SET, NULL, &error));
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_reader_seek(reader, 0, 9, NULL, &error));
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_reader_read(reader, NULL, 1, FOREVER, NULL, &read, &error));
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_reader_read(reader, &byte, 1, 10, NULL, &read, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_reader_read(reader, &byte, 1, FOREVER, cancel, &read, &error));
    CHECK(read == 7);
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_reader_receipt(reader, 10, NULL, NULL, &error));
    OK(dragonfly_reader_close(reader, &error));
    OK(dragonfly_reader_close(reader, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_reader_read(reader, &byte, 1, FOREVER, NULL, &read, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_reader_seek(reader, 0, DRAGONFLY_SEEK_SET, NULL, &error));
    dragonfly_reader_free(reader);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_reader_read(reader, &byte, 1, FOREVER, NULL, &read, &error));
    dragonfly_cancel_free(cancel);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_open(peer, &request, FOREVER, cancel, &reader, &error));
}

struct calls {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned events, done, dropped;
    dragonfly_status status;
};

static void on_event(void *ctx, const dragonfly_event *event) {
    struct calls *calls = ctx;
    pthread_mutex_lock(&calls->lock);
    CHECK(event->size == sizeof *event && event->bytes <= 1u << 20 && calls->done == 0);
    calls->events++;
    pthread_mutex_unlock(&calls->lock);
}

static void on_done(void *ctx, const dragonfly_receipt *receipt, const dragonfly_error *error) {
    struct calls *calls = ctx;
    pthread_mutex_lock(&calls->lock);
    CHECK((receipt == NULL) != (error == NULL));
    calls->status = dragonfly_error_kind(error);
    calls->done++;
    pthread_mutex_unlock(&calls->lock);
}

static void on_drop(void *ctx) {
    struct calls *calls = ctx;
    pthread_mutex_lock(&calls->lock);
    calls->dropped++;
    pthread_cond_signal(&calls->changed);
    pthread_mutex_unlock(&calls->lock);
}

static void await_drop(struct calls *calls, unsigned times) {
    pthread_mutex_lock(&calls->lock);
    while (calls->dropped < times) pthread_cond_wait(&calls->changed, &calls->lock);
    pthread_mutex_unlock(&calls->lock);
}

static void test_callbacks(dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    struct calls calls = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, -1};
    char url[512];
    url_of(url, sizeof url, origin, "/piece");
    dragonfly_request request = request_of(url);
    dragonfly_download *download = NULL;
    OK(dragonfly_peer_fetch(peer, &request, &download, &error));
    dragonfly_watch watch = {0};
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_download_watch(download, &watch, &error));
    watch.size = sizeof watch, watch.on_event = on_event, watch.on_done = on_done, watch.ctx = &calls;
    watch.drop = on_drop;
    OK(dragonfly_download_watch(download, &watch, &error));
    dragonfly_download_free(download);
    await_drop(&calls, 1);
    CHECK(calls.done == 1 && calls.status == DRAGONFLY_OK);

    url_of(url, sizeof url, origin, "/stalled");
    OK(dragonfly_peer_fetch(peer, &request, &download, &error));
    calls.done = 0;
    OK(dragonfly_download_watch(download, &watch, &error));
    OK(dragonfly_download_cancel(download, &error));
    await_drop(&calls, 2);
    CHECK(calls.done == 1 && calls.status == DRAGONFLY_CANCELLED);
    dragonfly_download_free(download);
}

static void count_event(void *ctx) {
    struct calls *calls = ctx;
    pthread_mutex_lock(&calls->lock);
    calls->events++;
    pthread_mutex_unlock(&calls->lock);
}

static dragonfly_status never_open(void *ctx, const dragonfly_source_request *request,
                                   dragonfly_source_content *content, dragonfly_source_failure *failure) {
    (void)request, (void)content, (void)failure;
    count_event(ctx);
    return DRAGONFLY_ORIGIN;
}

static dragonfly_status never_read(void *ctx, void *body, uint8_t *buffer, size_t room, size_t *read,
                                   dragonfly_source_failure *failure) {
    (void)body, (void)buffer, (void)room, (void)read, (void)failure;
    count_event(ctx);
    return DRAGONFLY_ORIGIN;
}

/* What the program brings, brought wrongly: nothing is called, `drop` included. */
static void test_own(void) {
    dragonfly_error *error = NULL;
    dragonfly_node *node = NULL;
    struct calls calls = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, -1};
    dragonfly_node_options options = {0};
    dragonfly_source source = {0}, good = {0};
    const dragonfly_source *sources[] = {&good, &source};
    dragonfly_policy policy = {0};
    good.size = sizeof good, good.scheme = "good", good.open = never_open, good.read = never_read;
    good.ctx = &calls, good.drop = on_drop;
    options.size = sizeof options;
    options.sources_length = 2;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    options.sources = sources;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    source = good;
    source.scheme = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    source.scheme = "Not A Scheme";
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    source.scheme = "ok", source.open = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    source.open = never_open, source.read = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    source.read = never_read;
    sources[1] = NULL;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    sources[1] = &source;
    options.policy = &policy;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    policy.size = sizeof policy, policy.ctx = &calls, policy.drop = on_drop;
    options.token = "nonsense";
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    options.token = NULL;
    /* With a file where the directory should be it fails late. */
    options.data_dir = "/dev/null";
    CHECK(dragonfly_node_start(&options, FOREVER, NULL, &node, NULL) != DRAGONFLY_OK);
    dragonfly_log sink = {0};
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_log_set(&sink, &error));
    sink.size = sizeof sink, sink.ctx = &calls, sink.drop = on_drop;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_log_set(&sink, &error));
    CHECK(node == NULL && calls.dropped == 0);
    options.data_dir = NULL;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    dragonfly_node_watcher watcher = {0};
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_watch(node, &watcher, &error));
    watcher.size = sizeof watcher, watcher.ctx = &calls, watcher.drop = on_drop;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_node_watch(node, &watcher, &error));
    CHECK(calls.dropped == 0);
    dragonfly_node_free(node);
    /* Two sources and a policy, each once. */
    await_drop(&calls, 3);
    CHECK(calls.dropped == 3 && calls.events == 0);
}

struct shared {
    dragonfly_peer *peer;
    dragonfly_reader *reader;
    const char *url;
    uint64_t *total;
    pthread_mutex_t *lock;
};

static void *use(void *argument) {
    struct shared *shared = argument;
    dragonfly_error *error = NULL;
    unsigned char bytes[5000];
    for (;;) {
        size_t read = 0;
        dragonfly_status status =
            dragonfly_reader_read(shared->reader, bytes, sizeof bytes, FOREVER, NULL, &read, &error);
        if (status != DRAGONFLY_OK || read == 0) break;
        pthread_mutex_lock(shared->lock);
        *shared->total += read;
        pthread_mutex_unlock(shared->lock);
    }
    dragonfly_error_free(error);
    error = NULL;
    dragonfly_request request = request_of(shared->url);
    dragonfly_download *download = NULL;
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    OK(dragonfly_peer_fetch(shared->peer, &request, &download, &error));
    OK(dragonfly_download_wait(download, FOREVER, NULL, &receipt, &error));
    CHECK(receipt.length == 1u << 20 && strncmp(receipt.blake3, "blake3:", 7) == 0);
    dragonfly_download_free(download);
    dragonfly_reader_free(shared->reader);
    return NULL;
}

/* Several threads on one reader and one peer; every thread frees the reader. */
static void test_concurrent(dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    char url[512];
    url_of(url, sizeof url, origin, "/piece");
    dragonfly_request request = request_of(url);
    uint64_t total = 0;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct shared shared = {peer, NULL, url, &total, &lock};
    OK(dragonfly_peer_open(peer, &request, FOREVER, NULL, &shared.reader, &error));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, use, &shared) == 0);
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(total > 0 && total <= 1u << 20);
}

/* Bytes to a descriptor. */
static void test_descriptor(dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    char url[512];
    url_of(url, sizeof url, origin, "/piece");
    dragonfly_request request = request_of(url);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    dragonfly_download *download = NULL;
    OK(dragonfly_peer_fetch_to_fd(peer, &request, fileno(file), &download, &error));
    OK(dragonfly_download_wait(download, FOREVER, NULL, NULL, &error));
    dragonfly_download_free(download);
    CHECK(fseek(file, 0, SEEK_END) == 0 && ftell(file) == 1 << 20);
    fclose(file);
}

/* Use after close: engines that were shut down say so; handles stay valid until they are freed. */
static void test_after_shutdown(dragonfly_node *node, dragonfly_peer *peer) {
    dragonfly_error *error = NULL;
    char url[512];
    url_of(url, sizeof url, origin, "/piece");
    dragonfly_request request = request_of(url);
    dragonfly_download *download = NULL;
    OK(dragonfly_peer_shutdown(peer, FOREVER, NULL, &error));
    OK(dragonfly_peer_shutdown(peer, FOREVER, NULL, &error));
    OK(dragonfly_peer_fetch(peer, &request, &download, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_download_wait(download, FOREVER, NULL, NULL, &error));
    dragonfly_download_free(download);
    OK(dragonfly_node_shutdown(node, FOREVER, NULL, &error));
    OK(dragonfly_node_shutdown(node, FOREVER, NULL, &error));
    dragonfly_node_free(node);
    dragonfly_node_free(node);
    dragonfly_peer_free(peer);
    dragonfly_peer_free(peer);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_shutdown(peer, FOREVER, NULL, &error));
}

/* A log whose other end is gone. */
struct broken {
    int pipe;
    pthread_t caller;
    pthread_mutex_t lock;
    unsigned writes;
};

static void write_broken(void *ctx, const dragonfly_log_record *record) {
    struct broken *broken = ctx;
    // What the caller's own threads write is the caller's own.
    if (pthread_equal(pthread_self(), broken->caller)) return;
    CHECK(write(broken->pipe, record->message, strlen(record->message)) == -1 && errno == EPIPE);
    pthread_mutex_lock(&broken->lock);
    broken->writes++;
    pthread_mutex_unlock(&broken->lock);
}

/* A program that does not ignore SIGPIPE: what the library's threads write where nobody reads fails, and ends nothing.
 * The caller's thread is as it was afterwards. */
static void test_pipe(void) {
    dragonfly_error *error = NULL;
    int ends[2];
    CHECK(pipe(ends) == 0 && close(ends[0]) == 0);
    struct broken broken = {ends[1], pthread_self(), PTHREAD_MUTEX_INITIALIZER, 0};
    dragonfly_log log = {0};
    log.size = sizeof log, log.level = DRAGONFLY_LOG_TRACE, log.on_record = write_broken, log.ctx = &broken;
    OK(dragonfly_log_set(&log, &error));
    dragonfly_node_options options = {0};
    options.size = sizeof options;
    options.allow_loopback_origins = true;
    dragonfly_node *node = NULL;
    dragonfly_peer *peer = NULL;
    dragonfly_download *download = NULL;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    OK(dragonfly_peer_start(node, FOREVER, NULL, &peer, &error));
    char url[512];
    url_of(url, sizeof url, origin, "/piece");
    dragonfly_request request = request_of(url);
    OK(dragonfly_peer_fetch(peer, &request, &download, &error));
    OK(dragonfly_download_wait(download, FOREVER, NULL, NULL, &error));
    OK(dragonfly_node_shutdown(node, FOREVER, NULL, &error));
    dragonfly_download_free(download);
    dragonfly_peer_free(peer);
    dragonfly_node_free(node);
    OK(dragonfly_log_set(NULL, &error));
    CHECK(broken.writes > 0);
    sigset_t set;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0 && !sigismember(&set, SIGPIPE));
    CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGPIPE));
    close(ends[1]);
}

/* What withdraws from a call, most likely while it waits: whenever it comes, the answer is the same. */
static void *fire(void *argument) {
    dragonfly_cancel *cancel = argument;
    struct timespec moment = {0, 300 * 1000 * 1000};
    nanosleep(&moment, NULL);
    CHECK(dragonfly_cancel_fire(cancel, NULL) == DRAGONFLY_OK);
    return NULL;
}

static bool is_there(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file != NULL) fclose(file);
    return file != NULL;
}

/* A node, its peer and a download in one call: alone, and as a member with a directory that the next call uses again. */
static void test_once(const char *token) {
    dragonfly_error *error = NULL;
    dragonfly_cancel *cancel = NULL;
    dragonfly_runtime *runtime = NULL;
    dragonfly_policy policy = {0};
    char piece[512], stalled[512], missing[512];
    url_of(piece, sizeof piece, origin, "/piece");
    url_of(stalled, sizeof stalled, origin, "/stalled");
    url_of(missing, sizeof missing, origin, "/missing");
    char dir[] = P_tmpdir "/dragonfly-once-XXXXXX", data[64], output[64];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(data, sizeof data, "%s/data", dir), snprintf(output, sizeof output, "%s/output", dir);
    dragonfly_request request = request_of(piece);
    dragonfly_node_options options = {0};
    dragonfly_receipt receipt = {0};
    options.size = sizeof options;
    options.allow_loopback_origins = true;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    receipt.size = sizeof receipt;
    OK(dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, NULL, &error));
    CHECK(dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, NULL) == DRAGONFLY_OK);
    CHECK(receipt.length == 1u << 20 && receipt.bytes_from_origin == receipt.length);
    request.url = missing;
    FAILS(DRAGONFLY_NOT_FOUND, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));

    /* What is withdrawn from is over: the directory is free for the next call, and no output comes later. */
    options.data_dir = data, options.token = token;
    request.url = stalled, request.output = output;
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_peer_fetch_once(&options, &request, 300, NULL, &receipt, &error));
    FAILS(DRAGONFLY_TIMEOUT, dragonfly_peer_fetch_once(&options, &request, 0, NULL, &receipt, &error));
    OK(dragonfly_cancel_new(&cancel, &error));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fire, cancel) == 0);
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_fetch_once(&options, &request, FOREVER, cancel, &receipt, &error));
    CHECK(pthread_join(thread, NULL) == 0);
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_fetch_once(&options, &request, FOREVER, cancel, &receipt, &error));
    dragonfly_cancel_free(cancel);
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, cancel, &receipt, &error));
    CHECK(!is_there(output));
    request.url = piece;
    OK(dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    CHECK(is_there(output) && remove(output) == 0);
    OK(dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    CHECK(is_there(output) && receipt.bytes_held == receipt.length);
    /* However late it is withdrawn from: where it says so there is an output. */
    for (int64_t bound = 0; bound < 48; bound += 3) {
        CHECK(remove(output) == 0 || bound > 0);
        dragonfly_status status = dragonfly_peer_fetch_once(&options, &request, bound, NULL, NULL, NULL);
        CHECK(status == DRAGONFLY_TIMEOUT || (status == DRAGONFLY_OK && is_there(output)));
    }

    options.token = "nonsense";
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    policy.size = sizeof policy;
    options.token = NULL, options.policy = &policy;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    OK(dragonfly_runtime_new(1, &runtime, &error));
    options.policy = NULL, options.sources_length = 1;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    options.sources_length = 0, options.runtime = runtime;
    FAILS(DRAGONFLY_INVALID_INPUT, dragonfly_peer_fetch_once(&options, &request, FOREVER, NULL, &receipt, &error));
    dragonfly_runtime_free(runtime);
    /* On a slow machine the disk work of a call that was cut off goes on for a moment, and makes files. */
    char tidy[128];
    snprintf(tidy, sizeof tidy, "for _ in $(seq 300); do rm -rf %s 2>/dev/null && exit; sleep 0.1; done; exit 1", dir);
    CHECK(system(tidy) == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    origin = argv[1];
    test_pipe();
    CHECK(dragonfly_abi_version() >> 16 == DRAGONFLY_ABI_VERSION >> 16);
    CHECK(dragonfly_version()[0] != 0 && strcmp(dragonfly_kind_name(99), "unknown") == 0);
    dragonfly_error *error = NULL;
    dragonfly_runtime *runtime = NULL;
    dragonfly_node *node = NULL;
    dragonfly_peer *peer = NULL;
    OK(dragonfly_runtime_new(2, &runtime, &error));
    dragonfly_node_options options = {0};
    options.size = sizeof options;
    options.runtime = runtime;
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    options.listen = listen, options.listen_length = 1;
    options.token = argv[2];
    OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    dragonfly_runtime_free(runtime);
    OK(dragonfly_peer_start(node, FOREVER, NULL, &peer, &error));
    test_handles(node, peer);
    test_arguments(peer);
    test_cancel(peer);
    test_callbacks(peer);
    test_concurrent(peer);
    test_descriptor(peer);
    test_after_shutdown(node, peer);
    test_own();
    test_once(argv[2]);
    CHECK(dragonfly_live_handles() == 0);
    puts("abuse: ok");
    return 0;
}

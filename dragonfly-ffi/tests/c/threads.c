/* What one thread takes away while others use it: calls that wait are withdrawn from, engines are stopped, handles are
 * freed, from other threads and from callbacks. Whoever comes first, each call is answered as the header says.
 *
 * Arguments: an origin that serves /piece (1 MiB) and /stalled (which stops early), a token (not used). */
#include "common.h"

#include <pthread.h>

static const char *origin;

static char piece[512], stalled[512];

/* A thing that happened so often. */
struct counter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count;
};

#define COUNTER {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static void count(struct counter *counter) {
    pthread_mutex_lock(&counter->lock);
    counter->count++;
    pthread_cond_broadcast(&counter->changed);
    pthread_mutex_unlock(&counter->lock);
}

static void await(struct counter *counter, unsigned times) {
    pthread_mutex_lock(&counter->lock);
    while (counter->count < times) pthread_cond_wait(&counter->changed, &counter->lock);
    pthread_mutex_unlock(&counter->lock);
}

/* An origin that does not answer until it is let. */
struct slow {
    struct counter asked, let, dropped;
};

static dragonfly_status slow_open(void *ctx, const dragonfly_source_request *request, dragonfly_source_content *content,
                                  dragonfly_source_failure *failure) {
    struct slow *slow = ctx;
    (void)request, (void)content, (void)failure;
    count(&slow->asked);
    await(&slow->let, 1);
    return DRAGONFLY_NOT_FOUND;
}

static dragonfly_status slow_read(void *ctx, void *body, uint8_t *buffer, size_t room, size_t *read,
                                  dragonfly_source_failure *failure) {
    (void)ctx, (void)body, (void)buffer, (void)room, (void)read, (void)failure;
    return DRAGONFLY_INTERNAL;
}

static void slow_drop(void *ctx) {
    struct slow *slow = ctx;
    count(&slow->dropped);
}

/* A node with its peer, and what waits for ever with them. */
struct scene {
    struct slow slow;
    dragonfly_node *node;
    dragonfly_peer *peer;
    dragonfly_download *download;
    dragonfly_reader *reader;
    dragonfly_node_events *events;
};

static void set(struct scene *scene) {
    static const struct slow fresh = {COUNTER, COUNTER, COUNTER};
    dragonfly_error *error = NULL;
    dragonfly_request request = request_of(stalled);
    dragonfly_node_options options = {0};
    dragonfly_source source = {0};
    const dragonfly_source *sources[] = {&source};
    scene->slow = fresh;
    source.size = sizeof source, source.scheme = "slow", source.open = slow_open, source.read = slow_read;
    source.ctx = &scene->slow, source.drop = slow_drop;
    options.size = sizeof options;
    options.sources = sources, options.sources_length = 1;
    options.allow_loopback_origins = true;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &scene->node, &error));
    OK(dragonfly_peer_start(scene->node, FOREVER, NULL, &scene->peer, &error));
    OK(dragonfly_node_events_open(scene->node, &scene->events, &error));
    OK(dragonfly_peer_fetch(scene->peer, &request, &scene->download, &error));
    OK(dragonfly_peer_open(scene->peer, &request, FOREVER, NULL, &scene->reader, &error));
    OK(dragonfly_reader_seek(scene->reader, -1, DRAGONFLY_SEEK_END, NULL, &error));
}

/* The calls that wait for as long as nothing happens. */
static dragonfly_status wait_for_download(struct scene *scene, const dragonfly_cancel *cancel) {
    return dragonfly_download_wait(scene->download, FOREVER, cancel, NULL, NULL);
}

static dragonfly_status wait_for_progress(struct scene *scene, const dragonfly_cancel *cancel) {
    dragonfly_event event = {0};
    dragonfly_status status;
    event.size = sizeof event;
    do status = dragonfly_download_next_event(scene->download, FOREVER, cancel, &event, NULL);
    while (status == DRAGONFLY_OK && event.type != DRAGONFLY_EVENT_END);
    return status;
}

static dragonfly_status wait_for_bytes(struct scene *scene, const dragonfly_cancel *cancel) {
    unsigned char byte;
    size_t read = 7;
    dragonfly_status status = dragonfly_reader_read(scene->reader, &byte, 1, FOREVER, cancel, &read, NULL);
    CHECK(read == 7);
    return status;
}

static dragonfly_status wait_for_receipt(struct scene *scene, const dragonfly_cancel *cancel) {
    return dragonfly_reader_receipt(scene->reader, FOREVER, cancel, NULL, NULL);
}

static dragonfly_status wait_for_origin(struct scene *scene, const dragonfly_cancel *cancel) {
    dragonfly_request request = request_of("slow://any/content");
    dragonfly_reader *reader = NULL;
    dragonfly_status status = dragonfly_peer_open(scene->peer, &request, FOREVER, cancel, &reader, NULL);
    CHECK(reader == NULL);
    return status;
}

static dragonfly_status wait_for_members(struct scene *scene, const dragonfly_cancel *cancel) {
    dragonfly_node_event event = {0};
    event.size = sizeof event;
    return dragonfly_node_events_next(scene->events, FOREVER, cancel, &event, NULL);
}

typedef dragonfly_status (*wait_fn)(struct scene *scene, const dragonfly_cancel *cancel);

static const wait_fn waits[] = {
    wait_for_download, wait_for_progress, wait_for_bytes, wait_for_receipt, wait_for_origin, wait_for_members,
};

#define WAITS (sizeof waits / sizeof waits[0])

struct waiter {
    struct scene *scene;
    wait_fn wait;
    const dragonfly_cancel *cancel;
    struct counter *begun;
    dragonfly_status status;
    pthread_t thread;
};

static void *wait_on(void *argument) {
    struct waiter *waiter = argument;
    count(waiter->begun);
    waiter->status = waiter->wait(waiter->scene, waiter->cancel);
    return NULL;
}

/* Has a thread wait in each of them, and comes back when all are there, or as good as. */
static void wait_in_each(struct scene *scene, const dragonfly_cancel *cancel, struct waiter waiters[WAITS]) {
    static const struct counter fresh = COUNTER;
    static struct counter begun;
    begun = fresh;
    for (size_t i = 0; i < WAITS; i++) {
        waiters[i].scene = scene, waiters[i].wait = waits[i], waiters[i].cancel = cancel, waiters[i].begun = &begun;
        CHECK(pthread_create(&waiters[i].thread, NULL, wait_on, &waiters[i]) == 0);
    }
    await(&begun, WAITS);
    await(&scene->slow.asked, 1);
    /* A moment in which they get to where they wait. Who does not is answered as well. */
    CHECK(dragonfly_download_wait(scene->download, 50, NULL, NULL, NULL) == DRAGONFLY_TIMEOUT);
}

static void join(struct waiter waiters[WAITS]) {
    for (size_t i = 0; i < WAITS; i++) CHECK(pthread_join(waiters[i].thread, NULL) == 0);
}

static void clear(struct scene *scene) {
    dragonfly_error *error = NULL;
    count(&scene->slow.let);
    OK(dragonfly_peer_shutdown(scene->peer, FOREVER, NULL, &error));
    OK(dragonfly_node_shutdown(scene->node, FOREVER, NULL, &error));
    dragonfly_reader_free(scene->reader), dragonfly_download_free(scene->download);
    dragonfly_node_events_free(scene->events), dragonfly_peer_free(scene->peer), dragonfly_node_free(scene->node);
    await(&scene->slow.dropped, 1);
}

/* One cancel handle, fired while each of them waits. */
static void test_cancel_while_waiting(void) {
    dragonfly_error *error = NULL;
    dragonfly_cancel *cancel = NULL;
    struct scene scene;
    struct waiter waiters[WAITS];
    set(&scene);
    OK(dragonfly_cancel_new(&cancel, &error));
    wait_in_each(&scene, cancel, waiters);
    OK(dragonfly_cancel_fire(cancel, &error));
    /* Whoever waits has it, freed or not. */
    dragonfly_cancel_free(cancel);
    join(waiters);
    for (size_t i = 0; i < WAITS; i++) CHECK(waiters[i].status == DRAGONFLY_CANCELLED);
    clear(&scene);
}

/* The engines are stopped and every handle is freed while each of them waits. */
static void test_end_while_waiting(void) {
    struct scene scene;
    struct waiter waiters[WAITS];
    set(&scene);
    wait_in_each(&scene, NULL, waiters);
    clear(&scene);
    join(waiters);
    for (size_t i = 0; i < WAITS; i++) {
        /* That a download has no more progress and a node no more members is no error. */
        bool ends = waits[i] == wait_for_members || waits[i] == wait_for_progress;
        CHECK(waiters[i].status == (ends ? DRAGONFLY_OK : DRAGONFLY_CANCELLED)
              /* Who came late found a handle that was freed. */
              || waiters[i].status == DRAGONFLY_INVALID_INPUT
              /* The origin answers before its engine ends. */
              || (waits[i] == wait_for_origin && waiters[i].status == DRAGONFLY_NOT_FOUND));
    }
}

/* A cancel handle that was fired before: nothing is begun, nothing is written, and what it was about is as it was. */
static void test_cancel_before(void) {
    dragonfly_error *error = NULL;
    dragonfly_cancel *fired = NULL;
    dragonfly_node *node = NULL;
    dragonfly_peer *peer = NULL;
    dragonfly_seed *seed = NULL;
    dragonfly_scheduler *scheduler = NULL;
    dragonfly_tasks *tasks = NULL;
    dragonfly_text *text = NULL;
    dragonfly_node_options options = {0};
    char task[DRAGONFLY_ID_ROOM];
    dragonfly_request request = request_of(piece);
    uint64_t freed = 7;
    options.size = sizeof options;
    OK(dragonfly_cancel_new(&fired, &error));
    OK(dragonfly_cancel_fire(fired, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_node_start(&options, FOREVER, fired, &node, &error));
    CHECK(node == NULL);
    OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_scheduler_start(node, FOREVER, fired, &scheduler, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_seed_start(node, FOREVER, fired, &seed, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_start(node, FOREVER, fired, &peer, &error));
    CHECK(scheduler == NULL && seed == NULL && peer == NULL);
    OK(dragonfly_scheduler_start(node, FOREVER, NULL, &scheduler, &error));
    OK(dragonfly_seed_start(node, FOREVER, NULL, &seed, &error));
    OK(dragonfly_peer_start(node, FOREVER, NULL, &peer, &error));
    OK(dragonfly_peer_task_id(peer, &request, &text, &error));
    strcpy(task, dragonfly_text_get(text));
    dragonfly_text_free(text), text = NULL;
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_stat(peer, task, FOREVER, fired, &tasks, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_list(peer, NULL, NULL, 1, FOREVER, fired, &tasks, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_remove(peer, task, FOREVER, fired, &freed, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_pin(peer, task, true, FOREVER, fired, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_scheduler_snapshot(scheduler, FOREVER, fired, &text, &error));
    CHECK(tasks == NULL && text == NULL && freed == 7);
    FAILS(DRAGONFLY_CANCELLED, dragonfly_scheduler_shutdown(scheduler, FOREVER, fired, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_peer_shutdown(peer, FOREVER, fired, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_seed_shutdown(seed, FOREVER, fired, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_node_shutdown(node, FOREVER, fired, &error));
    OK(dragonfly_scheduler_snapshot(scheduler, FOREVER, NULL, &text, &error));
    OK(dragonfly_scheduler_shutdown(scheduler, FOREVER, NULL, &error));
    OK(dragonfly_seed_shutdown(seed, FOREVER, NULL, &error));
    OK(dragonfly_node_shutdown(node, FOREVER, NULL, &error));
    dragonfly_text_free(text), dragonfly_cancel_free(fired), dragonfly_scheduler_free(scheduler);
    dragonfly_seed_free(seed), dragonfly_peer_free(peer), dragonfly_node_free(node);
}

static void *fire(void *argument) {
    CHECK(dragonfly_cancel_fire(argument, NULL) == DRAGONFLY_OK);
    return NULL;
}

/* Whether it was done before it was withdrawn from: it is one or the other, and a result is there or is not. */
static bool is_done(dragonfly_status status, const void *made) {
    CHECK(status == DRAGONFLY_OK || status == DRAGONFLY_CANCELLED);
    CHECK((made != NULL) == (status == DRAGONFLY_OK));
    return made != NULL;
}

/* `status` is where the answer is kept: the call comes before a look at what it made. */
#define IS_DONE(call, made) (status = (call), is_done(status, made))

/* A cancel handle that is fired while nodes and engines start, answer and end: what was withdrawn from can be done anew. */
static void test_cancel_in_passing(void) {
    for (int round = 0; round < 12; round++) {
        dragonfly_error *error = NULL;
        dragonfly_cancel *cancel = NULL;
        dragonfly_node *node = NULL;
        dragonfly_peer *peer = NULL;
        dragonfly_seed *seed = NULL;
        dragonfly_scheduler *scheduler = NULL;
        dragonfly_tasks *tasks = NULL;
        dragonfly_text *text = NULL;
        dragonfly_node_options options = {0};
        pthread_t thread;
        dragonfly_status status;
        options.size = sizeof options;
        OK(dragonfly_cancel_new(&cancel, &error));
        /* Later in each round, so that it comes upon each of the calls. */
        if (round < 4) CHECK(pthread_create(&thread, NULL, fire, cancel) == 0);
        if (!IS_DONE(dragonfly_node_start(&options, FOREVER, cancel, &node, NULL), node))
            OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
        if (round >= 4 && round < 8) CHECK(pthread_create(&thread, NULL, fire, cancel) == 0);
        if (!IS_DONE(dragonfly_scheduler_start(node, FOREVER, cancel, &scheduler, NULL), scheduler))
            OK(dragonfly_scheduler_start(node, FOREVER, NULL, &scheduler, &error));
        if (!IS_DONE(dragonfly_seed_start(node, FOREVER, cancel, &seed, NULL), seed))
            OK(dragonfly_seed_start(node, FOREVER, NULL, &seed, &error));
        if (!IS_DONE(dragonfly_peer_start(node, FOREVER, cancel, &peer, NULL), peer))
            OK(dragonfly_peer_start(node, FOREVER, NULL, &peer, &error));
        if (round >= 8) CHECK(pthread_create(&thread, NULL, fire, cancel) == 0);
        IS_DONE(dragonfly_peer_list(peer, NULL, NULL, 1, FOREVER, cancel, &tasks, NULL), tasks);
        IS_DONE(dragonfly_scheduler_snapshot(scheduler, FOREVER, cancel, &text, NULL), text);
        dragonfly_status ends[] = {
            dragonfly_scheduler_shutdown(scheduler, FOREVER, cancel, NULL),
            dragonfly_peer_shutdown(peer, FOREVER, cancel, NULL),
            dragonfly_seed_shutdown(seed, FOREVER, cancel, NULL),
            dragonfly_node_shutdown(node, FOREVER, cancel, NULL),
        };
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
            CHECK(ends[i] == DRAGONFLY_OK || ends[i] == DRAGONFLY_CANCELLED);
        OK(dragonfly_scheduler_shutdown(scheduler, FOREVER, NULL, &error));
        OK(dragonfly_seed_shutdown(seed, FOREVER, NULL, &error));
        OK(dragonfly_node_shutdown(node, FOREVER, NULL, &error));
        CHECK(pthread_join(thread, NULL) == 0);
        dragonfly_cancel_free(cancel), dragonfly_tasks_free(tasks), dragonfly_text_free(text);
        dragonfly_scheduler_free(scheduler), dragonfly_seed_free(seed), dragonfly_peer_free(peer);
        dragonfly_node_free(node);
    }
}

/* Threads that call, round after round, until the handles are gone. */
struct caller {
    dragonfly_node *node;
    dragonfly_peer *peer;
    struct counter rounds;
};

/* Whether a call was answered as it may be while its engine ends. */
static bool goes_on(dragonfly_status status) {
    CHECK(status == DRAGONFLY_OK || status == DRAGONFLY_CANCELLED || status == DRAGONFLY_INVALID_INPUT);
    return status != DRAGONFLY_INVALID_INPUT;
}

static void *call(void *argument) {
    struct caller *caller = argument;
    dragonfly_request request = request_of(piece);
    bool node = true, peer = true;
    while (node || peer) {
        dragonfly_text *text = NULL;
        dragonfly_tasks *tasks = NULL;
        dragonfly_download *download = NULL;
        dragonfly_reader *reader = NULL;
        unsigned char bytes[1000];
        size_t read = 0;
        node = goes_on(dragonfly_node_metrics(caller->node, &text, NULL));
        dragonfly_text_free(text);
        peer = goes_on(dragonfly_peer_fetch(caller->peer, &request, &download, NULL));
        if (peer) goes_on(dragonfly_download_wait(download, FOREVER, NULL, NULL, NULL));
        dragonfly_download_free(download);
        if (goes_on(dragonfly_peer_open(caller->peer, &request, FOREVER, NULL, &reader, NULL)) && reader != NULL)
            goes_on(dragonfly_reader_read(reader, bytes, sizeof bytes, FOREVER, NULL, &read, NULL));
        dragonfly_reader_free(reader);
        goes_on(dragonfly_peer_list(caller->peer, NULL, NULL, 10, FOREVER, NULL, &tasks, NULL));
        dragonfly_tasks_free(tasks);
        count(&caller->rounds);
    }
    return NULL;
}

static void test_end_while_calling(bool orderly) {
    enum { THREADS = 4 };
    dragonfly_error *error = NULL;
    struct caller caller = {NULL, NULL, COUNTER};
    dragonfly_node_options options = {0};
    pthread_t threads[THREADS];
    options.size = sizeof options;
    options.allow_loopback_origins = true;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &caller.node, &error));
    OK(dragonfly_peer_start(caller.node, FOREVER, NULL, &caller.peer, &error));
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, call, &caller) == 0);
    await(&caller.rounds, 2 * THREADS);
    if (orderly) {
        OK(dragonfly_peer_shutdown(caller.peer, FOREVER, NULL, &error));
        OK(dragonfly_node_shutdown(caller.node, FOREVER, NULL, &error));
    }
    dragonfly_node_free(caller.node);
    dragonfly_peer_free(caller.peer);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A callback that blocks, and frees what calls it, the last handles of its own node. */
struct last {
    dragonfly_node *node;
    dragonfly_peer *peer;
    dragonfly_download *download;
    struct counter done, dropped;
};

static void end_all(void *ctx, const dragonfly_receipt *receipt, const dragonfly_error *failure) {
    struct last *last = ctx;
    dragonfly_error *error = NULL;
    CHECK(receipt != NULL && failure == NULL);
    OK(dragonfly_download_wait(last->download, FOREVER, NULL, NULL, &error));
    OK(dragonfly_peer_shutdown(last->peer, FOREVER, NULL, &error));
    OK(dragonfly_node_shutdown(last->node, FOREVER, NULL, &error));
    dragonfly_download_free(last->download), dragonfly_peer_free(last->peer), dragonfly_node_free(last->node);
    count(&last->done);
}

static void end_drop(void *ctx) {
    struct last *last = ctx;
    count(&last->dropped);
}

static void test_end_in_callback(void) {
    dragonfly_error *error = NULL;
    struct last last = {NULL, NULL, NULL, COUNTER, COUNTER};
    dragonfly_node_options options = {0};
    dragonfly_watch watch = {0};
    dragonfly_request request = request_of(piece);
    options.size = sizeof options, watch.size = sizeof watch;
    options.allow_loopback_origins = true;
    watch.on_done = end_all, watch.ctx = &last, watch.drop = end_drop;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &last.node, &error));
    OK(dragonfly_peer_start(last.node, FOREVER, NULL, &last.peer, &error));
    OK(dragonfly_peer_fetch(last.peer, &request, &last.download, &error));
    OK(dragonfly_download_watch(last.download, &watch, &error));
    await(&last.done, 1);
    await(&last.dropped, 1);
}

/* Cancelling a download to a descriptor ends it, though its origin says nothing. */
static void test_cancel_to_descriptor(void) {
    dragonfly_error *error = NULL;
    struct scene scene;
    dragonfly_request request = request_of(stalled);
    dragonfly_download *download = NULL;
    FILE *file = tmpfile();
    CHECK(file != NULL);
    set(&scene);
    OK(dragonfly_peer_fetch_to_fd(scene.peer, &request, fileno(file), &download, &error));
    CHECK(dragonfly_download_wait(download, 50, NULL, NULL, NULL) == DRAGONFLY_TIMEOUT);
    OK(dragonfly_download_cancel(download, &error));
    FAILS(DRAGONFLY_CANCELLED, dragonfly_download_wait(download, FOREVER, NULL, NULL, &error));
    dragonfly_download_free(download);
    fclose(file);
    clear(&scene);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    origin = argv[1];
    url_of(piece, sizeof piece, origin, "/piece");
    url_of(stalled, sizeof stalled, origin, "/stalled");
    test_cancel_before();
    test_cancel_in_passing();
    test_cancel_while_waiting();
    test_end_while_waiting();
    test_end_while_calling(true);
    test_end_while_calling(false);
    test_end_in_callback();
    test_cancel_to_descriptor();
    CHECK(dragonfly_live_handles() == 0);
    puts("threads: ok");
    return 0;
}

/* The behaviour suite in C. Arguments: the table, the origin, a peer's token, a token of every role, a directory. */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define KEYS_MAX 16

struct row {
    char line[2048];
    char *name, *operation;
    char *keys[KEYS_MAX], *values[KEYS_MAX];
    int count;
};

static const char *origin, *token, *token_all, *dir;
static dragonfly_node *node;
static dragonfly_peer *peer;

static const char *get(const struct row *row, const char *key) {
    for (int i = 0; i < row->count; i++)
        if (strcmp(row->keys[i], key) == 0) return row->values[i];
    return NULL;
}

static int parse(struct row *row) {
    char *save = NULL, *word = strtok_r(row->line, " \n", &save);
    if (word == NULL || strcmp(word, "case") != 0) return 0;
    row->name = strtok_r(NULL, " \n", &save);
    row->operation = strtok_r(NULL, " \n", &save);
    row->count = 0;
    while ((word = strtok_r(NULL, " \n", &save)) != NULL) {
        char *equals = strchr(word, '=');
        CHECK(equals != NULL && row->count < KEYS_MAX);
        *equals = 0;
        row->keys[row->count] = word;
        row->values[row->count++] = equals + 1;
    }
    return 1;
}

static unsigned crc32_of(unsigned crc, const unsigned char *bytes, size_t count) {
    crc = ~crc;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc & 1) ? (crc >> 1) ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

/* The rest of a file, which is closed. */
static void check_crc_of(const struct row *row, FILE *file) {
    unsigned char bytes[65536];
    unsigned crc = 0;
    size_t read;
    while ((read = fread(bytes, 1, sizeof bytes, file)) > 0) crc = crc32_of(crc, bytes, read);
    fclose(file);
    CHECK(crc == strtoul(get(row, "crc"), NULL, 16));
}

static void check_crc(const struct row *row, const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    check_crc_of(row, file);
}

static void check_whole(const dragonfly_receipt *receipt) {
    CHECK(receipt->bytes_from_origin + receipt->bytes_from_peers + receipt->bytes_held == receipt->length);
}

struct wanted {
    dragonfly_request request;
    char url[1024], output[1024];
};

static struct wanted *wanted_of(const struct row *row) {
    static struct wanted wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.request.size = sizeof wanted.request;
    if (get(row, "url")) snprintf(wanted.url, sizeof wanted.url, "%s", get(row, "url"));
    else snprintf(wanted.url, sizeof wanted.url, "%s%s", origin, get(row, "path"));
    const char *within = get(row, "dir");
    snprintf(wanted.output, sizeof wanted.output, "%s/%s/%s", dir, within != NULL ? within : ".", row->name);
    wanted.request.url = wanted.url;
    wanted.request.digest = get(row, "digest");
    if (get(row, "timeout_ms")) wanted.request.timeout_ms = strtoull(get(row, "timeout_ms"), NULL, 10);
    return &wanted;
}

/* Returns the status unless it is DRAGONFLY_OK. */
#define TRY(call)                                        \
    do {                                                 \
        dragonfly_status status_ = (call);               \
        if (status_ != DRAGONFLY_OK) return status_;     \
    } while (0)

static dragonfly_status start(const char *with_token, dragonfly_node **n, dragonfly_peer **p, dragonfly_error **error) {
    dragonfly_node_options options = {0};
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    options.size = sizeof options;
    options.listen = listen, options.listen_length = 1;
    options.token = with_token;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, n, error));
    return dragonfly_peer_start(*n, FOREVER, NULL, p, error);
}

static dragonfly_status stop(dragonfly_node *n, dragonfly_peer *p, dragonfly_error **error) {
    dragonfly_status status = dragonfly_peer_shutdown(p, FOREVER, NULL, error);
    if (status == DRAGONFLY_OK) status = dragonfly_node_shutdown(n, FOREVER, NULL, error);
    dragonfly_peer_free(p);
    dragonfly_node_free(n);
    return status;
}

static dragonfly_status fetch(dragonfly_peer *p, const dragonfly_request *request, dragonfly_receipt *receipt,
                              dragonfly_error **error) {
    dragonfly_download *download = NULL;
    memset(receipt, 0, sizeof *receipt);
    receipt->size = sizeof *receipt;
    TRY(dragonfly_peer_fetch(p, request, &download, error));
    dragonfly_status status = dragonfly_download_wait(download, FOREVER, NULL, receipt, error);
    dragonfly_download_free(download);
    if (status == DRAGONFLY_OK) check_whole(receipt);
    return status;
}

static dragonfly_status start_seed(const char *with_token, const dragonfly_policy *policy, dragonfly_node **n,
                                   dragonfly_scheduler **scheduler, dragonfly_seed **seed, dragonfly_error **error) {
    dragonfly_node_options options = {0};
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    options.size = sizeof options;
    options.listen = listen, options.listen_length = 1;
    options.token = with_token;
    options.allow_loopback_origins = true;
    options.policy = policy;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, n, error));
    if (scheduler != NULL) TRY(dragonfly_scheduler_start(*n, FOREVER, NULL, scheduler, error));
    return dragonfly_seed_start(*n, FOREVER, NULL, seed, error);
}

/* Reads it all through a reader, then asks for the receipt. */
static dragonfly_status read_all(const struct row *row, dragonfly_peer *p, const dragonfly_request *request, size_t chunk,
                                 dragonfly_error **error) {
    dragonfly_reader *reader = NULL;
    TRY(dragonfly_peer_open(p, request, FOREVER, NULL, &reader, error));
    size_t read = 0;
    unsigned char *bytes = malloc(chunk);
    CHECK(bytes != NULL);
    unsigned crc = 0;
    uint64_t total = 0;
    for (;;) {
        CHECK(dragonfly_reader_read(reader, bytes, chunk, FOREVER, NULL, &read, error) == DRAGONFLY_OK);
        if (read == 0) break;
        crc = crc32_of(crc, bytes, read);
        total += read;
    }
    free(bytes);
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    CHECK(dragonfly_reader_receipt(reader, FOREVER, NULL, &receipt, error) == DRAGONFLY_OK);
    check_whole(&receipt);
    CHECK(total == receipt.length && total == dragonfly_reader_length(reader));
    CHECK(crc == strtoul(get(row, "crc"), NULL, 16));
    dragonfly_reader_free(reader);
    return DRAGONFLY_OK;
}

#include "embedder.h"

static dragonfly_status run_fetch(const struct row *row, dragonfly_error **error) {
    struct wanted *wanted = wanted_of(row);
    wanted->request.output = wanted->output;
    if (get(row, "exists")) {
        FILE *file = fopen(wanted->output, "w");
        CHECK(file != NULL && fputs("in the way", file) >= 0);
        fclose(file);
    }
    dragonfly_receipt receipt;
    TRY(fetch(peer, &wanted->request, &receipt, error));
    check_crc(row, wanted->output);
    return DRAGONFLY_OK;
}

static dragonfly_status run_stream(const struct row *row, dragonfly_error **error) {
    return read_all(row, peer, &wanted_of(row)->request, strtoull(get(row, "chunk"), NULL, 10), error);
}

/* To a file that was written to before: it is written on from there. */
static dragonfly_status run_descriptor(const struct row *row, dragonfly_error **error) {
    static const char before[] = "before";
    struct wanted *wanted = wanted_of(row);
    dragonfly_download *download = NULL;
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    int fd = open(wanted->output, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, before, strlen(before)) == (ssize_t)strlen(before));
    TRY(dragonfly_peer_fetch_to_fd(peer, &wanted->request, fd, &download, error));
    TRY(dragonfly_download_wait(download, FOREVER, NULL, &receipt, error));
    dragonfly_download_free(download);
    check_whole(&receipt);
    CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)(receipt.length + strlen(before)));
    char kept[sizeof before] = "";
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, kept, strlen(before)) == (ssize_t)strlen(before));
    CHECK(strcmp(kept, before) == 0);
    FILE *file = fdopen(fd, "rb");
    CHECK(file != NULL);
    check_crc_of(row, file);
    return DRAGONFLY_OK;
}

static dragonfly_status run_seek(const struct row *row, dragonfly_error **error) {
    dragonfly_reader *reader = NULL;
    TRY(dragonfly_peer_open(peer, &wanted_of(row)->request, FOREVER, NULL, &reader, error));
    dragonfly_text *opened = NULL, *named = NULL;
    TRY(dragonfly_reader_task(reader, &opened, error));
    TRY(dragonfly_peer_task_id(peer, &wanted_of(row)->request, &named, error));
    CHECK(strcmp(dragonfly_text_get(opened), dragonfly_text_get(named)) == 0);
    dragonfly_text_free(opened);
    dragonfly_text_free(named);
    const char *reads = get(row, "reads");
    uint64_t position = 0;
    size_t read = 0;
    while (reads != NULL) {
        unsigned long long offset = 0, count = 0;
        unsigned expected = 0, crc = 0;
        CHECK(sscanf(reads, "%llu+%llu:%x", &offset, &count, &expected) == 3);
        TRY(dragonfly_reader_seek(reader, (int64_t)offset, DRAGONFLY_SEEK_SET, &position, error));
        CHECK(position == offset);
        unsigned char bytes[4096];
        while (count > 0) {
            size_t room = count < sizeof bytes ? (size_t)count : sizeof bytes;
            TRY(dragonfly_reader_read(reader, bytes, room, FOREVER, NULL, &read, error));
            CHECK(read > 0);
            crc = crc32_of(crc, bytes, read);
            count -= read;
        }
        CHECK(crc == expected);
        reads = strchr(reads, ',');
        if (reads != NULL) reads++;
    }
    unsigned char byte;
    TRY(dragonfly_reader_seek(reader, 0, DRAGONFLY_SEEK_END, &position, error));
    CHECK(position == dragonfly_reader_length(reader));
    TRY(dragonfly_reader_read(reader, &byte, 1, FOREVER, NULL, &read, error));
    CHECK(read == 0);
    dragonfly_reader_free(reader);
    return DRAGONFLY_OK;
}

static dragonfly_status run_two(const struct row *row, dragonfly_error **error) {
    dragonfly_node *nodes[2] = {NULL, NULL};
    dragonfly_peer *peers[2] = {NULL, NULL};
    dragonfly_download *downloads[2] = {NULL, NULL};
    char outputs[2][1100];
    struct wanted *wanted = wanted_of(row);
    for (int i = 0; i < 2; i++) TRY(start(token, &nodes[i], &peers[i], error));
    for (int i = 0; i < 2; i++) {
        snprintf(outputs[i], sizeof outputs[i], "%s.%d", wanted->output, i);
        wanted->request.output = outputs[i];
        TRY(dragonfly_peer_fetch(peers[i], &wanted->request, &downloads[i], error));
    }
    for (int i = 0; i < 2; i++) {
        dragonfly_receipt receipt = {0};
        receipt.size = sizeof receipt;
        TRY(dragonfly_download_wait(downloads[i], FOREVER, NULL, &receipt, error));
        dragonfly_download_free(downloads[i]);
        check_whole(&receipt);
        check_crc(row, outputs[i]);
    }
    for (int i = 0; i < 2; i++) TRY(stop(nodes[i], peers[i], error));
    return DRAGONFLY_OK;
}

static dragonfly_status run_many(const struct row *row, dragonfly_error **error) {
    size_t count = strtoull(get(row, "count"), NULL, 10);
    dragonfly_download **downloads = calloc(count, sizeof *downloads);
    CHECK(downloads != NULL);
    for (size_t i = 0; i < count; i++) {
        char url[1024];
        snprintf(url, sizeof url, "%s%s%zu", origin, get(row, "path"), i);
        dragonfly_request request = {0};
        request.size = sizeof request;
        request.url = url;
        TRY(dragonfly_peer_fetch(peer, &request, &downloads[i], error));
    }
    for (size_t i = 0; i < count; i++) {
        dragonfly_receipt receipt = {0};
        receipt.size = sizeof receipt;
        TRY(dragonfly_download_wait(downloads[i], FOREVER, NULL, &receipt, error));
        check_whole(&receipt);
        CHECK(receipt.length == 600);
        dragonfly_download_free(downloads[i]);
    }
    free(downloads);
    return DRAGONFLY_OK;
}

static dragonfly_status run_progress(const struct row *row, dragonfly_error **error) {
    dragonfly_download *download = NULL;
    dragonfly_event event = {0};
    event.size = sizeof event;
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    uint64_t last = 0, length = 0;
    TRY(dragonfly_peer_fetch(peer, &wanted_of(row)->request, &download, error));
    for (;;) {
        TRY(dragonfly_download_next_event(download, FOREVER, NULL, &event, error));
        if (event.type == DRAGONFLY_EVENT_END) break;
        if (event.type != DRAGONFLY_EVENT_PROGRESS) continue;
        CHECK(event.bytes >= last && event.bytes <= event.length);
        last = event.bytes, length = event.length;
    }
    TRY(dragonfly_download_wait(download, FOREVER, NULL, &receipt, error));
    CHECK(last > 0 && length == receipt.length);
    dragonfly_download_free(download);
    return DRAGONFLY_OK;
}

static dragonfly_status run_cancel(const struct row *row, dragonfly_error **error) {
    dragonfly_download *download = NULL;
    dragonfly_event event = {0};
    event.size = sizeof event;
    TRY(dragonfly_peer_fetch(peer, &wanted_of(row)->request, &download, error));
    do {
        TRY(dragonfly_download_next_event(download, FOREVER, NULL, &event, error));
        CHECK(event.type != DRAGONFLY_EVENT_END);
    } while (event.type != DRAGONFLY_EVENT_PROGRESS || event.bytes == 0);
    TRY(dragonfly_download_cancel(download, error));
    dragonfly_status status = dragonfly_download_wait(download, FOREVER, NULL, NULL, error);
    dragonfly_download_free(download);
    return status;
}

static void *fire(void *cancel) {
    CHECK(dragonfly_cancel_fire(cancel, NULL) == DRAGONFLY_OK);
    return NULL;
}

static dragonfly_status run_cancel_read(const struct row *row, dragonfly_error **error) {
    dragonfly_reader *reader = NULL;
    dragonfly_cancel *cancel = NULL;
    TRY(dragonfly_peer_open(peer, &wanted_of(row)->request, FOREVER, NULL, &reader, error));
    TRY(dragonfly_cancel_new(&cancel, error));
    TRY(dragonfly_reader_seek(reader, -1, DRAGONFLY_SEEK_END, NULL, error));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fire, cancel) == 0);
    unsigned char byte;
    size_t read;
    dragonfly_status status = dragonfly_reader_read(reader, &byte, 1, FOREVER, cancel, &read, error);
    CHECK(pthread_join(thread, NULL) == 0);
    dragonfly_cancel_free(cancel);
    dragonfly_reader_free(reader);
    return status;
}

static dragonfly_status run_store(const struct row *row, dragonfly_error **error) {
    dragonfly_receipt receipt;
    dragonfly_text *task = NULL;
    dragonfly_tasks *tasks = NULL;
    dragonfly_task_info info = {0};
    info.size = sizeof info;
    TRY(fetch(peer, &wanted_of(row)->request, &receipt, error));
    TRY(dragonfly_peer_task_id(peer, &wanted_of(row)->request, &task, error));
    CHECK(strcmp(dragonfly_text_get(task), receipt.task) == 0);
    dragonfly_text_free(task);
    TRY(dragonfly_peer_stat(peer, receipt.task, FOREVER, NULL, &tasks, error));
    CHECK(dragonfly_tasks_length(tasks) == 1);
    TRY(dragonfly_tasks_get(tasks, 0, &info, error));
    CHECK(info.complete && info.length == receipt.length && !info.pinned && strstr(info.label, get(row, "path")));
    dragonfly_tasks_free(tasks);
    char after_task[DRAGONFLY_ID_ROOM] = "", after_generation[DRAGONFLY_ID_ROOM] = "";
    int found = 0;
    while (!found) {
        TRY(dragonfly_peer_list(peer, after_task[0] ? after_task : NULL, after_task[0] ? after_generation : NULL, 2,
                                FOREVER, NULL, &tasks, error));
        size_t length = dragonfly_tasks_length(tasks);
        CHECK(length == 1 || length == 2);
        for (size_t i = 0; i < length; i++) {
            TRY(dragonfly_tasks_get(tasks, i, &info, error));
            found |= strcmp(info.task, receipt.task) == 0;
            strcpy(after_task, info.task);
            strcpy(after_generation, info.generation);
        }
        dragonfly_tasks_free(tasks);
    }
    TRY(dragonfly_peer_pin(peer, receipt.task, true, FOREVER, NULL, error));
    TRY(dragonfly_peer_stat(peer, receipt.task, FOREVER, NULL, &tasks, error));
    TRY(dragonfly_tasks_get(tasks, 0, &info, error));
    CHECK(info.pinned);
    dragonfly_tasks_free(tasks);
    uint64_t freed = 0;
    TRY(dragonfly_peer_remove(peer, receipt.task, FOREVER, NULL, &freed, error));
    CHECK(freed >= receipt.length);
    TRY(dragonfly_peer_stat(peer, receipt.task, FOREVER, NULL, &tasks, error));
    CHECK(dragonfly_tasks_length(tasks) == 0);
    dragonfly_tasks_free(tasks);
    CHECK(dragonfly_peer_pin(peer, receipt.task, true, FOREVER, NULL, NULL) == DRAGONFLY_NOT_FOUND);
    return DRAGONFLY_OK;
}

static dragonfly_status run_preheat(const struct row *row, dragonfly_error **error) {
    dragonfly_node *n = NULL;
    dragonfly_seed *seed = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_download *download = NULL;
    dragonfly_tasks *tasks = NULL;
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    TRY(start_seed(token_all, NULL, &n, NULL, &seed, error));
    TRY(dragonfly_seed_preheat(seed, &wanted_of(row)->request, &download, error));
    TRY(dragonfly_download_wait(download, FOREVER, NULL, &receipt, error));
    dragonfly_download_free(download);
    check_whole(&receipt);
    CHECK(receipt.length == 70000);
    TRY(dragonfly_seed_peer(seed, &p, error));
    TRY(dragonfly_peer_stat(p, receipt.task, FOREVER, NULL, &tasks, error));
    CHECK(dragonfly_tasks_length(tasks) == 1);
    dragonfly_tasks_free(tasks);
    TRY(dragonfly_seed_shutdown(seed, FOREVER, NULL, error));
    dragonfly_seed_free(seed);
    return stop(n, p, error);
}

static dragonfly_status run_own(const struct row *row, dragonfly_error **error) {
    struct network network;
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_text *text = NULL;
    dragonfly_receipt receipt;
    struct wanted *wanted = wanted_of(row);
    TRY(found(&network, NULL, error));
    TRY(start(dragonfly_text_get(network.token), &n, &p, error));
    wanted->request.output = wanted->output;
    TRY(fetch(p, &wanted->request, &receipt, error));
    CHECK(receipt.bytes_from_peers == receipt.length);
    check_crc(row, wanted->output);
    TRY(dragonfly_scheduler_snapshot(network.scheduler, FOREVER, NULL, &text, error));
    CHECK(strstr(dragonfly_text_get(text), "\"hosts\":[{") != NULL);
    dragonfly_text_free(text);
    TRY(stop(n, p, error));
    return dissolve(&network, error);
}

static dragonfly_status run_metrics(const struct row *row, dragonfly_error **error) {
    dragonfly_text *text = NULL;
    TRY(dragonfly_node_metrics(node, &text, error));
    CHECK(strstr(dragonfly_text_get(text), get(row, "contains")) != NULL);
    dragonfly_text_free(text);
    return DRAGONFLY_OK;
}

static dragonfly_status run_node(const struct row *row, dragonfly_error **error) {
    dragonfly_node *n = NULL;
    dragonfly_node_options options = {0};
    const char *listen[] = {get(row, "listen")};
    char used[1100];
    snprintf(used, sizeof used, "%s/node", dir);
    options.size = sizeof options;
    options.token = get(row, "token");
    if (listen[0] != NULL) options.listen = listen, options.listen_length = 1;
    if (get(row, "same_dir")) options.data_dir = used;
    TRY(dragonfly_node_start(&options, FOREVER, NULL, &n, error));
    if (get(row, "listeners")) {
        dragonfly_text *listeners = NULL, *id = NULL;
        TRY(dragonfly_node_listeners(n, &listeners, error));
        TRY(dragonfly_node_peer_id(n, &id, error));
        unsigned long count = 0;
        for (const char *at = strstr(dragonfly_text_get(listeners), "/p2p/"); at != NULL; at = strstr(at + 1, "/p2p/")) {
            CHECK(strncmp(at + strlen("/p2p/"), dragonfly_text_get(id), strlen(dragonfly_text_get(id))) == 0);
            count++;
        }
        CHECK(count == strtoul(get(row, "listeners"), NULL, 10));
        dragonfly_text_free(listeners);
        dragonfly_text_free(id);
    }
    dragonfly_node_free(n);
    return DRAGONFLY_OK;
}

/* A node of its own, alone: with little memory, or stopped. */
static dragonfly_status run_alone(const struct row *row, dragonfly_error **error) {
    dragonfly_node *n = NULL;
    dragonfly_peer *p = NULL;
    dragonfly_receipt receipt;
    dragonfly_node_options options = {0};
    options.size = sizeof options;
    if (get(row, "memory")) options.memory_bytes = strtoull(get(row, "memory"), NULL, 10);
    TRY(dragonfly_node_start(&options, FOREVER, NULL, &n, error));
    TRY(dragonfly_peer_start(n, FOREVER, NULL, &p, error));
    if (strcmp(row->operation, "stopped") == 0) TRY(dragonfly_peer_shutdown(p, FOREVER, NULL, error));
    dragonfly_status status = fetch(p, &wanted_of(row)->request, &receipt, error);
    dragonfly_peer_free(p);
    dragonfly_node_free(n);
    return status;
}

static const struct {
    const char *name;
    dragonfly_status (*run)(const struct row *, dragonfly_error **);
} operations[] = {
    {"fetch", run_fetch},       {"stream", run_stream},   {"seek", run_seek},   {"two", run_two},
    {"many", run_many},         {"progress", run_progress}, {"cancel", run_cancel}, {"cancel_read", run_cancel_read},
    {"store", run_store},       {"preheat", run_preheat}, {"own", run_own},     {"metrics", run_metrics},
    {"identity", run_identity}, {"source", run_source},   {"policy", run_policy}, {"events", run_events},
    {"log", run_log},           {"node", run_node},       {"full", run_alone},    {"stopped", run_alone},
    {"descriptor", run_descriptor},
};

static int judge(const struct row *row) {
    dragonfly_error *error = NULL;
    dragonfly_status status = DRAGONFLY_INTERNAL;
    size_t known = sizeof operations / sizeof operations[0], i = 0;
    while (i < known && strcmp(operations[i].name, row->operation) != 0) i++;
    CHECK(i < known);
    status = operations[i].run(row, &error);
    const char *expected = get(row, "error") ? get(row, "error") : "ok";
    const char *temporary = dragonfly_error_is_temporary(error) ? "yes" : "no";
    int right = strcmp(dragonfly_kind_name(status), expected) == 0 && dragonfly_error_kind(error) == status
                && (get(row, "temporary") == NULL || strcmp(get(row, "temporary"), temporary) == 0);
    if (!right)
        fprintf(stderr, "%s: expected %s, got %s (temporary=%s): %s\n", row->name, expected,
                dragonfly_kind_name(status), temporary, dragonfly_error_message(error));
    dragonfly_error_free(error);
    return right;
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    origin = argv[2], token = argv[3], token_all = argv[4], dir = argv[5];
    dragonfly_error *error = NULL;
    dragonfly_node_options options = {0};
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    char data_dir[1100];
    snprintf(data_dir, sizeof data_dir, "%s/node", dir);
    options.size = sizeof options;
    options.data_dir = data_dir, options.token = token;
    options.listen = listen, options.listen_length = 1;
    OK(dragonfly_node_start(&options, FOREVER, NULL, &node, &error));
    OK(dragonfly_peer_start(node, FOREVER, NULL, &peer, &error));
    FILE *table = fopen(argv[1], "r");
    CHECK(table != NULL);
    struct row row;
    int passed = 0, failed = 0;
    const char *only = getenv("DRAGONFLY_CASE");
    while (fgets(row.line, sizeof row.line, table) != NULL) {
        if (!parse(&row) || (only != NULL && strcmp(only, row.name) != 0)) continue;
        if (judge(&row)) passed++;
        else failed++;
    }
    fclose(table);
    OK(stop(node, peer, &error));
    printf("%d passed, %d failed\n", passed, failed);
    CHECK(failed > 0 || dragonfly_live_handles() == 0);
    return failed == 0 && passed > 0 ? 0 : 1;
}

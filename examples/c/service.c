/* A scheduler and a seed inside your own service: prints the token that others join with, ends with standard input. */
#include "example.h"

#include <signal.h>

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    dragonfly_node *node = start_node(1, NULL);
    dragonfly_scheduler *scheduler = NULL;
    dragonfly_seed *seed = NULL;
    dragonfly_text *token = NULL, *snapshot = NULL;
    check(dragonfly_scheduler_start(node, -1, NULL, &scheduler, &error));
    check(dragonfly_seed_start(node, -1, NULL, &seed, &error));
    check(dragonfly_node_token(node, NULL, &token, &error));
    puts(dragonfly_text_get(token));
    fflush(stdout);
    dragonfly_text_free(token);
    /* Here your service does its work. */
    while (getchar() != EOF) {
    }
    check(dragonfly_scheduler_snapshot(scheduler, -1, NULL, &snapshot, &error));
    fprintf(stderr, "%zu bytes of snapshot\n", dragonfly_text_length(snapshot));
    dragonfly_text_free(snapshot);
    check(dragonfly_seed_shutdown(seed, -1, NULL, &error));
    check(dragonfly_scheduler_shutdown(scheduler, -1, NULL, &error));
    check(dragonfly_node_shutdown(node, -1, NULL, &error));
    dragonfly_seed_free(seed);
    dragonfly_scheduler_free(scheduler);
    dragonfly_node_free(node);
    return 0;
}

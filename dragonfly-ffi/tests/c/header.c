/* The header alone, in C99 and C++: every type can be used, every name is there. */
#include <dragonfly.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    dragonfly_node_options node;
    dragonfly_token_options token;
    dragonfly_request request;
    dragonfly_receipt receipt;
    dragonfly_event event;
    dragonfly_watch watch;
    dragonfly_task_info info;
    dragonfly_source source;
    dragonfly_policy policy;
    dragonfly_node_event node_event;
    dragonfly_node_watcher watcher;
    dragonfly_log sink;
    memset(&source, 0, sizeof source);
    memset(&policy, 0, sizeof policy);
    memset(&node_event, 0, sizeof node_event);
    memset(&watcher, 0, sizeof watcher);
    memset(&sink, 0, sizeof sink);
    memset(&node, 0, sizeof node);
    memset(&token, 0, sizeof token);
    memset(&request, 0, sizeof request);
    memset(&receipt, 0, sizeof receipt);
    memset(&event, 0, sizeof event);
    memset(&watch, 0, sizeof watch);
    memset(&info, 0, sizeof info);
    if (sizeof receipt.task != DRAGONFLY_ID_ROOM || event.type != DRAGONFLY_EVENT_END) return 1;
    if (dragonfly_abi_version() != DRAGONFLY_ABI_VERSION) return 2;
    if (strcmp(dragonfly_kind_name(DRAGONFLY_NOT_FOUND), "not_found") != 0) return 3;
    if (node_event.type != DRAGONFLY_NODE_EVENT_END || sink.level > DRAGONFLY_LOG_ERROR) return 5;
    if (source.open != NULL || policy.drop != NULL || watcher.on_event != NULL) return 6;
    dragonfly_node *none = NULL;
    if (dragonfly_node_shutdown(none, -1, NULL, NULL) != DRAGONFLY_INVALID_INPUT) return 4;
    puts("header: ok");
    return 0;
}

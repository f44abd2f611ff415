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
    dragonfly_node *none = NULL;
    if (dragonfly_node_shutdown(none, -1, NULL, NULL) != DRAGONFLY_INVALID_INPUT) return 4;
    puts("header: ok");
    return 0;
}

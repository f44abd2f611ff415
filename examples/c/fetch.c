/* The shortest program that embeds a peer: fetch URL OUTPUT. */
#include "example.h"

#include <signal.h>

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: fetch URL OUTPUT\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    dragonfly_node *node = start_node(0, NULL);
    dragonfly_peer *peer = start_peer(node);
    dragonfly_request request = request_of(argv[1]);
    request.output = argv[2];
    dragonfly_download *download = NULL;
    dragonfly_receipt receipt = {0};
    receipt.size = sizeof receipt;
    check(dragonfly_peer_fetch(peer, &request, &download, &error));
    check(dragonfly_download_wait(download, -1, NULL, &receipt, &error));
    printf("%llu bytes, %s\n", (unsigned long long)receipt.length, receipt.blake3);
    dragonfly_download_free(download);
    stop(node, peer);
    return 0;
}

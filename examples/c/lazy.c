/* Reads a part of a remote file: lazy URL OFFSET LENGTH writes it to standard output. */
#include "example.h"

#include <signal.h>

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: lazy URL OFFSET LENGTH\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    dragonfly_node *node = start_node(0, NULL);
    dragonfly_peer *peer = start_peer(node);
    dragonfly_request request = request_of(argv[1]);
    dragonfly_reader *reader = NULL;
    check(dragonfly_peer_open(peer, &request, -1, NULL, &reader, &error));
    check(dragonfly_reader_seek(reader, atoll(argv[2]), DRAGONFLY_SEEK_SET, NULL, &error));
    size_t left = (size_t)atoll(argv[3]);
    while (left > 0) {
        unsigned char bytes[65536];
        size_t read = 0;
        check(dragonfly_reader_read(reader, bytes, left < sizeof bytes ? left : sizeof bytes, -1, NULL, &read, &error));
        if (read == 0) break;
        fwrite(bytes, 1, read, stdout);
        left -= read;
    }
    dragonfly_reader_free(reader);
    stop(node, peer);
    return 0;
}

/* Reads held content over and over: stream URL TIMES. Prints the processor seconds of the reading. */
#define _GNU_SOURCE
#include "../../examples/c/example.h"

#include <sys/resource.h>

static double seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
           + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    static unsigned char bytes[1 << 20];
    dragonfly_node *node = start_node(0, NULL);
    dragonfly_peer *peer = start_peer(node);
    dragonfly_request request = request_of(argv[1]);
    dragonfly_download *download = NULL;
    check(dragonfly_peer_fetch(peer, &request, &download, &error));
    check(dragonfly_download_wait(download, -1, NULL, NULL, &error));
    dragonfly_reader *reader = NULL;
    check(dragonfly_peer_open(peer, &request, -1, NULL, &reader, &error));
    double before = seconds();
    for (int turn = 0; turn < atoi(argv[2]); turn++) {
        size_t read = 1;
        check(dragonfly_reader_seek(reader, 0, DRAGONFLY_SEEK_SET, NULL, &error));
        while (read > 0) check(dragonfly_reader_read(reader, bytes, sizeof bytes, -1, NULL, &read, &error));
    }
    printf("%.3f\n", seconds() - before);
    dragonfly_reader_free(reader);
    dragonfly_download_free(download);
    stop(node, peer);
    return 0;
}

/* A peer inside an HTTP server: share TOKEN URL serves the content of URL, downloads it when it is first asked for, and
 * shares it with the other members of the network. Prints where it listens, and ends with standard input. */
#define _POSIX_C_SOURCE 200809L
#include "example.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static dragonfly_peer *peer;
static const char *url;
static int listener;

static int send_all(int client, const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t sent = write(client, at, count);
        if (sent <= 0) return -1;
        at += sent, count -= (size_t)sent;
    }
    return 0;
}

static void answer(int client) {
    static unsigned char bytes[256 << 10];
    char head[128];
    dragonfly_request request = request_of(url);
    dragonfly_reader *reader = NULL;
    if (read(client, bytes, sizeof bytes) <= 0) return;
    if (dragonfly_peer_open(peer, &request, -1, NULL, &reader, NULL) != DRAGONFLY_OK) {
        const char *failed = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        send_all(client, failed, strlen(failed));
        return;
    }
    int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-length: %llu\r\nconnection: close\r\n\r\n",
                          (unsigned long long)dragonfly_reader_length(reader));
    size_t read = 0;
    int sent = send_all(client, head, (size_t)length);
    while (sent == 0 && dragonfly_reader_read(reader, bytes, sizeof bytes, -1, NULL, &read, NULL) == DRAGONFLY_OK
           && read > 0)
        sent = send_all(client, bytes, read);
    dragonfly_reader_free(reader);
}

static void *serve(void *unused) {
    int client;
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        answer(client);
        close(client);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: share TOKEN URL\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    url = argv[2];
    dragonfly_node *node = start_node(1, argv[1]);
    peer = start_peer(node);
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 16) != 0
        || getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return perror("listen"), 1;
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, NULL) != 0) return 1;
    printf("http://127.0.0.1:%d/\n", ntohs(address.sin_port));
    fflush(stdout);
    while (getchar() != EOF) {
    }
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    stop(node, peer);
    return 0;
}

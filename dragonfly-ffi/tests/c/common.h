/* What the tests in C share. */
#ifndef COMMON_H
#define COMMON_H

#include <dragonfly.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOREVER (-1)

/* Ends the program, saying where, unless the condition holds. */
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

/* Ends the program unless a call succeeds; `error` is the variable that the call was given. */
#define OK(call)                                                                 \
    do {                                                                         \
        dragonfly_status status_ = (call);                                       \
        if (status_ != DRAGONFLY_OK) {                                           \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,    \
                    dragonfly_kind_name(status_), dragonfly_error_message(error)); \
            exit(1);                                                             \
        }                                                                        \
        CHECK(error == NULL);                                                    \
    } while (0)

/* Ends the program unless a call fails with this kind, and frees the error. */
#define FAILS(kind, call)                                                        \
    do {                                                                         \
        dragonfly_status status_ = (call);                                       \
        if (status_ != (kind) || dragonfly_error_kind(error) != (kind)) {        \
            fprintf(stderr, "%s:%d: %s: %s instead of %s: %s\n", __FILE__, __LINE__, #call, \
                    dragonfly_kind_name(status_), dragonfly_kind_name(kind), dragonfly_error_message(error)); \
            exit(1);                                                             \
        }                                                                        \
        CHECK(dragonfly_error_message(error)[0] != 0);                           \
        dragonfly_error_free(error);                                             \
        error = NULL;                                                            \
    } while (0)

static inline void url_of(char *room, size_t size, const char *origin, const char *path) {
    snprintf(room, size, "%s%s", origin, path);
}

static inline dragonfly_request request_of(const char *url) {
    dragonfly_request request;
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.url = url;
    return request;
}

#endif

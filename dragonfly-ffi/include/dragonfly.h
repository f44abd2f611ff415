/*
 * Dragonfly: moves files from an origin to many machines, so that each byte leaves the origin once and the machines pass
 * the rest among themselves.
 *
 * HANDLES. Every dragonfly_* type without a definition here is a handle. A handle is a name, not an address: it is
 * checked at every call, so NULL, a handle that was freed and a handle of another type are answered with
 * DRAGONFLY_INVALID_INPUT, and freeing one twice does nothing. Handles may be used by several threads at once, and freed
 * while others use them: those calls go on. Whoever is given a handle frees it, with dragonfly_<noun>_free.
 *
 * ERRORS. Most functions return a dragonfly_status: DRAGONFLY_OK or the kind of error. Their last argument, error, may
 * be NULL; else it is set to NULL on success and to an error otherwise, which the caller frees. Results are written on
 * success only. A defect of the library that would end the process is answered with DRAGONFLY_INTERNAL instead.
 *
 * TEXT is UTF-8 that ends in NUL. Arguments stay the caller's and are used for the call only; where the text says so,
 * they may be NULL.
 *
 * STRUCTS that begin with size: set all of it to zero, then size to its sizeof. Zero is the default of every other
 * field. So programs and libraries of different ages understand each other.
 *
 *     dragonfly_request request = {0};
 *     request.size = sizeof request;
 *     request.url = "https://example.org/model.bin";
 *
 * THREADS. Each function says from which threads it may be called and whether it blocks. A function that blocks must not
 * be called on a thread that other work depends on. fork(2): a child process must not use what its parent made, save by
 * exec(3) at once.
 *
 * CALLBACKS come from threads of the library's. Those of a download, of a node's events and of a source have threads that
 * may be blocked: they may call every function, and free every handle, also the last one of their own node. Those of a
 * policy and of the log hold up what called them: they must not block, and call functions only that do not block. None
 * may throw or jump out.
 */


#ifndef DRAGONFLY_H
#define DRAGONFLY_H

/* Generated from the Rust sources of dragonfly-ffi (see src/lib.rs): do not edit. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 The length of an identity, in bytes.
 */
#define DRAGONFLY_IDENTITY_LENGTH 32

/*
 The room for a peer id as text, with its NUL.
 */
#define DRAGONFLY_PEER_ROOM 64

/*
 The room for an id as text: 66 digits and a NUL.
 */
#define DRAGONFLY_ID_ROOM 72

/*
 The room for a BLAKE3 digest as text: "blake3:", 64 digits and a NUL.
 */
#define DRAGONFLY_DIGEST_ROOM 80

/*
 The room for a version as text: 512 bytes and a NUL.
 */
#define DRAGONFLY_VERSION_ROOM 520

/*
 The room for a message, with its NUL.
 */
#define DRAGONFLY_MESSAGE_ROOM 256

/*
 The version of the ABI that this header describes: the first 16 bits change when something that was there changes,
 the last 16 when something is added. A program checks at its start that
 `dragonfly_abi_version() >> 16 == DRAGONFLY_ABI_VERSION >> 16` and
 `dragonfly_abi_version() >= DRAGONFLY_ABI_VERSION`.
 */
#define DRAGONFLY_ABI_VERSION 65538

/*
 What kind of progress it is.
 */
enum dragonfly_event_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   No event: the download has ended.
   */
  DRAGONFLY_EVENT_END = 0,
  /*
   The length is known (again, should the origin's content have changed).
   */
  DRAGONFLY_EVENT_DESCRIBED = 1,
  /*
   More bytes are held.
   */
  DRAGONFLY_EVENT_PROGRESS = 2,
  /*
   Every byte is held; digest and output remain.
   */
  DRAGONFLY_EVENT_COMPLETE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_event_type dragonfly_event_type;
#else
typedef int32_t dragonfly_event_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How an output came under its name.
 */
enum dragonfly_exported
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   There was none.
   */
  DRAGONFLY_EXPORTED_NONE = 0,
  /*
   Its bytes were copied.
   */
  DRAGONFLY_EXPORTED_COPY = 1,
  /*
   It is a hard link to the store's file.
   */
  DRAGONFLY_EXPORTED_HARD_LINK = 2,
  /*
   It shares the store's blocks until either is written.
   */
  DRAGONFLY_EXPORTED_REFLINK = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_exported dragonfly_exported;
#else
typedef int32_t dragonfly_exported;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 The kinds of error, the same in every language.
 */
enum dragonfly_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   No error.
   */
  DRAGONFLY_OK = 0,
  /*
   The caller withdrew, or the engine shut down first.
   */
  DRAGONFLY_CANCELLED = 1,
  /*
   The configuration or the environment does not allow it.
   */
  DRAGONFLY_CONFIG = 2,
  /*
   The content does not have the digest that the caller gave.
   */
  DRAGONFLY_DIGEST_MISMATCH = 3,
  /*
   The output exists and was not to be overwritten.
   */
  DRAGONFLY_EXISTS = 4,
  /*
   The origin, or a rule of this node, refuses.
   */
  DRAGONFLY_FORBIDDEN = 5,
  /*
   No space: disk, quota or memory budget.
   */
  DRAGONFLY_FULL = 6,
  /*
   An argument is malformed; also NULL where it must not be, and a handle that was freed.
   */
  DRAGONFLY_INVALID_INPUT = 7,
  /*
   The local file system failed.
   */
  DRAGONFLY_IO = 8,
  /*
   Peers or the scheduler could not be reached.
   */
  DRAGONFLY_NETWORK = 9,
  /*
   The origin has no such content, or the task is not held.
   */
  DRAGONFLY_NOT_FOUND = 10,
  /*
   The origin failed in another way.
   */
  DRAGONFLY_ORIGIN = 11,
  /*
   Not within the time.
   */
  DRAGONFLY_TIMEOUT = 12,
  /*
   A bug or a broken invariant; please report it.
   */
  DRAGONFLY_INTERNAL = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_kind dragonfly_kind;
#else
typedef int32_t dragonfly_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How much a record matters.
 */
enum dragonfly_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   Something failed for good.
   */
  DRAGONFLY_LOG_ERROR = 1,
  /*
   Something is not as it should be; the library goes on.
   */
  DRAGONFLY_LOG_WARN = 2,
  /*
   What an operator wants to know.
   */
  DRAGONFLY_LOG_INFO = 3,
  /*
   What a developer wants to know.
   */
  DRAGONFLY_LOG_DEBUG = 4,
  /*
   Everything.
   */
  DRAGONFLY_LOG_TRACE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_log_level dragonfly_log_level;
#else
typedef int32_t dragonfly_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 What happened to a node.
 */
enum dragonfly_node_event_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   Nothing: the node is gone.
   */
  DRAGONFLY_NODE_EVENT_END = 0,
  /*
   The first connection to a member is up.
   */
  DRAGONFLY_NODE_EVENT_PEER_UP = 1,
  /*
   The last connection to a member is gone.
   */
  DRAGONFLY_NODE_EVENT_PEER_DOWN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_node_event_type dragonfly_node_event_type;
#else
typedef int32_t dragonfly_node_event_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 What another member asks for.
 */
enum dragonfly_peer_request_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   To be sent pieces of a task that this host holds. Asked for every request, which is for one or a few pieces.
   */
  DRAGONFLY_REQUEST_SERVE = 1,
  /*
   To fetch a task from its origin, as a seed does when a scheduler says so.
   */
  DRAGONFLY_REQUEST_FETCH = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_peer_request_type dragonfly_peer_request_type;
#else
typedef int32_t dragonfly_peer_request_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 From where `dragonfly_reader_seek` counts.
 */
enum dragonfly_whence
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   From the start.
   */
  DRAGONFLY_SEEK_SET = 0,
  /*
   From where the reader is.
   */
  DRAGONFLY_SEEK_CUR = 1,
  /*
   From the end.
   */
  DRAGONFLY_SEEK_END = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dragonfly_whence dragonfly_whence;
#else
typedef int32_t dragonfly_whence;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 What calls that block are withdrawn with, from another thread or a signal handler's helper. One may be given to any
 number of calls; once fired it stays so. Freed with `dragonfly_cancel_free`.
 */
typedef struct dragonfly_cancel dragonfly_cancel;

/*
 A download under way. It runs whether or not anyone looks. Freed with `dragonfly_download_free`, which detaches from
 it; `dragonfly_download_cancel` withdraws.
 */
typedef struct dragonfly_download dragonfly_download;

/*
 An error: kind, whether the same call may succeed later, message. Freed with `dragonfly_error_free`.
 */
typedef struct dragonfly_error dragonfly_error;

/*
 A host as a member of its network: engines are started on it. Freed with `dragonfly_node_free`.
 */
typedef struct dragonfly_node dragonfly_node;

/*
 The events of a node from some time on. Freed with `dragonfly_node_events_free`.
 */
typedef struct dragonfly_node_events dragonfly_node_events;

/*
 The Peer engine of a node: it downloads, stores, and serves what it holds to its neighbours. Freed with
 `dragonfly_peer_free`; the engine stops with the last handle, download and reader of it.
 */
typedef struct dragonfly_peer dragonfly_peer;

/*
 Proven bytes of one piece of content, from any place, before the whole is complete. Freed with
 `dragonfly_reader_free`, which withdraws its interest in the content.
 */
typedef struct dragonfly_reader dragonfly_reader;

/*
 Threads for one node or several. Freed with `dragonfly_runtime_free`; the threads end when nothing uses them.
 */
typedef struct dragonfly_runtime dragonfly_runtime;

/*
 The Scheduler engine of a node: it pairs the members that want a task and leases the origin to them. Freed with
 `dragonfly_scheduler_free`.
 */
typedef struct dragonfly_scheduler dragonfly_scheduler;

/*
 The Seed engine of a node: a peer that is expected to go to the origin, and that is preheated. Freed with
 `dragonfly_seed_free`.
 */
typedef struct dragonfly_seed dragonfly_seed;

/*
 A list of tasks. Freed with `dragonfly_tasks_free`.
 */
typedef struct dragonfly_tasks dragonfly_tasks;

/*
 Text made by the library. Freed with `dragonfly_text_free`.
 */
typedef struct dragonfly_text dragonfly_text;

/*
 How a call ended: 0 (`DRAGONFLY_OK`), or the kind of error. Programs must expect kinds that this header does not name.
 */
typedef int32_t dragonfly_status;

/*
 The outcome of a finished download. The caller sets `size` before the call.
 */
typedef struct dragonfly_receipt {
  /*
   `sizeof(dragonfly_receipt)`.
   */
  size_t size;
  /*
   The task.
   */
  char task[DRAGONFLY_ID_ROOM];
  /*
   The version of its content.
   */
  char generation[DRAGONFLY_ID_ROOM];
  /*
   The BLAKE3 digest of the whole, "blake3:...".
   */
  char blake3[DRAGONFLY_DIGEST_ROOM];
  /*
   The length in bytes.
   */
  uint64_t length;
  /*
   Bytes that this host took from the origin for this download.
   */
  uint64_t bytes_from_origin;
  /*
   Bytes that it took from peers.
   */
  uint64_t bytes_from_peers;
  /*
   Bytes that were in the store already.
   */
  uint64_t bytes_held;
  /*
   From the call to the end, in microseconds.
   */
  uint64_t elapsed_us;
  /*
   How the output came under its name: a `dragonfly_exported`.
   */
  int32_t exported;
  /*
   Whether the whole matches a digest that the caller gave, or one that the task's coordinator or a seed has sealed,
   or came from the origin to this host alone. Otherwise every piece matches what the host that fetched it signed.
   */
  bool verified;
} dragonfly_receipt;

/*
 Progress of a download. The caller sets `size` before the call.
 */
typedef struct dragonfly_event {
  /*
   `sizeof(dragonfly_event)`.
   */
  size_t size;
  /*
   A `dragonfly_event_type`; programs must expect ones that this header does not name.
   */
  int32_t type;
  /*
   Hosts that pieces are exchanged with.
   */
  uint32_t neighbours;
  /*
   Bytes held and proven.
   */
  uint64_t bytes;
  /*
   Bytes in all.
   */
  uint64_t length;
  /*
   Of the bytes held, from the origin by this host.
   */
  uint64_t from_origin;
  /*
   Of the bytes held, from peers.
   */
  uint64_t from_peers;
} dragonfly_event;

/*
 Progress. `event` lives for the call.
 */
typedef void (*dragonfly_watch_event_fn)(void *ctx, const struct dragonfly_event *event);

/*
 The end: `receipt` on success, else `error`; the other one is NULL. Both live for the call.
 */
typedef void (*dragonfly_watch_done_fn)(void *ctx,
                                        const struct dragonfly_receipt *receipt,
                                        const struct dragonfly_error *error);

/*
 The last call with this `ctx`: it can be freed.
 */
typedef void (*dragonfly_watch_drop_fn)(void *ctx);

/*
 Callbacks of a download. They are called one at a time, from threads of the library's: progress any number of times,
 then `on_done` once, then `drop` once. They may call any function of the library, also those that block, and
 free any handle; while they run they hold up this download's progress only. They must not throw or jump out.
 */
typedef struct dragonfly_watch {
  /*
   `sizeof(dragonfly_watch)`.
   */
  size_t size;
  /*
   Progress, or NULL. It is lossy: a slow one misses some, never the end.
   */
  dragonfly_watch_event_fn on_event;
  /*
   The end, or NULL.
   */
  dragonfly_watch_done_fn on_done;
  /*
   Handed to each.
   */
  void *ctx;
  /*
   Called when `ctx` is used no more, or NULL.
   */
  dragonfly_watch_drop_fn drop;
} dragonfly_watch;

/*
 An event of a node. The caller of `dragonfly_node_events_next` sets `size` before the call.
 */
typedef struct dragonfly_node_event {
  /*
   `sizeof(dragonfly_node_event)`.
   */
  size_t size;
  /*
   A `dragonfly_node_event_type`; programs must expect ones that this header does not name.
   */
  int32_t type;
  /*
   The member's peer id.
   */
  char peer[DRAGONFLY_PEER_ROOM];
} dragonfly_node_event;

/*
 An event. It lives for the call.
 */
typedef void (*dragonfly_node_event_fn)(void *ctx, const struct dragonfly_node_event *event);

/*
 The last call with this `ctx`: it can be freed. From any thread.
 */
typedef void (*dragonfly_drop_fn)(void *ctx);

/*
 Callbacks of a node, called one at a time from threads of the library's: `on_event` any number of times, then `drop`
 once, when the node is gone. They may call any function of the library, also those that block, and free any handle.
 They must not throw or jump out.
 */
typedef struct dragonfly_node_watcher {
  /*
   `sizeof(dragonfly_node_watcher)`.
   */
  size_t size;
  /*
   An event. Must be there. It is lossy: one that lags far behind misses some.
   */
  dragonfly_node_event_fn on_event;
  /*
   Handed to each.
   */
  void *ctx;
  /*
   Called when `ctx` is used no more, or NULL.
   */
  dragonfly_drop_fn drop;
} dragonfly_node_watcher;

/*
 One thing that the library has to say; it holds no credential. It lives for the call.
 */
typedef struct dragonfly_log_record {
  /*
   `sizeof(dragonfly_log_record)`, as the library knows it.
   */
  size_t size;
  /*
   A `dragonfly_log_level`.
   */
  int32_t level;
  /*
   Which part of the library says it.
   */
  const char *target;
  /*
   What it says, in one line.
   */
  const char *message;
} dragonfly_log_record;

/*
 A record.
 */
typedef void (*dragonfly_log_fn)(void *ctx, const struct dragonfly_log_record *record);

/*
 Where the library's log goes. `on_record` is called from any thread, several at once, and must not block: it calls
 functions that do not block only, and must not throw or jump out. What the library says because of it is not told.
 */
typedef struct dragonfly_log {
  /*
   `sizeof(dragonfly_log)`.
   */
  size_t size;
  /*
   The `dragonfly_log_level` down to which it is told; 0: `DRAGONFLY_LOG_INFO`. Of the libraries beneath this one,
   warnings and errors at most.
   */
  int32_t level;
  /*
   Must be there.
   */
  dragonfly_log_fn on_record;
  /*
   Handed to it.
   */
  void *ctx;
  /*
   Called when `ctx` is used no more, or NULL.
   */
  dragonfly_drop_fn drop;
} dragonfly_log;

/*
 What a source is asked for. It lives for the call.
 */
typedef struct dragonfly_source_request {
  /*
   `sizeof(dragonfly_source_request)`, as the library knows it.
   */
  size_t size;
  /*
   The whole URL, credentials and all.
   */
  const char *url;
  /*
   The first byte that is wanted.
   */
  uint64_t range_start;
  /*
   The end of what is wanted, exclusive; `UINT64_MAX`: the end of the content.
   */
  uint64_t range_end;
  /*
   The headers of the request that was made of the library: names and values by turns.
   */
  const char *const *headers;
  /*
   How many texts these are, twice the number of headers.
   */
  size_t headers_length;
} dragonfly_source_request;

/*
 What a source answers. It is all zeros, but for its size, before the call.
 */
typedef struct dragonfly_source_content {
  /*
   `sizeof(dragonfly_source_content)`, as the library knows it.
   */
  size_t size;
  /*
   Handed to `read` and `close`.
   */
  void *body;
  /*
   The length of the whole, if `has_length`.
   */
  uint64_t length;
  /*
   The offset in the whole of the first byte that `read` will give: `range_start` of the request, or 0 if the origin
   has no ranges.
   */
  uint64_t offset;
  /*
   How long the answer stays current, in milliseconds, if `has_fresh`.
   */
  uint64_t fresh_ms;
  /*
   Whether the length is known.
   */
  bool has_length;
  /*
   Whether the origin says how long the answer stays current.
   */
  bool has_fresh;
  /*
   Whether the origin serves ranges.
   */
  bool ranges;
  /*
   What tells this version from all others, as text; "": nothing does, and a download that breaks off begins anew.
   */
  char version[DRAGONFLY_VERSION_ROOM];
} dragonfly_source_content;

/*
 Why a source could not answer. It is all zeros, but for its size, before the call.
 */
typedef struct dragonfly_source_failure {
  /*
   `sizeof(dragonfly_source_failure)`, as the library knows it.
   */
  size_t size;
  /*
   Whether the same call may succeed later: it is tried again.
   */
  bool temporary;
  /*
   What happened, as text, without credentials.
   */
  char message[DRAGONFLY_MESSAGE_ROOM];
} dragonfly_source_failure;

/*
 Asks the origin for content. Anything but `DRAGONFLY_OK` is a failure, and `close` is then not called.
 */
typedef dragonfly_status (*dragonfly_source_open_fn)(void *ctx,
                                                     const struct dragonfly_source_request *request,
                                                     struct dragonfly_source_content *content,
                                                     struct dragonfly_source_failure *failure);

/*
 Reads from a body: at least one byte and at most `room`, 0 at its end. One body is read by one thread at a time.
 */
typedef dragonfly_status (*dragonfly_source_read_fn)(void *ctx,
                                                     void *body,
                                                     uint8_t *buffer,
                                                     size_t room,
                                                     size_t *read,
                                                     struct dragonfly_source_failure *failure);

/*
 The last call with this `body`.
 */
typedef void (*dragonfly_source_close_fn)(void *ctx, void *body);

/*
 An origin that the program brings, for one URL scheme. Its callbacks are called from threads of the library's that are
 there to be blocked, several at once (but one at a time with one `body`). A call under way cannot be withdrawn from:
 what waits in it must have a bound of its own. They may call any function of the library, and free any handle. They
 must not throw or jump out.
 */
typedef struct dragonfly_source {
  /*
   `sizeof(dragonfly_source)`.
   */
  size_t size;
  /*
   The scheme, in lower case, such as "s3". It takes the place of a source that the library has for it.
   */
  const char *scheme;
  /*
   Must be there.
   */
  dragonfly_source_open_fn open;
  /*
   Must be there.
   */
  dragonfly_source_read_fn read;
  /*
   Called when a body is used no more, or NULL.
   */
  dragonfly_source_close_fn close;
  /*
   Handed to each.
   */
  void *ctx;
  /*
   Called when `ctx` is used no more, or NULL.
   */
  dragonfly_drop_fn drop;
} dragonfly_source;

/*
 Another member. It lives for the call.
 */
typedef struct dragonfly_member {
  /*
   `sizeof(dragonfly_member)`, as the library knows it.
   */
  size_t size;
  /*
   Its peer id.
   */
  char peer[DRAGONFLY_PEER_ROOM];
  /*
   What its credential allows, such as "peer,seed".
   */
  const char *roles;
  /*
   The account that it belongs to.
   */
  const char *tenant;
  /*
   When its credential ends, in seconds since 1970; 0: never.
   */
  uint64_t not_after;
} dragonfly_member;

/*
 Whether a member may be connected to this host, whoever dialled. Asked once per connection.
 */
typedef bool (*dragonfly_admit_peer_fn)(void *ctx, const struct dragonfly_member *member);

/*
 What another member asks of this host. It lives for the call.
 */
typedef struct dragonfly_peer_request {
  /*
   `sizeof(dragonfly_peer_request)`, as the library knows it.
   */
  size_t size;
  /*
   A `dragonfly_peer_request_type`; programs must expect ones that this header does not name.
   */
  int32_t type;
  /*
   Who asks; "" where that is a scheduler.
   */
  char peer[DRAGONFLY_PEER_ROOM];
  /*
   For which task.
   */
  char task[DRAGONFLY_ID_ROOM];
  /*
   Its URL without anything secret.
   */
  const char *label;
} dragonfly_peer_request;

/*
 Whether this host does what another member asks for.
 */
typedef bool (*dragonfly_admit_request_fn)(void *ctx, const struct dragonfly_peer_request *request);

/*
 The program's own rules about other members. They come after the network's: who is no member is refused before
 anything here is asked. The callbacks are called from several threads of the library's at once, and must not block:
 the network waits for them. They call functions that do not block only, and must not throw or jump out.
 */
typedef struct dragonfly_policy {
  /*
   `sizeof(dragonfly_policy)`.
   */
  size_t size;
  /*
   Or NULL: every member may.
   */
  dragonfly_admit_peer_fn admit_peer;
  /*
   Or NULL: it always does.
   */
  dragonfly_admit_request_fn admit_request;
  /*
   Handed to each.
   */
  void *ctx;
  /*
   Called when `ctx` is used no more, or NULL.
   */
  dragonfly_drop_fn drop;
} dragonfly_policy;

/*
 How a node is configured. Zero is the default of every field but `size`.
 */
typedef struct dragonfly_node_options {
  /*
   `sizeof(dragonfly_node_options)`.
   */
  size_t size;
  /*
   Where identity, membership and content are kept; NULL: in memory, gone with the node. One process at a time may
   use a directory.
   */
  const char *data_dir;
  /*
   How many bytes of content a node without a directory may hold; 0: 256 MiB.
   */
  uint64_t memory_bytes;
  /*
   How many bytes of content the directory may hold; 0: no bound but the disk's.
   */
  uint64_t quota_bytes;
  /*
   Addresses to listen on, such as "/ip4/0.0.0.0/tcp/0"; none: it does not listen.
   */
  const char *const *listen;
  /*
   How many.
   */
  size_t listen_length;
  /*
   The token of the network to join; NULL: the one that the directory is a member of, or a new one.
   */
  const char *token;
  /*
   Schedulers, each with /p2p/PEER at its end; none: those of the token.
   */
  const char *const *schedulers;
  /*
   How many.
   */
  size_t schedulers_length;
  /*
   Members to turn to where there is no scheduler, each with /p2p/PEER at its end; none: those of the token.
   */
  const char *const *bootstrap;
  /*
   How many.
   */
  size_t bootstrap_length;
  /*
   How many neighbours are served at a time; 0: 8.
   */
  uint16_t upload_slots;
  /*
   Never sends a piece to others.
   */
  bool no_uploads;
  /*
   Lets fetches that no local caller asked for reach origins on loopback.
   */
  bool allow_loopback_origins;
  /*
   In a network that this node founds, only seeds may say what an origin said (default: any member).
   */
  bool trust_seeds_only;
  /*
   The threads to run on; NULL: its own.
   */
  const struct dragonfly_runtime *runtime;
  /*
   Who the node is: the 32 bytes of an Ed25519 secret key, from a good random source; NULL: the identity in the
   directory, made where there is none. Two live nodes of one identity cannot both be reached.
   */
  const uint8_t *identity;
  /*
   Origins for further URL schemes, or in place of the library's own; none: HTTP and HTTPS. They are read during the
   call.
   */
  const struct dragonfly_source *const *sources;
  /*
   How many.
   */
  size_t sources_length;
  /*
   The program's rules about other members; NULL: none. It is read during the call.
   */
  const struct dragonfly_policy *policy;
  /*
   The site that the node is in, such as a region or a data centre: 1 to 64 letters, digits, '-', '_' and '.';
   NULL: none. Hosts of one site get content from each other, and few of them from another site.
   */
  const char *site;
} dragonfly_node_options;

/*
 What a token is to allow. Zero is the default of every field but `size`: a plain peer's, for ever.
 */
typedef struct dragonfly_token_options {
  /*
   `sizeof(dragonfly_token_options)`.
   */
  size_t size;
  /*
   What its bearers may be, such as "peer,seed,scheduler"; NULL: "peer".
   */
  const char *roles;
  /*
   When it ends, in seconds since 1970; 0: never.
   */
  uint64_t not_after;
  /*
   Where its bearers find the network, at most 16; none: this node's own addresses.
   */
  const char *const *addresses;
  /*
   How many.
   */
  size_t addresses_length;
} dragonfly_token_options;

/*
 One piece of content to fetch. Zero is the default of every field but `size` and `url`.
 */
typedef struct dragonfly_request {
  /*
   `sizeof(dragonfly_request)`.
   */
  size_t size;
  /*
   Where it comes from.
   */
  const char *url;
  /*
   The path that it appears under, once complete and verified; NULL: it stays in the store only.
   */
  const char *output;
  /*
   Whether an existing output may be replaced.
   */
  bool overwrite;
  /*
   This host must not go to the origin itself: the content must come from peers.
   */
  bool no_back_to_source;
  /*
   Accepts any TLS certificate of the origin. The content is then kept to this host.
   */
  bool insecure;
  /*
   Accepts content of any age, also while the origin cannot be reached.
   */
  bool stale_ok;
  /*
   `priority` counts.
   */
  bool has_priority;
  /*
   How urgent it is, 0 (most) to 7; without `has_priority` 4.
   */
  uint8_t priority;
  /*
   `age_max_ms` counts.
   */
  bool has_age_max;
  /*
   How long ago the origin may have confirmed the content at the most, in milliseconds.
   */
  uint64_t age_max_ms;
  /*
   The longest time that the whole may take, in milliseconds; 0: no bound but that of progress.
   */
  uint64_t timeout_ms;
  /*
   The digest that the whole must have, such as "sha256:..."; NULL: any.
   */
  const char *digest;
  /*
   Headers for the origin: name, value, name, value.
   */
  const char *const *headers;
  /*
   How many texts: twice as many as headers.
   */
  size_t headers_length;
  /*
   Keeps content apart that has one URL; NULL: none.
   */
  const char *tag;
  /*
   The application that asks; NULL: none.
   */
  const char *application;
  /*
   Query parameters that do not change the content, in place of the default list; NULL: the default list.
   */
  const char *const *filtered_query_params;
  /*
   How many. With a list that is not NULL, 0 filters none.
   */
  size_t filtered_query_params_length;
  /*
   Certificate authorities to trust beside the system's, in PEM; NULL: none.
   */
  const char *ca_pem;
} dragonfly_request;

/*
 A task as the store holds it. The caller sets `size` before the call.
 */
typedef struct dragonfly_task_info {
  /*
   `sizeof(dragonfly_task_info)`.
   */
  size_t size;
  /*
   The task.
   */
  char task[DRAGONFLY_ID_ROOM];
  /*
   The version of its content.
   */
  char generation[DRAGONFLY_ID_ROOM];
  /*
   Its URL without anything secret. It lives as long as the list.
   */
  const char *label;
  /*
   Its length in bytes.
   */
  uint64_t length;
  /*
   Bytes of it that are held and proven.
   */
  uint64_t bytes_held;
  /*
   Hosts that its pieces are exchanged with now.
   */
  uint32_t neighbours;
  /*
   Whether every piece is held.
   */
  bool complete;
  /*
   Whether it is kept whatever the quota says.
   */
  bool pinned;
} dragonfly_task_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Makes a cancel handle.

 Any thread; does not block.
 */
dragonfly_status dragonfly_cancel_new(struct dragonfly_cancel **cancel, struct dragonfly_error **error);

/*
 Fires it: calls that it was given to answer `DRAGONFLY_CANCELLED`, now and from now on.

 Any thread, but not in a signal handler itself; does not block.
 */
dragonfly_status dragonfly_cancel_fire(const struct dragonfly_cancel *cancel, struct dragonfly_error **error);

/*
 Frees it. Calls that it was given to go on. NULL is fine.

 Any thread; does not block.
 */
void dragonfly_cancel_free(struct dragonfly_cancel *cancel);

/*
 Waits until it has ended. The outcome stays: it can be asked for again.

 `receipt` may be NULL.

 Any thread, several at a time; blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
 and until `cancel` (or NULL) is fired. Neither withdraws from the download.
 */
dragonfly_status dragonfly_download_wait(const struct dragonfly_download *download,
                                         int64_t timeout_ms,
                                         const struct dragonfly_cancel *cancel,
                                         struct dragonfly_receipt *receipt,
                                         struct dragonfly_error **error);

/*
 The next event; `DRAGONFLY_EVENT_END` once the download has ended. Lossy: who asks seldom misses some.

 Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
 and until `cancel` (or NULL) is fired.
 */
dragonfly_status dragonfly_download_next_event(const struct dragonfly_download *download,
                                               int64_t timeout_ms,
                                               const struct dragonfly_cancel *cancel,
                                               struct dragonfly_event *event,
                                               struct dragonfly_error **error);

/*
 Has the library call when there is progress and when the download ends. May be done several times. Callbacks stay
 registered when the download's handle is freed; if the node's threads end first, `on_done` gets
 `DRAGONFLY_CANCELLED`. If this function fails, no callback is ever called, `drop` included.

 Any thread; does not block.
 */
dragonfly_status dragonfly_download_watch(const struct dragonfly_download *download,
                                          const struct dragonfly_watch *watch,
                                          struct dragonfly_error **error);

/*
 Withdraws this caller's interest; others who fetch the same content go on. The download then ends with
 `DRAGONFLY_CANCELLED` unless it was done before.

 Any thread; does not block.
 */
dragonfly_status dragonfly_download_cancel(const struct dragonfly_download *download, struct dragonfly_error **error);

/*
 Frees the handle; the download goes on. NULL is fine.

 Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
 threads: see `dragonfly_node_free`.
 */
void dragonfly_download_free(struct dragonfly_download *download);

/*
 The kind of an error; `DRAGONFLY_OK` for NULL, `DRAGONFLY_INVALID_INPUT` for one that was freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_error_kind(const struct dragonfly_error *error);

/*
 Whether the same call may succeed later; false for NULL.

 Any thread; does not block.
 */
bool dragonfly_error_is_temporary(const struct dragonfly_error *error);

/*
 What was being done, to what, and every cause, in one line; it holds no credential. It lives as long as the error.
 Never NULL: for NULL, and for an error that was freed, it is "".

 Any thread; does not block.
 */
const char *dragonfly_error_message(const struct dragonfly_error *error);

/*
 Frees an error. NULL is fine.

 Any thread; does not block.
 */
void dragonfly_error_free(struct dragonfly_error *error);

/*
 The name of a kind, such as "not_found": the same in every language. "unknown" for a number that is no kind. It is
 never freed.

 Any thread; does not block.
 */
const char *dragonfly_kind_name(dragonfly_status kind);

/*
 Members that come and go from now on. Bounded and lossy: who lags far behind misses events, and should look at
 `dragonfly_node_peers`. A handle to be freed; it does not keep the node alive.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_events_open(const struct dragonfly_node *node,
                                            struct dragonfly_node_events **events,
                                            struct dragonfly_error **error);

/*
 The next event; `DRAGONFLY_NODE_EVENT_END` once the node is gone.

 Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
 and until `cancel` (or NULL) is fired.
 */
dragonfly_status dragonfly_node_events_next(const struct dragonfly_node_events *events,
                                            int64_t timeout_ms,
                                            const struct dragonfly_cancel *cancel,
                                            struct dragonfly_node_event *event,
                                            struct dragonfly_error **error);

/*
 Frees the handle. NULL is fine.

 Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
 threads: see `dragonfly_node_free`.
 */
void dragonfly_node_events_free(struct dragonfly_node_events *events);

/*
 Has the library call when members come and go, until the node is gone. May be done several times. If this function
 fails, no callback is ever called, `drop` included.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_watch(const struct dragonfly_node *node,
                                      const struct dragonfly_node_watcher *watcher,
                                      struct dragonfly_error **error);

/*
 Has the library tell what it has to say; one callback for the process, in place of the one before. NULL: none, as it
 is at the start. If this function fails, the one before stays, and no callback of the new one is ever called, `drop`
 included.

 Any thread but a log callback's; does not block.
 */
dragonfly_status dragonfly_log_set(const struct dragonfly_log *log, struct dragonfly_error **error);

/*
 Starts a node: takes the directory, loads or makes its identity, joins or founds a network, listens. If it fails, no
 callback of its sources and its policy is called any more, `drop` included.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_node_start(const struct dragonfly_node_options *options,
                                      int64_t timeout_ms,
                                      const struct dragonfly_cancel *cancel,
                                      struct dragonfly_node **node,
                                      struct dragonfly_error **error);

/*
 Who this host is: its peer id, as text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_peer_id(const struct dragonfly_node *node,
                                        struct dragonfly_text **peer_id,
                                        struct dragonfly_error **error);

/*
 Where it listens, one address a line, each with /p2p/PEER at its end: what another node can dial. Empty without a
 listener. Text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_listeners(const struct dragonfly_node *node,
                                          struct dragonfly_text **addresses,
                                          struct dragonfly_error **error);

/*
 The members that are connected now, one peer id a line, in no order. Text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_peers(const struct dragonfly_node *node,
                                      struct dragonfly_text **peers,
                                      struct dragonfly_error **error);

/*
 A token with which others join this node's network. It is a secret: whoever has it can join. Text to be freed.

 `options` may be NULL.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_token(const struct dragonfly_node *node,
                                      const struct dragonfly_token_options *options,
                                      struct dragonfly_text **token,
                                      struct dragonfly_error **error);

/*
 Its metrics in the Prometheus text format. Text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_node_metrics(const struct dragonfly_node *node,
                                        struct dragonfly_text **metrics,
                                        struct dragonfly_error **error);

/*
 Closes listeners and connections and makes the store durable. Shut down the engines on it first. The handle stays
 valid until it is freed; doing it again does nothing.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_node_shutdown(const struct dragonfly_node *node,
                                         int64_t timeout_ms,
                                         const struct dragonfly_cancel *cancel,
                                         struct dragonfly_error **error);

/*
 Frees the handle. Engines on the node go on until they are freed. NULL is fine.

 Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
 else uses them; not in a callback, which is on one of them.
 */
void dragonfly_node_free(struct dragonfly_node *node);

/*
 Fetches content with a node and a peer that live for this call: they are started, the download is waited for, and
 both are shut down. They serve others while it lasts only: programs that fetch more than once start a node and a
 peer of their own.

 `options` must name neither sources nor a policy nor a runtime. `receipt` may be NULL. Only the download decides what is returned,
 not how the node ends.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired, and at most 4 seconds more for the node and its threads to end. Both withdraw from the download; one that is
 done all the same by then is a success. Disk work that has not ended by then ends by itself, and holds the data
 directory until it has: a directory that is held is waited for, at most 2 seconds.
 */
dragonfly_status dragonfly_peer_fetch_once(const struct dragonfly_node_options *options,
                                           const struct dragonfly_request *request,
                                           int64_t timeout_ms,
                                           const struct dragonfly_cancel *cancel,
                                           struct dragonfly_receipt *receipt,
                                           struct dragonfly_error **error);

/*
 Starts the peer of a node. A node has one: starting it again gives another handle of it.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_start(const struct dragonfly_node *node,
                                      int64_t timeout_ms,
                                      const struct dragonfly_cancel *cancel,
                                      struct dragonfly_peer **peer,
                                      struct dragonfly_error **error);

/*
 Fetches content: into the store and, if the request names one, to an output that appears under its name only when it
 is complete and verified. Several fetches of one task share it. What is wrong with the request is told by the
 download.

 Any thread; does not block.
 */
dragonfly_status dragonfly_peer_fetch(const struct dragonfly_peer *peer,
                                      const struct dragonfly_request *request,
                                      struct dragonfly_download **download,
                                      struct dragonfly_error **error);

/*
 Fetches content and writes it to a descriptor, in order, from where the descriptor is, as it is proven: what was
 written is right as far as it goes, but only the end of the download says that the whole has the digest of the
 request. The descriptor is duplicated: the caller may close its own at once. The request must not name an output. When
 the download has ended nothing is written any more: its end waits for a write that waits, as a full pipe's does.

 Any thread; does not block.
 */
dragonfly_status dragonfly_peer_fetch_to_fd(const struct dragonfly_peer *peer,
                                            const struct dragonfly_request *request,
                                            int fd,
                                            struct dragonfly_download **download,
                                            struct dragonfly_error **error);

/*
 Opens content as a stream of proven bytes, before it is complete. An output in the request is ignored.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_open(const struct dragonfly_peer *peer,
                                     const struct dragonfly_request *request,
                                     int64_t timeout_ms,
                                     const struct dragonfly_cancel *cancel,
                                     struct dragonfly_reader **reader,
                                     struct dragonfly_error **error);

/*
 The id of the task that a request names, as text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_peer_task_id(const struct dragonfly_peer *peer,
                                        const struct dragonfly_request *request,
                                        struct dragonfly_text **task,
                                        struct dragonfly_error **error);

/*
 What the store holds of a task, the newest version first; an empty list if nothing. A list to be freed.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_stat(const struct dragonfly_peer *peer,
                                     const char *task,
                                     int64_t timeout_ms,
                                     const struct dragonfly_cancel *cancel,
                                     struct dragonfly_tasks **found,
                                     struct dragonfly_error **error);

/*
 What the store holds, in the order of ids, at most `max` (and at most 1000) at a time: from after the task and the
 generation that were listed last, or from the start if both are NULL (one alone must not be). A list to be freed.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_list(const struct dragonfly_peer *peer,
                                     const char *after_task,
                                     const char *after_generation,
                                     size_t max,
                                     int64_t timeout_ms,
                                     const struct dragonfly_cancel *cancel,
                                     struct dragonfly_tasks **found,
                                     struct dragonfly_error **error);

/*
 Removes a task from the store, pinned or not; `freed` (or NULL) gets how many bytes that freed.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_remove(const struct dragonfly_peer *peer,
                                       const char *task,
                                       int64_t timeout_ms,
                                       const struct dragonfly_cancel *cancel,
                                       uint64_t *freed,
                                       struct dragonfly_error **error);

/*
 Keeps a task whatever the quota says, or no longer.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_pin(const struct dragonfly_peer *peer,
                                    const char *task,
                                    bool pinned,
                                    int64_t timeout_ms,
                                    const struct dragonfly_cancel *cancel,
                                    struct dragonfly_error **error);

/*
 Stops the engine: downloads end with `DRAGONFLY_CANCELLED`, what is held is made durable. The handle stays valid until
 it is freed; doing it again does nothing.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_peer_shutdown(const struct dragonfly_peer *peer,
                                         int64_t timeout_ms,
                                         const struct dragonfly_cancel *cancel,
                                         struct dragonfly_error **error);

/*
 Frees the handle. NULL is fine.

 Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
 else uses them; not in a callback, which is on one of them.
 */
void dragonfly_peer_free(struct dragonfly_peer *peer);

/*
 The content's length in bytes; 0 for what is no reader.

 Any thread; does not block.
 */
uint64_t dragonfly_reader_length(const struct dragonfly_reader *reader);

/*
 The id of its task, as text to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_reader_task(const struct dragonfly_reader *reader,
                                       struct dragonfly_text **task,
                                       struct dragonfly_error **error);

/*
 Reads from where the reader is: at least one byte and at most `room`, 0 at the end of the content. Waits for the
 pieces that it needs, which are fetched first. Neither time-out nor cancel loses bytes: the next read goes on.

 Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes) and until
 `cancel` (or NULL) is fired.
 */
dragonfly_status dragonfly_reader_read(const struct dragonfly_reader *reader,
                                       uint8_t *buffer,
                                       size_t room,
                                       int64_t timeout_ms,
                                       const struct dragonfly_cancel *cancel,
                                       size_t *read,
                                       struct dragonfly_error **error);

/*
 Moves the reader. Beyond the end is allowed: reads there give 0 bytes.

 `whence`: a `dragonfly_whence`. `position` (or NULL) gets the place, counted from the start.

 Any thread; does not block, unless another thread waits for a read or a receipt with this reader: then for as long as
 that one does, whose time-out and cancel handle bound both, as `dragonfly_reader_close` does.
 */
dragonfly_status dragonfly_reader_seek(const struct dragonfly_reader *reader,
                                       int64_t offset,
                                       int32_t whence,
                                       uint64_t *position,
                                       struct dragonfly_error **error);

/*
 Waits until every piece is held and the whole was checked against the digest of the request, if it named one. Reads
 by other threads wait meanwhile.

 `receipt` may be NULL.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_reader_receipt(const struct dragonfly_reader *reader,
                                          int64_t timeout_ms,
                                          const struct dragonfly_cancel *cancel,
                                          struct dragonfly_receipt *receipt,
                                          struct dragonfly_error **error);

/*
 Closes the reader: reads of other threads end with `DRAGONFLY_CANCELLED`, now and from now on. The handle is still to
 be freed. Doing it again does nothing.

 Any thread; does not block.
 */
dragonfly_status dragonfly_reader_close(const struct dragonfly_reader *reader, struct dragonfly_error **error);

/*
 Frees the handle. A read that another thread has under way goes on; close the reader first to end it. NULL is fine.

 Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
 threads: see `dragonfly_node_free`.
 */
void dragonfly_reader_free(struct dragonfly_reader *reader);

/*
 Starts threads to share among nodes. A node that is given none starts its own.

 `workers`: how many threads carry the network and the engines; 0 is 2. Disk work and callbacks have threads beside
 them.

 Any thread; does not block.
 */
dragonfly_status dragonfly_runtime_new(uint32_t workers,
                                       struct dragonfly_runtime **runtime,
                                       struct dragonfly_error **error);

/*
 Frees it. Nodes that run on it go on. NULL is fine.

 Any thread, but no callback of a policy or of the log. Waits for the threads, at most 2 seconds, if nothing else
 uses them; not in a callback, which is on one of them.
 */
void dragonfly_runtime_free(struct dragonfly_runtime *runtime);

/*
 Starts the scheduler of a node. The node's token must carry the role.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_scheduler_start(const struct dragonfly_node *node,
                                           int64_t timeout_ms,
                                           const struct dragonfly_cancel *cancel,
                                           struct dragonfly_scheduler **scheduler,
                                           struct dragonfly_error **error);

/*
 What it knows now, as JSON: an object with "hosts" and "tasks". Text to be freed.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_scheduler_snapshot(const struct dragonfly_scheduler *scheduler,
                                              int64_t timeout_ms,
                                              const struct dragonfly_cancel *cancel,
                                              struct dragonfly_text **json,
                                              struct dragonfly_error **error);

/*
 Ends its sessions and stops. Members go on with what they have and turn to the next scheduler.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_scheduler_shutdown(const struct dragonfly_scheduler *scheduler,
                                              int64_t timeout_ms,
                                              const struct dragonfly_cancel *cancel,
                                              struct dragonfly_error **error);

/*
 Frees the handle. NULL is fine.

 Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
 else uses them; not in a callback, which is on one of them.
 */
void dragonfly_scheduler_free(struct dragonfly_scheduler *scheduler);

/*
 Starts the seed of a node; before its peer, on a node that is to be both. The node's token must carry the role.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_seed_start(const struct dragonfly_node *node,
                                      int64_t timeout_ms,
                                      const struct dragonfly_cancel *cancel,
                                      struct dragonfly_seed **seed,
                                      struct dragonfly_error **error);

/*
 Fetches content before anyone asks for it, and keeps it to be served.

 Any thread; does not block.
 */
dragonfly_status dragonfly_seed_preheat(const struct dragonfly_seed *seed,
                                        const struct dragonfly_request *request,
                                        struct dragonfly_download **download,
                                        struct dragonfly_error **error);

/*
 The peer that it is: a handle of its own, to be freed.

 Any thread; does not block.
 */
dragonfly_status dragonfly_seed_peer(const struct dragonfly_seed *seed,
                                     struct dragonfly_peer **peer,
                                     struct dragonfly_error **error);

/*
 Stops the engine, as `dragonfly_peer_shutdown` does.

 Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
 fired.
 */
dragonfly_status dragonfly_seed_shutdown(const struct dragonfly_seed *seed,
                                         int64_t timeout_ms,
                                         const struct dragonfly_cancel *cancel,
                                         struct dragonfly_error **error);

/*
 Frees the handle. NULL is fine.

 Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
 else uses them; not in a callback, which is on one of them.
 */
void dragonfly_seed_free(struct dragonfly_seed *seed);

/*
 How many handles of the process are live: for tests of leaks.

 Any thread; does not block.
 */
size_t dragonfly_live_handles(void);

/*
 How many there are; 0 for what is no list.

 Any thread; does not block.
 */
size_t dragonfly_tasks_length(const struct dragonfly_tasks *tasks);

/*
 One of them, from 0.

 Any thread; does not block.
 */
dragonfly_status dragonfly_tasks_get(const struct dragonfly_tasks *tasks,
                                     size_t index,
                                     struct dragonfly_task_info *info,
                                     struct dragonfly_error **error);

/*
 Frees the list. NULL is fine.

 Any thread; does not block.
 */
void dragonfly_tasks_free(struct dragonfly_tasks *tasks);

/*
 The text: UTF-8, with a NUL at its end. It lives as long as the handle. Never NULL: for NULL, and for one that was
 freed, it is "".

 Any thread; does not block.
 */
const char *dragonfly_text_get(const struct dragonfly_text *text);

/*
 Its length in bytes, without the NUL.

 Any thread; does not block.
 */
size_t dragonfly_text_length(const struct dragonfly_text *text);

/*
 Frees it. NULL is fine.

 Any thread; does not block.
 */
void dragonfly_text_free(struct dragonfly_text *text);

/*
 The version of the ABI that the library at hand has.

 Any thread; does not block.
 */
uint32_t dragonfly_abi_version(void);

/*
 The version of the library at hand, such as "0.1.0". It is never freed.

 Any thread; does not block.
 */
const char *dragonfly_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DRAGONFLY_H */

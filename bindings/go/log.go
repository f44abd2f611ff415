package dragonfly

// #include <dragonfly.h>
//
// extern void dragonflyGoRecord(uintptr_t ctx, dragonfly_log_record *record);
// extern void dragonflyGoLogDrop(uintptr_t ctx);
//
// static void log_record(void *ctx, const dragonfly_log_record *record) {
//     dragonflyGoRecord((uintptr_t)ctx, (dragonfly_log_record *)record);
// }
// static void log_drop(void *ctx) { dragonflyGoLogDrop((uintptr_t)ctx); }
//
// static dragonfly_status log_set(int32_t level, uintptr_t ctx, dragonfly_error **error) {
//     dragonfly_log log = {0};
//     log.size = sizeof log;
//     log.level = level;
//     log.on_record = log_record;
//     log.drop = log_drop;
//     log.ctx = (void *)ctx;
//     return dragonfly_log_set(&log, error);
// }
import "C"

import (
	"context"
	"log/slog"
	"runtime/cgo"
)

// LevelTrace is the level of everything that the library has to say.
const LevelTrace = slog.LevelDebug - 4

// LogRecord is one thing that the library has to say. It holds no credential.
type LogRecord struct {
	// Level is how much it matters.
	Level slog.Level
	// Target is which part of the library says it, Message what, in one line.
	Target, Message string
}

// SetLog has log called with what the library says, from level on; of the libraries beneath it, with warnings and errors
// at most. There is one for the process; nil takes it away. It is called from several goroutines at once and must not
// block. With slog:
//
//	dragonfly.SetLog(slog.LevelInfo, func(record dragonfly.LogRecord) {
//		slog.Log(context.Background(), record.Level, record.Message, "target", record.Target)
//	})
func SetLog(level slog.Level, log func(LogRecord)) error {
	var failure *C.dragonfly_error
	if log == nil {
		return take(context.Background(), C.dragonfly_log_set(nil, &failure), failure)
	}
	handle := hold(log)
	err := take(context.Background(), C.log_set(number(level), C.uintptr_t(handle), &failure), failure)
	if err != nil {
		letGo(handle)
	}
	return err
}

func number(level slog.Level) C.int32_t {
	switch {
	case level >= slog.LevelError:
		return C.DRAGONFLY_LOG_ERROR
	case level >= slog.LevelWarn:
		return C.DRAGONFLY_LOG_WARN
	case level >= slog.LevelInfo:
		return C.DRAGONFLY_LOG_INFO
	case level >= slog.LevelDebug:
		return C.DRAGONFLY_LOG_DEBUG
	}
	return C.DRAGONFLY_LOG_TRACE
}

//export dragonflyGoRecord
func dragonflyGoRecord(ctx C.uintptr_t, record *C.dragonfly_log_record) {
	log, ok := cgo.Handle(ctx).Value().(func(LogRecord))
	if !ok {
		return
	}
	levels := map[C.int32_t]slog.Level{
		C.DRAGONFLY_LOG_ERROR: slog.LevelError,
		C.DRAGONFLY_LOG_WARN:  slog.LevelWarn,
		C.DRAGONFLY_LOG_INFO:  slog.LevelInfo,
		C.DRAGONFLY_LOG_DEBUG: slog.LevelDebug,
		C.DRAGONFLY_LOG_TRACE: LevelTrace,
	}
	log(LogRecord{levels[record.level], C.GoString(record.target), C.GoString(record.message)})
}

//export dragonflyGoLogDrop
func dragonflyGoLogDrop(ctx C.uintptr_t) { letGo(cgo.Handle(ctx)) }

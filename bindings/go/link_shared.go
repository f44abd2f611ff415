//go:build !dragonfly_static

package dragonfly

// #cgo pkg-config: dragonfly
import "C"

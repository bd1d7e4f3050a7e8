//go:build !race

package testkit

// Race says that the race detector runs, by which all takes many times as long.
const Race = false

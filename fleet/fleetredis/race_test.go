//go:build race

package fleetredis_test

// slower is how much longer things take in processes that the race detector watches, twenty of them at once.
const slower = 5

//go:build race

package http3_test

var inEarlyData []trouble

// Package rpc runs the classifiers and refusals for RPC protocols against the real clients and servers of each.
package rpc

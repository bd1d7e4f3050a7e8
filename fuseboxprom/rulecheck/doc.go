// Package rulecheck tests the alert rules and the dashboard of the prometheus module with Prometheus' own code. It is a
// module of its own because that code is large.
package rulecheck

// Package contract shows that a Transport does not change what HTTP does. It has tests only.
//
// Each exchange of the table is made twice against one real server: by the bare http.Transport, and by one behind
// transport.New. Everything that either side can see is written down and must be the same, line by line: at the client
// the status, protocol, header, trailer, body, length, transfer encoding, TLS, the request that the response names, the
// text and the type of every error, and the events of httptrace; at the server the method, target, header, body,
// trailer and connection of every request. The table runs over HTTP/1.1, HTTP/1.1 with TLS, HTTP/2, HTTP/2 without TLS
// and through a reverse proxy; by a circuit that is closed, one that is observed and classified, and one that is
// half-open. Wrappers that each break one thing show that the table would notice.
//
// Beside the table: upgrades and WebSockets, server-sent events and timeouts in virtual time, bodies of a gibibyte, the
// reuse of connections, who closes which body how often, the retries that net/http makes by itself, and a reverse
// proxy. No test leaves a goroutine behind.
package contract

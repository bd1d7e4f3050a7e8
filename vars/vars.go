// Package vars publishes the circuits of a transport.Transport with expvar, whose handler serves them as JSON at
// /debug/vars. Importing it registers that handler with http.DefaultServeMux, as importing expvar does.
package vars

import (
	"expvar"

	"github.com/fusebox-go/fusebox/transport"
)

// Publish publishes the circuits under a name, as an object with a member for each key. Like expvar.Publish it panics
// if the name is taken.
//
// Expvar's handler makes the whole text for each request, about 1 KB for a circuit, and holds it until its client has
// read it. So serve it to operators only, by a server with a WriteTimeout; the dashboard's api has bounds of its own.
func Publish(name string, t *transport.Transport) {
	if t == nil {
		panic("fusebox/vars: Publish got a nil Transport; write the one that transport.New returned")
	}
	expvar.Publish(name, expvar.Func(func() any {
		circuits := make(map[string]transport.Snapshot)
		for _, c := range t.Circuits() {
			circuits[c.Key.String()] = c
		}
		return circuits
	}))
}

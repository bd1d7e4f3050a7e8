package contract

import "net/http"

// both are the protocols that virtual time is spoken in.
var both = map[string]*http.Protocols{
	"HTTP1": protocols((*http.Protocols).SetHTTP1),
	"HTTP2": protocols((*http.Protocols).SetUnencryptedHTTP2),
}

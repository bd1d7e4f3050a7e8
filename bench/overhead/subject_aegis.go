package main

import (
	"net/http"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var aegis = subject{
	name: "aegis", about: "go-kratos/aegis, used as the middleware of kratos does", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper { return peer.Aegis(base) })
	},
}

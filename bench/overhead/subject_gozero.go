package main

import (
	"net/http"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var gozero = subject{
	name: "go-zero", about: "zeromicro/go-zero's core/breaker", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper { return peer.GoZero(base) })
	},
}

package main

import (
	"net/http"
	"time"

	"github.com/go-kratos/aegis/circuitbreaker/sre"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

func init() {
	register(
		subject{
			name: "aegis", about: "go-kratos/aegis: client-side throttling, K 1.67, 100 in 3 s",
			new: func(base http.RoundTripper) http.RoundTripper {
				return peer.Aegis(base)
			},
		},
		subject{
			name: "aegis-tuned", about: "go-kratos/aegis: client-side throttling, K 2, 10 in 10 s",
			new: func(base http.RoundTripper) http.RoundTripper {
				return peer.Aegis(base, sre.WithSuccess(0.5), sre.WithRequest(10), sre.WithWindow(10*time.Second))
			},
		},
	)
}

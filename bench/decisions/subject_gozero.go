package main

import "github.com/fusebox-go/fusebox/bench/internal/peer"

func init() {
	register(subject{name: "go-zero", about: "zeromicro/go-zero: client-side throttling over 10 s, a probe a second",
		new: peer.GoZero})
}

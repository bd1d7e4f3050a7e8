package main

import "testing"

func BenchmarkOverhead(b *testing.B) {
	for _, c := range cases() {
		b.Run(c.name, func(b *testing.B) {
			for _, s := range append([]subject{bare}, subjects()...) {
				if !c.takes(s) {
					continue
				}
				var r *rig // made once, and only if the benchmark is asked for
				b.Run(s.name, func(b *testing.B) {
					if r == nil {
						r = c.prepare(s)
					}
					if err := r.bench(b); err != nil {
						b.Fatal(err)
					}
					if c.apart {
						b.ReportMetric(r.bytesPerHost, "B/host")
					}
				})
			}
		})
	}
}

func BenchmarkFloor(b *testing.B) {
	for _, f := range floors() {
		b.Run(f.name, f.bench)
	}
}

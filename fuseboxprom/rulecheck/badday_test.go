package rulecheck

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// badDay is one on which everything happens.
func badDay(t *testing.T) *shop {
	t.Helper()
	hosts := []string{"a.test", "b.test", "c.test"}
	var s *shop
	synctest.Test(t, func(t *testing.T) {
		s = newShop(t)
		s.run(5*time.Minute, hosts...)
		for _, host := range append(hosts, "d.test") {
			s.Break(host)
		}
		s.run(10*time.Second, "d.test") // and never again
		s.run(5*time.Minute, hosts...)
		s.Mend()
		s.run(5*time.Minute, hosts...)
		s.rt.Force("http://a.test", policy.Open)
		s.Break("b.test")
		s.rt.SetShadow(func(k transport.Key) bool { return k.Host == "b.test" })
		s.run(5*time.Minute, hosts...)
		s.Mend("b.test")
		s.Fill(http.StatusTooManyRequests, "c.test")
		s.run(5*time.Minute, hosts...)
	})
	s.TB = t
	s.done()
	return s
}

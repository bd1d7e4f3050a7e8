package vars_test

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
	"github.com/fusebox-go/fusebox/vars"
)

func ExamplePublish() {
	breaker := transport.New(nil)
	breaker.Force("https://api.example.com", policy.Open)
	if expvar.Get("fusebox") == nil { // a name is taken for good, and go test -count runs this again
		vars.Publish("fusebox", breaker)
	}
	client := &http.Client{Transport: breaker}
	if resp, err := client.Get("https://api.example.com/"); err == nil {
		resp.Body.Close()
	}

	page := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/debug/vars", nil))
	var served struct {
		Fusebox map[string]struct {
			State    policy.State
			Forced   bool
			Refusals int
		}
	}
	if err := json.Unmarshal(page.Body.Bytes(), &served); err != nil {
		fmt.Println(err)
	}
	for key, c := range served.Fusebox {
		fmt.Println(key, "is", c.State, "forced:", c.Forced, "refused:", c.Refusals)
	}
	// Output: https://api.example.com is open forced: true refused: 1
}

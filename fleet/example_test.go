package fleet_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func ExampleMemory() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer upstream.Close()

	bus := new(fleet.Memory)
	changes := make(chan transport.StateChange, 1)
	member := func(changed func(transport.StateChange)) *transport.Transport {
		return transport.New(upstream.Client().Transport,
			transport.WithPolicy(policy.Classic{Failures: 4, OpenFor: time.Minute}),
			transport.WithFleet(bus),
			transport.WithObserver(transport.Observer{OnStateChange: changed}),
		)
	}
	first, second := member(nil), member(func(c transport.StateChange) { changes <- c })
	defer first.LeaveFleet()
	defer second.LeaveFleet()

	call(second, 2) // half of what opens it; the other half is that the first one is open
	call(first, 4)
	fmt.Println(<-changes) // what members say is heard in the background
	// Output: http://api.example.com: closed to open, tripped by fleet: 2 failures against 0 successes
}

func call(t *transport.Transport, times int) {
	client := &http.Client{Transport: t}
	for range times {
		resp, err := client.Get("http://api.example.com/") // the base takes it to the server
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
}

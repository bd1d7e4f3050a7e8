package fleetredis_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func Example() {
	server := miniredis.NewMiniRedis() // in place of a real one
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{server.Addr()}})
	defer client.Close()
	options := fleetredis.Options{Namespace: "shop"}
	storage := fleetredis.NewStorage(client, options)
	defer storage.Close()
	rt := transport.New(nil, transport.WithFleet(fleetredis.New(client, options)), transport.WithStorage(storage))
	defer rt.LeaveFleet()

	rt.SetState(transport.Key{Scheme: "https", Host: "api.example.com"}, policy.Open)
	storage.Close() // writes what waits; other processes, and other tools, can read it now
	records, err := fleetredis.NewAdmin(client, options).Records(context.Background())
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range records {
		fmt.Println(r.Key, r.State)
	}
	// Output: https://api.example.com open
}
